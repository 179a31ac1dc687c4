"""The plan of a side-by-side read against a list in memory that changes while it is read."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeboard_resources.pipedrive.endpoint import Page
from pipeboard_resources.pipedrive.errors import RepeatedCursorError, UnsortedPageError
from pipeboard_resources.pipedrive.ranges import Phase, Progress, RangePlan, second_of
from tests.client.model import LIST, ModelList, simulate

START = 1_600_000_000
SIZE = 5
OVERLAP_SECONDS = 600
times = st.one_of(st.none(), st.integers(START, START + 40), st.integers(START, START + 5_000_000))
lists = st.dictionaries(st.integers(1, 400), times, max_size=90)
luck_of = st.randoms(use_true_random=False)


def plan_of(**options) -> RangePlan:
    return RangePlan(LIST, page_size=SIZE, **options)


@given(lists, st.booleans(), st.integers(1, 6), luck_of)
@settings(max_examples=300, deadline=None)
def test_a_full_read_meets_every_record_in_any_order_of_arrival(records, nulls_first, readers, luck):
    model = ModelList(records, SIZE, nulls_first)
    outcome = simulate(model, plan_of(readers=readers), readers=readers, luck=luck)
    assert outcome.seen == records
    assert outcome.progress == Progress(Phase.DONE)


@given(lists, st.booleans(), st.integers(1, 5), luck_of)
@settings(max_examples=500, deadline=None)
def test_whoever_lives_through_the_read_is_met_and_a_version_not_met_is_the_next_syncs(
    records, nulls_first, readers, luck
):
    """Changes, new records and deletions at any request; the server's clock never runs backwards."""
    model = ModelList(dict(records), SIZE, nulls_first)
    lived_through, clock = set(records), [START + 5_000_001]

    def edit(request: int) -> None:
        clock[0] += luck.choice([0, 0, 1, 5])
        for _ in range(luck.choice([0, 0, 1, 3]) if request < 60 else 0):
            number = luck.randint(1, 430)
            if luck.random() < 0.2:
                model.times.pop(number, None)
                lived_through.discard(number)
            else:
                model.times[number] = clock[0]

    outcome = simulate(model, plan_of(readers=readers), readers=readers, luck=luck, on_request=edit)
    assert lived_through <= outcome.seen.keys()
    stale = [time for number, time in model.times.items() if outcome.seen.get(number, -1) != time]
    watermark = max((time for time in outcome.seen.values() if time is not None), default=0)
    assert all(time >= watermark - OVERLAP_SECONDS for time in stale)


@given(lists, st.integers(START, START + 300), st.integers(1, 3_000_000), st.booleans(), luck_of)
@settings(deadline=None)
def test_a_window_meets_what_lies_in_it(records, lower, width, is_settled, luck):
    model = ModelList(records, SIZE)
    window = {"lower": lower, "upper": lower + width}
    outcome = simulate(model, plan_of(is_settled=is_settled, **window), luck=luck)
    assert outcome.seen == {i: t for i, t in records.items() if t is not None and lower <= t < lower + width}


@given(lists, st.booleans(), st.integers(START, START + 5_000_000), st.integers(1, 4), st.booleans(), luck_of)
@settings(max_examples=300, deadline=None)
def test_a_window_that_is_open_to_the_past_meets_who_has_no_time_as_well(
    records, nulls_first, upper, readers, is_settled, luck
):
    model = ModelList(records, SIZE, nulls_first)
    plan = plan_of(upper=upper, is_settled=is_settled, readers=readers)
    outcome = simulate(model, plan, readers=readers, luck=luck)
    assert {i: t for i, t in records.items() if t is None or t < upper}.items() <= outcome.seen.items()


@given(lists, st.booleans(), st.integers(1, 30), luck_of)
@settings(max_examples=200, deadline=None)
def test_an_interrupted_read_goes_on_from_its_checkpoint(records, nulls_first, stop_after, luck):
    model = ModelList(records, SIZE, nulls_first)
    first = simulate(model, plan_of(), luck=luck, stop_after=stop_after)
    stored = json.loads(json.dumps(first.progress.as_json()))
    second = simulate(model, plan_of(progress=Progress.from_json(stored)), luck=luck)
    assert {**first.seen, **second.seen} == records
    assert second.progress == Progress(Phase.DONE)


@given(st.integers(0, 2 * SIZE), luck_of, st.booleans(), st.sampled_from([0, 1, 1000, 10**6]))
@settings(max_examples=300, deadline=None)
def test_a_small_account_costs_at_most_one_request_more(rows, luck, is_settled, spread):
    records = {number: START + luck.randint(0, spread) for number in range(rows)}
    model = ModelList(records, SIZE)
    window = {"lower": START, "upper": START + 10**6 + 1, "is_settled": True} if is_settled else {}
    simulate(model, plan_of(**window), luck=luck)
    in_sequence = max(1, -(-rows // SIZE))
    assert len(model.requests) <= in_sequence + (1 if in_sequence > 1 else 0)


SHAPES = {
    "even": lambda luck: luck.randrange(10**8),
    "growing": lambda luck: int(10**8 * luck.random() ** 0.4),
    "recent": lambda luck: 10**8 - min(10**8, int(luck.expovariate(1 / 5_000_000))),
    "mass update at the start": lambda luck: luck.randrange(3600 if luck.random() < 0.8 else 10**8),
    "mass update in the middle": lambda luck: luck.choice([luck.randrange(10**8), 5 * 10**7 + luck.randrange(3600)]),
    "mass update at the end": lambda luck: 10**8 - luck.randrange(3600 if luck.random() < 0.8 else 10**8),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_four_readers_are_nearly_four_times_as_fast_and_waste_little(shape):
    luck = random.Random(7)
    model = ModelList({number: START + SHAPES[shape](luck) for number in range(100 * 20)}, page_size=20)
    outcome = simulate(model, RangePlan(LIST, page_size=20))
    assert outcome.seen == model.times
    assert outcome.rounds <= 32
    assert len(model.requests) <= 112


@pytest.mark.parametrize("without_a_time", [40, 1000, 1990])
def test_records_without_a_time_are_one_readers_work_and_the_others_share_the_rest(without_a_time):
    times = {number: None if number < without_a_time else START + number * 1000 for number in range(100 * 20)}
    model = ModelList(times, page_size=20)
    outcome = simulate(model, RangePlan(LIST, page_size=20))
    assert outcome.seen == times
    assert outcome.rounds <= without_a_time / 20 + (2000 - without_a_time) / 80 + 5
    assert len(model.requests) <= 112


@pytest.mark.parametrize("years", [1, 2, 5])
def test_a_few_times_far_apart_among_many_records_without_one_are_not_searched_for_before_1970(years):
    times = {number: None for number in range(600)} | {600: START, 601: START + years * 31_536_000}
    model = ModelList(times, page_size=100)
    assert simulate(model, RangePlan(LIST, page_size=100)).seen == times
    assert all(task.params.get("updated_since", "1970") >= "1970" for task in model.requests)


class EndsWithAnEmptyPage(ModelList):
    """Offers one page more than there is."""

    def answer(self, task):
        page = super().answer(task)
        if page.cursor is None and page.records:
            number = page.records[-1]["id"]
            return Page(page.records, ",".join(map(str, self._key(number, self.times[number]))), page.number, 0)
        return page


def test_a_last_look_at_the_whole_window_that_ends_with_an_empty_page_is_the_last():
    """The rest begins a minute before the newest: here that is where the window begins."""
    model = EndsWithAnEmptyPage({number: START + number for number in range(30)}, SIZE)
    plan = plan_of(lower=START)
    while not plan.is_finished and len(model.requests) < 40:
        task = plan.next_task()
        plan.complete(task, model.answer(task))
    assert plan.is_finished


def test_no_range_is_read_twice():
    luck = random.Random(3)
    model = ModelList({number: START + luck.randrange(10**7) for number in range(600)}, page_size=20)
    plan, rows = RangePlan(LIST, page_size=20), 0
    while (task := plan.next_task()) is not None:
        page = model.answer(task)
        rows += len(page.records)
        plan.complete(task, page)
    assert rows <= 600 + 4 * 20  # a reader that stops in the middle of a page has read the rest of that page


def test_a_single_reader_asks_for_page_after_page_and_nothing_else():
    model = ModelList({number: START + number for number in range(100)}, page_size=20)
    simulate(model, RangePlan(LIST, page_size=20, readers=1), readers=1)
    assert len(model.requests) == 5


def test_a_refused_cursor_restarts_only_its_own_range_where_it_had_come_to():
    luck = random.Random(5)
    model = ModelList({number: START + luck.randrange(10**7) for number in range(300)}, page_size=20)
    plan, seen, refused = RangePlan(LIST, page_size=20), {}, 0
    while (task := plan.next_task()) is not None:
        if task.cursor is not None and refused < 5 and len(model.requests) > 4 + refused:
            assert plan.refuse(task)
            refused += 1
            continue
        page = model.answer(task)
        plan.complete(task, page)
        seen |= {record["id"]: second_of(record["update_time"]) for record in page.records}
    assert seen == model.times
    assert len(model.requests) <= 15 + refused + 6


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("nulls_first", [True, False])
def test_records_without_a_time_survive_a_refused_cursor(nulls_first, readers):
    model = ModelList({number: START + number * 60 if number % 4 else None for number in range(200)}, 10, nulls_first)
    plan, seen, refused = RangePlan(LIST, page_size=10, readers=readers), set(), False
    while (task := plan.next_task()) is not None:
        if task.cursor is not None and len(seen) > 90 and not refused:
            refused = plan.refuse(task)
            continue
        page = model.answer(task)
        plan.complete(task, page)
        seen |= {record["id"] for record in page.records}
    assert refused
    assert seen == model.times.keys()


@pytest.mark.parametrize("refused_at", range(2, 9))
@pytest.mark.parametrize("nulls_first", [True, False])
def test_a_cursor_refused_beside_the_probe_costs_no_record_without_a_time(nulls_first, refused_at):
    """Of a window that is open to the past; the probe is slow, and has met some of those records."""
    times = {number: START + number * 60 if number < 30 else None for number in range(60)}
    model = ModelList(times, SIZE, nulls_first)
    plan, seen, waiting, asked = plan_of(upper=START + 10**6), set(), [], 0
    while not plan.is_finished:
        while (task := plan.next_task()) is not None:
            waiting.append(task)
        waiting.sort(key=lambda task: (task.params["sort_direction"] == "desc" and asked % 3 > 0, task.number))
        task, asked = waiting.pop(0), asked + 1
        if asked == refused_at and task.cursor is not None:
            assert plan.refuse(task)
            continue
        page = model.answer(task)
        plan.complete(task, page)
        seen |= {record["id"] for record in page.records}
    assert seen == times.keys()


def test_a_cursor_that_is_refused_wherever_it_starts_is_given_up():
    model = ModelList(dict.fromkeys(range(50), START), SIZE)
    plan, goes_on = plan_of(readers=1), True
    while goes_on:
        task = plan.next_task()
        if task.cursor is None:
            plan.complete(task, model.answer(task))
        else:
            goes_on = plan.refuse(task)
    assert len(model.requests) <= 5


def test_a_repeated_cursor_is_an_error_in_every_range():
    plan = plan_of(readers=1)
    for cursor in ("a", "b"):
        plan.complete(plan.next_task(), Page([{"id": 1}], cursor, 1, 0))
    with pytest.raises(RepeatedCursorError):
        plan.complete(plan.next_task(), Page([{"id": 2}], "a", 1, 0))


def unsorted_answers(plan: RangePlan) -> None:
    """An API that pages by id whatever it is asked: thirty records in no order of time."""
    luck = random.Random(1)
    records = [{"id": number, "update_time": f"2026-01-{luck.randint(1, 28):02}T00:00:00Z"} for number in range(30)]
    while (task := plan.next_task()) is not None:
        at = int(task.cursor or 0)
        more = str(at + SIZE) if at + SIZE < len(records) else None
        plan.complete(task, Page(records[at : at + SIZE], more, task.number, 0))


def test_a_list_that_is_not_sorted_as_asked_is_an_error_and_one_reader_can_still_read_it():
    with pytest.raises(UnsortedPageError):
        unsorted_answers(plan_of())
    alone = plan_of(readers=1)
    unsorted_answers(alone)
    assert alone.is_finished


def test_records_of_the_page_before_that_come_again_are_no_disorder():
    model = ModelList({number: START + number * 60 for number in range(60)}, SIZE)
    plan, seen, before = plan_of(readers=1), set(), {}
    while (task := plan.next_task()) is not None:
        page = model.answer(task)
        again = before.get(task.reading, [])
        before[task.reading] = page.records
        plan.complete(task, Page([*again[:2], *page.records, *again[2:]], page.cursor, task.number, 0))
        seen |= {record["id"] for record in page.records}
    assert seen == model.times.keys()


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("2020-09-13T12:26:40Z", START),
        ("2020-09-13T12:26:40.999Z", START),
        ("2020-09-13 12:26:40", START),
        ("2020-09-13T14:26:40+02:00", START),
        (None, None),
        ("0000-00-00 00:00:00", None),
        ({"unexpected": ["object"]}, None),
        (7, None),
    ],
)
def test_an_update_time_is_read_in_every_spelling(text, second):
    assert second_of(text) == second
