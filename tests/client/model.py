"""A list in memory that answers range requests as Pipedrive would: the model that the pure planner is held against."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from pipeboard_resources.pipedrive.endpoint import Endpoint, Page
from pipeboard_resources.pipedrive.ranges import Progress, RangePlan, RangeTask, instant, second_of

LIST = Endpoint("things", "/api/v2/things", is_filterable_by_time=True)


@dataclass
class ModelList:
    """update_time (or None) by id. `nulls_first` is how an ascending sort treats null; descending is its mirror."""

    times: dict[int, int | None]
    page_size: int = 5
    nulls_first: bool = True
    requests: list[RangeTask] = field(default_factory=list)

    def answer(self, task: RangeTask) -> Page:
        self.requests.append(task)
        params = task.params
        since, until = second_of(params.get("updated_since")), second_of(params.get("updated_until"))
        keys = sorted(self._key(i, t) for i, t in self.times.items() if _passes(t, since, until))
        if params["sort_direction"] == "desc":
            keys.reverse()
        if task.cursor is not None:
            after = tuple(float(part) for part in task.cursor.split(","))
            keys = [key for key in keys if (key > after if params["sort_direction"] == "asc" else key < after)]
        chosen = keys[: self.page_size]
        cursor = ",".join(map(str, chosen[-1])) if len(keys) > self.page_size else None
        return Page([self._record(int(key[2])) for key in chosen], cursor, task.number, 0)

    def _key(self, number: int, time: int | None) -> tuple[float, float, float]:
        if time is None:
            return (0 if self.nulls_first else 2, 0, number)
        return (1, time, number)

    def _record(self, number: int) -> dict[str, object]:
        time = self.times[number]
        return {"id": number, "update_time": None if time is None else instant(time)}


def _passes(time: int | None, since: int | None, until: int | None) -> bool:
    if time is None:
        return since is None and until is None
    return (since is None or time >= since) and (until is None or time < until)


@dataclass
class Outcome:
    """What a simulated read gave: the last version of each record, how long it took in requests, what is left."""

    seen: dict[int, int | None]
    rounds: float
    progress: Progress


def simulate(
    model: ModelList,
    plan: RangePlan,
    *,
    readers: int = 4,
    luck: random.Random | None = None,
    on_request=lambda number: None,
    stop_after: int | None = None,
) -> Outcome:
    """Run the plan with `readers` readers in a simulated time where a request takes one unit (or, with luck, 0.1 to 1)."""
    outcome = Outcome({}, 0.0, plan.progress)
    running: list[tuple[float, int, RangeTask, Page]] = []
    delivered = 0
    while not plan.is_finished and delivered != stop_after:
        while len(running) < readers and (task := plan.next_task()) is not None:
            on_request(len(model.requests))
            takes = 1.0 if luck is None else luck.uniform(0.1, 1.0)
            heapq.heappush(running, (outcome.rounds + takes, len(model.requests), task, model.answer(task)))
        assert running, "nothing to do, yet not finished"
        outcome.rounds, _, task, page = heapq.heappop(running)
        plan.complete(task, page)
        outcome.progress = plan.progress
        outcome.seen.update((record["id"], second_of(record["update_time"])) for record in page.records)
        delivered += 1
    return outcome
