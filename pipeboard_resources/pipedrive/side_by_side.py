"""Reads one list with several readers at once: thin threads around the plan of ranges.py, driven by their consumer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeboard_resources.pipedrive.client import PipedriveClient
from pipeboard_resources.pipedrive.clock import Clock, SystemClock
from pipeboard_resources.pipedrive.endpoint import Endpoint, Page
from pipeboard_resources.pipedrive.errors import CursorRefusedError
from pipeboard_resources.pipedrive.ranges import Delivery, RangePlan, RangeState, RangeTask

__all__ = ["RangePage", "RangeState", "read_ranges"]

# A window that ends so long ago is closed: clocks that differ, and changes that show late, are behind it.
SETTLED_AFTER_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class RangePage:
    """A page, and what is left to read once its records are safe (empty: nothing). `number` counts from 1."""

    records: list[dict[str, Any]]
    state: tuple[RangeState, ...]
    number: int
    bytes: int


def read_ranges(
    client: PipedriveClient,
    endpoint: Endpoint,
    *,
    params: Mapping[str, str] | None = None,
    lower: datetime | None = None,
    upper: datetime | None = None,
    readers: int = 4,
    resume: Sequence[RangeState] | None = None,
    clock: Clock | None = None,
) -> Iterator[RangePage]:
    """Every record with lower <= update_time < upper, in no particular order, some of them more than once.

    Without `lower` records that have no update_time come too. A record that changes during the read comes with its last
    version unless `upper` shut it out. An end without an exception means complete; otherwise the tree of errors.py.
    To go on after an interruption, pass the `state` of the last page that was kept, and the same other arguments: at most
    the pages under way are asked for again. A cursor that the API refuses restarts only its own range.
    Memory holds at most two pages per reader. Closing the iterator ends its threads.
    """
    if not endpoint.is_filterable_by_time:
        raise ValueError(f"{endpoint.name} cannot be filtered by update_time; read it with client.pages()")
    until = None if upper is None else int(upper.timestamp())
    now = (clock or SystemClock()).now()
    plan = RangePlan(
        endpoint,
        lower=None if lower is None else int(lower.timestamp()),
        upper=until,
        is_settled=until is not None and until < now - SETTLED_AFTER_SECONDS,
        started_at=now,
        page_size=min(client.options.page_size, endpoint.page_limit),
        readers=readers,
        resume=resume,
    )
    crew = _Crew(client, endpoint, dict(params or {}), plan, readers)
    return crew.pages()


class _Crew:
    """The threads. One lock guards the plan, the pages that wait for the consumer, and the first error."""

    def __init__(
        self, client: PipedriveClient, endpoint: Endpoint, params: dict[str, str], plan: RangePlan, readers: int
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._params = params
        self._plan = plan
        self._readers = readers
        self._progress = plan.progress()
        self._waiting: deque[Delivery] = deque()
        self._error: BaseException | None = None
        self._cancel = threading.Event()
        self._changed = threading.Condition()

    def pages(self) -> Iterator[RangePage]:
        """Start reading with the first page that is asked for; deliver what is good before raising what went wrong."""
        threads = [
            threading.Thread(target=self._work, name=f"{self._endpoint.name}-reader-{number}", daemon=True)
            for number in range(self._readers)
        ]
        for thread in threads:
            thread.start()
        try:
            number = 0
            while (delivery := self._next_delivery()) is not None:
                number += 1
                state = self._progress.apply(delivery)
                yield RangePage(delivery.page.records, state, number, delivery.page.bytes)
        finally:
            self._cancel.set()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _next_delivery(self) -> Delivery | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._error or self._plan.is_finished)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            return None

    def _work(self) -> None:
        try:
            while (task := self._next_task()) is not None:
                self._answer(task)
        except BaseException as error:  # noqa: BLE001 - a thread has nobody to raise to: the consumer raises it
            with self._changed:
                self._error = self._error or error
                self._cancel.set()
                self._changed.notify_all()

    def _next_task(self) -> RangeTask | None:
        """Wait until there is something to ask for and room for its answer; None when this reader may go home."""
        with self._changed:
            while not (self._cancel.is_set() or self._plan.is_finished):
                if len(self._waiting) < self._readers:
                    task = self._plan.next_task()
                    if task is not None:
                        return task
                self._changed.wait()
            return None

    def _answer(self, task: RangeTask) -> None:
        try:
            page = self._fetch(task)
        except CursorRefusedError:
            with self._changed:
                if not self._plan.refuse(task):
                    raise
                self._changed.notify_all()
            return
        with self._changed:
            delivery = self._plan.complete(task, page)
            if delivery is not None:
                self._waiting.append(delivery)
            self._changed.notify_all()

    def _fetch(self, task: RangeTask) -> Page:
        params = {**self._params, **task.params}
        return self._client.page(
            self._endpoint, params=params, cursor=task.cursor, number=task.number, cancel=self._cancel
        )
