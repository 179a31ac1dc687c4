"""Python values of a column into a polars series of the declared type; what does not parse is said, not guessed."""

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
    # A list a row is a series a row to polars: 1.3 ms for 500 of them, 0.15 ms by way of JSON.
    ColumnType.BIGINT_ARRAY: json_text,
    ColumnType.TEXT_ARRAY: json_text,
}


def column_series(name: str, kind: ColumnType, values: Sequence[Any]) -> pl.Series:
    """Dates, times and instants are still text: `parse_times` reads them."""
    if kind in _FORMATS:
        return pl.Series(name, values, dtype=pl.String)
    encode = _ENCODERS.get(kind)
    if encode is not None:
        values = [None if value is None else encode(value) for value in values]
    if kind in (ColumnType.BIGINT_ARRAY, ColumnType.TEXT_ARRAY):
        return pl.Series(name, values, dtype=pl.String).str.json_decode(_DTYPES[kind])
    return pl.Series(name, values, dtype=_DTYPES[kind])


def parse_times(frame: pl.DataFrame, kinds: Mapping[str, ColumnType]) -> tuple[pl.DataFrame, dict[str, list[int]]]:
    """The frame with the columns of `kinds` read, and by column the positions whose text is no such date or time (now null).

    Nearly every text is in the usual format, which is read in all columns at once: one call of polars, not one a column.
    """
    names = [name for name in frame.columns if kinds.get(name) in _FORMATS]
    usual = [pl.col(name).str.strptime(_DTYPES[kinds[name]], _FORMATS[kinds[name]][0], strict=False) for name in names]
    parsed = frame.with_columns(usual)
    unread = {}
    for name in [name for name in names if parsed[name].null_count() > frame[name].null_count()]:
        series, unread[name] = _parsed_otherwise(frame[name], parsed[name], kinds[name])
        parsed = parsed.with_columns(series)
    return parsed, unread


def _parsed_otherwise(text: pl.Series, series: pl.Series, kind: ColumnType) -> tuple[pl.Series, list[int]]:
    for pattern in _FORMATS[kind][1:]:
        series = series.fill_null(text.str.strptime(_DTYPES[kind], pattern, strict=False))
    unread = text.is_not_null() & series.is_null() & ~text.str.contains(_EMPTY)
    return series, unread.arg_true().to_list()
