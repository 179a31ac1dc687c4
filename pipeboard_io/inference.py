"""A table declaration for frames and SELECTs that come without one: types from dtypes, or from PostgreSQL's description."""

from collections.abc import Sequence

import polars as pl

from pipeboard_io.errors import FrameError
from pipeboard_io.load import ABSENT, REASON
from pipeboard_io.table import DELETED_AT, Column, ColumnType, Table
from pipeboard_io.warehouse import Warehouse


def table_from_frame(
    frame: pl.DataFrame, *, schema: str, name: str, primary_key: Sequence[str], lifecycle: bool = False
) -> Table:
    """The table that holds such frames; raises FrameError for a dtype that has no column type."""
    own = {ABSENT, REASON, *([DELETED_AT] if lifecycle else [])}
    columns = tuple(
        Column(column, _column_type(f"{schema}.{name}", column, dtype))
        for column, dtype in frame.schema.items()
        if column not in own
    )
    return _table(schema, name, columns, primary_key, lifecycle=lifecycle)


def table_from_select(
    warehouse: Warehouse, select: str, *, schema: str, name: str, primary_key: Sequence[str]
) -> Table:
    """The table that holds the rows of a SELECT; raises FrameError for a type that has no column type."""
    columns = []
    for column, kind in warehouse.describe(select):
        try:
            columns.append(Column(column, _SELECTED.get(kind) or ColumnType(kind)))
        except ValueError as error:
            raise FrameError(
                f"the SELECT for {schema}.{name} has {column!r} of type {kind}: cast it to one of "
                f"{', '.join(ColumnType)}",
                column=column,
            ) from error
    return _table(schema, name, tuple(columns), primary_key, lifecycle=False)


_SELECTED = {
    "smallint": ColumnType.INTEGER,
    "real": ColumnType.DOUBLE,
    "character varying": ColumnType.TEXT,
    "character": ColumnType.TEXT,
    "name": ColumnType.TEXT,
    "uuid": ColumnType.TEXT,
    "json": ColumnType.JSONB,
    "timestamp with time zone": ColumnType.TIMESTAMPTZ,
    "time without time zone": ColumnType.TIME,
    "integer[]": ColumnType.BIGINT_ARRAY,
    "character varying[]": ColumnType.TEXT_ARRAY,
}


def _table(
    schema: str, name: str, columns: tuple[Column, ...], primary_key: Sequence[str], *, lifecycle: bool
) -> Table:
    missing = [key for key in primary_key if key not in {column.name for column in columns}]
    if missing:
        raise FrameError(
            f'{schema}.{name} has no key column {missing[0]!r}: name its key in the asset\'s metadata, {{"primary_key": "..."}}',
            column=missing[0],
        )
    return Table(schema, name, columns, primary_key=tuple(primary_key), lifecycle=lifecycle)


def _column_type(table: str, column: str, dtype: pl.DataType) -> ColumnType:
    match dtype:
        case pl.Int64() | pl.UInt32():
            return ColumnType.BIGINT
        case pl.UInt64() | pl.Int128() | pl.Decimal():
            return ColumnType.NUMERIC
        case pl.Int8() | pl.Int16() | pl.Int32() | pl.UInt8() | pl.UInt16():
            return ColumnType.INTEGER
        case pl.Float32() | pl.Float64():
            return ColumnType.DOUBLE
        case pl.String() | pl.Categorical() | pl.Enum() | pl.Null():
            return ColumnType.TEXT
        case pl.Boolean():
            return ColumnType.BOOLEAN
        case pl.Date():
            return ColumnType.DATE
        case pl.Time():
            return ColumnType.TIME
        case pl.Datetime():
            return ColumnType.TIMESTAMPTZ
        case pl.List() | pl.Array() if dtype.inner.is_integer():
            return ColumnType.BIGINT_ARRAY
        case pl.List() | pl.Array() if dtype.inner in (pl.String, pl.Null):
            return ColumnType.TEXT_ARRAY
        case pl.Struct() | pl.List() | pl.Array():
            return ColumnType.JSONB
        case _:
            raise FrameError(
                f"a frame for {table} has {column!r} as polars {dtype}, for which there is no column type: cast it",
                column=column,
            )
