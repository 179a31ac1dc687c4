"""Python values of one column into one polars series of the declared type; what does not parse is said, not guessed."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from pipeboard_io import ColumnType

_JSON = msgspec.json.Encoder(decimal_format="number")

# How Pipedrive says "empty" in dates and times (pipedrive-api.md gotcha 15 and section 3.3).
_EMPTY = r"^(0000-00-00.*|-0001-11-30.*|)$"

# Instants travel as text up to here because polars parses a column in 0.13 us a value, where making a datetime in
# pydantic and reading it back costs 6 us: seven of them a deal would double the time of a load.
_FORMATS: Mapping[ColumnType, tuple[str, ...]] = {
    ColumnType.TIMESTAMPTZ: ("%Y-%m-%dT%H:%M:%SZ", "%+", "%Y-%m-%d %H:%M:%S%.f"),
    ColumnType.DATE: ("%Y-%m-%d",),
    ColumnType.TIME: ("%H:%M:%S", "%H:%M"),
}

_DTYPES: Mapping[ColumnType, Any] = {
    ColumnType.BIGINT: pl.Int64,
    ColumnType.NUMERIC: pl.String,  # text, so that PostgreSQL reads every digit
    ColumnType.TEXT: pl.String,
    ColumnType.BOOLEAN: pl.Boolean,
    ColumnType.JSONB: pl.String,
    ColumnType.BIGINT_ARRAY: pl.List(pl.Int64),
    ColumnType.TEXT_ARRAY: pl.List(pl.String),
    ColumnType.TIMESTAMPTZ: pl.Datetime("us", "UTC"),
    ColumnType.DATE: pl.Date,
    ColumnType.TIME: pl.Time,
}


def json_text(value: Any) -> str:
    """Compact JSON with exact decimals. Raises TypeError for what JSON cannot hold."""
    return _JSON.encode(value).decode()


def _decimal_text(value: Decimal) -> str:
    return str(value)


_ENCODERS: Mapping[ColumnType, Callable[[Any], str]] = {
    ColumnType.NUMERIC: _decimal_text,
    ColumnType.JSONB: json_text,
}


def column_series(name: str, kind: ColumnType, values: Sequence[Any]) -> tuple[pl.Series, list[int]]:
    """The series, and the positions whose text is no such date or time (null in the series)."""
    if kind in _FORMATS:
        return _parsed(pl.Series(name, values, dtype=pl.String), kind)
    encode = _ENCODERS.get(kind)
    if encode is not None:
        values = [None if value is None else encode(value) for value in values]
    return pl.Series(name, values, dtype=_DTYPES[kind]), []


def _parsed(text: pl.Series, kind: ColumnType) -> tuple[pl.Series, list[int]]:
    series = pl.Series(text.name, [None], dtype=_DTYPES[kind]).new_from_index(0, len(text))
    for pattern in _FORMATS[kind]:
        series = series.fill_null(text.str.strptime(_DTYPES[kind], pattern, strict=False))
        if series.null_count() == text.null_count():
            return series, []
    unread = text.is_not_null() & series.is_null() & ~text.str.contains(_EMPTY)
    return series, unread.arg_true().to_list()
