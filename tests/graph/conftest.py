"""A whole account synced through Dagster, for the tests of this folder."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dagster as dg
import psycopg
import pytest
import stamina
from pydantic import SecretStr

from pipeboard_assets.catalog.schemas import placement_of
from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.outcome import AssetOutcome
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_io import Warehouse
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import PROJECT_ROOT, Settings
from tests.graph.company_life import Line, World

ROLES = (PROJECT_ROOT / "deploy" / "roles.sql").read_text(encoding="utf-8")


class Account:
    """A stand-in company and the database that is kept in step with it; `sync` is one Dagster run in this process."""

    def __init__(
        self, server: Server, database_url: str, state_dir: Path, redis_url: str | None = None, **settings: Any
    ) -> None:
        self.server = server
        self.company = server.company
        self.settings = Settings(
            _env_file=None,
            pipedrive_base_url=server.url,
            pipedrive_api_key=SecretStr(server.api_key),
            database_url=SecretStr(database_url),
            redis_url=None if redis_url is None else SecretStr(redis_url),
            state_dir=state_dir,
            history_start="2026-01",
            step_retry_seconds=0,
            **settings,
        )
        self.warehouse = Warehouse(database_url, placement=placement_of(self.settings))
        self.warehouse.migrate()

    def sync(self, **request: Any) -> dict[str, AssetOutcome]:
        """Outcome by asset; the first one asks for the whole history as the command does."""
        from pipeboard_assets.graph.launching import without_history

        asked = SyncRequest(**request, prefix=self.settings.prefix)
        if not (asked.full or asked.first):
            asked = replace(asked, without_history=without_history(self.warehouse, asked))
        with dg.DagsterInstance.ephemeral() as instance:
            _, _, outcomes = run_sync(build_defs(self.settings), instance, asked)
        return {outcome.asset: outcome for outcome in outcomes}

    def rows(self, table: str) -> dict[int, dict[str, Any]]:
        """Living rows by id."""
        rows = self.warehouse.query(f"SELECT * FROM {table} WHERE deleted_at IS NULL")
        return {row["id"]: row for row in rows}


@pytest.fixture(scope="module")
def account(standin: Server, database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Account:
    return Account(standin, database_url, tmp_path_factory.mktemp("state"), redis_url)


@pytest.fixture
def fresh_account(
    standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path
) -> Account:
    """A small company of its own and an empty database."""
    return Account(standin_factory(deals=40), fresh_database, tmp_path, redis_url)


@pytest.fixture(scope="module")
def admin(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connected as an administrator; deploy/roles.sql ran while there was no table yet."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(ROLES)
        yield connection
        # The roles themselves stay: they belong to the whole server, where another worker may use them now.
        for role in ("loader", "owner", "reader"):
            connection.execute(f"DROP OWNED BY pipeboard_{role} CASCADE; ALTER ROLE pipeboard_{role} NOLOGIN".encode())


@pytest.fixture(scope="module")
def reader_url(admin: psycopg.Connection[Any], database_url: str) -> Iterator[str]:
    """The database as somebody sees it who may read and no more; the script ran a second time."""
    admin.execute(ROLES)
    admin.execute("DROP ROLE IF EXISTS metabase_test; CREATE ROLE metabase_test LOGIN PASSWORD 'x' IN ROLE pipeboard_reader")  # fmt: skip
    parts = urlsplit(database_url)
    yield urlunsplit(parts._replace(netloc=f"metabase_test:x@{parts.hostname}:{parts.port}"))
    admin.execute("DROP ROLE metabase_test")


@pytest.fixture
def world(standin_factory: Callable[..., Server], database_url: str) -> Iterator[World]:
    seconds = count()  # the stand-in's limits see a second pass with each request: they are not what is tried here
    with stamina.set_testing(True, attempts=10, cap=True):
        yield World(standin_factory(deals=1, clock=lambda: float(next(seconds))), database_url)
    Line.hang_up()
