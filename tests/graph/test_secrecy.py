"""What is in people's records is in no event, no log and no message, however PostgreSQL words its refusal of a row."""

import logging
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._serdes import serialize_value

from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_resources.embedded import postgres_server
from pipeboard_resources.settings import PROJECT_ROOT
from tests.fixtures.servers import FAST
from tests.graph.conftest import Account

# PostgreSQL quotes rows beside its message (DETAIL), or a value in it.
REFUSALS = {
    "a row": "ALTER TABLE pipedrive.users ADD CHECK (email = name) NOT VALID",
    "a value": "ALTER TABLE pipedrive.users ADD cast_name integer GENERATED ALWAYS AS (name::integer) STORED",
}


@pytest.mark.parametrize("statement", REFUSALS.values(), ids=REFUSALS)
def test_a_row_that_the_database_refuses_is_quoted_nowhere(
    fresh_account: Account, statement: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    fresh_account.sync(assets=("users",))
    people = [user[column] for user in fresh_account.rows("pipedrive.users").values() for column in ("name", "email")]
    with psycopg.connect(fresh_account.settings.database_url.get_secret_value()) as administrator:  # type: ignore[union-attr]
        administrator.execute("DELETE FROM pipedrive.users")
        administrator.execute(statement.encode())
    with dg.DagsterInstance.ephemeral() as instance, caplog.at_level(logging.DEBUG):
        request = SyncRequest(assets=("users",), full=True)
        run_id, _, (outcome, *_) = run_sync(build_defs(fresh_account.settings), instance, request)
        events = [serialize_value(entry) for entry in instance.all_logs(run_id)]
    assert outcome.status is Status.FAILED and any("STEP_FAILURE" in event for event in events)
    ledger = fresh_account.warehouse.query("SELECT error, facts FROM pipeboard.load WHERE status = 'failed'")
    assert ledger
    told = "\n".join([*events, outcome.error or "", caplog.text, *capfd.readouterr(), *map(str, ledger)])
    assert people and [person for person in people if person in told] == []


def test_a_refused_row_is_not_quoted_in_the_log_of_compose_s_server(state_dir: Path) -> None:
    compose = yaml.safe_load((PROJECT_ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    program, *options = compose["services"]["postgres"]["command"]
    assert program == "postgres" and options[::2] == ["-c"] * (len(options) // 2)
    as_by_default = {"log_error_verbosity": "default", "log_min_error_statement": "error"}
    settings = {**FAST, **as_by_default, **dict(option.split("=") for option in options[1::2])}
    with postgres_server(state_dir, options=settings) as server, psycopg.connect(server.url, autocommit=True) as client:
        client.execute("CREATE TABLE person (name text CHECK (name = ''))")
        with pytest.raises(psycopg.errors.CheckViolation):
            client.execute("INSERT INTO person VALUES ('Jane Doe')")
    log = (state_dir / "postgres" / "log").read_text(encoding="utf-8")
    assert "violates check constraint" in log and "Jane" not in log
