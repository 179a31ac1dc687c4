"""What a row said before is kept by the load that changes it: once, exactly, and only when it is published."""

from typing import Any

import polars as pl
import pytest

from pipeboard_io import Column, Load, LoadError, Table, Trace, Warehouse
from pipeboard_io import ColumnType as T
from tests.io.observer import Observer


def load(warehouse: Warehouse, schema: str, **columns: Any) -> None:
    kinds = {
        "id": T.BIGINT,
        "stage": T.BIGINT,
        "value": T.NUMERIC,
        "moved_at": T.TIMESTAMPTZ,
        "updated_at": T.TIMESTAMPTZ,
    }
    table = Table(schema, "t", tuple(Column(name, kind) for name, kind in kinds.items()), version_column="updated_at")
    trace = Trace(schema, "t_change", "t_id", {"stage": "moved_at", "value": "updated_at"}, "Changes.")
    warehouse.load(Load(table, frames=[pl.DataFrame(columns)], trace=trace))


def changes(observer: Observer, schema: str) -> list[tuple[Any, ...]]:
    return observer.sql(
        f"SELECT t_id, field, old_value, new_value, to_char(changed_at AT TIME ZONE 'UTC', 'HH24:MI') FROM {schema}.t_change ORDER BY noticed_at, 1, 2"
    )


def at(hour: int) -> list[str]:
    return [f"2026-11-20T{hour:02}:00:00Z"]


def test_changes_are_kept_once_and_with_their_time(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    load(warehouse, schema, id=[1], stage=[1], value=["10"], moved_at=at(1), updated_at=at(1))
    assert changes(observer, schema) == []
    for _ in range(2):
        load(warehouse, schema, id=[1], stage=[2], value=["10.00"], moved_at=at(2), updated_at=at(3))
    load(warehouse, schema, id=[1], stage=[1], value=[None], moved_at=at(4), updated_at=at(5))
    assert changes(observer, schema) == [
        (1, "stage", "1", "2", "02:00"),
        (1, "stage", "2", "1", "04:00"),
        (1, "value", "10.00", None, "05:00"),
    ]


def test_an_older_version_and_a_key_that_was_not_sent_leave_no_trace(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, schema, id=[1], stage=[1], value=["10"], moved_at=at(1), updated_at=at(5))
    load(warehouse, schema, id=[1], stage=[9], value=["9"], moved_at=at(1), updated_at=at(2))
    load(warehouse, schema, id=[1], updated_at=at(6))
    assert changes(observer, schema) == []


def test_a_load_that_fails_leaves_no_trace(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    load(warehouse, schema, id=[1], stage=[1], value=["10"], moved_at=at(1), updated_at=at(1))
    observer.sql(f"ALTER TABLE {schema}.t ADD CONSTRAINT low CHECK (stage < 5)")
    with pytest.raises(LoadError):
        load(warehouse, schema, id=[1], stage=[7], value=["10"], moved_at=at(2), updated_at=at(2))
    assert changes(observer, schema) == []
