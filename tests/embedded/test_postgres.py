"""What an embedded PostgreSQL is: real, private, on loopback, and its rows outlive it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from pipeboard_resources.embedded import PostgresServer, postgres_server
from pipeboard_resources.embedded.postgres_binaries import SOURCES
from pipeboard_resources.embedded.processes import is_process, wait_until
from tests.embedded.conftest import answer, run_sql
from tests.fixtures.servers import FAST, temporary_state_dir


@pytest.fixture(scope="module", params=list(SOURCES))
def source(request: pytest.FixtureRequest) -> str:
    """ "system" and "wheel", where this machine has them."""
    if not list(SOURCES[request.param](None, Path())):
        pytest.skip(f"no {request.param} PostgreSQL on this machine")
    return str(request.param)


@pytest.fixture(scope="module")
def folder(source: str) -> Iterator[Path]:
    with temporary_state_dir() as folder:
        yield folder


@pytest.fixture
def server(folder: Path, source: str) -> Iterator[PostgresServer]:
    with postgres_server(folder, options=FAST, sources=[source]) as server:
        yield server


def test_it_says_where_it_comes_from(server: PostgresServer, source: str) -> None:
    version = answer(server.url, "SHOW server_version").split()[0]
    assert source in server.source
    assert f"PostgreSQL {version}" in server.source


def test_it_listens_on_loopback_and_on_no_socket_file(server: PostgresServer) -> None:
    process = psutil.Process(server.pid)
    listening = {c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", server.port)}
    assert not [c for c in process.net_connections("unix") if c.laddr]


def test_a_wrong_password_is_refused(server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://pipeboard:guess@127.0.0.1:{server.port}/pipeboard")


def test_the_password_is_in_no_process_list_no_repr_and_no_file_for_others(
    server: PostgresServer, folder: Path
) -> None:
    password = server.url.split(":")[2].split("@")[0]
    assert password not in repr(server)
    assert password not in " ".join(psutil.Process(server.pid).cmdline())
    files = [path for path in (folder / "postgres").glob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_text_sorts_by_code_point_and_accents_have_capitals(server: PostgresServer) -> None:
    assert answer(server.url, "SELECT 'Z' < 'a' AND 'z' < 'é'")
    assert answer(server.url, "SELECT upper('ação')") == "AÇÃO"


def test_its_options_reach_it(server: PostgresServer) -> None:
    assert answer(server.url, "SHOW fsync") == "off"


def test_it_is_durable_unless_told_otherwise(state_dir: Path) -> None:
    with postgres_server(state_dir) as server:
        assert answer(server.url, "SHOW fsync") == "on"
        assert answer(server.url, "SHOW full_page_writes") == "on"


def test_rows_survive_a_stop_and_the_address_stays(folder: Path, source: str) -> None:
    with postgres_server(folder, options=FAST, sources=[source]) as first:
        run_sql(first.url, "CREATE TABLE stopped AS SELECT 7 AS n")
    assert not is_process(first.pid, "")
    with postgres_server(folder, options=FAST, sources=[source]) as second:
        assert answer(second.url, "SELECT n FROM stopped") == 7
        assert second.url == first.url


def test_rows_survive_a_kill_of_the_server(folder: Path, source: str) -> None:
    with postgres_server(folder, options={"fsync": "off"}, sources=[source]) as first:
        run_sql(first.url, "CREATE TABLE killed AS SELECT 8 AS n")
        os.kill(first.pid, signal.SIGKILL)
        assert wait_until(lambda: not is_process(first.pid, ""), seconds=10)
        with postgres_server(folder, options={"fsync": "off"}, sources=[source]) as second:
            assert answer(second.url, "SELECT n FROM killed") == 8
            assert second.pid != first.pid


def test_a_dropped_database_is_made_again(folder: Path, source: str) -> None:
    with postgres_server(folder, options=FAST, sources=[source]) as server:
        with psycopg.connect(server.url.removesuffix("pipeboard") + "postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE pipeboard WITH (FORCE)")
        with postgres_server(folder, options=FAST, sources=[source]) as again:
            assert answer(again.url) == 1
