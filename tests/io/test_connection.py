"""The connection that short operations share: nothing that one leaves in its session reaches the next, nor another process."""

import os
import warnings
from collections.abc import Callable

import pytest

from pipeboard_io import Column, ColumnType, LoadError, Table, Warehouse
from tests.io.observer import Observer
from tests.io.proxy import proxied

SESSION = """SELECT pg_backend_pid() AS pid, current_user AS who, current_setting('search_path') AS path,
             current_setting('statement_timeout') AS timeout, current_setting('default_transaction_read_only') AS read_only"""


@pytest.mark.parametrize(
    "leftover",
    [
        "SELECT set_config('search_path', 'nowhere', false)",
        "SELECT set_config('statement_timeout', '1', false), 1 AS one",
        "SELECT set_config('default_transaction_read_only', 'on', false)",
        "SELECT set_config('role', 'pg_monitor', false)",
        "SELECT pg_advisory_lock(42)",
    ],
)
def test_what_a_query_sets_for_its_session_is_gone_for_the_next_one(
    database_url: str, observer: Observer, schema: str, leftover: str
) -> None:
    own = Warehouse(database_url)
    [before] = own.query(SESSION)
    own.query(leftover)
    [after] = own.query(SESSION)
    assert after | {"pid": 0} == before | {"pid": 0}
    assert observer.sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 42") == []
    own.fit(Table(schema, "t", (Column("id", ColumnType.BIGINT),)))
    own.close()


def test_a_kept_connection_is_used_again_and_asked_once_before(database_url: str) -> None:
    with proxied(database_url) as (proxy, url):
        own = Warehouse(url)
        [first] = own.query(SESSION)
        proxy.reset()
        own.query(SESSION)
        requests = proxy.requests
        proxy.reset()
        assert own.query(SESSION) == [first]
        own.close()
        fresh = Warehouse(url)
        proxy.reset()
        fresh.query(SESSION)
        assert requests == proxy.requests + 1
        fresh.close()


def test_a_connection_that_the_server_ended_is_replaced(database_url: str, observer: Observer) -> None:
    own = Warehouse(database_url)
    pid = own.query(SESSION)[0]["pid"]
    assert observer.value("SELECT pg_terminate_backend(%s, 5000)", pid)
    assert own.query(SESSION)[0]["pid"] != pid
    own.close()


def test_a_query_that_psycopg_refuses_is_no_lost_connection(warehouse: Warehouse) -> None:
    with pytest.raises(LoadError, match="A query failed: .*placeholders.*'%x'"):
        warehouse.query("SELECT 1 %x", [1])


def test_a_fork_opens_a_connection_of_its_own_and_leaves_the_parent_its(database_url: str) -> None:
    own = Warehouse(database_url)
    pid = own.query(SESSION)[0]["pid"]
    child = in_a_fork(lambda: own.query(SESSION)[0]["pid"], own.close)
    assert child not in (None, pid)
    assert own.query(SESSION)[0]["pid"] == pid
    own.close()


def in_a_fork(ask: Callable[[], int], *afterwards: Callable[[], None]) -> int | None:
    """What a forked process got as its answer; None where it failed."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # threads of others are no matter: the child runs these lines
        process = os.fork()
    if not process:
        try:
            answer = ask()
            for step in afterwards:
                step()
            os.write(writer, str(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(process, 0)
    with os.fdopen(reader) as told:
        return int(told.read() or 0) or None
