"""Syncs after the first: what changed is read, what did not is not written, what is gone is marked, errors publish nothing."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psycopg
import pytest
from pydantic import SecretStr

from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.graph.request import SyncRequest
from tests.graph.conftest import Account


def written(outcomes: dict[str, Any]) -> dict[str, int]:
    """Rows written by asset, where any were."""
    counts = {name: each.inserted + each.updated + each.deleted + each.restored for name, each in outcomes.items()}
    return {name: count for name, count in counts.items() if count}


def assert_green(outcomes: dict[str, Any]) -> None:
    assert {name: each.error for name, each in outcomes.items() if each.status is not Status.SUCCESS} == {}


def assert_equals_truth(account: Account, *entities: str) -> None:
    for entity in entities:
        truth = {record["id"]: record["update_time"] for record in account.company.truth(entity)}
        rows = account.rows(f"pipedrive.{entity}")
        stored = {
            number: row["update_time"] and f"{row['update_time']:%Y-%m-%dT%H:%M:%SZ}" for number, row in rows.items()
        }
        assert stored == truth


@pytest.fixture
def synced(fresh_account: Account) -> Account:
    assert_green(fresh_account.sync())
    return fresh_account


def test_a_second_sync_writes_no_row_and_a_full_one_neither(synced: Account) -> None:
    assert written(synced.sync()) == {}
    assert written(synced.sync(full=True)) == {}


def test_an_incremental_sync_brings_creations_changes_archiving_and_deletions(synced: Account) -> None:
    company = synced.company
    company.advance(3600)
    changed, archived, deleted = company.ids("deals")[:3]
    company.update("deals", changed, {"title": 'diz "oi"\\N\n'})
    company.archive(archived)
    company.delete("deals", deleted)
    person = company.create("persons", {"name": "Zoë"})
    outcomes = synced.sync()
    assert_green(outcomes)
    assert_equals_truth(synced, "deals", "persons")
    assert synced.rows("pipedrive.deals")[changed]["title"] == 'diz "oi"\\N\n'
    assert synced.rows("pipedrive.persons")[person]["name"] == "Zoë"
    assert (outcomes["deals"].updated, outcomes["deals"].deleted, outcomes["main_bi"].deleted) == (2, 1, 1)


def test_what_a_full_sync_does_not_meet_is_marked_deleted_and_restored_when_it_returns(synced: Account) -> None:
    gone = synced.company.ids("organizations")[0]
    synced.company.delete("organizations", gone)
    assert synced.sync()["organizations"].deleted == 0
    assert synced.sync(full=True)["organizations"].deleted == 1
    synced.company.restore("organizations", gone)
    assert synced.sync(full=True)["organizations"].restored == 1
    assert_equals_truth(synced, "organizations")


def test_a_sweep_that_would_delete_too_much_deletes_nothing(synced: Account) -> None:
    for number in synced.company.ids("activities")[::2]:
        synced.company.delete("activities", number)
    outcome = synced.sync(full=True)["activities"]
    assert outcome.status is Status.FAILED and outcome.error is not None
    assert len(synced.rows("pipedrive.activities")) > len(synced.company.ids("activities"))
    assert_green(synced.sync(full=True, allow_mass_delete=True))
    assert_equals_truth(synced, "activities")


def test_a_backfill_of_past_months_leaves_the_watermark_alone(synced: Account) -> None:
    before = synced.warehouse.watermarks()
    assert_green(synced.sync(first="2026-02", last="2026-04"))
    assert synced.warehouse.watermarks() == before


def test_a_broken_list_publishes_nothing_and_the_next_sync_recovers(synced: Account) -> None:
    synced.company.advance(3600)
    synced.company.update("deals", synced.company.ids("deals")[0], {"title": "later"})
    watermark = synced.warehouse.watermark("deals")
    synced.server.faults.add("html_200", "/api/v2/deals", times=None)
    outcomes = synced.sync()
    assert outcomes["deals"].status is Status.FAILED and outcomes["main_bi"].status is Status.SKIPPED
    assert outcomes["persons"].status is Status.SUCCESS
    assert synced.warehouse.watermark("deals") == watermark
    synced.server.faults.clear()
    assert_green(synced.sync())
    assert_equals_truth(synced, "deals")


def test_a_field_and_a_label_that_appear_between_syncs_are_stored_at_once(synced: Account) -> None:
    company = synced.company
    company.advance(3600)
    field = company.add_field("deals", "Canal de origem", "varchar")
    deal, another = company.ids("deals")[:2]
    company.update("deals", deal, {"custom_fields": {field.code: "feira"}})
    assert_green(synced.sync())
    assert synced.rows("pipedrive.deals")[deal]["cf_canal_de_origem"] == "feira"
    label = company.add_option("deals", "label_ids", "Indicação")
    company.update("deals", another, {"label_ids": [label.id]})
    assert_green(synced.sync())
    shown = synced.warehouse.query("SELECT labels FROM bi.deals WHERE id = %s", [another])
    assert shown == [{"labels": ["Indicação"]}]


def test_main_bi_equals_a_naive_recomputation(synced: Account) -> None:
    company = synced.company
    persons = {record["id"]: record for record in company.truth("persons")}
    organizations = {record["id"]: record for record in company.truth("organizations")}
    activities: dict[int, int] = {}
    for activity in company.truth("activities"):
        activities[activity["deal_id"]] = activities.get(activity["deal_id"], 0) + 1
    mart = {row["deal_id"]: row for row in synced.warehouse.query("SELECT * FROM bi.main_bi")}
    deals = {record["id"]: record for record in company.truth("deals")}
    assert mart.keys() == deals.keys()
    for number, deal in deals.items():
        person, organization = persons.get(deal["person_id"]), organizations.get(deal["org_id"])
        row = mart[number]
        assert row["user_id"] == deal["owner_id"] and row["label_ids"] == deal["label_ids"]
        assert row["contact_name"] == (person and person["name"])
        assert row["company_name"] == (organization and organization["name"])
        assert row["activity_count"] == activities.get(number, 0)
        assert (row["deal_duration_days"] is None) == (deal["close_time"] is None)


def test_a_run_that_ends_before_its_first_step_says_why(fresh_account: Account) -> None:
    """Between the start of the command and the run's, the database went away."""
    settings = fresh_account.settings.model_copy(update={"database_url": SecretStr("postgresql://u:p@127.0.0.1:1/x")})
    with dg.DagsterInstance.ephemeral() as instance:
        _, _, outcomes = run_sync(build_defs(settings), instance, SyncRequest())
    assert {outcome.status for outcome in outcomes} == {Status.FAILED}
    (told,) = {outcome.error for outcome in outcomes}
    assert told is not None and told.startswith("Cannot connect to PostgreSQL: no server answers")


def test_every_month_is_marked_with_its_own_number_of_rows(fresh_account: Account) -> None:
    with dg.instance_for_test() as instance:
        request = SyncRequest(assets=("deals",), first="2026-01", last="2026-11")
        run_sync(build_defs(fresh_account.settings), instance, request)
        events = instance.fetch_materializations(dg.AssetKey(["pipedrive", "deals"]), limit=100).records
        told = {event.partition_key: event.asset_materialization.metadata for event in events}
    truth = [record["update_time"] or "" for record in fresh_account.company.truth("deals")]
    months = {f"2026-{month:02}-01" for month in range(1, 12)}
    expected = {month: sum(time[:7] == month[:7] for time in truth) for month in months}
    expected["2026-01-01"] += sum(time < "2026-01" for time in truth)
    assert {month: figures["dagster/partition_row_count"].value for month, figures in told.items()} == expected


def test_an_account_without_a_summary_of_deals_is_synced_all_the_same(fresh_account: Account) -> None:
    fresh_account.server.faults.add("status_403", "/v1/deals/summary", times=None)
    assert_green(fresh_account.sync(assets=("deals",)))
    facts = fresh_account.warehouse.query("SELECT facts FROM pipeboard.load WHERE entity = 'deals'")[0]["facts"]
    assert facts["summary"] is None


def test_a_record_from_the_future_hides_no_later_change(synced: Account) -> None:
    first, second = synced.company.ids("deals")[:2]
    synced.company.update("deals", first, {"title": "from the future"}, at=datetime(2099, 1, 1, tzinfo=UTC))
    assert_green(synced.sync(assets=("deals",)))
    synced.company.update("deals", second, {"title": "today"}, at=datetime.now(UTC))
    assert_green(synced.sync(assets=("deals",)))
    assert_equals_truth(synced, "deals")


def test_a_table_that_somebody_emptied_is_filled_whole(synced: Account) -> None:
    """What changed since the last sync would be all there is, and green."""
    synced.company.update("persons", synced.company.ids("persons")[0], {"name": "changed"})
    with psycopg.connect(database_of(synced), autocommit=True) as connection:
        connection.execute("TRUNCATE pipedrive.persons")
    assert_green(synced.sync(assets=("persons",)))
    assert_equals_truth(synced, "persons")


@pytest.mark.parametrize("is_full", [False, True])
def test_tables_that_somebody_dropped_are_made_anew(synced: Account, is_full: bool) -> None:
    with psycopg.connect(database_of(synced), autocommit=True) as connection:
        connection.execute("DROP SCHEMA pipedrive CASCADE; DROP SCHEMA bi CASCADE")
    assert_green(synced.sync(full=is_full))
    assert_equals_truth(synced, "organizations", "persons", "deals", "activities")


def database_of(account: Account) -> str:
    assert account.settings.database_url is not None
    return account.settings.database_url.get_secret_value()
