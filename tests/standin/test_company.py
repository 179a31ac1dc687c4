"""The generated company agrees with itself, and edits do what they do in Pipedrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from pipeboard_resources.pipedrive.standin import Company, CompanyError
from pipeboard_resources.pipedrive.standin.collection import ENCODER
from pipeboard_resources.pipedrive.standin.fields import CREATABLE_TYPES
from pipeboard_resources.pipedrive.standin.life import live
from pipeboard_resources.pipedrive.standin.shapes import ENTITIES

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def large() -> Company:
    return Company.generate(deals=1000, now=NOW)


def by_id(company: Company, entity: str) -> dict[int, dict[str, Any]]:
    return {record["id"]: record for record in company.truth(entity)}


def everything(company: Company) -> bytes:
    return ENCODER.encode([company.truth(entity) for entity in ENTITIES])


def test_the_same_seed_gives_the_same_company() -> None:
    first, second = (Company.generate(deals=30, seed=5, now=NOW) for _ in range(2))
    assert everything(first) == everything(second)
    assert everything(first) != everything(Company.generate(deals=30, seed=6, now=NOW))


def test_the_default_ratios_are_those_of_the_demo(large: Company) -> None:
    counts = {entity: len(large.truth(entity)) for entity in ENTITIES}
    assert (counts["deals"], counts["persons"], counts["organizations"], counts["activities"]) == (1000, 800, 300, 3000)
    assert len(large.deleted("deals")) == 20


def test_every_link_leads_somewhere(large: Company) -> None:
    records = {entity: by_id(large, entity) for entity in ENTITIES}
    for deal in records["deals"].values():
        assert deal["person_id"] is None or deal["person_id"] in records["persons"]
        assert deal["org_id"] is None or deal["org_id"] in records["organizations"]
        assert records["stages"][deal["stage_id"]]["pipeline_id"] == deal["pipeline_id"]
    for person in records["persons"].values():
        assert person["org_id"] is None or person["org_id"] in records["organizations"]
    assert {stage["pipeline_id"] for stage in records["stages"].values()} == set(records["pipelines"])


def test_an_activity_has_the_person_and_organization_of_its_deal(large: Company) -> None:
    deals = by_id(large, "deals") | {deal["id"]: deal for deal in large.deleted("deals")}
    keys = {kind["key_string"] for kind in large.truth("activity_types")}
    for activity in large.truth("activities"):
        assert activity["type"] in keys
        if activity["deal_id"] is not None:
            deal = deals[activity["deal_id"]]
            assert (activity["person_id"], activity["org_id"]) == (deal["person_id"], deal["org_id"])
            assert deal["add_time"] <= activity["add_time"]


def test_a_deals_times_are_in_order(large: Company) -> None:
    now = "2026-11-20T12:00:00Z"
    for deal in large.truth("deals") + large.deleted("deals"):
        times = [
            deal["add_time"],
            deal["stage_change_time"],
            deal["close_time"],
            deal["archive_time"],
            deal["update_time"],
            now,
        ]
        known = [time for time in times if time is not None]
        assert all(earlier <= later for earlier, later in pairwise(known)), deal


def test_closing_times_go_with_the_status(large: Company) -> None:
    deals = large.truth("deals")
    assert {deal["status"] for deal in deals} == {"open", "won", "lost"}
    for deal in deals:
        assert (deal["won_time"] is not None) == (deal["status"] == "won")
        assert (deal["lost_time"] is not None) == (deal["status"] == "lost")
        assert (deal["close_time"] is not None) == (deal["status"] != "open")
        assert (deal["archive_time"] is not None) == deal["is_archived"]


def test_ids_follow_add_time(large: Company) -> None:
    for entity in ("organizations", "persons", "deals", "activities"):
        times = [record["add_time"] for record in large.truth(entity)]
        assert times == sorted(times)


def test_some_old_rows_have_no_update_time(large: Company) -> None:
    assert any(person["update_time"] is None for person in large.truth("persons"))
    assert any(pipeline["update_time"] is None for pipeline in large.truth("pipelines"))
    assert all(deal["update_time"] for deal in large.truth("deals"))


def test_some_owners_are_not_in_the_list_of_users(large: Company) -> None:
    users = by_id(large, "users")
    assert any(not user["active_flag"] for user in users.values())
    assert {deal["owner_id"] for deal in large.truth("deals")} - set(users) == {190, 191}


def test_deals_have_custom_fields_of_every_creatable_type(large: Company) -> None:
    fields = large.fields("deals", custom_only=True)
    assert {field.type for field in fields} == set(CREATABLE_TYPES)
    filled = {key for deal in large.truth("deals") for key, value in deal["custom_fields"].items() if value is not None}
    assert filled == {field.code for field in fields}
    assert any(None in deal["custom_fields"].values() for deal in large.truth("deals"))


def test_the_labels_hold_every_trap(large: Company) -> None:
    labels = [field.name for field in large.fields("deals", custom_only=True)]
    assert labels.count("Prioridade") == 2
    assert any(len(label) > 80 for label in labels)
    assert {"🔥🚀", "title", "Status", "Valor", "valor_currency"} <= set(labels)


def test_an_account_without_custom_fields_sends_null() -> None:
    company = Company.generate(deals=5, custom_fields=False, now=NOW)
    assert [deal["custom_fields"] for deal in company.truth("deals")] == [None] * 5


def test_extra_custom_fields_widen_the_deals() -> None:
    company = Company.generate(deals=5, extra_custom_fields=60, now=NOW)
    assert {len(deal["custom_fields"]) for deal in company.truth("deals")} == {83}


def test_an_update_bumps_update_time_unless_told_not_to(company: Company) -> None:
    number = company.ids("deals")[0]
    quiet = company.update("deals", number, {"title": "a"}, touch=False)["update_time"]
    company.advance(3600)
    assert company.get("deals", number)["update_time"] == quiet
    assert company.update("deals", number, {"title": "b"})["update_time"] == "2026-11-20T13:00:00Z"


def test_winning_a_deal_sets_its_times(company: Company) -> None:
    number = company.create("deals", {"title": "Novo"})
    company.advance(60)
    won = company.update("deals", number, {"status": "won"})
    assert (won["won_time"], won["close_time"], won["local_won_date"]) == ("2026-11-20T12:01:00Z",) * 2 + (
        "2026-11-20",
    )
    assert company.update("deals", number, {"status": "open"})["close_time"] is None


def test_moving_a_deal_moves_its_pipeline(company: Company) -> None:
    number = company.create("deals", {"stage_id": 1})
    company.advance(5)
    moved = company.update("deals", number, {"stage_id": 18})
    assert (moved["pipeline_id"], moved["stage_change_time"]) == (3, "2026-11-20T12:00:05Z")


def test_a_deleted_deal_is_seen_for_thirty_days(company: Company) -> None:
    number = company.ids("deals")[0]
    company.delete("deals", number)
    (deal,) = [deal for deal in company.deleted("deals") if deal["id"] == number]
    assert (deal["is_deleted"], deal["status"], deal["update_time"]) == (True, "deleted", "2026-11-20T12:00:00Z")
    company.advance(timedelta(days=30).total_seconds())
    assert number not in {deal["id"] for deal in company.deleted("deals")}


def test_a_restored_deal_is_as_before(company: Company) -> None:
    before = company.truth("deals")[0]
    company.delete("deals", before["id"])
    company.restore("deals", before["id"])
    assert company.get("deals", before["id"]) == before | {"update_time": "2026-11-20T12:00:00Z"}


def test_a_merge_moves_what_belonged_to_the_loser(company: Company) -> None:
    loser = next(deal["person_id"] for deal in company.truth("deals") if deal["person_id"] is not None)
    winner = company.create("persons")
    owned = [deal["id"] for deal in company.truth("deals") if deal["person_id"] == loser]
    company.merge("persons", loser, winner)
    assert loser not in company.ids("persons")
    assert loser not in {person["id"] for person in company.deleted("persons")}
    assert {company.get("deals", number)["person_id"] for number in owned} == {winner}


def test_archiving_keeps_a_deal_alive(company: Company) -> None:
    number = company.create("deals")
    company.archive(number)
    assert by_id(company, "deals")[number]["archive_time"] == "2026-11-20T12:00:00Z"
    company.unarchive(number)
    assert not by_id(company, "deals")[number]["is_archived"]


def test_deleting_a_pipeline_deletes_its_stages(company: Company) -> None:
    company.delete("pipelines", 2)
    assert company.ids("pipelines") == [1, 3]
    assert {stage["pipeline_id"] for stage in company.truth("stages")} == {1, 3}


def test_a_deleted_user_stays_in_the_list(company: Company) -> None:
    company.delete("users", 103)
    assert (by_id(company, "users")[103]["active_flag"], by_id(company, "users")[103]["is_deleted"]) == (False, True)


def test_a_new_field_is_null_everywhere_and_touches_nothing(company: Company) -> None:
    before = company.truth("deals")
    field = company.add_field("deals", "Nova", "enum", ["Um", "Dois"])
    after = company.truth("deals")
    assert {deal["custom_fields"][field.code] for deal in after} == {None}
    assert [deal["update_time"] for deal in after] == [deal["update_time"] for deal in before]


def test_a_removed_field_leaves_the_records(company: Company) -> None:
    field = company.field("deals", "Valor")
    company.remove_field("deals", field.code)
    assert all(field.code not in deal["custom_fields"] for deal in company.truth("deals"))
    again = company.add_field("deals", "Valor", "monetary")
    assert again.code != field.code


def test_renamed_options_keep_their_ids(company: Company) -> None:
    field = company.field("deals", "Produtos de interesse")
    option = company.add_option("deals", field.code, "Novo")
    company.rename_option("deals", field.code, int(option.id), "Novíssimo")
    company.remove_option("deals", field.code, int((field.options or ())[0].id))
    options = company.field("deals", field.code).options or ()
    assert [o.label for o in options if o.id == option.id] == ["Novíssimo"]
    assert len(options) == len(field.options or ())


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda c: c.update("deals", 10**9, {}), "no record"),
        (lambda c: c.truth("invoices"), "No entity"),
        (lambda c: c.restore("deals", c.ids("deals")[0]), "not deleted"),
        (lambda c: c.rename_field("deals", "title_of_nothing", "x"), "no field"),
        (lambda c: c.remove_option("deals", "Status", 1), "no option"),
        (lambda c: c.merge("deals", c.ids("deals")[0], c.ids("deals")[0]), "itself"),
    ],
)
def test_an_impossible_edit_says_why(company: Company, edit: Any, reason: str) -> None:
    with pytest.raises(CompanyError, match=reason):
        edit(company)


def test_a_lively_company_stays_consistent(company: Company) -> None:
    made = live(company, 300, Random(1))
    assert len(set(made)) > 10
    stages = by_id(company, "stages")
    for deal in company.truth("deals"):
        assert stages[deal["stage_id"]]["pipeline_id"] == deal["pipeline_id"]
        assert (deal["close_time"] is not None) == (deal["status"] in {"won", "lost"})
