"""Each fault does what its name says, where it was set and as often as it was set."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from pipeboard_resources.pipedrive.standin import FAULTS
from pipeboard_resources.pipedrive.standin.faults import UnknownFaultError
from tests.standin.conftest import Reader

STATUSES = {name: int(name[-3:]) for name in FAULTS if name[-3:].isdigit()}
DEALS = "/api/v2/deals"
PERSONS = "/api/v2/persons"
DELAYS = {"slow", "timeout"}


def spoiled(reader: Reader, name: str, path: str = DEALS, **query: Any) -> httpx.Response:
    """The first answer after a fault was set for every page."""
    reader.server.faults.add(name, path, times=None)
    return reader.get(path, **query)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_strikes_once_and_is_over(reader: Reader, name: str) -> None:
    first = reader.get(PERSONS, limit=120).json()
    last_page: dict[str, Any] = {"limit": 120, "cursor": first["additional_data"]["next_cursor"]}
    good = reader.get(PERSONS, **last_page)
    reader.server.faults.add(name, PERSONS, seconds=0.05)
    try:
        body = reader.get(PERSONS, **last_page).content
    except httpx.HTTPError:
        body = None
    assert reader.server.requests[-1].fault == name
    assert (body == good.content) == (name in {*DELAYS, "nested_pagination"})
    assert reader.get(PERSONS, **last_page).content == good.content


@pytest.mark.parametrize(("name", "status"), sorted(STATUSES.items()))
def test_a_status_fault_has_its_status(reader: Reader, name: str, status: int) -> None:
    assert spoiled(reader, name).status_code == status


@pytest.mark.parametrize("name", ["html_403", "status_502", "status_503", "status_504", "status_524", "html_200"])
def test_pages_from_the_front_are_html(reader: Reader, name: str) -> None:
    answer = spoiled(reader, name)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.lstrip().startswith("<")


def test_the_two_429s_differ(reader: Reader) -> None:
    burst = spoiled(reader, "burst_429")
    reader.server.faults.clear()
    daily = spoiled(reader, "daily_429")
    assert ("retry-after" in burst.headers, daily.headers["retry-after"]) == (False, "3939")
    assert (burst.headers["x-ratelimit-remaining"], daily.headers["x-daily-ratelimit-token-remaining"]) == ("0", "0")
    assert daily.json()["error"] == "daily request budget exceeded"


def test_a_redirect_leads_elsewhere(reader: Reader) -> None:
    assert spoiled(reader, "redirect_302").headers["location"] == "https://elsewhere.invalid/login"


def test_success_false_comes_with_200(reader: Reader) -> None:
    answer = spoiled(reader, "success_false")
    assert (answer.status_code, answer.json()["success"], answer.json()["data"]) == (200, False, None)


@pytest.mark.parametrize(("name", "body"), [("empty_body", b""), ("null_body", b"null")])
def test_bodies_without_content(reader: Reader, name: str, body: bytes) -> None:
    answer = spoiled(reader, name)
    assert (answer.status_code, answer.content) == (200, body)


def test_truncated_json_does_not_parse(reader: Reader) -> None:
    answer = spoiled(reader, "truncated_json")
    assert int(answer.headers["content-length"]) == len(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_gzip_garbage_does_not_decode(reader: Reader) -> None:
    with pytest.raises(httpx.DecodingError):
        spoiled(reader, "gzip_garbage")


@pytest.mark.parametrize("name", ["connection_cut", "connection_reset"])
def test_a_connection_is_lost(reader: Reader, name: str) -> None:
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        spoiled(reader, name, limit=500)


def test_a_cut_may_come_after_any_byte(reader: Reader) -> None:
    reader.server.faults.add("connection_cut", DEALS, after=10)
    received = b""
    headers = {"x-api-token": reader.server.api_key}
    with (
        pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)),
        reader.http.stream("GET", reader.server.url + DEALS, headers=headers) as answer,
    ):
        for part in answer.iter_raw():
            received += part
    assert received == b'{"success"'


def test_a_timeout_gives_no_answer(reader: Reader) -> None:
    reader.server.faults.add("timeout", DEALS)
    with pytest.raises(httpx.ReadTimeout):
        reader.http.get(reader.server.url + DEALS, headers={"x-api-token": reader.server.api_key}, timeout=0.1)


def test_slow_is_right_but_late(reader: Reader) -> None:
    reader.server.faults.add("slow", DEALS, seconds=0.2)
    answer = reader.get(DEALS)
    assert (answer.status_code, answer.elapsed.total_seconds() >= 0.2) == (200, True)


@pytest.mark.parametrize("sort_by", ["id", "update_time"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_repeated_cursor_leads_back(reader: Reader, sort_by: str, direction: str) -> None:
    query: dict[str, Any] = {"limit": 100, "sort_by": sort_by, "sort_direction": direction}
    first = spoiled(reader, "repeated_cursor", **query).json()
    again = reader.get(DEALS, **query, cursor=first["additional_data"]["next_cursor"]).json()
    assert again == first
    second = reader.get(DEALS, **query, cursor=again["additional_data"]["next_cursor"]).json()
    assert second == first


def test_a_cursor_is_refused_and_the_first_page_is_not(reader: Reader) -> None:
    first = spoiled(reader, "refused_cursor", limit=100)
    assert first.status_code == 200
    assert reader.get(DEALS, limit=100, cursor=first.json()["additional_data"]["next_cursor"]).status_code == 400


@pytest.mark.parametrize("name", ["missing_next_cursor", "missing_additional_data"])
def test_missing_ends_strike_on_the_last_page_only(reader: Reader, name: str) -> None:
    first = spoiled(reader, name, limit=200).json()
    assert first["additional_data"]["next_cursor"]
    last = reader.get(DEALS, limit=200, cursor=first["additional_data"]["next_cursor"]).json()
    assert last.get("additional_data", {}) == {}
    assert ("additional_data" in last) == (name == "missing_next_cursor")


@pytest.mark.parametrize(
    ("name", "data"), [("data_object", {"unexpected": "object"}), ("data_null", None), ("data_string", "none")]
)
def test_data_is_not_a_list(reader: Reader, name: str, data: Any) -> None:
    assert spoiled(reader, name).json()["data"] == data


def test_duplicates_come_from_the_page_before(reader: Reader) -> None:
    first = reader.get(DEALS, limit=100).json()
    cursor = first["additional_data"]["next_cursor"]
    second = spoiled(reader, "duplicate_records", limit=100, cursor=cursor).json()
    assert second["data"][0] == first["data"][-1]
    assert len(second["data"]) == 101


def test_one_record_is_malformed(reader: Reader) -> None:
    good = reader.get(DEALS, limit=9).json()["data"]
    for name, expected in (
        ("malformed_record", good[4] | {"add_time": {"unexpected": ["object"]}}),
        ("record_without_id", {key: value for key, value in good[4].items() if key != "id"}),
        ("record_not_an_object", 17),
    ):
        reader.server.faults.clear()
        bad = spoiled(reader, name, limit=9).json()["data"]
        assert bad == [*good[:4], expected, *good[5:]]


def test_a_malformed_field_can_be_chosen(reader: Reader) -> None:
    reader.server.faults.add("malformed_record", DEALS, field="value", value="muito")
    assert "muito" in [deal["value"] for deal in reader.get(DEALS).json()["data"]]


def test_zero_dates_take_the_place_of_nulls_only(reader: Reader) -> None:
    good = reader.get("/api/v2/persons").json()["data"]
    bad = spoiled(reader, "zero_dates", "/api/v2/persons").json()["data"]
    for before, after in zip(good, bad, strict=True):
        expected = {before["birthday"]} if before["birthday"] else {"0000-00-00", "-0001-11-30"}
        assert after["birthday"] in expected


def test_the_other_spelling_says_the_same(reader: Reader) -> None:
    good = reader.get("/api/v2/persons", limit=500).json()["data"]
    bad = spoiled(reader, "other_spelling", "/api/v2/persons", limit=500).json()["data"]
    assert all("ims" in person and "im" not in person for person in bad)
    flags = [[email["primary_flag"] for email in person["emails"]] for person in bad]
    assert flags == [[email["primary"] for email in person["emails"]] for person in good]


def test_a_fault_waits_for_its_page(reader: Reader) -> None:
    reader.server.faults.add("status_500", DEALS, page=2, times=2)
    first = reader.get(DEALS, limit=50).json()["additional_data"]["next_cursor"]
    statuses = [reader.get(DEALS, limit=50, cursor=first).status_code for _ in range(3)]
    assert statuses == [500, 500, 200]
    assert [request.page for request in reader.server.requests] == [1, 2, 2, 2]


def test_a_fault_waits_for_the_last_page(reader: Reader) -> None:
    reader.server.faults.add("status_500", DEALS, page="last")
    pages = reader.pages(DEALS.removeprefix("/api/v2/"), limit=60)
    with pytest.raises(KeyError):
        list(pages)
    strikes = [(request.page, request.status) for request in reader.server.requests]
    assert [status for _, status in strikes] == [200] * (len(strikes) - 1) + [500]


def test_a_fault_waits_for_the_nth_request(reader: Reader) -> None:
    reader.server.faults.add("status_500", "/api/v2/*", nth=3)
    paths = ("/api/v2/deals", "/v1/users", "/api/v2/persons", "/api/v2/stages", "/api/v2/stages")
    assert [reader.get(path).status_code for path in paths] == [200, 200, 200, 500, 200]


def test_a_fault_for_ever_ends_with_clear(reader: Reader) -> None:
    reader.server.faults.add("status_500", DEALS, times=None)
    assert [reader.get(DEALS).status_code for _ in range(3)] == [500] * 3
    reader.server.faults.clear()
    assert reader.get(DEALS).status_code == 200


def test_an_unknown_fault_is_refused(reader: Reader) -> None:
    with pytest.raises(UnknownFaultError, match="burst_429"):
        reader.server.faults.add("gremlins")


def test_the_hook_sees_each_page_before_it_is_read(fresh: Reader) -> None:
    seen: list[tuple[str, int]] = []

    def edit(company: Any, endpoint: str, page: int) -> None:
        seen.append((endpoint, page))
        company.create("persons", {"name": f"da página {page}"})

    fresh.server.before_page = edit
    names = [person["name"] for page in fresh.pages("persons", limit=20) for person in page]
    fresh.server.before_page = None
    assert seen == [("persons", page) for page in range(1, len(seen) + 1)]
    assert names[-1] == f"da página {len(seen)}"
