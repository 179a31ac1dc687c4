"""A masked column through a whole sync: what Pipedrive says is nowhere in the database."""

import hmac

import psycopg
import pytest
from pydantic import SecretStr

from pipeboard_assets.catalog import by_name
from pipeboard_assets.graph.checks import Severity, Verdict, entity_checks, verdicts
from pipeboard_assets.graph.entity_assets import masks_of
from pipeboard_assets.sync.covered import read_whole
from tests.graph.conftest import Account


def test_a_masked_address_reaches_no_table_and_a_second_sync_writes_nothing(fresh_account: Account) -> None:
    mask = {"mask": ("persons.email=hash", "persons.emails=null"), "mask_key": SecretStr("of my own")}
    fresh_account.settings = fresh_account.settings.model_copy(update=mask)
    assets = ("users", "organizations", "persons")
    assert {outcome.error for outcome in fresh_account.sync(assets=assets).values()} == {None}
    rows = fresh_account.rows("pipedrive.persons").values()
    assert {len(row["email"]) for row in rows if row["email"]} == {64} and {row["emails"] for row in rows} == {None}
    names = {record["id"]: record["name"] for record in fresh_account.company.truth("persons")}
    assert {row["id"]: row["name"] for row in rows} == names
    assert {outcome.updated for outcome in fresh_account.sync(assets=assets).values()} == {0}


def test_a_mask_switched_on_later_keeps_nothing_of_what_a_column_said_before(fresh_account: Account) -> None:
    assets = ("users", "pipelines", "stages", "organizations", "persons", "deals")
    fresh_account.sync(assets=assets)
    fresh_account.settings = fresh_account.settings.model_copy(update={"mask": ("deals.expected_close_date=null",)})
    assert fresh_account.sync(assets=assets, full=True)["deals"].updated > 0
    assert {row["expected_close_date"] for row in fresh_account.rows("pipedrive.deals").values()} == {None}
    assert (
        fresh_account.warehouse.query("SELECT 1 FROM pipedrive.deal_change WHERE field = 'expected_close_date'") == []
    )


@pytest.mark.parametrize("how", ["hash", "null"])
def test_a_renamed_option_brings_no_label_into_a_masked_column(fresh_account: Account, how: str) -> None:
    company = fresh_account.company
    field = company.add_field("deals", "Diagnóstico", "enum", ["gripe", "fratura"])
    assert field.options is not None
    first, second = field.options
    chosen = company.ids("deals")[:3]
    for number, option in zip(chosen, (first, first, second), strict=True):
        company.update("deals", number, {"custom_fields": {field.code: option.id}})
    mask = {"mask": (f"deals.cf_diagnostico={how}",), "mask_key": SecretStr("k")}
    fresh_account.settings = fresh_account.settings.model_copy(update=mask)
    assets = ("users", "pipelines", "stages", "organizations", "persons", "deals")
    fresh_account.sync(assets=assets)
    company.rename_option("deals", field.code, first.id, "meningite")
    company.advance(3600)
    company.update("deals", chosen[2], {"custom_fields": {field.code: first.id}})
    assert fresh_account.sync(assets=assets, full=True)["deals"].error is None
    rows = fresh_account.rows("pipedrive.deals")
    stored = {rows[number]["cf_diagnostico"] for number in chosen}
    hashed = hmac.new(b"k", b"meningite", "sha256").hexdigest()
    assert stored == ({hashed} if how == "hash" else {None})
    assert {rows[number]["cf_diagnostico_id"] for number in chosen} == {first.id}


def test_masked_values_are_not_compared_with_what_pipedrive_counts(fresh_account: Account) -> None:
    mask = {"mask": ("deals.value=null", "deals.title=null")}
    fresh_account.settings = fresh_account.settings.model_copy(update=mask)
    assert {outcome.error for outcome in fresh_account.sync().values()} == {None}
    gone = fresh_account.company.ids("deals")[:10]
    with psycopg.connect(
        str(fresh_account.settings.database_url and fresh_account.settings.database_url.get_secret_value())
    ) as connection:
        connection.execute("UPDATE pipedrive.deals SET deleted_at = now() WHERE id = ANY(%s)", [gone])
    summary = {verdict.check.name: verdict for verdict in found_in(fresh_account)}["summary"]
    assert summary.severity is Severity.ERROR and summary.found > 0, "numbers of deals are compared all the same"
    assert "worth" not in summary.seen and "value" not in summary.check.expected


def test_where_currencies_are_masked_nothing_can_be_compared_and_the_check_says_so(fresh_account: Account) -> None:
    fresh_account.settings = fresh_account.settings.model_copy(update={"mask": ("deals.currency=null",)})
    assert {outcome.error for outcome in fresh_account.sync(full=True).values()} == {None}
    summary = {verdict.check.name: verdict for verdict in found_in(fresh_account)}["summary"]
    assert summary.is_passed and summary.check.expected.startswith("Nothing: PIPEBOARD_MASK hides currency")


def found_in(account: Account) -> list[Verdict]:
    hidden = masks_of(account.settings).how("deals")
    checks = entity_checks(by_name("deals"), read_whole(account.warehouse), hidden)
    return verdicts(account.warehouse, "pipedrive.deals", checks)
