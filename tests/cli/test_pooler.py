"""DATABASE_URL that leads through PgBouncer: what goes, what does not, and who says so."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipeboard_assets import instance_storage
from pipeboard_assets.commands.doctor import Finding, examine
from pipeboard_io.errors import DatabaseUrlError
from pipeboard_resources.settings import Settings
from tests.io.pooler import pooled


@pytest.fixture(params=["", "options"], ids=["refusing", "ignoring"])
def pooled_url(request: pytest.FixtureRequest, fresh_database: str) -> Iterator[str]:
    """PgBouncer refuses parameters that it does not know, or ignores those that it was told to."""
    with pooled(fresh_database, ignored=request.param) as url:
        yield url


def test_dagster_makes_no_table_in_a_schema_that_a_pooler_chose(pooled_url: str, fresh_database: str) -> None:
    with pytest.raises(DatabaseUrlError, match="the address of the server itself"):
        instance_storage.connect(pooled_url)
    with psycopg.connect(fresh_database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def _finding(settings: Settings, subject: str) -> Finding:
    return next(finding for finding in examine(settings) if finding.subject == subject)


def test_doctor_says_that_dagster_needs_the_server_itself(
    pooled_url: str, fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", pooled_url)
    behind = _finding(Settings(), "run history")
    assert (behind.is_ok, "PgBouncer" in behind.seen) == (False, True)
    monkeypatch.setenv("DATABASE_URL", fresh_database)
    assert _finding(Settings(), "run history").is_ok
