"""Whole rows as they were: kept once, for as long as the source says they held, and none for a correction."""

from typing import Any

import polars as pl
import pytest

from pipeboard_io import Column, Load, LoadError, Reconcile, Table, View, ViewColumn, Warehouse
from pipeboard_io import ColumnType as T
from pipeboard_io.functions import Function
from pipeboard_io.versions import Versions
from tests.io.observer import Observer


def load(warehouse: Warehouse, schema: str, *, full: bool = False, **columns: Any) -> None:
    kinds = {"id": T.BIGINT, "name": T.TEXT, "value": T.NUMERIC, "tags": T.BIGINT_ARRAY}
    kinds |= dict.fromkeys(("updated_at", "added_at"), T.TIMESTAMPTZ)
    kinds |= {name: T.TEXT for name in columns if name not in kinds}
    table = Table(schema, "t", tuple(Column(name, kind) for name, kind in kinds.items()), version_column="updated_at")
    versions = Versions(schema, "t_version", "id", ("updated_at", "added_at"), "Versions.")
    reconcile = Reconcile(force=True) if full else None
    warehouse.load(Load(table, frames=[pl.DataFrame(columns)], versions=versions, reconcile=reconcile))


def kept(observer: Observer, schema: str) -> list[tuple[Any, ...]]:
    return observer.sql(
        f"""SELECT id, to_char(valid_from AT TIME ZONE 'UTC', 'HH24'), to_char(valid_to AT TIME ZONE 'UTC', 'HH24'), row ->> 'name'
            FROM {schema}.t_version ORDER BY id, valid_from"""
    )


def at(hour: int) -> list[str]:
    return [f"2026-11-20T{hour:02}:00:00Z"]


def test_a_version_is_kept_once_with_the_time_for_which_it_held(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, schema, id=[1], name=["a"], value=["10.50"], tags=[[1, 2]], updated_at=at(1))
    for _ in range(2):
        load(warehouse, schema, id=[1], name=["b"], value=[None], tags=[None], updated_at=at(3))
    load(warehouse, schema, id=[1], name=["c"], updated_at=at(7), added=["later"])
    assert kept(observer, schema) == [(1, "01", "03", "a"), (1, "03", "07", "b")]
    stored = observer.sql(
        f"SELECT r.* FROM {schema}.t_version v, jsonb_populate_record(NULL::{schema}.t, v.row) r ORDER BY v.valid_from"
    )
    names = [name for (name,) in observer.sql("SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum", f"{schema}.t")]  # fmt: skip
    first = dict(zip(names, stored[0], strict=True))
    assert (str(first["value"]), first["tags"], first["added"]) == ("10.50", [1, 2], None)


def test_corrections_old_news_and_backfills_make_no_version(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, schema, id=[1], name=["a"], updated_at=at(5))
    load(warehouse, schema, id=[1], name=["mended"], updated_at=at(5))
    load(warehouse, schema, id=[1], name=["older"], updated_at=at(2))
    load(warehouse, schema, id=[1], name=["mended"], updated_at=at(5), full=True)
    assert kept(observer, schema) == []
    load(warehouse, schema, id=[1], name=["b"], updated_at=at(8))
    load(warehouse, schema, id=[1], name=["a again"], updated_at=at(5), full=True)
    load(warehouse, schema, id=[1], name=["b"], updated_at=at(9))
    assert kept(observer, schema) == [(1, "05", "09", "a again")]


def test_a_row_that_was_never_updated_holds_since_it_was_added(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, schema, id=[1, 2], name=["a", "x"], added_at=at(1) * 2, updated_at=[None, None])
    load(warehouse, schema, id=[1], name=["b"], added_at=at(1), updated_at=at(4))
    assert kept(observer, schema) == [(1, "01", "04", "a")]


def test_a_source_that_went_back_in_time_leaves_no_versions_that_overlap(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    for hour, name in ((2, "a"), (5, "b"), (8, "c")):
        load(warehouse, schema, id=[1], name=[name], updated_at=at(hour))
    load(warehouse, schema, id=[1], name=["restored"], updated_at=at(4), full=True)
    assert kept(observer, schema) == [(1, "02", "04", "a")]
    load(warehouse, schema, id=[1], name=["d"], updated_at=at(9))
    assert kept(observer, schema) == [(1, "02", "04", "a"), (1, "04", "09", "restored")]


def test_a_load_that_fails_keeps_no_version(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    load(warehouse, schema, id=[1], name=["a"], updated_at=at(1))
    observer.sql(f"ALTER TABLE {schema}.t ADD CONSTRAINT no_b CHECK (name <> 'b')")
    with pytest.raises(LoadError):
        load(warehouse, schema, id=[1], name=["b"], updated_at=at(2))
    assert kept(observer, schema) == []


def test_a_column_widens_below_a_view_and_a_function_of_versions(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, schema, id=[1], name=["a"], value=["10.50"], updated_at=at(1))
    load(warehouse, schema, id=[1], name=["b"], value=["11.50"], updated_at=at(2))
    body = f"SELECT r.* FROM {schema}.t_version v CROSS JOIN LATERAL jsonb_populate_record(NULL::{schema}.t, v.row) r"
    warehouse.define(View(schema, "v", (ViewColumn("value", "q.value"),), f"FROM ({body}) AS q"))
    earlier = Function(schema, "earlier", "moment timestamp with time zone", f"SETOF {schema}.t", body, "Words.")
    assert [warehouse.define_function(earlier) for _ in range(2)] == [True, False]
    table = Table(schema, "t", (Column("id", T.BIGINT), Column("value", T.TEXT)))
    warehouse.load(Load(table, frames=[pl.DataFrame({"id": [2], "value": ["words"]})]))
    assert observer.sql(f"SELECT value FROM {schema}.v") == [("10.50",)]
    assert observer.sql(f"SELECT value FROM {schema}.earlier(now())") == [("10.50",)]
