"""Deals, persons and organizations as they were, for whom the settings ask."""

from datetime import datetime
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from pipeboard_resources.settings import Settings
from tests.graph.conftest import Account


def as_of(account: Account, moment: datetime) -> dict[int, Any]:
    found = account.warehouse.query("SELECT * FROM bi.deals_as_of(%s)", [moment])
    return {row["id"]: row for row in found}


def green(account: Account, **request: Any) -> None:
    assert {outcome.error for outcome in account.sync(**request).values()} == {None}


def test_deals_as_of_a_moment_are_what_a_sync_saw_then(fresh_account: Account) -> None:
    account, company = fresh_account, fresh_account.company
    account.settings = account.settings.model_copy(update={"versions": ("deals",)})
    field = company.add_field("deals", "valid_from", "varchar")
    first, gone, still = company.ids("deals")[:3]
    company.update("deals", still, {"update_time": None}, touch=False)
    green(account)
    seen = {company.now(): account.rows("pipedrive.deals")}
    for change in ({"title": "Renamed"}, {"custom_fields": {field.code: "sim"}}):
        company.advance(3600)
        company.update("deals", first, change)
        company.advance(60)
        green(account, assets=("deals",))
        seen[company.now()] = account.rows("pipedrive.deals")
    company.advance(3600)
    company.delete("deals", gone)
    company.advance(60)
    green(account, assets=("deals",), full=True)
    seen[company.now()] = account.rows("pipedrive.deals")

    for moment, rows in seen.items():
        assert as_of(account, moment) == rows and rows[still]["update_time"] is None
    versions = account.warehouse.query("SELECT * FROM bi.deals_versions ORDER BY id, valid_from")
    mine = [row for row in versions if row["id"] == first]
    assert [row["valid_to"] for row in mine] == [*(row["valid_from"] for row in mine[1:]), None]
    assert [row["title"] for row in mine][1:] == ["Renamed", "Renamed"]
    assert [row["valid_from (2)"] for row in mine] == [None, None, "sim"]
    assert [row["valid_to"] is None for row in versions if row["id"] == gone] == [False]
    assert account.warehouse.query("SELECT to_regclass('bi.persons_versions') AS found") == [{"found": None}]


def test_versions_that_overlap_make_the_sync_red(fresh_account: Account) -> None:
    account, deal = fresh_account, fresh_account.company.ids("deals")[0]
    account.settings = account.settings.model_copy(update={"versions": ("deals",)})
    green(account)
    account.company.advance(3600)
    account.company.update("deals", deal, {"title": "Renamed"})
    green(account, assets=("deals",))
    url = account.settings.database_url
    assert url is not None
    with psycopg.connect(url.get_secret_value()) as connection:
        connection.execute("UPDATE pipedrive.deals_version SET valid_to = valid_to + interval '1 second'")
    told = account.sync(assets=("pipelines",))["bi_views"].error or ""
    assert told.startswith("check one_version_at_a_time") and f"id {deal}: the version of" in told


def test_only_what_has_versions_can_be_asked_for() -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, versions=("users",))
