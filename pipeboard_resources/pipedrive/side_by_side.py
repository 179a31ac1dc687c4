"""Reads one list with several requests under way: threads that fetch, and one consumer that owns the plan."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from pipeboard_resources.pipedrive.endpoint import Page
from pipeboard_resources.pipedrive.errors import CursorRefusedError
from pipeboard_resources.pipedrive.ranges import Progress, RangePlan, RangeTask

__all__ = ["RangePage", "read_ranges"]

Fetch = Callable[[RangeTask, threading.Event], Page]


@dataclass(frozen=True, slots=True)
class RangePage:
    """A page, and what is left to read once its records are safe."""

    records: list[dict[str, Any]]
    progress: Progress


def read_ranges(plan: RangePlan, fetch: Fetch, *, readers: int) -> Iterator[RangePage]:
    """The pages of a plan as they arrive; an end without an exception means complete.

    The next requests leave before a page is handed over, so they run while it is loaded. Memory holds one page a reader
    and the one handed over. What `fetch` raises is raised here; its second argument is set when nobody waits any more.
    """
    cancel = threading.Event()
    running: dict[Future[Page], RangeTask] = {}
    with ThreadPoolExecutor(readers, thread_name_prefix="pipedrive-reader") as pool:
        try:
            while not plan.is_finished:
                _ask(plan, fetch, cancel, pool, running, readers)
                future = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
                records = _settle(plan, running.pop(future), future)
                if records is not None:
                    _ask(plan, fetch, cancel, pool, running, readers)
                    yield RangePage(records, plan.progress)
        finally:
            cancel.set()


def _ask(
    plan: RangePlan,
    fetch: Fetch,
    cancel: threading.Event,
    pool: ThreadPoolExecutor,
    running: dict[Future[Page], RangeTask],
    readers: int,
) -> None:
    while len(running) < readers and (task := plan.next_task()) is not None:
        running[pool.submit(fetch, task, cancel)] = task


def _settle(plan: RangePlan, task: RangeTask, future: Future[Page]) -> list[dict[str, Any]] | None:
    """The records of an answer; None when its cursor was refused and its range begins anew."""
    try:
        page = future.result()
    except CursorRefusedError:
        if not plan.refuse(task):
            raise
        return None
    plan.complete(task, page)
    return page.records
