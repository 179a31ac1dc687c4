"""The plan of a side-by-side read of one list: what to ask for next, and when the list is complete. Pure: no threads.

Four phases, each begun when the one before is done:

first   the oldest page, ascending by update_time, without a lower bound where everything is wanted
probe   the page at the other end, while the first range goes on: the newest record, and the records without update_time
        where they sort last
ranges  what lies between, each range with a cursor of its own; an idle reader takes the upper half of the widest one
rest    from the probe's newest second, or from when the read began if that is earlier (some records bear a time to come),
        to the end: whatever changed while the ranges were read has moved there

A record only ever moves to a later update_time. So one that is alive throughout is met, and a version that is not met is
younger than the newest one met, less the API's resolution of a second: the overlap of the next sync reads it again.
A list of one page costs one request, of two pages three at most. A window that ended long ago is not added to any more and
needs neither probe nor rest; a single reader just goes on from the first page to the natural end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from pipeboard_resources.pipedrive.endpoint import Endpoint, Page
from pipeboard_resources.pipedrive.errors import UnsortedPageError
from pipeboard_resources.pipedrive.splitting import Stretch
from pipeboard_resources.pipedrive.walk import ListWalk

__all__ = ["Phase", "Progress", "Range", "RangePlan", "RangeTask", "instant", "second_of"]

# How far before the probe's newest second the rest begins: a change may become visible a moment after its time stamp.
VISIBILITY_SECONDS = 60


class Phase(StrEnum):
    """Which part of the read is under way."""

    FIRST = "first"
    PROBE = "probe"
    RANGES = "ranges"
    REST = "rest"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of update_time that is still being read; all in seconds since 1970.

    `since` and `until` are what the API is asked for, and `cursor` belongs to that question. The stretch is done at its
    natural end, or when records of the second `end` are met. `position` is the last second met.
    """

    since: int | None
    until: int | None
    end: int | None = None
    position: int | None = None
    cursor: str | None = None

    @property
    def is_past_end(self) -> bool:
        return self.end is not None and self.position is not None and self.position >= self.end


@dataclass(frozen=True, slots=True)
class Progress:
    """What is left to read once everything delivered so far is safe. JSON both ways, for a checkpoint.

    `began`: the server's time when the read began, where it told.
    """

    phase: Phase = Phase.FIRST
    ranges: tuple[Range, ...] = ()
    probe: Range | None = None
    rest_from: int | None = None
    began: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        probe = value["probe"]
        return cls(
            phase=Phase(value["phase"]),
            ranges=tuple(Range(**each) for each in value["ranges"]),
            probe=None if probe is None else Range(**probe),
            rest_from=value["rest_from"],
            began=value["began"],
        )


@dataclass(frozen=True, slots=True)
class RangeTask:
    """One request: `reading` says for which stretch; `number` counts its pages from 1, for messages."""

    reading: int
    params: Mapping[str, str]
    cursor: str | None
    number: int


class _Reading:
    """A range, and what is known of it in this process only. Densities are records a second."""

    def __init__(self, number: int, begun: Range, endpoint: Endpoint, *, is_descending: bool = False) -> None:
        self.id = number
        self.range = begun if begun.cursor else replace(begun, position=None)  # without a cursor it starts over
        self.is_descending = is_descending
        self.is_busy = False
        self.ends_with_time = True
        self.density_here: float | None = None
        self.density_at_start: float | None = None
        self._endpoint = endpoint
        self._walk = ListWalk(endpoint, begun.cursor)
        self._last_page: set[object] = set()
        self._restarts: set[int | None] = set()

    @property
    def is_at_natural_end(self) -> bool:
        return self._walk.is_complete

    def task(self) -> RangeTask:
        self.is_busy = True
        params = {"sort_by": "update_time", "sort_direction": "desc" if self.is_descending else "asc"}
        if self.range.since is not None:
            params["updated_since"] = instant(self.range.since)
        if self.range.until is not None:
            params["updated_until"] = instant(self.range.until)
        return RangeTask(self.id, params, self.range.cursor, self._walk.number)

    def take(self, page: Page) -> None:
        """Go on behind `page`."""
        times = self._times(page)
        self._walk.advance(page)
        if times:
            self.density_here = len(times) / max(1, abs(times[-1] - times[0]))
            self.density_at_start = self.density_at_start or self.density_here
            self.range = replace(self.range, position=min(times) if self.is_descending else max(times))
        self.ends_with_time = bool(page.records) and second_of(page.records[-1].get("update_time")) is not None
        self.range = replace(self.range, cursor=page.cursor)

    def _times(self, page: Page) -> list[int]:
        """Seconds of the records that have one and had not come yet, on this page or the one before, in order.

        A range with an end is left where that second is met: unless the list is sorted as asked, that would be too early.
        """
        first = {record.get("id"): record for record in reversed(page.records)}
        fresh = [
            each for each in page.records if each is first[each.get("id")] and each.get("id") not in self._last_page
        ]
        self._last_page = set(first)
        times = [second for record in fresh if (second := second_of(record.get("update_time"))) is not None]
        met = times if self.range.position is None else [self.range.position, *times]
        needs_order = self.is_descending or self.range.end is not None
        if needs_order and met != sorted(met, reverse=self.is_descending):
            seen = "records that are not sorted by update_time, as they were asked for"
            raise UnsortedPageError(self._endpoint.name, seen, page=page.number, status=200)
        return times

    def restart(self, *, is_alone: bool) -> bool:
        """Begin anew where it had come to; False when that was tried before.

        Where nobody else has met the records without update_time, from the very beginning: a lower bound would shut them out.
        """
        at = None if self.is_descending or is_alone else self.range.position
        if at in self._restarts:
            return False
        self._restarts.add(at)
        self.range = replace(self.range, cursor=None, position=at, since=self.range.since if at is None else at)
        self._walk = ListWalk(self._endpoint)
        self._last_page.clear()
        return True


class RangePlan:
    """Give each answer to `complete`, ask `next_task` for more until `is_finished`. Not thread-safe: one owner.

    `lower` and `upper` are seconds since 1970 (>= and <), None is open: without `lower`, records that have no update_time
    are met too, and some beyond `upper`. `is_settled`: nothing is added to the window any more. `progress` continues an earlier read of the same window.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        page_size: int,
        lower: int | None = None,
        upper: int | None = None,
        is_settled: bool = False,
        readers: int = 4,
        progress: Progress | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._page_size = page_size
        # No lower bound means everything older too, and `updated_until` would shut out what has no update_time.
        self._window = Range(lower, None if lower is None else upper, end=upper if lower is None else None)
        self._upper = upper
        self._is_settled = is_settled
        self._readers = readers
        self._next_id = 0
        self._may_split = False
        self._records_met = 0
        self._top: int | None = None
        self._density_at_top: float | None = None
        begun = progress or Progress(ranges=(self._window,))
        self._phase, self._rest_from, self._began = begun.phase, begun.rest_from, begun.began
        self._readings: dict[int, _Reading] = {}
        for each in begun.ranges:
            self._begin(each)
        self._probe = None if begun.probe is None else self._reading(begun.probe, is_descending=True)

    @property
    def is_finished(self) -> bool:
        return self._phase is Phase.DONE

    @property
    def progress(self) -> Progress:
        """What is left once the pages given to `complete` are safe."""
        ranges = tuple(each.range for each in self._readings.values())
        probe = None if self._probe is None else self._probe.range
        return Progress(self._phase, ranges, probe, self._rest_from, self._began)

    def next_task(self) -> RangeTask | None:
        """The next request; None while there is nothing to ask for before an answer comes."""
        reading = self._idle() or self._split()
        return None if reading is None else reading.task()

    def complete(self, task: RangeTask, page: Page) -> None:
        """Take the answer of a task. Raises UnsortedPageError, RepeatedCursorError, EndlessListError."""
        reading = self._answered(task)
        reading.take(page)
        self._began = page.answered_at if self._began is None else self._began
        self._records_met += len(page.records)
        if self._phase is Phase.FIRST:
            self._after_first(reading)
        elif reading is self._probe:
            self._after_probe(reading, page)
        else:
            self._may_split = True
            self._after_range(reading, page.answered_at)

    def refuse(self, task: RangeTask) -> bool:
        """The API does not know the task's cursor: begin its range anew where it had come to; False if that was tried."""
        reading = self._answered(task)
        has_others = reading.range.end is not None and self._probe is None
        return reading.restart(is_alone=reading.range.since is None and not has_others)

    def _after_first(self, first: _Reading) -> None:
        if first.is_at_natural_end:
            self._finish()
        elif self._window.end is None and (self._is_settled or self._readers == 1):
            self._phase = Phase.RANGES
            first.range = replace(first.range, end=self._upper if self._readers > 1 else None)
        else:
            self._phase = Phase.PROBE
            self._probe = self._reading(replace(self._window, end=None), is_descending=True)

    def _after_probe(self, probe: _Reading, page: Page) -> None:
        (first,) = self._readings.values()
        oldest = probe.range.position
        if oldest is None and not (probe.is_at_natural_end or first.is_at_natural_end):
            return  # nothing but records without update_time so far
        self._phase, self._probe = Phase.RANGES, None
        if first.is_at_natural_end:
            self._after_range(first, page.answered_at)
        elif oldest is not None:
            self._density_at_top = probe.density_here
            end = oldest + 1  # the page may hold only a part of its oldest second
            self._top = end if self._upper is None else min(end, self._upper)
            first.range = replace(first.range, end=self._top)
            self._plan_rest(_newest(page))
            if first.range.is_past_end and not first.is_busy:
                self._leave(first)

    def _plan_rest(self, newest: int | None) -> None:
        known = [second for second in (newest, self._began) if second is not None]
        begin = max(min(known, default=0) - VISIBILITY_SECONDS, self._window.since or _BEGINNING)
        if not self._is_settled and (self._upper is None or begin < self._upper):
            self._rest_from = begin

    def _after_range(self, reading: _Reading, answered_at: int | None) -> None:
        # Asked for the whole window in one go: its natural end is everybody's.
        is_whole = (reading.range.since, reading.range.until) == (self._window.since, self._window.until)
        is_everything = is_whole and reading.is_at_natural_end
        # Behind a record from the future nothing that changes now is met any more.
        is_ahead = answered_at is not None and (reading.range.position or 0) > answered_at
        if is_everything and ((reading.ends_with_time and not is_ahead) or self._phase is Phase.REST):
            self._finish()
        elif self._probe is None and (reading.is_at_natural_end or reading.range.is_past_end):
            if is_everything:  # whoever got its first update_time meanwhile has moved away from the end
                self._plan_rest(reading.range.position)
            self._leave(reading)

    def _leave(self, reading: _Reading) -> None:
        del self._readings[reading.id]
        if self._readings:
            return
        if self._rest_from is None:
            self._finish()
        else:
            self._phase = Phase.REST
            self._begin(Range(self._rest_from, self._upper))
            self._rest_from = None

    def _finish(self) -> None:
        self._phase, self._probe, self._rest_from = Phase.DONE, None, None
        self._readings.clear()

    def _split(self) -> _Reading | None:
        """The upper part of the range that seems to hold most, as a range of its own; None when nothing is worth it.

        Not before the second page is in: two may be all there is.
        """
        if self._phase is not Phase.RANGES or not self._may_split or len(self._readings) >= self._readers:
            return None
        stretches = [(stretch, each) for each in self._readings.values() if (stretch := self._stretch(each))]
        if not stretches:
            return None
        widest, victim = max(stretches, key=lambda pair: (pair[0].records, -pair[1].id))
        middle = widest.cut(self._page_size, self._records_met)
        if middle is None:
            return None
        upper = self._begin(Range(middle, victim.range.end, end=victim.range.end))
        victim.range = replace(victim.range, end=middle)
        return upper

    def _stretch(self, reading: _Reading) -> Stretch | None:
        """What is left of a range, once it is known how dense its records lie."""
        low, end, here = reading.range.position, reading.range.end, reading.density_here
        if end is not None and low is None and self._density_at_top is not None:
            is_uncut = (reading.range.since, end) == (
                self._window.since,
                self._top,
            )  # only records without a time so far
            return Stretch.down_from(end, self._density_at_top, self._page_size) if is_uncut else None
        if low is None or end is None or here is None:
            return None
        above = [each for each in self._readings.values() if each.range.since == end and each.density_at_start]
        at_end = above[0].density_at_start if above else self._density_at_top
        return Stretch(low, end, here, here if at_end is None else at_end)

    def _idle(self) -> _Reading | None:
        readings = ([] if self._probe is None else [self._probe]) + list(self._readings.values())
        return next((each for each in readings if not (each.is_busy or each.is_at_natural_end)), None)

    def _answered(self, task: RangeTask) -> _Reading:
        is_probe = self._probe is not None and self._probe.id == task.reading
        reading = self._probe if is_probe else self._readings[task.reading]
        assert reading is not None
        reading.is_busy = False
        return reading

    def _begin(self, begun: Range) -> _Reading:
        reading = self._reading(begun)
        self._readings[reading.id] = reading
        return reading

    def _reading(self, begun: Range, *, is_descending: bool = False) -> _Reading:
        self._next_id += 1
        return _Reading(self._next_id, begun, self._endpoint, is_descending=is_descending)


_BEGINNING = -(2**40)


def _newest(page: Page) -> int:
    return max(second for record in page.records if (second := second_of(record.get("update_time"))) is not None)


def second_of(value: object) -> int | None:
    """Whole seconds since 1970 of an update_time as sent, v2 or v1 spelling; None for null and for rubbish."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def instant(seconds: int) -> str:
    """RFC 3339 in whole seconds; the API refuses fractions."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
