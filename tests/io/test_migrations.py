"""An upgrade: forwards only, all or nothing, and beside loads of the release before, which lose nothing."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from pipeboard_io import Column, ColumnType, Load, Reconcile, StateVersionError, Table, Warehouse, WarehouseError, state
from pipeboard_io.load import Batch
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
        with pytest.raises(WarehouseError, match="Preparing the schema pipeboard failed: division by zero"):
            Warehouse(fresh_database).migrate()
    assert version(fresh_database) == state.HEAD
    assert Warehouse(fresh_database).load(Load(TABLE, frames=[frame(2)])).rows == 20


def test_no_migration_goes_backwards() -> None:
    versions = list((state.MIGRATIONS / "versions").glob("v*.py"))
    assert len(versions) == int(state.HEAD)
    assert [path.name for path in versions if "def downgrade" in path.read_text(encoding="utf-8")] == []
