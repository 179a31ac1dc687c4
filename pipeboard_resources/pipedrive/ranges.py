"""Who reads which stretch of a list next: the plan of a side-by-side read. Pure: no HTTP, no threads, no clock.

The list is sorted by update_time. A first reader goes up from the start, as if it were alone. If there is more than one
page, a probe reads the newest page from the other end; so the newest time is known, and idle readers take the upper half
of the widest stretch that nobody has fetched yet. Records that change while this goes on move behind the newest time, so
a last pass from there (a new round with the same rules) meets them. Records without an update_time match no time filter:
the first reader and the probe send none, so they are met at whichever end the API sorts them.

A reader can be overtaken in two ways, and one more last pass answers both: where records without a time sort last, and
where a record changes within the very second that the reader's cursor stands at (times have whole seconds, ties go by id).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from pipeboard_resources.pipedrive.endpoint import Endpoint, Page
from pipeboard_resources.pipedrive.walk import ListWalk

__all__ = ["Delivery", "Progress", "RangePlan", "RangeState", "RangeTask", "instant", "second_of"]

# A change may become visible some seconds after its time stamp, so the last pass starts a little before the newest.
LAST_PASS_OVERLAP_SECONDS = 60
# A cursor this close to the start of the read, or later, may stand in a second that was not over yet; clocks differ.
CLOCK_SKEW_SECONDS = 120
# A stretch is worth splitting when it holds more than the page in flight and one for each of two readers.
PAGES_WORTH_SPLITTING = 3
DENSER = 8.0
BOLD_PAGES = 8


@dataclass(frozen=True, slots=True)
class RangeState:
    """What is left of one stretch. Times are whole seconds since 1970; None is unbounded.

    `since` and `until` are sent as filters. `end` is where this reader stops by itself, because another took over there.
    `cursor` asks for the next page, `position` is the greatest update_time delivered. `is_last_pass` waits for all
    others. `is_whole` marks the reader whose natural end is the end of everything that was asked for.
    """

    since: int | None = None
    until: int | None = None
    end: int | None = None
    cursor: str | None = None
    position: int | None = None
    is_last_pass: bool = False
    is_whole: bool = False

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RangeState:
        """From a checkpoint; keys that a later version wrote are left out."""
        return cls(**{each.name: stored[each.name] for each in fields(cls) if each.name in stored})


@dataclass(frozen=True, slots=True)
class RangeTask:
    """One request to make. `range_id` is None for the probe."""

    range_id: int | None
    params: Mapping[str, str]
    cursor: str | None
    number: int


@dataclass(frozen=True, slots=True)
class Change:
    """One step of what is left: a stretch gets new values, comes (`state`), or is done (`is_done`)."""

    range_id: int
    values: Mapping[str, Any] = field(default_factory=dict)
    state: RangeState | None = None
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A page for the caller and what is left once the caller has it."""

    page: Page
    changes: tuple[Change, ...]


class Progress:
    """What is left to read after the pages that were delivered, which lags behind what was fetched."""

    def __init__(self, states: Iterable[tuple[int, RangeState]]) -> None:
        self._left = dict(states)

    @property
    def left(self) -> tuple[RangeState, ...]:
        """The state to checkpoint."""
        return tuple(self._left.values())

    def apply(self, delivery: Delivery) -> tuple[RangeState, ...]:
        """The state to checkpoint together with `delivery.page`; empty when everything was delivered."""
        for change in delivery.changes:
            if change.is_done:
                self._left.pop(change.range_id, None)
            elif change.state is not None:
                self._left[change.range_id] = change.state
            elif change.range_id in self._left:
                self._left[change.range_id] = replace(self._left[change.range_id], **change.values)
        return self.left


@dataclass(slots=True)
class _Range:
    """A stretch while it is read: `state` is what was fetched."""

    id: int
    state: RangeState
    walk: ListWalk
    pages: int = 0
    density_at_start: float | None = None
    density_here: float | None = None
    is_busy: bool = False
    had_cursor: bool = False
    turned_at: int | None = None
    ends_without_time: bool = False
    restarted_at: object = "never"

    @property
    def low(self) -> int | None:
        """Everything below was fetched."""
        return self.state.since if self.state.position is None else self.state.position


class RangePlan:
    """The plan of one read. Not thread-safe: its caller holds a lock.

    `is_settled` says that `upper` lies safely in the past, so nothing new can come into the window. `started_at` is the
    wall clock when the read began.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        lower: int | None = None,
        upper: int | None = None,
        is_settled: bool = False,
        started_at: float = float("inf"),
        page_size: int = 500,
        readers: int = 4,
        resume: Sequence[RangeState] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._upper = upper
        self._unsafe_from = float("inf") if is_settled else started_at - CLOCK_SKEW_SECONDS
        self._has_second_look = False
        self._page_size = page_size
        self._readers = readers
        self._next_id = 0
        self._changes: list[Change] = []
        self._small: set[object] | None = set() if resume is None else None
        self._has_spoken_for_second = False
        self._rows = 0
        self._density_at_top = 0.0
        end = upper if is_settled else None
        whole = RangeState(since=lower, until=upper, end=end, is_whole=True)
        self._ranges: dict[int, _Range] = {}
        for state in [whole] if resume is None else resume:
            self._add(state)
        self._changes.clear()
        self._probe: ListWalk | None = None
        self._is_probing = False
        self._begin_round()

    def progress(self) -> Progress:
        """What is left before anything was delivered. Call it before the first task."""
        return Progress((each.id, each.state) for each in self._ranges.values())

    @property
    def is_finished(self) -> bool:
        """Everything was fetched."""
        return not self._ranges

    def next_task(self) -> RangeTask | None:
        """A request for an idle reader; None when there is nothing for it to do at the moment."""
        idle = [each for each in self._reading() if not each.is_busy and not self._needs_probe_first(each)]
        if idle:
            return self._task(idle[0])
        if self._wants_probe():
            self._is_probing = self._has_spoken_for_second = True
            assert self._probe is not None
            params = self._params(self._lower_of_round(), self._upper, "desc")
            return RangeTask(None, params, self._probe.cursor, self._probe.number)
        upper_half = self._split()
        return None if upper_half is None else self._task(upper_half)

    def complete(self, task: RangeTask, page: Page) -> Delivery | None:
        """Take in the answer to `task`. None when nobody needs it any more. Raises RepeatedCursorError, EndlessListError."""
        if task.range_id is None:
            self._is_probing = False
            return self._complete_probe(page)
        reading = self._ranges.get(task.range_id)
        if reading is None:
            return None
        reading.is_busy = False
        reading.walk.advance(page)
        self._learn(reading, page)
        self._settle(reading)
        return self._deliver(page)

    def refuse(self, task: RangeTask) -> bool:
        """The API refused the task's cursor: its stretch starts anew where it had come to. False: it gets nowhere."""
        if task.range_id is None:
            self._is_probing, self._probe = False, ListWalk(self._endpoint)
            self._probe_refusals += 1
            return self._probe_refusals < 2
        reading = self._ranges.get(task.range_id)
        if reading is None:
            return True
        reading.is_busy = False
        low = reading.low
        has_moved, reading.restarted_at = low != reading.restarted_at, low
        # With a filter it no longer meets records without a time, should the API sort them last; the probe does.
        is_whole = reading.state.is_whole and (low is None or reading.state.since is not None)
        self._change(reading, {"since": low, "cursor": None, "is_whole": is_whole})
        reading.walk = ListWalk(self._endpoint)
        return has_moved

    # Rounds: first the list, then what changed meanwhile, and so on until that fits one page.

    def _begin_round(self) -> None:
        """When only the last pass is left, it becomes a list to read like any other."""
        self._is_probing = False
        self._probe_refusals = 0
        self._probe = ListWalk(self._endpoint)
        if self._ranges and all(each.state.is_last_pass for each in self._ranges.values()):
            for each in self._ranges.values():
                self._change(each, {"is_last_pass": False, "is_whole": True})

    def _reading(self) -> list[_Range]:
        return [each for each in self._ranges.values() if not each.state.is_last_pass]

    def _has_last_pass(self) -> bool:
        return any(each.state.is_last_pass for each in self._ranges.values())

    def _open_ended(self) -> _Range | None:
        """The reader whose stretch has no upper end yet."""
        return next((each for each in self._reading() if each.state.end is None), None)

    def _lower_of_round(self) -> int | None:
        reading = self._open_ended()
        return None if reading is None or not reading.state.is_whole else reading.state.since

    # The probe.

    def _wants_probe(self) -> bool:
        reading = self._open_ended()
        if reading is None or self._probe is None or self._is_probing or self._has_last_pass():
            return False
        has_begun = reading.pages > 0 or reading.state.cursor is not None or reading.state.position is not None
        return not reading.state.is_whole or (self._readers > 1 and has_begun)

    def _needs_probe_first(self, reading: _Range) -> bool:
        """A reader whose natural end is not everybody's must have an end before it may come to it."""
        return reading.state.end is None and not reading.state.is_whole and self._probe is not None

    def _complete_probe(self, page: Page) -> Delivery | None:
        """The newest page: where the first reader may stop, and where the last pass has to begin."""
        reading = self._open_ended()
        if reading is None or self._probe is None:
            return None
        self._probe.advance(page)
        self._count(page)
        times = _times(page)
        if not times:
            if page.cursor is None:
                self._probe = None  # nothing has a time: the first reader meets all there is
            return self._deliver(page)
        self._probe = None
        oldest, newest = min(times), max(times)
        self._density_at_top = _density(times)
        begin = newest - LAST_PASS_OVERLAP_SECONDS
        if reading.state.is_whole and reading.state.since is not None:
            begin = max(begin, reading.state.since)
        self._add(RangeState(since=begin, until=self._upper, is_last_pass=True))
        # At its oldest second the page may be incomplete, unless it is the whole list.
        self._change(reading, {"end": _BEFORE_TIME if page.cursor is None else min(oldest + 1, begin)})
        if not reading.is_busy:  # else its page under way may turn out to be the last, and then the whole list is read
            self._settle(reading)
        return self._deliver(page)

    # Splitting.

    def _split(self) -> _Range | None:
        """The upper half of the widest stretch, as a stretch of its own; None when nothing is worth splitting."""
        if not self._may_split():
            return None
        worth = PAGES_WORTH_SPLITTING * self._page_size
        stretches = [(self._rows_left(each), -each.id, each) for each in self._reading()]
        rows, _, victim = max(stretches, default=(0.0, 0, None))
        if victim is None or rows < worth:
            return None
        self._has_spoken_for_second = True
        middle = self._middle(victim)
        upper_half = self._add(RangeState(since=middle, until=victim.state.end, end=victim.state.end))
        self._change(victim, {"end": middle})
        return upper_half

    def _may_split(self) -> bool:
        """While two pages may be all there is, one extra request is the limit; after that, as many as there are readers."""
        if self._small is None:
            return True
        begun = all(each.pages > 0 for each in self._reading())
        return begun and not self._has_spoken_for_second

    def _rows_left(self, each: _Range) -> float:
        """How many rows a stretch may still hold, by how dense they lie at both of its ends."""
        low, end = each.low, each.state.end
        if low is None or end is None or end - low < 2:
            return 0.0
        return (end - low) * sum(self._densities(each)) / 2

    def _densities(self, each: _Range) -> tuple[float, float]:
        """Rows per second where the stretch is being read, and just above its end."""
        above = [other for other in self._reading() if other.state.since == each.state.end and other.density_at_start]
        high = above[0].density_at_start if above else None
        at_end = self._density_at_top if high is None else high
        return (at_end if each.density_here is None else each.density_here), at_end

    def _middle(self, victim: _Range) -> int:
        """Half of the time, unless rows lie much denser here than above: then where half of a bold guess would end.

        A mass update puts most of a list into an hour; halving years down to that hour would cost a request per half.
        """
        low, end = victim.low, victim.state.end
        assert low is not None
        assert end is not None
        here, above = self._densities(victim)
        half = (low + end) // 2
        guess = max(BOLD_PAGES * self._page_size, self._rows // 2)
        if here > DENSER * above:
            return max(low + 1, min(half, low + int(guess / here)))
        if above > DENSER * here:
            return min(end - 1, max(half, end - int(guess / above)))
        return half

    # Bookkeeping.

    def _learn(self, reading: _Range, page: Page) -> None:
        self._count(page)
        times = _times(page)
        reading.pages += 1
        reading.had_cursor = reading.had_cursor or reading.state.cursor is not None
        reading.turned_at = reading.state.position
        last = page.records[-1:]
        reading.ends_without_time = any(second_of(record.get("update_time")) is None for record in last)
        self._rows += len(page.records)
        if times:
            density = _density(times)
            reading.density_here = density
            reading.density_at_start = reading.density_at_start or density
            position = max(times) if reading.state.position is None else max(reading.state.position, *times)
            self._change(reading, {"position": position})
        self._change(reading, {"cursor": page.cursor})

    def _settle(self, reading: _Range) -> None:
        """Take a stretch out when it is done; a reader of the whole list that met its end has done everybody's work."""
        state = reading.state
        is_at_natural_end = reading.walk.is_complete
        is_at_its_end = state.end is not None and state.position is not None and state.position >= state.end
        was_overtaken = is_at_natural_end and self._may_be_overtaken(reading)
        if was_overtaken and not self._has_last_pass():
            self._has_second_look = True
            begin = 0 if reading.turned_at is None else reading.turned_at - LAST_PASS_OVERLAP_SECONDS
            self._add(RangeState(since=begin, until=self._upper, is_last_pass=True))
        if is_at_natural_end and state.is_whole and not was_overtaken:
            for each in list(self._ranges.values()):
                self._finish(each)
        elif is_at_natural_end or is_at_its_end:
            self._finish(reading)
        if not self._reading():
            self._begin_round()

    def _may_be_overtaken(self, reading: _Range) -> bool:
        """Whether a change during the read may have landed behind the cursor that its last page was asked for with."""
        if reading.pages == 1 and not reading.had_cursor:
            return False  # one page is one moment
        if reading.ends_without_time and reading.state.since is None:
            return True
        turned_at = reading.turned_at
        return turned_at is not None and turned_at >= self._unsafe_from and not self._has_second_look

    def _finish(self, reading: _Range) -> None:
        del self._ranges[reading.id]
        self._changes.append(Change(reading.id, is_done=True))

    def _add(self, state: RangeState) -> _Range:
        made = _Range(self._next_id, state, ListWalk(self._endpoint, state.cursor))
        self._ranges[made.id] = made
        self._next_id += 1
        self._changes.append(Change(made.id, state=state))
        return made

    def _change(self, reading: _Range, values: Mapping[str, Any]) -> None:
        reading.state = replace(reading.state, **values)
        self._changes.append(Change(reading.id, values))

    def _count(self, page: Page) -> None:
        """Until there are more records than two pages hold, the list may be small."""
        if self._small is not None:
            self._small.update(record.get("id") for record in page.records if isinstance(record.get("id"), int))
            if len(self._small) > 2 * self._page_size:
                self._small = None

    def _deliver(self, page: Page) -> Delivery:
        changes, self._changes = tuple(self._changes), []
        return Delivery(page, changes)

    def _task(self, reading: _Range) -> RangeTask:
        reading.is_busy = True
        state = reading.state
        params = self._params(state.since, state.until, "asc")
        return RangeTask(reading.id, params, state.cursor, reading.pages + 1)

    @staticmethod
    def _params(since: int | None, until: int | None, direction: str) -> dict[str, str]:
        params = {"sort_by": "update_time", "sort_direction": direction}
        if since is not None:
            params["updated_since"] = instant(since)
        if until is not None:
            params["updated_until"] = instant(until)
        return params


_BEFORE_TIME = -(2**40)


def second_of(value: object) -> int | None:
    """Whole seconds since 1970 of an update_time as sent (v2 or v1 spelling); None for null and for rubbish."""
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


def _density(times: Sequence[int]) -> float:
    """Rows per second."""
    return len(times) / max(1, max(times) - min(times))


def _times(page: Page) -> list[int]:
    return [second for record in page.records if (second := second_of(record.get("update_time"))) is not None]
