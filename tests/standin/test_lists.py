"""v2 and v1 lists: complete, strictly validated, and paged by keyset."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.standin.conftest import Reader

V2_LISTS = ("deals", "deals/archived", "persons", "organizations", "activities", "pipelines", "stages")


def truth_of(reader: Reader, endpoint: str) -> list[dict[str, Any]]:
    records = reader.server.company.truth(endpoint.partition("/")[0])
    if endpoint.startswith("deals"):
        return [deal for deal in records if deal["is_archived"] is (endpoint == "deals/archived")]
    return records


@pytest.mark.parametrize("endpoint", V2_LISTS)
@pytest.mark.parametrize("sort_by", ["id", "update_time", "add_time"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_paging_gives_every_record_once(reader: Reader, endpoint: str, sort_by: str, direction: str) -> None:
    limit = 7 if endpoint in {"pipelines", "stages", "deals/archived"} else 61
    ids = reader.ids(endpoint, limit=limit, sort_by=sort_by, sort_direction=direction)
    assert sorted(ids) == [record["id"] for record in truth_of(reader, endpoint)]


@pytest.mark.parametrize("endpoint", V2_LISTS)
def test_a_list_equals_the_truth(reader: Reader, endpoint: str) -> None:
    records = [record for page in reader.pages(endpoint, limit=500) for record in page]
    assert records == json.loads(json.dumps(truth_of(reader, endpoint), default=float))


def test_a_page_holds_100_records_unless_asked(reader: Reader) -> None:
    assert len(reader.get("/api/v2/persons").json()["data"]) == 100


def test_the_cursor_is_a_keyset_position(reader: Reader) -> None:
    body = reader.get("/api/v2/deals", limit=3, sort_by="add_time").json()
    cursor = body["additional_data"]["next_cursor"]
    last = body["data"][-1]
    assert "=" not in cursor
    assert json.loads(base64.urlsafe_b64decode(cursor + "===")) == {
        "field": "add_time",
        "fieldValue": last["add_time"],
        "sortDirection": "asc",
        "id": last["id"],
    }


@pytest.mark.parametrize("nulls_first", [True, False])
def test_nulls_sort_where_the_switch_says(reader: Reader, nulls_first: bool) -> None:
    reader.server.company.nulls_first = nulls_first
    times = [p["update_time"] for page in reader.pages("persons", limit=37, sort_by="update_time") for p in page]
    assert sorted(t for t in times if t) == [t for t in times if t]
    assert (times[0] is None, times[-1] is None) == (nulls_first, not nulls_first)
    reader.server.company.nulls_first = True


@pytest.mark.parametrize("sort_by", ["id", "update_time"])
def test_time_filters_include_the_lower_bound_and_exclude_the_upper(reader: Reader, sort_by: str) -> None:
    times = sorted(p["update_time"] for p in truth_of(reader, "persons") if p["update_time"])
    since, until = times[len(times) // 3], times[-5]
    ids = reader.ids("persons", limit=50, sort_by=sort_by, updated_since=since, updated_until=until)
    expected = [p["id"] for p in truth_of(reader, "persons") if p["update_time"] and since <= p["update_time"] < until]
    assert sorted(ids) == expected


@pytest.mark.parametrize(
    ("endpoint", "query"),
    [
        ("deals", {"unknown": "1"}),
        ("deals", {"limit": "501"}),
        ("deals", {"limit": "0"}),
        ("deals", {"limit": "ten"}),
        ("deals", {"cursor": "rubbish"}),
        ("deals", {"sort_by": "title"}),
        ("deals", {"sort_direction": "up"}),
        ("deals", {"status": "open,closed"}),
        ("deals", {"include_fields": "secrets"}),
        ("deals", {"custom_fields": ",".join("abcdefghijklmnop")}),
        ("deals", {"ids": ",".join(map(str, range(1, 102)))}),
        ("deals", {"stage_id": "1.5"}),
        ("deals", {"updated_since": "2025-01-01T10:20:00.5Z"}),
        ("deals", {"updated_since": "2025-01-01 10:20:00"}),
        ("deals", {"updated_since": "2025-13-01T10:20:00Z"}),
        ("deals/archived", {"include_labels": "true"}),
        ("persons", {"status": "open"}),
        ("activities", {"done": "1"}),
        ("activities", {"custom_fields": "a"}),
        ("pipelines", {"updated_since": "2025-01-01T10:20:00Z"}),
        ("stages", {"ids": "1"}),
        ("dealFields", {"sort_by": "id"}),
    ],
)
def test_v2_refuses_what_it_does_not_know(reader: Reader, endpoint: str, query: dict[str, str]) -> None:
    answer = reader.get(f"/api/v2/{endpoint}", **query)
    assert (answer.status_code, answer.json()["code"]) == (400, "ERR_SCHEMA_VALIDATION_FAILED")
    assert answer.json()["success"] is False


def test_a_cursor_of_another_order_is_refused(reader: Reader) -> None:
    cursor = reader.get("/api/v2/deals", limit=5).json()["additional_data"]["next_cursor"]
    assert reader.get("/api/v2/deals", limit=5, cursor=cursor, sort_by="add_time").status_code == 400


def test_a_cursor_survives_inserts_and_deletes(fresh: Reader) -> None:
    company = fresh.server.company
    ids = company.ids("persons")
    first = fresh.get("/api/v2/persons", limit=5).json()
    company.delete("persons", ids[4])
    company.delete("persons", ids[6])
    added = company.create("persons")
    rest = fresh.ids("persons", cursor=first["additional_data"]["next_cursor"])
    assert rest == [ids[5], *ids[7:], added]


def test_a_record_touched_during_an_ascending_scan_comes_twice_and_none_is_lost(fresh: Reader) -> None:
    company = fresh.server.company
    company.advance(60)
    pages = fresh.pages("deals", limit=10, sort_by="update_time")
    first = [deal["id"] for deal in next(pages)]
    company.update("deals", first[0], {"title": "mexido"})
    rest = [deal["id"] for page in pages for deal in page]
    assert rest[-1] == first[0]
    assert set(first + rest) == {deal["id"] for deal in truth_of(fresh, "deals")}


def test_deleted_deals_come_only_when_asked_for(reader: Reader) -> None:
    company = reader.server.company
    deleted = {deal["id"] for deal in company.deleted("deals") if not deal["is_archived"]}
    assert deleted
    assert not deleted & set(reader.ids("deals"))
    everything = set(reader.ids("deals", status="open,won,lost,deleted"))
    assert everything == deleted | {deal["id"] for deal in truth_of(reader, "deals")}
    assert set(reader.ids("deals", status="deleted")) == deleted


@pytest.mark.parametrize("status", ["open", "won", "lost"])
def test_a_status_filters(reader: Reader, status: str) -> None:
    assert reader.ids("deals", status=status) == [d["id"] for d in truth_of(reader, "deals") if d["status"] == status]


def test_links_filter(reader: Reader) -> None:
    deal = next(d for d in truth_of(reader, "deals") if d["person_id"] is not None)
    ids = reader.ids("deals", person_id=deal["person_id"], stage_id=deal["stage_id"])
    assert deal["id"] in ids
    assert reader.ids("persons", deal_id=deal["id"]) == [deal["person_id"]]
    assert reader.ids("stages", pipeline_id=2) == [7, 8, 9, 10, 11, 12]
    assert all(a["done"] for page in reader.pages("activities", done="true") for a in page)


def test_ids_leave_out_what_is_missing(reader: Reader) -> None:
    first, second = reader.server.company.ids("persons")[:2]
    assert reader.ids("persons", ids=f"{second},{first},999999999") == [first, second]


def test_a_filter_beats_the_quick_filters(reader: Reader) -> None:
    assert reader.ids("deals", filter_id=1, status="won") == reader.ids("deals", status="open")
    assert reader.get("/api/v2/deals", filter_id=99).status_code == 404


def test_fields_on_request(reader: Reader) -> None:
    deal = reader.get("/api/v2/deals", limit=1, include_fields="activities_count,next_activity_id").json()["data"][0]
    mine = [a for a in truth_of(reader, "activities") if a["deal_id"] == deal["id"]]
    assert deal["activities_count"] == len(mine)
    activity = reader.get("/api/v2/activities", limit=1, include_fields="attendees").json()["data"][0]
    assert isinstance(activity["attendees"], list)


def test_custom_fields_can_be_narrowed(reader: Reader) -> None:
    key = reader.server.company.field("deals", "Valor").code
    deal = reader.get("/api/v2/deals", limit=1, custom_fields=key).json()["data"][0]
    assert list(deal["custom_fields"]) == [key]


def test_option_labels_on_request(reader: Reader) -> None:
    field = reader.server.company.field("deals", "Status")
    deals = reader.get("/api/v2/deals", limit=50, include_option_labels="true", include_labels="true").json()["data"]
    values = [deal["custom_fields"][field.code] for deal in deals if deal["custom_fields"][field.code] is not None]
    assert {value["label"] for value in values} <= {"Em análise", "Aprovado", "Recusado"}
    assert all(label.keys() == {"id", "label"} for deal in deals for label in deal["labels"])


def test_numbers_keep_every_digit(fresh: Reader) -> None:
    company = fresh.server.company
    key = company.field("deals", "Comissão (%)").code
    number = company.ids("deals")[0]
    company.update("deals", number, {"custom_fields": {key: 9007199254740993}})
    assert b":9007199254740993" in fresh.get(f"/api/v2/deals/{number}").content


@pytest.mark.parametrize("entity", ["deals", "persons", "organizations", "activities", "pipelines", "stages"])
def test_one_record_by_id(reader: Reader, entity: str) -> None:
    wanted = truth_of(reader, entity)[0]
    body = reader.get(f"/api/v2/{entity}/{wanted['id']}").json()
    assert body["data"] == json.loads(json.dumps(wanted, default=float))
    missing = reader.get(f"/api/v2/{entity}/999999")
    assert (missing.status_code, missing.json()["success"]) == (404, False)


def test_a_deleted_record_is_readable_by_id_and_a_merged_one_is_not(fresh: Reader) -> None:
    company = fresh.server.company
    first, second, third = company.ids("persons")[:3]
    company.delete("persons", first)
    company.merge("persons", second, third)
    assert fresh.get(f"/api/v2/persons/{first}").json()["data"]["is_deleted"] is True
    assert fresh.get(f"/api/v2/persons/{second}").status_code == 404


@pytest.mark.parametrize(
    "endpoint", ["dealFields", "personFields", "organizationFields", "activityFields", "productFields"]
)
def test_fields_are_paged_and_complete(reader: Reader, endpoint: str) -> None:
    fields = [field for page in reader.pages(endpoint, limit=10) for field in page]
    codes = [field["field_code"] for field in fields]
    assert len(set(codes)) == len(codes)
    assert all(field["is_custom_field"] == (len(field["field_code"]) == 40) for field in fields)
    assert reader.get(f"/api/v2/{endpoint}/{codes[0]}").json()["data"] == fields[0]


def test_built_in_fields_cover_the_records(reader: Reader) -> None:
    for endpoint, entity in (
        ("dealFields", "deals"),
        ("personFields", "persons"),
        ("organizationFields", "organizations"),
    ):
        codes = {field["field_code"] for page in reader.pages(endpoint, limit=500) for field in page}
        record = truth_of(reader, entity)[0]
        assert set(record) - {"custom_fields"} <= codes
        assert set(record["custom_fields"]) <= codes


def test_users_come_at_once_in_the_v1_envelope(reader: Reader) -> None:
    body = reader.get("/v1/users").json()
    assert [user["id"] for user in body["data"] if user["is_you"]] == [101]
    assert body["additional_data"] == {"company_id": reader.server.company.company_id}
    assert reader.get("/api/v1/users").json() == body


def test_an_empty_v1_list_is_null(fresh: Reader) -> None:
    for number in fresh.server.company.ids("activity_types"):
        fresh.server.company.remove("activity_types", number)
    assert fresh.get("/v1/activityTypes").json() == {"success": True, "data": None}


def test_v1_fields_are_paged_by_offset(reader: Reader) -> None:
    body = reader.get("/v1/dealFields", start=3, limit=2).json()
    assert [field["id"] for field in body["data"]] == [4, 5]
    assert body["additional_data"]["pagination"] == {
        "start": 3,
        "limit": 2,
        "more_items_in_collection": True,
        "next_start": 5,
    }


@pytest.mark.parametrize("status", ["open", "won", "lost", None])
def test_the_summary_adds_up(reader: Reader, status: str | None) -> None:
    query = {} if status is None else {"status": status}
    body = reader.get("/v1/deals/summary", **query).json()["data"]
    deals = [deal for deal in truth_of(reader, "deals") if status in {None, deal["status"]}]
    assert body["total_count"] == len(deals)
    for code, total in body["values_total"].items():
        mine = [deal["value"] for deal in deals if deal["currency"] == code]
        assert (total["count"], round(total["value"], 2)) == (len(mine), round(float(sum(mine)), 2))


def test_the_changelog_tells_of_edits_newest_first(fresh: Reader) -> None:
    company = fresh.server.company
    number = company.create("deals", {"title": "Antes"})
    for title in ("Durante", "Depois"):
        company.advance(60)
        company.update("deals", number, {"title": title}, touch=False)
    first = fresh.get(f"/v1/deals/{number}/changelog", limit=1).json()
    assert (first["data"][0]["old_value"], first["data"][0]["new_value"]) == ("Durante", "Depois")
    cursor = first["additional_data"]["next_cursor"]
    assert fresh.get(f"/v1/deals/{number}/changelog", cursor=cursor).json()["data"][0]["new_value"] == "Durante"


def test_the_flow_mixes_changes_and_activities(reader: Reader) -> None:
    number = next(a["deal_id"] for a in truth_of(reader, "activities") if a["deal_id"] is not None)
    items = reader.get(f"/v1/deals/{number}/flow", limit=500).json()["data"]
    assert {item["object"] for item in items} == {"dealChange", "activity"}
    changes = reader.get(f"/v1/deals/{number}/flow", items="dealChange").json()["data"]
    assert {item["object"] for item in changes} == {"dealChange"}


def test_out_of_support_endpoints_are_gone(reader: Reader) -> None:
    assert reader.get("/v1/persons").status_code == 410
    assert reader.get("/v1/nothing").status_code == 404
