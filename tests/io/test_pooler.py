"""Behind PgBouncer in transaction mode, where consecutive transactions of one client meet different server sessions."""

from collections.abc import Iterator
from contextlib import ExitStack

import polars as pl
import psycopg
import pytest

from pipeboard_io import Load, Reconcile, TableBlockedError, Warehouse
from pipeboard_io.state import HEAD
from tests.io import test_concurrency, test_resume
from tests.io.observer import Observer
from tests.io.pooler import POOL_SIZE, pooled
from tests.io.test_concurrency import ROWS, frames, together
from tests.io.test_resume import PAGES, interrupt, pages

WORKERS = POOL_SIZE * 2


@pytest.fixture(scope="module")
def pooled_url(database_url: str) -> Iterator[str]:
    with pooled(database_url) as url:
        yield url


@pytest.fixture
def warehouse(pooled_url: str) -> Warehouse:
    return Warehouse(pooled_url, lock_timeout_seconds=0.5)


def test_state_is_migrated_once_by_many_at_once(pooled_url: str, observer: Observer) -> None:
    together(*[lambda: Warehouse(pooled_url, state_schema="pooled").watermark("x")] * WORKERS)
    assert observer.sql("SELECT * FROM pooled.schema_version") == [(HEAD,)]


def test_a_table_is_created_loaded_read_and_found_unchanged(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made = test_concurrency.table(schema)
    assert warehouse.load(Load(made, frames=frames(1))).inserted == ROWS
    places = observer.places(made)
    assert warehouse.load(Load(made, frames=frames(1), reconcile=Reconcile())).is_unchanged
    assert observer.places(made) == places
    assert warehouse.scan(str(made)).select("id", "batch").collect().equals(pl.concat(frames(1)))
    select = f"SELECT id, 2 AS batch FROM {schema}.t WHERE id < 3"
    assert warehouse.load(Load(made, select=select)).deleted == ROWS - 3
    assert warehouse.query(f"SELECT count(*) AS n FROM {schema}.t WHERE deleted_at IS NULL") == [{"n": 3}]


def test_an_interrupted_load_goes_on_behind_the_last_page(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made = test_resume.table(schema)
    interrupt(warehouse, made)
    fetched: list[int] = []
    report = warehouse.load(Load(made, frames=pages(fetched), resume_key=schema, reconcile=Reconcile()))
    assert (report.resumed, report.inserted, fetched) == (True, PAGES * 10, [4, 5])
    assert observer.stages() == []


def test_loads_of_one_table_take_turns(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    made = test_concurrency.table(schema)
    together(*[lambda: warehouse.load(Load(made, frames=frames(1), reconcile=Reconcile()))] * WORKERS)
    counts = observer.sql("SELECT sum(inserted), sum(unchanged) FROM pipeboard.load WHERE entity = %s", schema)
    assert counts == [(ROWS, (WORKERS - 1) * ROWS)]


def test_no_lock_and_no_setting_stays_behind_in_the_pool(
    warehouse: Warehouse, pooled_url: str, observer: Observer, schema: str
) -> None:
    made = test_concurrency.table(schema)
    with observer.connection.transaction(), pytest.raises(TableBlockedError):
        observer.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id bigint PRIMARY KEY)")
        warehouse.load(Load(made, frames=frames(1)))
    warehouse.load(Load(made, frames=frames(2)))
    assert observer.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    names = ("lock_timeout", "statement_timeout", "work_mem", "synchronous_commit", "jit", "enable_hashjoin")
    expected = [observer.value(f"SHOW {name}") for name in names]
    with ExitStack() as stack:
        for _ in range(POOL_SIZE):
            client = stack.enter_context(psycopg.connect(pooled_url))
            assert [client.execute(f"SHOW {name}".encode()).fetchone() for name in names] == [
                (value,) for value in expected
            ]
