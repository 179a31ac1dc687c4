"""A mart that knows what its sources wrote computes only that, and comes out as if it had computed everything."""

import random
from typing import Any

import polars as pl
import pytest

from pipeboard_io import Column, Load, Reconcile, Scope, Table, Touch, Warehouse, touched
from pipeboard_io import ColumnType as T
from tests.io.observer import Observer

SELECT = "SELECT g.id, g.name, (SELECT count(*) FROM {s}.item i WHERE i.group_id = g.id AND i.deleted_at IS NULL) AS items FROM {s}.grp g WHERE g.deleted_at IS NULL"  # fmt: skip


def tables(schema: str) -> tuple[Table, Table, Table]:
    item = Table(schema, "item", (Column("id", T.BIGINT), Column("group_id", T.BIGINT), Column("noise", T.TEXT)))
    grp = Table(schema, "grp", (Column("id", T.BIGINT), Column("name", T.TEXT)))
    mart = Table(schema, "mart", (Column("id", T.BIGINT), Column("name", T.TEXT), Column("items", T.BIGINT)), lifecycle=False)  # fmt: skip
    return grp, item, mart


def load(warehouse: Warehouse, table: Table, touch: Touch, *, whole: bool = False, **columns: Any) -> None:
    reconcile = Reconcile(force=True) if whole else None
    warehouse.load(Load(table, frames=[pl.DataFrame(columns)], touch=touch, reconcile=reconcile))


def compute(warehouse: Warehouse, schema: str, *, everything: bool = False) -> int:
    """Rows that were computed."""
    grp, item, mart = tables(schema)
    select = SELECT.replace("{s}", schema)
    scope = Scope(
        tables=(str(grp), str(item)),
        keys=None if everything else "SELECT value FROM touched",
        select=f"{select} AND g.id IN (SELECT id FROM pg_temp.scope)",
    )
    return warehouse.load(Load(mart, select=select, scope=scope)).staged


GROUP, ITEM = Touch("id"), Touch("group_id", when=("group_id",))


@pytest.fixture
def filled(warehouse: Warehouse, schema: str) -> str:
    grp, item, _ = tables(schema)
    load(warehouse, grp, GROUP, id=range(10), name=["g"] * 10)
    load(warehouse, item, ITEM, id=range(30), group_id=[n % 10 for n in range(30)], noise=["x"] * 30)
    assert compute(warehouse, schema) == 10
    return schema


def assert_exact(observer: Observer, schema: str) -> None:
    wanted = observer.sql(f"{SELECT.replace('{s}', schema)} ORDER BY id")
    assert observer.sql(f"SELECT id, name, items FROM {schema}.mart ORDER BY id") == wanted


def test_nothing_touched_computes_nothing(warehouse: Warehouse, filled: str) -> None:
    assert compute(warehouse, filled) == 0
    assert compute(warehouse, filled, everything=True) == 10


def test_a_row_that_moves_touches_where_it_was_and_where_it_is(
    warehouse: Warehouse, observer: Observer, filled: str
) -> None:
    load(warehouse, tables(filled)[1], ITEM, id=[3, 4], group_id=[7, 4], noise=["x", "other"])
    assert compute(warehouse, filled) == 2
    assert_exact(observer, filled)


def test_rows_that_vanish_touch_too_and_leave_the_mart(warehouse: Warehouse, observer: Observer, filled: str) -> None:
    grp, item, _ = tables(filled)
    load(warehouse, grp, GROUP, whole=True, id=range(1, 10), name=["g"] * 9)
    load(warehouse, item, ITEM, whole=True, id=range(29), group_id=[n % 10 for n in range(29)], noise=["x"] * 29)
    assert compute(warehouse, filled) == 1  # group 9 lost an item; group 0 is gone
    assert_exact(observer, filled)
    assert observer.value(f"SELECT count(*) FROM {filled}.mart") == 9


def test_a_mart_that_fails_keeps_the_notes(warehouse: Warehouse, observer: Observer, filled: str) -> None:
    load(warehouse, tables(filled)[0], GROUP, id=[1], name=["renamed"])
    observer.sql(f"ALTER TABLE {filled}.mart ADD CONSTRAINT no CHECK (name <> 'renamed')")
    with pytest.raises(Exception, match="constraint"):
        compute(warehouse, filled)
    observer.sql(f"ALTER TABLE {filled}.mart DROP CONSTRAINT no")
    assert compute(warehouse, filled) == 1
    assert_exact(observer, filled)


def test_a_note_that_is_committed_while_the_mart_computes_is_kept_for_the_next_time(
    warehouse: Warehouse, observer: Observer, filled: str
) -> None:
    """The other load's rows may or may not be seen by then; its note must survive either way."""
    observer.sql("BEGIN")
    observer.sql(f"UPDATE {filled}.grp SET name = 'late' WHERE id = 2")
    observer.sql("INSERT INTO pipeboard.touched VALUES (%s, 2)", f"{filled}.grp")
    assert compute(warehouse, filled) == 0
    observer.sql("COMMIT")
    assert compute(warehouse, filled) == 1
    assert_exact(observer, filled)


def test_any_history_of_changes_comes_out_as_if_everything_were_computed(
    warehouse: Warehouse, observer: Observer, filled: str
) -> None:
    rng = random.Random(7)
    grp, item, _ = tables(filled)
    for _ in range(12):
        ids = rng.sample(range(40), 5)
        load(warehouse, item, ITEM, id=ids, group_id=[rng.choice([None, *range(12)]) for _ in ids], noise=["y"] * 5)
        alive = sorted(rng.sample(range(12), 9))
        load(warehouse, grp, GROUP, whole=True, id=alive, name=[rng.choice("abc") for _ in alive])
        compute(warehouse, filled)
        assert_exact(observer, filled)


def test_a_table_filled_for_the_first_time_while_the_mart_takes_its_notes_is_not_forgotten(
    warehouse: Warehouse, observer: Observer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grp, item, _ = tables(schema)
    load(warehouse, grp, GROUP, id=range(10), name=["g"] * 10)
    warehouse.fit(item)
    compute(warehouse, schema)
    asked = touched.scalar

    def fill_after_asking(connection: Any, query: Any, *parameters: Any) -> Any:
        answer = asked(connection, query, *parameters)
        monkeypatch.undo()
        load(warehouse, item, ITEM, id=range(30), group_id=[n % 10 for n in range(30)], noise=["x"] * 30)
        return answer

    monkeypatch.setattr(touched, "scalar", fill_after_asking)
    compute(warehouse, schema)
    compute(warehouse, schema)
    assert_exact(observer, schema)


def test_a_touch_or_a_scope_that_cannot_work_is_refused() -> None:
    grp, _, mart = tables("s")
    with pytest.raises(ValueError, match="lifecycle"):
        Load(mart, frames=[], touch=Touch("id"))
    with pytest.raises(ValueError, match="one key"):
        Load(grp, frames=[], scope=Scope((), None, ""))
