"""`pipeboard plan` changes nothing and tells what the sync will do; `sync --retry-rejected` reads only what was rejected."""

import json
from typing import Any

import pytest

from pipeboard_assets.commands.plan import plan
from pipeboard_assets.commands.syncing import with_rejects
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.graph.request import SyncRequest
from tests.graph.conftest import Account
from tests.graph.test_sync import assert_equals_truth, assert_green

TABLES = "SELECT count(*) AS tables FROM pg_tables WHERE schemaname IN ('pipedrive', 'bi')"
FIELDS = "SELECT count(*) AS fields FROM pipeboard.custom_field"


@pytest.fixture
def planned(fresh_account: Account, capsys: pytest.CaptureFixture[str]) -> Any:
    """`planned(full=True)` is the JSON of a plan."""

    def ask(**request: Any) -> dict[str, Any]:
        capsys.readouterr()
        assert plan(fresh_account.settings, SyncRequest(**request), as_json=True) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def requests_of(account: Account, **request: Any) -> int:
    account.server.reset_log()
    assert_green(account.sync(**request))
    return len(account.server.requests)


def test_a_plan_before_the_first_sync_names_every_table_and_makes_none(fresh_account: Account, planned: Any) -> None:
    told = planned()
    assert told.keys() == {"ddl", "requests", "tokens"}
    assert sum(statement.strip().startswith("CREATE TABLE") for statement in told["ddl"]) == 9
    assert fresh_account.warehouse.query(TABLES) == [{"tables": 0}]
    assert fresh_account.warehouse.query(FIELDS) == [{"fields": 0}]
    assert requests_of(fresh_account) <= told["requests"]


def test_a_plan_forecasts_what_the_sync_then_takes(fresh_account: Account, planned: Any) -> None:
    assert_green(fresh_account.sync())
    told = planned(full=True)
    asked = requests_of(fresh_account, full=True)
    assert (told["ddl"], told["requests"]) == ([], asked)
    assert told["tokens"] == fresh_account.server.tokens_spent


def test_a_plan_shows_the_column_of_a_new_field_and_leaves_its_name_open(fresh_account: Account, planned: Any) -> None:
    assert_green(fresh_account.sync())
    before = fresh_account.warehouse.query(FIELDS)
    fresh_account.company.add_field("deals", "Região", "varchar")
    fresh_account.settings = fresh_account.settings.model_copy(update={"cache_fields_seconds": 0})
    assert [statement for statement in planned()["ddl"] if "cf_regiao" in statement]
    assert fresh_account.warehouse.query(FIELDS) == before


def test_a_person_sees_what_is_read_what_it_costs_and_whether_it_fits(
    fresh_account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh_account.company.set_plan("Lite", seats=1)
    plan(fresh_account.settings, SyncRequest(assets=("deals", "main_bi")), as_json=False)
    told = capsys.readouterr()
    assert "everything" in told.out and "CREATE TABLE pipedrive.deals" in told.out
    assert "Tokens left today" in told.err and "highest id" in told.err


def test_every_value_that_was_rejected_is_read_again_by_id_and_nothing_else(fresh_account: Account) -> None:
    assert_green(fresh_account.sync())
    watermark = fresh_account.warehouse.watermark("deals")
    fresh_account.server.faults.add("malformed_record", "/api/v2/deals", times=None, field="title", value={"a": 1})
    outcome = fresh_account.sync(assets=("deals",), full=True)["deals"]
    fresh_account.server.faults.clear()
    assert outcome.status is Status.SUCCESS and outcome.rejected >= 1
    assert with_rejects(fresh_account.warehouse, SyncRequest()) == ("deals", "main_bi")
    fresh_account.server.reset_log()
    retried = fresh_account.sync(assets=("deals", "main_bi"), retry_rejected=True)
    assert_green(retried)
    assert (retried["deals"].updated, retried["deals"].rejected) == (outcome.rejected, 0)
    lists = [request for request in fresh_account.server.requests if request.path.startswith("/api/v2/deals")]
    assert len(lists) == 2 and all("ids" in request.query for request in lists)
    assert with_rejects(fresh_account.warehouse, SyncRequest()) == ()
    assert fresh_account.warehouse.watermark("deals") == watermark
    titles = {number: row["title"] for number, row in fresh_account.rows("pipedrive.deals").items()}
    assert titles == {record["id"]: record["title"] for record in fresh_account.company.truth("deals")}
    assert_equals_truth(fresh_account, "deals")


def test_a_record_that_is_still_bad_stays_rejected(fresh_account: Account) -> None:
    assert_green(fresh_account.sync(assets=("persons",)))
    fresh_account.server.faults.add("malformed_record", "/api/v2/persons", times=None, field="name", value={"a": 1})
    fresh_account.sync(assets=("persons",), full=True)
    outcome = fresh_account.sync(assets=("persons",), retry_rejected=True)["persons"]
    assert outcome.rejected >= 1
    assert with_rejects(fresh_account.warehouse, SyncRequest()) == ("persons", "main_bi")
