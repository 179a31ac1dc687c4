"""Who tries again what: requests what Pipedrive does, steps what PostgreSQL does, the daemon a run that could not begin."""

from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
from pydantic import SecretStr

from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.failures import STEP_RETRIES
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_resources.pipedrive.standin import Company
from tests.graph.conftest import Account

USERS = SyncRequest(assets=("users",))
DAEMON = {"run_retries": {"enabled": True, "max_retries": 1}}  # as Dagster has it: failed steps, too


@pytest.fixture
def cuts(fresh_account: Account, postgres_url: str) -> list[int]:
    """How often the connections to the database are still cut before the users are answered."""
    left = [0]
    name = urlsplit(fresh_account.settings.database_url.get_secret_value()).path[1:]  # type: ignore[union-attr]

    def cut(_company: Company, endpoint: str, _page: int) -> None:
        if endpoint == "users" and left[0]:
            left[0] -= 1
            with psycopg.connect(postgres_url, autocommit=True) as administrator:
                administrator.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
                )

    fresh_account.server.before_page = cut
    return left


def loads(account: Account) -> list[str]:
    return [row["status"] for row in account.warehouse.query("SELECT status FROM pipeboard.load ORDER BY id")]


def test_a_step_that_lost_its_connection_begins_anew(fresh_account: Account, cuts: list[int]) -> None:
    cuts[0] = STEP_RETRIES
    assert fresh_account.sync(assets=("users",))["users"].status is Status.SUCCESS
    assert loads(fresh_account)[-1] == "success" and cuts == [0]
    assert fresh_account.rows("pipedrive.users").keys() == set(fresh_account.company.ids("users"))


def test_a_connection_that_is_lost_every_time_is_told_in_its_own_words(fresh_account: Account, cuts: list[int]) -> None:
    cuts[0] = 100
    outcome = fresh_account.sync(assets=("users",))["users"]
    assert outcome.status is Status.FAILED and "the connection to PostgreSQL broke" in (outcome.error or "")
    assert cuts == [100 - STEP_RETRIES - 1]


@pytest.mark.parametrize(("fault", "requests"), [("status_401", 1), ("status_500", 2)])
def test_what_requests_cannot_mend_no_step_and_no_run_tries_again(
    fresh_account: Account, fault: str, requests: int
) -> None:
    fresh_account.server.faults.add(fault, "/v1/users", times=None)
    settings = fresh_account.settings.model_copy(update={"retry_attempts": 2, "retry_total_seconds": 0.1})
    with dg.instance_for_test(overrides=DAEMON) as instance:
        before = len(fresh_account.server.requests)
        run_id, _, _ = run_sync(build_defs(settings), instance, USERS)
        asked = [each for each in fresh_account.server.requests[before:] if each.path == "/v1/users"]
        run = instance.get_run_by_id(run_id)
        (failed,) = [
            entry.get_dagster_event().step_failure_data.user_failure_data
            for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        ]
    assert len(asked) <= requests and run is not None and run.tags["dagster/will_retry"] == "false"
    said = failed.metadata["tried again"].value  # type: ignore[union-attr]
    assert said == (
        "every request was; the step would only begin anew" if requests > 1 else "no: it does not heal by itself"
    )


def test_what_follows_a_failure_takes_nothing_from_the_cache(fresh_account: Account) -> None:
    """It may be what failed. What stopped because the tokens were spent goes on with it."""

    def metadata_requests() -> int:
        before = len(fresh_account.server.requests)
        fresh_account.sync(assets=("organizations",))
        return sum(each.path.endswith("organizationFields") for each in fresh_account.server.requests[before:])

    assert (metadata_requests(), metadata_requests()) == (1, 0)
    fresh_account.server.faults.add("status_403", "/api/v2/organizations", times=1)
    assert [metadata_requests() for _ in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(("url", "is_retried"), [("postgresql://x@127.0.0.1:1/x", True), ("no url", False)])
def test_a_run_that_could_not_begin_is_tried_again_where_that_can_help(
    fresh_account: Account, url: str, is_retried: bool
) -> None:
    settings = fresh_account.settings.model_copy(update={"database_url": SecretStr(url)})
    with dg.instance_for_test(overrides=DAEMON) as instance:
        run_id, _, (outcome,) = run_sync(build_defs(settings), instance, USERS)
        run = instance.get_run_by_id(run_id)
    assert "PostgreSQL" in (outcome.error or "") and "x@" not in (outcome.error or "")
    assert run is not None and run.tags["dagster/will_retry"] == str(is_retried).lower()
