"""An upgrade: forwards only, all or nothing, and beside loads of the release before, which lose nothing."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import polars as pl
import psycopg
import pytest

from pipeboard_io import Column, ColumnType, Load, Reconcile, StateVersionError, Table, Warehouse, WarehouseError, state
from pipeboard_io.load import Batch
from pipeboard_resources.embedded.processes import wait_until
from tests.fixtures.next_release import NEXT, start_next_release, version

TABLE = Table("crm", "t", (Column("id", ColumnType.BIGINT), Column("n", ColumnType.BIGINT)), entity="t")


def frame(batch: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(batch * 10, batch * 10 + 10), "n": [batch] * 10})


def test_a_load_goes_on_while_another_process_upgrades_and_the_next_one_is_told_to_upgrade(
    fresh_database: str, next_release: Path
) -> None:
    running = Warehouse(fresh_database)
    running.load(Load(TABLE, frames=[frame(9)]))

    def pages(_checkpoint: object) -> Iterator[Batch]:
        yield Batch(frame(1), checkpoint={"page": 1})
        start_next_release(fresh_database, next_release)
        assert version(fresh_database) == NEXT
        yield Batch(frame(2), checkpoint={"page": 2})

    report = running.load(Load(TABLE, frames=pages, resume_key="t", reconcile=Reconcile(force=True)))
    assert (report.rows, report.inserted, report.deleted) == (20, 20, 10)
    assert [
        row["rows"] for row in running.query("SELECT rows FROM pipeboard.load WHERE status = 'success' ORDER BY id")
    ] == [10, 20]
    with pytest.raises(
        StateVersionError, match=f"at version {NEXT}, this release knows {state.HEAD}: upgrade this program"
    ):
        Warehouse(fresh_database).load(Load(TABLE, frames=[frame(3)]))
    assert running.query("SELECT count(*) AS n FROM crm.t WHERE deleted_at IS NULL") == [{"n": 20}]


def test_a_load_that_broke_off_goes_on_in_the_next_release(
    fresh_database: str, next_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_checkpoint: object) -> Iterator[Batch]:
        yield Batch(frame(1), checkpoint={"page": 1})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Warehouse(fresh_database).load(Load(TABLE, frames=breaks, resume_key="t"))
    monkeypatch.setattr(state, "HEAD", NEXT)
    monkeypatch.setattr(state, "MIGRATIONS", next_release)
    seen: list[object] = []

    def rest(checkpoint: object) -> Iterator[Batch]:
        seen.append(checkpoint)
        yield Batch(frame(2))

    assert Warehouse(fresh_database).load(Load(TABLE, frames=rest, resume_key="t")).rows == 20
    assert (seen, version(fresh_database)) == ([{"page": 1}], NEXT)


def test_a_migration_that_fails_leaves_everything_as_it_was(
    fresh_database: str, next_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(fresh_database)
    warehouse.load(Load(TABLE, frames=[frame(1)]))
    broken = next_release / "versions/v_next.py"
    broken.write_text(broken.read_text() + '    op.execute("SELECT 1 / 0")\n')
    with monkeypatch.context() as next_one:
        next_one.setattr(state, "HEAD", NEXT)
        next_one.setattr(state, "MIGRATIONS", next_release)
        with pytest.raises(WarehouseError, match="Preparing the schema pipeboard failed: DivisionByZero"):
            Warehouse(fresh_database).migrate()
    assert version(fresh_database) == state.HEAD
    assert Warehouse(fresh_database).load(Load(TABLE, frames=[frame(2)])).rows == 20


@pytest.fixture
def unkept(fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database as the last release left it that kept no stage through a crash."""
    shutil.copytree(state.MIGRATIONS, tmp_path / "unkept")
    for path in (tmp_path / "unkept/versions").glob("v*.py"):
        if path.name >= "v0004":
            path.unlink()
    with monkeypatch.context() as old, closing(Warehouse(fresh_database)) as warehouse:
        old.setattr(state, "HEAD", "0003")
        old.setattr(state, "MIGRATIONS", tmp_path / "unkept")
        warehouse.migrate()
    return fresh_database


_CLAIM = """INSERT INTO pipeboard.checkpoint (stage, resume_key, table_name, load_id, shape, started_at, owner_pid, owner_started_at)
            VALUES ('stage_t', 'k', 't', 'l', 's', now(), 1, now())"""
_REJECT = "INSERT INTO pipeboard.staged_reject VALUES ('stage_t', '1', NULL, 'odd', '{}')"


def test_a_process_that_would_stage_what_a_crash_empties_can_no_longer(unkept: str) -> None:
    with psycopg.connect(unkept, autocommit=True) as running:
        running.execute(_CLAIM)
        Warehouse(unkept).migrate()
        assert running.execute("UPDATE pipeboard.checkpoint SET touched_at = now()").rowcount == 0
        with pytest.raises(psycopg.errors.NotNullViolation):
            running.execute(_CLAIM)


@pytest.mark.parametrize("order", [(_REJECT, _CLAIM), (_CLAIM, _REJECT)])
def test_an_upgrade_and_a_load_of_the_release_before_end_both(unkept: str, order: tuple[str, str]) -> None:
    with psycopg.connect(unkept, autocommit=True) as server:
        server.execute(f"ALTER DATABASE {server.info.dbname} SET deadlock_timeout = '50ms'")
    upgrade = Thread(target=Warehouse(unkept).migrate)
    with psycopg.connect(unkept) as running, psycopg.connect(unkept, autocommit=True) as observer:
        # Long enough never to be the one that finds the deadlock.
        running.execute("SET deadlock_timeout = '60s'")
        running.execute(order[0])
        upgrade.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        assert wait_until(lambda: observer.execute(waits).fetchone() == (1,), seconds=10)
        running.execute(order[1])
    upgrade.join()
    assert version(unkept) == state.HEAD


def test_no_migration_goes_backwards() -> None:
    versions = list((state.MIGRATIONS / "versions").glob("v*.py"))
    assert len(versions) == int(state.HEAD)
    assert [path.name for path in versions if "def downgrade" in path.read_text(encoding="utf-8")] == []
