"""A masked column through a whole sync: what Pipedrive says is nowhere in the database."""

from pydantic import SecretStr

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
