"""Interrupted loads: rows and checkpoint stay together, the next load goes on behind them, nothing is left lying about."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import polars as pl
import psycopg
import pytest

from pipeboard_io import (
    Batch,
    Column,
    ColumnType,
    Load,
    MassDeleteError,
    Reconcile,
    Reject,
    ResumeError,
    Table,
    Warehouse,
    ledger,
)
from pipeboard_io.checkpoints import RESUMABLE_DAYS, STAGE_MARK
from pipeboard_io.errors import RETRIABLE
from pipeboard_io.state import State
from pipeboard_resources.embedded.postgres import postgres_server
from pipeboard_resources.embedded.processes import wait_until
from tests.io.observer import Observer
from tests.io.pooler import pooled

PAGES = 6


class InterruptedError_(Exception):
    """What breaks a source here."""


def table(schema: str, *more: Column) -> Table:
    return Table(schema, "t", (Column("id", ColumnType.BIGINT), *more), entity=schema)


def pages(log: list[int], *, stop_at: int | None = None) -> Callable[[Mapping[str, Any] | None], Iterator[Batch]]:
    """A source of pages of ten rows that goes on behind the checkpoint and notes every page it fetches."""

    def source(checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        for page in range(checkpoint["next"] if checkpoint else 0, PAGES):
            if page == stop_at:
                raise InterruptedError_
            log.append(page)
            yield Batch(pl.DataFrame({"id": range(page * 10, page * 10 + 10)}), checkpoint={"next": page + 1})

    return source


def interrupt(warehouse: Warehouse, made: Table, *, at: int = 4, key: str | None = None) -> None:
    with pytest.raises(InterruptedError_):
        warehouse.load(Load(made, frames=pages([], stop_at=at), resume_key=key or made.schema, reconcile=Reconcile()))


def test_a_load_goes_on_behind_the_last_page(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    interrupt(warehouse, table(schema))
    assert warehouse.checkpoint(schema) == {"next": 4}
    fetched: list[int] = []
    report = warehouse.load(Load(table(schema), frames=pages(fetched), resume_key=schema, reconcile=Reconcile()))
    assert fetched == [4, 5]
    assert (report.resumed, report.inserted, report.rows) == (True, 60, 60)
    assert warehouse.checkpoint(schema) is None
    assert observer.stages() == []


def test_nothing_is_visible_before_the_load_is_complete(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    warehouse.load(Load(table(schema), frames=[pl.DataFrame({"id": [1]})]))
    interrupt(warehouse, table(schema))
    assert observer.rows(table(schema)) == [{"id": 1}]


def test_rejects_of_staged_pages_are_not_lost(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    def source(checkpoint: Any) -> Iterator[Batch]:
        if checkpoint is None:
            yield Batch(pl.DataFrame({"id": [1]}), (Reject("2", None, "odd", "{}"),), {"next": 1})
            raise InterruptedError_
        yield Batch(pl.DataFrame({"id": [3]}))

    with pytest.raises(InterruptedError_):
        warehouse.load(Load(table(schema), frames=source, resume_key=schema))
    assert warehouse.load(Load(table(schema), frames=source, resume_key=schema)).rejected == 1


def test_absent_columns_of_staged_pages_are_remembered(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    made = table(schema, Column("a", ColumnType.TEXT))
    warehouse.load(Load(made, frames=[pl.DataFrame({"id": [1], "a": ["kept"]})]))

    def source(checkpoint: Any) -> Iterator[Batch]:
        if checkpoint is None:
            yield Batch(pl.DataFrame({"id": [1]}), checkpoint={"next": 1})
            raise InterruptedError_

    with pytest.raises(InterruptedError_):
        warehouse.load(Load(made, frames=source, resume_key=schema))
    warehouse.load(Load(made, frames=source, resume_key=schema))
    assert observer.rows(made) == [{"id": 1, "a": "kept"}]


def test_staged_rows_of_another_shape_are_never_mixed_in(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    interrupt(warehouse, table(schema))
    fetched: list[int] = []
    wider = table(schema, Column("a", ColumnType.TEXT))
    report = warehouse.load(Load(wider, frames=pages(fetched), resume_key=schema))
    assert (report.resumed, fetched) == (False, list(range(PAGES)))


def test_frames_made_before_the_rows_were_discarded_are_refused(warehouse: Warehouse, schema: str) -> None:
    interrupt(warehouse, table(schema))
    wider = table(schema, Column("a", ColumnType.TEXT))
    half = pages([])(warehouse.checkpoint(schema))
    with pytest.raises(ResumeError, match="begin anew"):
        warehouse.load(Load(wider, frames=half, resume_key=schema))
    assert warehouse.checkpoint(schema) is None


def test_a_refused_mass_delete_reads_the_source_again(warehouse: Warehouse, schema: str) -> None:
    warehouse.load(Load(table(schema), frames=[pl.DataFrame({"id": range(1000, 1100)})]))
    with pytest.raises(MassDeleteError):
        warehouse.load(Load(table(schema), frames=pages([]), resume_key=schema, reconcile=Reconcile()))
    assert warehouse.checkpoint(schema) is None


def test_a_stage_in_use_is_not_shared(warehouse: Warehouse, schema: str) -> None:
    def outer(_: Any) -> Iterator[Batch]:
        yield Batch(pl.DataFrame({"id": [1]}), checkpoint={"next": 1})
        with pytest.raises(RETRIABLE, match="another load"):
            warehouse.load(Load(table(schema), frames=pages([]), resume_key=schema))
        yield Batch(pl.DataFrame({"id": [2]}))

    assert warehouse.load(Load(table(schema), frames=outer, resume_key=schema)).rows == 2


def test_the_server_soon_notices_that_the_machine_of_a_load_is_gone(
    warehouse: Warehouse, database_url: str, schema: str
) -> None:
    connections, seen = [], []

    def connect() -> Any:
        connections.append(psycopg.connect(database_url, autocommit=True))
        return connections[-1]

    def source(_: Any) -> Iterator[Batch]:
        seen.append(connections[-1].execute("SHOW tcp_keepalives_idle").fetchone())
        yield Batch(pl.DataFrame({"id": [1]}))

    Warehouse(database_url, connect=connect).load(Load(table(schema), frames=source, resume_key=schema))
    assert seen == [("60",)]


def test_a_load_whose_stage_was_taken_over_publishes_nothing(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    def robbed(_: Any) -> Iterator[Batch]:
        yield Batch(pl.DataFrame({"id": [1]}), checkpoint={"next": 1})
        while not warehouse.checkpoint(schema):
            time.sleep(0.01)
        observer.sql("UPDATE pipeboard.checkpoint SET load_id = 'thief' WHERE resume_key = %s", schema)
        yield Batch(pl.DataFrame({"id": [2]}))

    with pytest.raises(ResumeError, match="taken over"):
        warehouse.load(Load(table(schema), frames=robbed, resume_key=schema))


def _load_slowly(url: str, schema: str, is_staged: Any) -> None:
    def source(checkpoint: Any) -> Iterator[Batch]:
        for batch in pages([])(checkpoint):
            yield batch
            if batch.checkpoint == {"next": 3}:
                # The next page is not asked for before this one was handed over; its commit follows at once.
                while Warehouse(url).checkpoint(schema) != {"next": 3}:
                    time.sleep(0.01)
                is_staged.set()
                time.sleep(60)

    Warehouse(url).load(Load(table(schema), frames=source, resume_key=schema))


def _killed_load(database_url: str, schema: str) -> None:
    context = multiprocessing.get_context("spawn")
    is_staged = context.Event()
    process = context.Process(target=_load_slowly, args=(database_url, schema, is_staged))
    process.start()
    assert is_staged.wait(30)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


def _wait_until_gone(observer: Observer, schema: str) -> None:
    owner = """SELECT count(*) FROM pg_stat_activity WHERE pid =
               (SELECT owner_pid FROM pipeboard.checkpoint WHERE resume_key = %s)"""
    while observer.value(owner, schema):
        time.sleep(0.01)


def test_a_load_that_was_killed_is_a_failed_load_in_the_ledger(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str
) -> None:
    told = f"SELECT status, error_class FROM pipeboard.load WHERE entity = '{table(schema).entity}' AND table_name ~ '^{schema}'"
    _killed_load(database_url, schema)
    assert warehouse.query(told) == []
    _wait_until_gone(observer, schema)
    assert warehouse.note_killed_loads() == 1
    assert warehouse.query(told) == [{"status": "failed", "error_class": "pipeboard_io.errors.KilledError"}]
    assert warehouse.note_killed_loads() == 0  # once


def test_a_load_under_way_is_not_taken_for_killed(warehouse: Warehouse, schema: str) -> None:
    def source(_checkpoint: object) -> Iterator[Batch]:
        assert Warehouse.note_killed_loads(warehouse) == 0
        assert warehouse.query("SELECT entity FROM pipeboard.load_in_progress") == [{"entity": table(schema).entity}]
        yield from pages([])(None)

    warehouse.load(Load(table(schema), frames=source))
    assert warehouse.query("SELECT entity FROM pipeboard.load_in_progress") == []


_SEEMS_KILLED = "UPDATE pipeboard.load_in_progress SET owner_pid = NULL, started_at = now() - interval '2 days'"


def test_a_load_that_was_taken_for_killed_says_itself_how_it_ended(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    """One that lasts for days behind a pooler."""

    def source(_checkpoint: object) -> Iterator[Batch]:
        observer.sql(_SEEMS_KILLED)
        assert warehouse.note_killed_loads() == 1
        yield from pages([])(None)

    assert warehouse.load(Load(table(schema), frames=source)).rows == 60
    assert warehouse.query(f"SELECT status FROM pipeboard.load WHERE entity = '{schema}'") == [{"status": "success"}]


def test_a_load_that_fails_while_it_is_taken_for_killed_says_itself_how(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str
) -> None:
    with psycopg.connect(database_url) as other, ExitStack() as stack:

        def source(_checkpoint: object) -> Iterator[Batch]:
            observer.sql(_SEEMS_KILLED)
            assert ledger.write_killed(other, State()) == 1
            soon = threading.Timer(0.5, other.commit)
            stack.callback(soon.join)
            soon.start()
            yield from pages([], stop_at=0)(None)

        with pytest.raises(InterruptedError_):
            warehouse.load(Load(table(schema), frames=source))
    (told,) = warehouse.query(f"SELECT error_class FROM pipeboard.load WHERE entity = '{schema}'")
    assert told["error_class"].endswith("InterruptedError_")


def test_a_process_killed_while_staging_loses_at_most_the_page_in_flight(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str
) -> None:
    _killed_load(database_url, schema)
    _wait_until_gone(observer, schema)
    fetched: list[int] = []
    report = warehouse.load(Load(table(schema), frames=pages(fetched), resume_key=schema))
    assert (fetched, report.rows) == ([3, 4, 5], 60)


def test_stages_of_dead_loads_are_swept_by_the_next_load(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as dead:
        pid = dead.info.backend_pid
    lost, unknown, ended = (f"stage_{name}_0123456789abcdef" for name in ("lost", "unknown", "dead"))
    for name in (lost, unknown, ended):
        observer.sql(f"CREATE UNLOGGED TABLE pipeboard.{name} (); COMMENT ON TABLE pipeboard.{name} IS '{STAGE_MARK}'")
    insert = """INSERT INTO pipeboard.checkpoint (stage, is_kept, table_name, load_id, shape, owner_pid, owner_started_at)
                VALUES (%s, false, 't', 'x', 'x', %s, now())"""
    observer.sql(insert, ended, pid)
    observer.sql(insert, unknown, None)
    warehouse.load(Load(table(schema), frames=[]))
    assert {lost, unknown, ended}.intersection(observer.stages()) == {unknown}
    observer.sql("UPDATE pipeboard.checkpoint SET touched_at = now() - interval '2 days'")
    warehouse.load(Load(table(schema), frames=[]))
    assert unknown not in observer.stages()


@pytest.mark.parametrize("name", ["stage_history", "stage_x_0123456789abcdef"])
def test_a_table_of_the_user_that_is_called_like_a_stage_stays(fresh_database: str, name: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as user:
        user.execute(f"CREATE TABLE public.{name} AS SELECT 1 AS id")
        Warehouse(fresh_database, state_schema="public").load(Load(table("s"), frames=[]))
        assert user.execute(f"SELECT id FROM public.{name}").fetchone() == (1,)


@pytest.mark.parametrize("resume_key", ["key", None])
def test_whoever_reads_a_stage_holds_up_no_load(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str, resume_key: str | None
) -> None:
    """As pg_dump of the whole database does, for as long as it runs."""
    key, others = resume_key and schema, set(observer.stages())
    with psycopg.connect(database_url) as reader:

        def source() -> Iterator[Batch]:
            yield Batch(pl.DataFrame({"id": [1]}))
            (stage,) = {*observer.stages()} - others
            reader.execute(f"LOCK TABLE pipeboard.{stage} IN ACCESS SHARE MODE")
            yield Batch(pl.DataFrame({"id": [2]}))

        assert warehouse.load(Load(table(schema), frames=source(), resume_key=key)).rows == 2
        assert len({*observer.stages()} - others) == 1
        assert warehouse.load(Load(table(schema), frames=pages([]), resume_key=key)).rows == 60
    warehouse.load(Load(table(schema), frames=[]))
    assert {*observer.stages()} <= others


def test_rows_nobody_comes_back_for_are_swept_after_a_while(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    interrupt(warehouse, table(schema), key=f"{schema} old")
    interrupt(warehouse, table(schema), key=f"{schema} new")
    observer.sql(
        "UPDATE pipeboard.checkpoint SET touched_at = now() - make_interval(days => %s) WHERE resume_key = %s",
        RESUMABLE_DAYS + 1,
        f"{schema} old",
    )
    warehouse.load(Load(table(schema), frames=[]))
    assert warehouse.checkpoint(f"{schema} old") is None
    assert warehouse.checkpoint(f"{schema} new") == {"next": 4}
    warehouse.load(Load(table(schema), frames=pages([]), resume_key=f"{schema} new"))


class Crash:
    """PostgreSQL killed under everybody: one backend that dies by SIGKILL makes it throw all of them out and recover."""

    def __init__(self, state_dir: Path) -> None:
        self._servers = ExitStack()
        self.url = self._servers.enter_context(postgres_server(state_dir)).url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def now(self) -> None:
        with closing(psycopg.connect(self.url, autocommit=True)) as witness:
            with closing(psycopg.connect(self.url)) as victim:
                os.kill(victim.info.backend_pid, signal.SIGKILL)
            assert wait_until(lambda: not _is_alive(witness), seconds=10)
        assert wait_until(lambda: _answers(self.url), seconds=30)


def _is_alive(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def crash(state_dir: Path) -> Iterator[Crash]:
    with Crash(state_dir) as crash:
        yield crash


def test_a_crash_of_the_server_costs_no_staged_page_of_a_load_that_can_go_on(crash: Crash) -> None:
    warehouse, made = Warehouse(crash.url), table("s")
    warehouse.migrate()

    def source(checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        for batch in pages([])(checkpoint):
            yield batch
            if batch.checkpoint == {"next": 3}:
                while warehouse.checkpoint("s") != {"next": 3}:
                    time.sleep(0.01)
                crash.now()

    with pytest.raises(RETRIABLE):
        warehouse.load(Load(made, frames=source, resume_key="s"))
    fetched: list[int] = []
    report = warehouse.load(Load(made, frames=pages(fetched), resume_key="s"))
    assert (report.resumed, report.rows, fetched) == (True, 60, [3, 4, 5])


def test_a_load_that_cannot_go_on_publishes_nothing_of_what_a_crash_emptied(crash: Crash) -> None:
    """Behind a pooler its next statement may meet the server that came back."""
    warehouse = Warehouse(crash.url)
    warehouse.migrate()

    def source() -> Iterator[Batch]:
        yield Batch(pl.DataFrame({"id": [1]}))
        with psycopg.connect(crash.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")  # else not even the stage may outlive it
        crash.now()
        yield Batch(pl.DataFrame({"id": [2]}))

    with pooled(crash.url) as url, pytest.raises(RETRIABLE):
        Warehouse(url).load(Load(table("s"), frames=source()))
    assert warehouse.load(Load(table("s"), frames=[pl.DataFrame({"id": [3]})])).rows == 1
