"""The reading role of deploy/reader.sql: it sees what reports need and nothing else, now and after later syncs."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.marts import MARTS
from pipeboard_resources.settings import PROJECT_ROOT
from tests.graph.conftest import Account

SCRIPT = (PROJECT_ROOT / "deploy" / "reader.sql").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader(account: Account, database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connected as a reader; the script ran before the first sync, and again after it."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(SCRIPT)
        account.sync()
        owner.execute(SCRIPT)
        owner.execute("DROP ROLE IF EXISTS metabase_test; CREATE ROLE metabase_test LOGIN PASSWORD 'x' IN ROLE pipeboard_reader")  # fmt: skip
        parts = urlsplit(database_url)
        url = urlunsplit(parts._replace(netloc=f"metabase_test:x@{parts.hostname}:{parts.port}"))
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection
        # Roles belong to the whole server, which other modules use too.
        owner.execute("DROP ROLE metabase_test; DROP OWNED BY pipeboard_reader; DROP ROLE pipeboard_reader")


def test_a_reader_sees_every_table_and_view(reader: psycopg.Connection[Any]) -> None:
    names = [*(f"{schema}.{entity.name}" for entity in CATALOG for schema in ("pipedrive", "bi")), *map(str, MARTS)]
    for name in (*names, "bi.main_bi", "bi.calendar", "pipedrive.deal_stage_history"):
        assert reader.execute(f"SELECT count(*) FROM (SELECT * FROM {name}) AS q").fetchone() != (0,), name


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM pipeboard.load",
        "DELETE FROM pipedrive.deals",
        "UPDATE bi.main_bi SET title = ''",
        "CREATE TABLE bi.mine (id int)",
        "DROP VIEW bi.funnel",
    ],
)
def test_a_reader_sees_nothing_of_our_state_and_writes_nothing(reader: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(statement)
