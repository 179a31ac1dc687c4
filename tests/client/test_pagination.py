"""Envelopes: strict where a slip would lose records, lenient where the documents disagree; and whole lists of any cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeboard_resources.pipedrive.endpoint import Endpoint, Page, Paging, field_metadata, forecast
from pipeboard_resources.pipedrive.errors import EndlessListError, RepeatedCursorError
from pipeboard_resources.pipedrive.pagination import EnvelopeError, list_slice, single_object
from pipeboard_resources.pipedrive.walk import ListWalk

CURSOR = Endpoint("deals", "/api/v2/deals")
OFFSET = Endpoint("notes", "/v1/notes", Paging.OFFSET)
WHOLE = Endpoint("users", "/v1/users", Paging.NONE)
ONE = [{"id": 1}]


def body(data=ONE, more=None, **other):
    return {"success": True, "data": data, "additional_data": more, **other}


@pytest.mark.parametrize(
    ("endpoint", "answer", "cursor"),
    [
        (CURSOR, body(more={"next_cursor": "abc"}), "abc"),
        (CURSOR, body(more={"next_cursor": None}), None),
        (CURSOR, body(more={}), None),
        (CURSOR, {"success": True, "data": ONE}, None),
        (CURSOR, body(more={"pagination": {"next_cursor": "abc"}}), "abc"),
        (CURSOR, body([], more={"next_cursor": None}), None),
        (OFFSET, body(more={"pagination": {"more_items_in_collection": True, "next_start": 1}}), "1"),
        (OFFSET, body(more={"more_items_in_collection": True, "next_start": 1}), "1"),
        (OFFSET, body(more={"pagination": {"more_items_in_collection": True, "limit": 100}}), "100"),
        (OFFSET, body(more={"pagination": {"more_items_in_collection": False}}), None),
        (OFFSET, body(more={"pagination": {"more_items_in_collection": 0}}), None),
        (OFFSET, body(None, more={"pagination": {"more_items_in_collection": False}}), None),
        (WHOLE, body(more={"company_id": 7}), None),
        (WHOLE, body(None), None),
    ],
)
def test_a_well_formed_page_says_how_the_list_goes_on(endpoint, answer, cursor):
    sliced = list_slice(answer, endpoint)
    assert sliced.cursor == cursor
    assert sliced.records == (answer["data"] or [])


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        (CURSOR, None),
        (CURSOR, []),
        (CURSOR, {}),
        (CURSOR, {"success": True}),
        (CURSOR, {"success": False, "data": ONE}),
        (CURSOR, {"success": "true", "data": ONE}),
        (CURSOR, {"success": 1, "data": ONE}),
        (CURSOR, body(None)),
        (CURSOR, body({"id": 1})),
        (CURSOR, body([17])),
        (CURSOR, body(more=[])),
        (CURSOR, body(more={"next_cursor": 7})),
        (CURSOR, body(more={"next_cursor": ""})),
        (CURSOR, body(more={"pagination": "none"})),
        (CURSOR, body(more={"more_items_in_collection": True})),
        (OFFSET, body()),
        (OFFSET, body(more={"pagination": {}})),
        (OFFSET, body(more={"pagination": {"more_items_in_collection": "false"}})),
        (OFFSET, body(more={"pagination": {"more_items_in_collection": True, "next_start": "1"}})),
        (OFFSET, body(more={"pagination": {"more_items_in_collection": True, "next_start": 900, "limit": 100}})),
        (OFFSET, body(None, more={"pagination": {"more_items_in_collection": True, "next_start": 100, "limit": 100}})),
        (WHOLE, {"success": True}),
        (WHOLE, body(more={"next_cursor": "abc"})),
        (WHOLE, body(more={"pagination": {"more_items_in_collection": True}})),
        (field_metadata("deal"), body([])),
        (Endpoint("users", "/v1/users", Paging.NONE, is_never_empty=True), body(None)),
    ],
)
def test_a_page_that_could_hide_records_is_refused(endpoint, answer):
    with pytest.raises(EnvelopeError):
        list_slice(answer, endpoint)


def test_null_on_a_later_offset_page_is_a_lost_page_and_refused():
    last = body(None, more={"pagination": {"more_items_in_collection": False}})
    with pytest.raises(EnvelopeError, match="data is null"):
        list_slice(last, OFFSET, start=100)


def test_the_message_never_shows_data():
    with pytest.raises(EnvelopeError) as caught:
        list_slice(body("Jane Doe"), CURSOR)
    assert "Jane" not in str(caught.value)
    assert "a text" in str(caught.value)


def test_a_single_object_must_be_one():
    assert single_object(body({"id": 1})) == {"id": 1}
    with pytest.raises(EnvelopeError):
        single_object(body([]))


@given(st.lists(st.integers(0, 4), max_size=12), st.booleans(), st.booleans())
def test_a_list_cut_anyhow_comes_back_whole(sizes, nested, omits_end):
    """v2: any page sizes, empty pages in between, both nestings, the end said or left out."""
    pages = list(_cut(sizes))
    walk, got = ListWalk(CURSOR), []
    while not walk.is_complete:
        place = int(walk.cursor or 0)
        cursor = str(place + 1) if place + 1 < len(pages) else None
        more = {} if omits_end and cursor is None else {"next_cursor": cursor}
        sliced = list_slice(body(pages[place] if pages else [], {"pagination": more} if nested else more), CURSOR)
        walk.advance(Page(sliced.records, sliced.cursor, walk.number, 0))
        got += sliced.records
    assert got == [record for page in pages for record in page]


@given(st.integers(0, 60), st.integers(1, 20), st.booleans(), st.booleans())
def test_an_offset_list_comes_back_whole(rows, limit, nested, says_next):
    walk, got = ListWalk(OFFSET), []
    while not walk.is_complete:
        start = int(walk.cursor or 0)
        has_more = start + limit < rows
        more = {"start": start, "limit": limit, "more_items_in_collection": has_more}
        if has_more and says_next:
            more["next_start"] = start + limit
        data = [{"id": number} for number in range(start, min(rows, start + limit))] or None
        sliced = list_slice(body(data, {"pagination": more} if nested else more), OFFSET, start=start)
        walk.advance(Page(sliced.records, sliced.cursor, walk.number, 0))
        got += sliced.records
    assert [record["id"] for record in got] == list(range(rows))


@given(st.lists(st.integers(0, 6), min_size=8, max_size=30))
def test_a_list_that_goes_round_in_circles_is_an_error(cursors):
    walk = ListWalk(CURSOR)
    with pytest.raises(RepeatedCursorError):
        for cursor in cursors:
            walk.advance(Page(ONE, str(cursor), walk.number, 0))
    assert not walk.is_complete


@pytest.mark.parametrize("next_start", ["0", "5"])
def test_an_offset_that_goes_back_is_an_error(next_start):
    walk = ListWalk(OFFSET, "5")
    with pytest.raises(RepeatedCursorError):
        walk.advance(Page(ONE, next_start, 1, 0))


def test_a_list_of_empty_pages_does_not_go_on_for_ever():
    walk = ListWalk(CURSOR)
    with pytest.raises(EndlessListError, match="21 pages in a row"):
        for number in range(100):
            walk.advance(Page([], str(number), walk.number, 0))


@pytest.mark.parametrize(
    ("endpoint", "records", "requests"),
    [
        (CURSOR, 0, 1),
        (CURSOR, 500, 1),
        (CURSOR, 501, 2),
        (WHOLE, 10_000, 1),
        (Endpoint("files", "/v1/files", Paging.OFFSET, page_limit=100), 101, 2),
    ],
)
def test_the_forecast_counts_pages(endpoint, records, requests):
    cost = forecast(endpoint, records)
    assert (cost.requests, cost.tokens) == (requests, requests * endpoint.tokens)


def test_forecasts_add_up():
    assert (forecast(CURSOR, 600) + forecast(WHOLE, 1)).tokens == 30


def _cut(sizes):
    number = 0
    for size in sizes:
        yield [{"id": number + place} for place in range(size)]
        number += size
