"""Tables read back as polars frames: values exact, lazily, only the columns asked for."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeboard_io import Column, ColumnType, Load, Table, Warehouse, WarehouseError
from tests.io.observer import Observer

T = ColumnType
FULL = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "whole": pl.Series([1, None, -5], dtype=pl.Int32),
        "exact": pl.Series([Decimal("0.10"), Decimal("12345678901234567890.5"), None], dtype=pl.Decimal(38, 2)),
        "double": [0.1, float("inf"), None],
        "text": ["", 'a"b\\\n,', None],
        "truth": [True, False, None],
        "day": [date(1, 1, 1), date(9999, 12, 31), None],
        "clock": [time(0, 0, 0, 1), time(23, 59, 59, 999_999), None],
        "moment": pl.Series([datetime(1850, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1, UTC), None], dtype=pl.Datetime("us", "UTC")),
        "json": ['{"a": [1, null]}', "null", None],
        "numbers": [[1, None], [], None],
        "words": [["", 'q"', None], [], None],
    }
)  # fmt: skip
KINDS = [T.BIGINT, T.INTEGER, T.NUMERIC, T.DOUBLE, T.TEXT, T.BOOLEAN, T.DATE, T.TIME, T.TIMESTAMPTZ, T.JSONB, T.BIGINT_ARRAY, T.TEXT_ARRAY]  # fmt: skip


def store(warehouse: Warehouse, schema: str) -> str:
    columns = tuple(Column(name, kind) for name, kind in zip(FULL.columns, KINDS, strict=True))
    warehouse.load(Load(Table(schema, "t", columns, lifecycle=False), frames=[FULL]))
    return f"{schema}.t"


def test_every_type_comes_back_as_it_went(warehouse: Warehouse, schema: str) -> None:
    assert_frame_equal(warehouse.read(store(warehouse, schema)).sort("id"), FULL, check_exact=True)


def test_some_columns_alone_are_read(warehouse: Warehouse, schema: str) -> None:
    assert warehouse.read(store(warehouse, schema), ["text", "id"]).columns == ["text", "id"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (lambda f: f.select(pl.len()), [(3,)]),
        (lambda f: f.filter(pl.col("id") > 1).select("id").head(1), [(2,)]),
        (lambda f: f.select("id").head(2).filter(pl.col("id") > 1), [(2,)]),
        (lambda f: f.select(pl.col("whole").sum()), [(-4,)]),
    ],
)
def test_a_lazy_frame_is_any_query(warehouse: Warehouse, schema: str, query: Any, expected: Any) -> None:
    assert query(warehouse.scan(store(warehouse, schema))).collect().rows() == expected


def test_a_table_is_read_in_batches(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    observer.sql(
        f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t AS SELECT n::bigint AS id, md5(n::text) AS t FROM generate_series(1, 70000) n"
    )
    frame = warehouse.read(f"{schema}.t")
    assert (frame.height, frame["id"].sum(), frame["t"].n_unique()) == (70_000, 70_000 * 70_001 // 2, 70_000)


def test_an_empty_table_has_its_columns(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    observer.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id bigint, n numeric, x inet)")
    assert warehouse.read(f"{schema}.t").schema == {"id": pl.Int64, "n": pl.Decimal(38, 0), "x": pl.String}


def test_numbers_too_long_for_a_decimal_are_text(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    observer.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t AS SELECT 1e50 AS n")
    assert warehouse.read(f"{schema}.t")["n"].to_list() == ["1" + "0" * 50]


@pytest.mark.parametrize("others", [["NaN"], ["1.5", "Infinity"], ["-Infinity", "0.25"]])
def test_a_column_with_numbers_that_are_none_is_text(
    warehouse: Warehouse, observer: Observer, schema: str, others: list[str]
) -> None:
    observer.sql(f"CREATE SCHEMA {schema}")
    observer.sql(f"CREATE TABLE {schema}.t AS SELECT unnest(%s::numeric[]) AS n", others)
    assert warehouse.read(f"{schema}.t")["n"].to_list() == others


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1.5", "1.23456"),
        ("1.5", "1" * 39),
        ("1.5", "NaN"),
        ("1.5", "-Infinity"),
        ("1", "1.1"),
        ("0." + "1" * 37, "12"),
    ],
)
def test_a_lazy_frame_whose_numbers_have_grown_meanwhile_is_an_error(
    warehouse: Warehouse, observer: Observer, schema: str, before: str, after: str
) -> None:
    observer.sql(f"CREATE SCHEMA {schema}")
    observer.sql(f"CREATE TABLE {schema}.t AS SELECT %s::numeric AS n", before)
    lazy = warehouse.scan(f"{schema}.t")
    assert lazy.collect().rows() == [(Decimal(before),)]
    observer.sql(f"INSERT INTO {schema}.t VALUES (NULL), (-2), (%s)", after)
    with pytest.raises(
        WarehouseError, match=f"{schema}.t was loaded after it was scanned: 'n' .* Scan the table again"
    ):
        lazy.collect()


def test_a_table_that_is_not_there_is_an_error(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="no table nowhere.t"):
        warehouse.read("nowhere.t")


def test_a_query_cannot_write(warehouse: Warehouse) -> None:
    assert warehouse.query("SELECT %s::int AS one", [1]) == [{"one": 1}]
    with pytest.raises(WarehouseError, match="read-only"):
        warehouse.query("CREATE TABLE public.x (id int)")
