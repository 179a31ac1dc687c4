"""Several loads and readers at once: loads of one table take turns, readers see whole loads, migrations happen once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import psycopg
import pytest

from pipeboard_io import Column, ColumnType, Load, Reconcile, SourceField, Table, Warehouse, loader
from pipeboard_io.connection import advisory_lock, lock_key
from pipeboard_io.state import HEAD
from tests.io.observer import Observer

ROWS = 200


def table(schema: str) -> Table:
    return Table(schema, "t", (Column("id", ColumnType.BIGINT), Column("batch", ColumnType.BIGINT)), entity=schema)


def frames(batch: int) -> list[pl.DataFrame]:
    """All rows say the same batch: whoever sees two of them has seen half a load."""
    whole = pl.DataFrame({"id": range(ROWS), "batch": [batch] * ROWS})
    return [whole.head(70), whole.slice(70, 60), whole.tail(70)]


def together(*works: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work) for work in works]:
            future.result()


def test_readers_see_whole_loads_while_many_load_one_table(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str
) -> None:
    made = table(schema)
    warehouse.load(Load(made, frames=frames(0)))
    is_over = threading.Event()
    seen: set[tuple[int, int]] = set()

    def read() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            while not is_over.is_set():
                query = f"SELECT count(*), count(DISTINCT batch) FROM {schema}.t WHERE deleted_at IS NULL"
                seen.update(connection.execute(query.encode()).fetchall())  # type: ignore[arg-type]

    def load(first: int) -> None:
        for batch in range(first, first + 5):
            warehouse.load(Load(made, frames=frames(batch), reconcile=Reconcile() if batch % 2 else None))

    with ThreadPoolExecutor(2) as readers:
        watching = [readers.submit(read) for _ in range(2)]
        together(*(lambda first=first: load(first) for first in (10, 20, 30)))  # type: ignore[misc]
        is_over.set()
        for future in watching:
            future.result()
    assert seen == {(ROWS, 1)}
    assert observer.value("SELECT count(*) FROM pipeboard.load WHERE entity = %s AND status = 'success'", schema) == 16
    assert observer.stages() == []


def test_first_loads_of_one_table_at_once_create_it_once(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    together(*[lambda: warehouse.load(Load(table(schema), frames=frames(1)))] * 4)
    assert observer.value(f"SELECT count(*) FROM {schema}.t") == ROWS


def test_first_loads_of_two_tables_at_once_create_their_schema_once(
    warehouse: Warehouse, observer: Observer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one finds no schema either, because the first has not committed it yet."""
    apply, is_applied = loader.schema.apply, threading.Event()

    def apply_and_wait(*arguments: object) -> None:
        apply(*arguments)  # type: ignore[arg-type]
        monkeypatch.undo()
        is_applied.set()
        while not observer.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            time.sleep(0.01)

    def load(name: str) -> None:
        made = Table(schema, name, (Column("id", ColumnType.BIGINT),))
        warehouse.load(Load(made, frames=[pl.DataFrame({"id": [1]})]))

    monkeypatch.setattr(loader.schema, "apply", apply_and_wait)
    together(lambda: load("first"), lambda: is_applied.wait(10) and load("second"))
    assert observer.value("SELECT count(*) FROM pg_tables WHERE schemaname = %s", schema) == 2


def test_a_load_sees_what_was_committed_while_it_waited_whatever_the_default_isolation_is(
    fresh_database: str,
) -> None:
    table = Table("s", "t", (Column("id", ColumnType.BIGINT), Column("a", ColumnType.TEXT)))
    load = Load(table, frames=[pl.DataFrame({"id": [1], "a": ["mine"]})])
    with psycopg.connect(fresh_database) as other, psycopg.connect(fresh_database, autocommit=True) as third:
        third.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), 'repeatable read'); END $$")  # fmt: skip
        warehouse = Warehouse(fresh_database)
        warehouse.load(load)
        advisory_lock(other, lock_key("table", "s", "t"))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(warehouse.load, load)
            while not third.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:  # type: ignore[index]
                time.sleep(0.01)
            other.execute("UPDATE s.t SET a = 'theirs'")
            other.commit()
            assert waiting.result().updated == 1


def test_state_schemas_are_migrated_once_side_by_side(fresh_database: str) -> None:
    together(*[lambda: Warehouse(fresh_database).watermark("x")] * 4)
    with psycopg.connect(fresh_database) as connection:
        assert connection.execute("SELECT * FROM pipeboard.schema_version").fetchall() == [(HEAD,)]


def test_columns_assigned_at_once_are_the_same(warehouse: Warehouse, schema: str) -> None:
    fields = [SourceField(f"key {n}", "Valor", "text", (("", ColumnType.TEXT),)) for n in range(20)]
    found: list[object] = []
    together(*[lambda: found.append(warehouse.assign_columns(schema, fields, reserved=["id"]))] * 4)
    assert len(found) == 4
    assert all(assignment == found[0] for assignment in found)
