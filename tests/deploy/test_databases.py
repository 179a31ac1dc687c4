"""deploy/compose/databases.sh on a PostgreSQL of its own: roles of roles.sql, passwords of secrets/, as often as it runs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from pipeboard_resources.embedded import postgres_server
from pipeboard_resources.embedded.postgres_clients import find_client
from pipeboard_resources.settings import PROJECT_ROOT
from tests.fixtures.servers import FAST, temporary_state_dir

DEPLOY = PROJECT_ROOT / "deploy"


class Server:
    """An empty PostgreSQL, the script for it, and the secrets that the script reads."""

    def __init__(self, url: str, folder: Path) -> None:
        self._parts, self._folder = urlsplit(url), folder
        text = (DEPLOY / "compose" / "databases.sh").read_text(encoding="utf-8")
        text = text.replace("/run/secrets", str(folder)).replace("/roles.sql", str(DEPLOY / "roles.sql"))
        (folder / "databases.sh").write_text(text, encoding="utf-8")
        self.tell(metabase_password="of-metabase")
        self.tell(database_url="postgresql://pipeboard_loader:of-loader@postgres:5432/pipeboard")
        self.tell(reader_url="postgresql://pipeboard_reader:of-reader@postgres:5432/pipeboard")

    def tell(self, **secrets: str) -> None:
        for name, secret in secrets.items():
            (self._folder / name).write_text(f"{secret}\n", encoding="utf-8")

    def run(self, **settings: str) -> "subprocess.CompletedProcess[str]":
        at, psql = self._parts, find_client("psql", oldest_major=14).path
        address = {"PGHOST": str(at.hostname), "PGPORT": str(at.port), "PGPASSWORD": str(at.password or "")}
        environment = {"PATH": f"{psql.parent}:{os.environ['PATH']}", "POSTGRES_USER": str(at.username), **address}
        return subprocess.run(
            ["sh", self._folder / "databases.sh"],
            env={**environment, **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def open(self, role: str, password: str, database: str = "pipeboard") -> psycopg.Connection[tuple[object, ...]]:
        at = self._parts
        return psycopg.connect(f"postgresql://{role}:{password}@{at.hostname}:{at.port}/{database}", autocommit=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The script ran once."""
    with temporary_state_dir() as folder, postgres_server(folder, options=FAST) as started:
        made = Server(started.url, tmp_path_factory.mktemp("databases"))
        ran = made.run()
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
        yield made


def test_the_loader_fills_the_schemas_and_makes_none(server: Server) -> None:
    with server.open("pipeboard_loader", "of-loader") as loader:
        loader.execute("CREATE TABLE pipedrive.t AS SELECT 1 AS id; CREATE TABLE pipeboard.t (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            loader.execute("CREATE SCHEMA mine")


def test_the_reader_reads_what_the_loader_made_and_no_more(server: Server) -> None:
    with server.open("pipeboard_reader", "of-reader") as reader:
        assert reader.execute("SELECT id FROM pipedrive.t").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT id FROM pipeboard.t")


def test_metabases_own_role_sees_its_own_database_only(server: Server) -> None:
    with server.open("metabase", "of-metabase", "metabase") as metabase:
        metabase.execute("CREATE SCHEMA mine")
    with pytest.raises(psycopg.OperationalError, match="CONNECT privilege"):
        server.open("metabase", "of-metabase")


def test_another_run_takes_over_a_new_password_and_keeps_everything(server: Server) -> None:
    server.tell(reader_url="postgresql://pipeboard_reader:another@postgres:5432/pipeboard")
    assert server.run().returncode == 0
    with server.open("pipeboard_reader", "another") as reader:
        assert reader.execute("SELECT id FROM pipedrive.t").fetchall() == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        server.open("pipeboard_reader", "of-reader")


def test_a_secret_of_another_role_is_refused_before_anything_is_made(server: Server) -> None:
    refused = server.run(PIPEBOARD_ACCOUNT="acme")
    assert refused.returncode == 1
    assert "secrets/database_url is not postgresql://acme_pipeboard_loader:password@" in refused.stderr
    with server.open("pipeboard_loader", "of-loader") as loader:
        assert loader.execute("SELECT FROM pg_roles WHERE rolname LIKE 'acme%'").fetchall() == []


def test_an_account_and_the_old_names_have_schemas_of_theirs(server: Server) -> None:
    server.tell(database_url="postgresql://acme_pipeboard_loader:a@postgres:5432/pipeboard")
    server.tell(reader_url="postgresql://acme_pipeboard_reader:b@postgres:5432/pipeboard")
    ran = server.run(PIPEBOARD_ACCOUNT="acme", PIPEBOARD_OLD_NAMES_SCHEMA="antes")
    assert (ran.returncode, ran.stderr) == (0, "")
    with server.open("acme_pipeboard_loader", "a") as loader:
        loader.execute("CREATE TABLE acme_pipedrive.t AS SELECT 2 AS id; CREATE VIEW antes.v AS TABLE acme_pipedrive.t")
    with server.open("acme_pipeboard_reader", "b") as reader:
        assert reader.execute("SELECT id FROM antes.v").fetchall() == [(2,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT id FROM pipedrive.t")


def test_an_administrator_who_is_no_superuser_makes_the_roles_since_postgresql_16_too() -> None:
    """There, who makes a role administers it and is no member in whose place it may act; managed servers have no superuser."""
    script = (DEPLOY / "roles.sql").read_text(encoding="utf-8")
    with temporary_state_dir() as folder, postgres_server(folder, options=FAST, sources=["wheel"]) as started:
        with psycopg.connect(started.url, autocommit=True) as superuser:
            superuser.execute("CREATE ROLE administrator LOGIN CREATEROLE PASSWORD 'x'")
            superuser.execute("CREATE DATABASE crm OWNER administrator")
        parts = urlsplit(started.url)
        own = f"postgresql://administrator:x@{parts.hostname}:{parts.port}/crm"
        with psycopg.connect(own, autocommit=True) as administrator:
            for _ in range(2):
                administrator.execute(script.encode())
            administrator.execute("CREATE ROLE dashboards IN ROLE pipeboard_reader; SET ROLE pipeboard_owner")
            administrator.execute("SET ROLE pipeboard_loader; CREATE TABLE bi.t AS SELECT 1 AS id; RESET ROLE")
            granted = "SELECT has_table_privilege('dashboards', 'bi.t', 'SELECT')"
            assert administrator.execute(granted).fetchone() == (True,)
