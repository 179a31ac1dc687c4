"""What goes in comes out: text, numbers, times, JSON, arrays; and what PostgreSQL cannot hold is rejected by itself."""

from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeboard_io import Batch, Column, ColumnType, Load, LoadReport, Reject, Table, Warehouse
from tests.io.observer import Observer

ODD_TEXTS = [
    "", " ", "\\", "\\N", "\\.", "a\n\\.\nb", '"', '""', "'", "''; DROP TABLE x; --", "\t", "\r", "\n", "\r\n", "a,b", "\u2028",
    "\u2029", "\ufeff", "😀", "👩‍👩‍👧", "é", "e\u0301", "\x01\x7f", "NULL", "null", "{}", "{a,b}", "%s %(x)s", "ünïcödé " * 3, "x" * 1_000_000,
]  # fmt: skip
NUMBERS = ["0.1", "9007199254740993", "1e-12", "-0.000", "123456789012345678901234567890.123456789", "1E+5", "0", None]


def loaded(warehouse: Warehouse, schema: str, kind: ColumnType, values: list[Any], dtype: Any = None) -> LoadReport:
    series = pl.Series("value", values, dtype=dtype)
    frame = pl.DataFrame({"id": pl.Series(range(len(values)), dtype=pl.Int64), "value": series})
    return warehouse.load(Load(table(schema, kind), frames=[frame]))


def table(schema: str, kind: ColumnType) -> Table:
    return Table(schema, "t", (Column("id", ColumnType.BIGINT), Column("value", kind)), entity=schema)


def values(observer: Observer, schema: str, expression: str = "value") -> list[Any]:
    return [value for (value,) in observer.sql(f"SELECT {expression} FROM {schema}.t ORDER BY id")]


def test_any_text_survives(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    loaded(warehouse, schema, ColumnType.TEXT, [*ODD_TEXTS, None])
    assert values(observer, schema) == [*ODD_TEXTS, None]


def test_odd_texts_survive_in_arrays(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    lists = [[text, None, text] for text in ODD_TEXTS[:-1]] + [[], None, [None]]
    loaded(warehouse, schema, ColumnType.TEXT_ARRAY, lists, pl.List(pl.String))
    assert values(observer, schema) == lists


def test_odd_texts_survive_as_keys(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    keyed = Table(schema, "t", (Column("id", ColumnType.TEXT),), lifecycle=False)
    texts = [text for text in ODD_TEXTS if len(text) < 1000]
    frame = pl.DataFrame({"id": texts})
    assert warehouse.load(Load(keyed, frames=[frame])).inserted == len(texts)
    assert warehouse.load(Load(keyed, frames=[frame])).is_unchanged


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")) | st.none(), min_size=1))
def test_random_text_survives(warehouse: Warehouse, observer: Observer, schema: str, texts: list[str | None]) -> None:
    observer.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    loaded(warehouse, schema, ColumnType.TEXT, texts, pl.String)
    assert values(observer, schema) == texts


def test_only_nul_characters_are_removed(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    loaded(warehouse, schema, ColumnType.TEXT, ["a\x00b", "\x00", "\x00\x00c"])
    assert values(observer, schema) == ["ab", "", "c"]


def test_escaped_nul_is_removed_from_json_and_its_spelling_is_not(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    texts = [r'{"a": "x\u0000y\u0000\u0000z"}', r'"\\u0000"', r'"\\\u0000"', r'{"\u0000": 1}']
    loaded(warehouse, schema, ColumnType.JSONB, texts)
    assert values(observer, schema) == [{"a": "xyz"}, "\\u0000", "\\", {"": 1}]


def test_numbers_come_without_float_noise(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    loaded(warehouse, schema, ColumnType.NUMERIC, NUMBERS, pl.String)
    assert values(observer, schema) == [None if text is None else Decimal(text) for text in NUMBERS]


def test_floats_are_their_shortest_text(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    loaded(warehouse, schema, ColumnType.NUMERIC, [0.1, 1e-12, 1e22, -2.5], pl.Float64)
    assert values(observer, schema, "value::text") == ["0.1", "0.000000000001", "10000000000000000000000", "-2.5"]


def test_decimals_keep_their_digits(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    exact = [Decimal("0.10"), Decimal("99999999999999999999.99"), None]
    loaded(warehouse, schema, ColumnType.NUMERIC, exact, pl.Decimal(38, 2))
    assert values(observer, schema, "value::text") == ["0.10", "99999999999999999999.99", None]


def test_doubles_survive_bit_by_bit(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), -0.0, 2.0**53 + 2]
    loaded(warehouse, schema, ColumnType.DOUBLE, numbers)
    assert values(observer, schema) == numbers


def test_the_ends_of_the_integers_survive(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    loaded(warehouse, schema, ColumnType.BIGINT, [-(2**63), 2**63 - 1, 0])
    assert values(observer, schema) == [-(2**63), 2**63 - 1, 0]


def test_instants_of_any_zone_are_the_same_instants(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    zone = timezone(timedelta(hours=-3))
    moments = [datetime(1850, 1, 1, 0, 0, 0, 1, UTC), datetime(2026, 3, 29, 1, 30, tzinfo=zone), None]
    loaded(warehouse, schema, ColumnType.TIMESTAMPTZ, moments, pl.Datetime("us", "America/Sao_Paulo"))
    assert values(observer, schema) == moments


def test_instants_as_text_keep_their_zone_and_no_zone_is_utc(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    observer.sql("ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo'")
    texts = ["2026-01-01T00:00:00Z", "2026-01-01 00:00:00", "2026-01-01T00:00:00+02:00"]
    loaded(warehouse, schema, ColumnType.TIMESTAMPTZ, texts)
    observer.sql("ALTER ROLE CURRENT_USER RESET timezone")
    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    assert values(observer, schema) == [midnight, midnight, midnight - timedelta(hours=2)]


def test_dates_of_any_year_survive(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    days = pl.Series([-719_529, -719_163, -100_000, 2_932_896, 2_932_897, 5_000_000], dtype=pl.Int32).cast(pl.Date)
    loaded(warehouse, schema, ColumnType.DATE, days, pl.Date)  # type: ignore[arg-type]
    assert values(observer, schema, "value - date '1970-01-01'") == days.cast(pl.Int32).to_list()


def test_instants_of_any_year_survive(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    moments = pl.Series([-(10**17), -62_135_596_800_000_001, 253_402_300_800_000_000, 9 * 10**18], dtype=pl.Int64)
    loaded(warehouse, schema, ColumnType.TIMESTAMPTZ, moments.cast(pl.Datetime("us", "UTC")))  # type: ignore[arg-type]
    assert values(observer, schema, "(extract(epoch FROM value) * 1000000)::bigint") == moments.to_list()


@pytest.mark.parametrize("zone", [None, "America/Sao_Paulo"])
def test_nanoseconds_are_cut_to_the_microsecond_that_they_lie_in(
    warehouse: Warehouse, observer: Observer, schema: str, zone: str | None
) -> None:
    moments = pl.Series([1_600_000_000_123_456_999, -1, None], dtype=pl.Int64).cast(pl.Datetime("ns", zone))
    loaded(warehouse, schema, ColumnType.TIMESTAMPTZ, moments)  # type: ignore[arg-type]
    at = datetime(2020, 9, 13, 12, 26, 40, 123_456, UTC)
    assert values(observer, schema) == [at, datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), None]


def test_the_last_nanosecond_of_a_day_is_no_other_day(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    clock = pl.Series([86_399_999_999_999, None], dtype=pl.Int64).cast(pl.Time)
    loaded(warehouse, schema, ColumnType.TIME, clock)  # type: ignore[arg-type]
    assert values(observer, schema) == [time(23, 59, 59, 999_999), None]


def test_times_keep_their_microseconds(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    times = [time(0, 0), time(23, 59, 59, 999_999), None]
    loaded(warehouse, schema, ColumnType.TIME, times, pl.Time)
    assert values(observer, schema) == times


def test_json_null_and_sql_null_differ(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    loaded(warehouse, schema, ColumnType.JSONB, ["null", None, '""', "{}"])
    assert values(observer, schema, "value::text") == ["null", None, '""', "{}"]
    assert values(observer, schema, "value IS NULL") == [False, True, False, False]


def test_json_numbers_keep_their_digits(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    loaded(warehouse, schema, ColumnType.JSONB, ["9007199254740993", "0.1", "1e-12"])
    assert values(observer, schema, "value::text") == ["9007199254740993", "0.1", "0.000000000001"]


def test_nested_columns_become_json(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    nested = [{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}]
    loaded(warehouse, schema, ColumnType.JSONB, nested)
    assert values(observer, schema) == nested


def test_nul_is_removed_from_nested_columns_and_its_spelling_is_not(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    loaded(warehouse, schema, ColumnType.JSONB, [{"a\x00": ["x\x00\x00y", "\\u0000"]}, None])
    assert values(observer, schema) == [{"a": ["xy", "\\u0000"]}, None]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        (ColumnType.NUMERIC, "1", "one", "invalid input syntax"),
        (ColumnType.DATE, "2026-01-31", "2026-02-30", "out of range"),
        (ColumnType.TIMESTAMPTZ, "2026-01-01T00:00:00Z", "yesterdayish", "invalid input syntax"),
        (ColumnType.TIME, "12:00", "25:00", "out of range"),
        (ColumnType.JSONB, "{}", "{", "invalid input syntax"),
        (ColumnType.JSONB, "{}", r'"\ud800"', "Unicode|surrogate|unsupported"),
        (ColumnType.INTEGER, 1, 2**31, "out of range"),
    ],
)
def test_a_value_that_does_not_fit_is_rejected_alone(
    warehouse: Warehouse, observer: Observer, schema: str, kind: ColumnType, good: Any, bad: Any, words: str
) -> None:
    report = loaded(warehouse, schema, kind, [good, bad, good])
    assert (report.rows, report.rejected) == (3, 1)
    assert values(observer, schema, "value IS NULL") == [False, True, False]
    found = observer.sql("SELECT record_key, column_name, reason ~ %s FROM pipeboard.rejected_record WHERE entity = %s", words, schema)  # fmt: skip
    assert found == [("1", "value", True)]


@pytest.mark.parametrize(
    ("kind", "good", "words"),
    [
        (ColumnType.DATE, "2026-01-31", ["infinity", "-infinity", " Today ", "epoch", "now", "tomorrow"]),
        (ColumnType.TIMESTAMPTZ, "2026-01-01T00:00:00Z", ["Infinity", "now", "yesterday", "tomorrow allballs"]),
        (ColumnType.TIME, "23:59:59.9999999", ["24:00:00", "now", "allballs", "23:59:60", " 24:00"]),
    ],
)
def test_a_word_or_time_that_python_could_not_read_back_is_rejected(
    warehouse: Warehouse, observer: Observer, schema: str, kind: ColumnType, good: str, words: list[str]
) -> None:
    report = loaded(warehouse, schema, kind, [good, *words, None])
    assert (report.rows, report.rejected) == (len(words) + 2, len(words))
    assert [value is None for value in values(observer, schema)] == [False, *[True] * (len(words) + 1)]
    raws = observer.sql("SELECT raw::jsonb ->> 'value', reason ~ 'word' FROM pipeboard.rejected_record WHERE entity = %s ORDER BY record_key", schema)  # fmt: skip
    assert raws == [(word, True) for word in words]


def test_a_key_that_python_could_not_read_back_rejects_its_record(warehouse: Warehouse, schema: str) -> None:
    keyed = Table(schema, "t", (Column("day", ColumnType.DATE),), ("day",))
    report = warehouse.load(Load(keyed, frames=[pl.DataFrame({"day": ["2026-01-31", "infinity"]})]))
    assert (report.rows, report.rejected) == (1, 1)


def test_a_day_that_postgresql_cannot_hold_is_rejected(warehouse: Warehouse, schema: str) -> None:
    days = pl.Series([0, -2_000_000_000], dtype=pl.Int32).cast(pl.Date)
    assert loaded(warehouse, schema, ColumnType.DATE, days).rejected == 1  # type: ignore[arg-type]


def test_a_key_that_does_not_fit_rejects_its_record(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    keyed = Table(schema, "t", (Column("id", ColumnType.NUMERIC), Column("v", ColumnType.TEXT)), entity=schema)
    report = warehouse.load(Load(keyed, frames=[pl.DataFrame({"id": ["1", "x"], "v": ["a", "b"]})]))
    assert (report.rows, report.rejected) == (1, 1)
    assert observer.value("SELECT column_name FROM pipeboard.rejected_record WHERE entity = %s", schema) == ""


def test_a_text_too_long_for_its_index_is_rejected_alone(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str
) -> None:
    indexed = Table(
        schema, "t", (Column("id", ColumnType.BIGINT), Column("value", ColumnType.TEXT)), indexes=("value",)
    )
    # Random, for the index would compress anything else.
    long = observer.value("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) n")
    frame = pl.DataFrame({"id": [1, 2], "value": ["short", long]})
    for _ in range(2):
        report = warehouse.load(Load(indexed, frames=[frame]))
        assert (report.rows, report.rejected) == (2, 1)
    assert values(observer, schema) == ["short", None]
    with psycopg.connect(database_url) as connection:
        raw = connection.execute("SELECT raw::jsonb ->> 'value' FROM pipeboard.rejected_record WHERE entity = 't'")
        assert raw.fetchone() == (long,)


@pytest.mark.parametrize("count", [100, 300])
def test_a_key_too_long_for_its_index_rejects_its_record_alone(
    warehouse: Warehouse, observer: Observer, schema: str, count: int
) -> None:
    columns = (Column("a", ColumnType.BIGINT), Column("b", ColumnType.TEXT), Column("c", ColumnType.BIGINT))
    keyed = Table(schema, "t", columns, ("a", "b"), entity=schema)
    long = observer.value("SELECT string_agg(md5(n::text), '') FROM generate_series(1, %s) n", count)
    report = warehouse.load(Load(keyed, frames=[pl.DataFrame({"a": [1, 1], "b": ["x", long], "c": [1, 2]})]))
    assert (report.rows, report.rejected) == (1, 1)
    found = observer.sql("SELECT reason, raw::jsonb ->> 'b' FROM pipeboard.rejected_record WHERE entity = %s", schema)
    assert found == [("longer, even compressed, than the 2600 bytes that an index on this column takes", long)]


def test_a_long_key_and_reason_of_a_reject_are_filed_and_resolved(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    keyed = Table(schema, "t", (Column("id", ColumnType.TEXT),), entity=schema)
    key = observer.value("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 50) n")
    others = [Reject(key * 9, None, key * number, "{}") for number in (8, 9)]
    batch = Batch(pl.DataFrame({"id": [key]}), (Reject(key, None, "odd", "{}"), *others, *others))
    assert warehouse.load(Load(keyed, frames=[batch])).rejected == 3
    warehouse.load(Load(keyed, frames=[batch.frame]))
    filed = "SELECT reason FROM pipeboard.rejected_record WHERE entity = %s AND resolved_at IS NOT NULL"
    assert observer.sql(filed, schema) == [("odd",)]


@pytest.mark.parametrize("text", ["é", "€ 😀"])
def test_text_survives_whatever_encoding_a_client_is_told_to_speak(
    database_url: str, observer: Observer, schema: str, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    told = Warehouse(f"{database_url}?client_encoding=latin1")
    loaded(told, schema, ColumnType.TEXT, [text])
    assert values(observer, schema) == [text]
    assert told.read(f"{schema}.t", ["value"])["value"].to_list() == [text]


ICU = "SELECT count(*) FROM pg_collation WHERE collprovider = 'i'"
CITEXT = "SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'"


@pytest.mark.parametrize(
    ("has_it", "making", "kind"),
    [
        (CITEXT, "CREATE EXTENSION citext", "citext"),
        (ICU, "CREATE COLLATION ci (provider = icu, deterministic = false, locale = 'und-u-ks-level2')", "text COLLATE ci"),
    ],
    ids=["type", "collation"],
)  # fmt: skip
def test_texts_that_a_column_holds_equal_are_different_texts(
    warehouse: Warehouse, observer: Observer, schema: str, has_it: str, making: str, kind: str
) -> None:
    if not observer.value(has_it):
        pytest.skip("this PostgreSQL was built without it")
    loaded(warehouse, schema, ColumnType.TEXT, ["ACME"])
    observer.sql(f"{making}; ALTER TABLE {schema}.t ALTER value TYPE {kind}")
    assert loaded(warehouse, schema, ColumnType.TEXT, ["Acme"]).updated == 1
    assert values(observer, schema, "value::text") == ["Acme"]
    assert loaded(warehouse, schema, ColumnType.TEXT, ["Acme"]).is_unchanged


def test_a_compressible_text_stays_where_another_is_too_long_for_the_index(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    indexed = Table(
        schema, "t", (Column("id", ColumnType.BIGINT), Column("value", ColumnType.TEXT)), indexes=("value",)
    )
    texts = ["a" * 5000, observer.value("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) n")]
    warehouse.load(Load(indexed, frames=[pl.DataFrame({"id": [0], "value": texts[:1]})]))
    report = warehouse.load(Load(indexed, frames=[pl.DataFrame({"id": [0, 1], "value": texts})]))
    assert (report.rejected, report.unchanged) == (1, 1)
    assert values(observer, schema) == [texts[0], None]


def test_no_setting_of_a_session_changes_a_value(database_url: str, observer: Observer, schema: str) -> None:
    told = Warehouse(f"{database_url}?options=-carray_nulls%3Doff%20-cextra_float_digits%3D0")
    loaded(told, schema, ColumnType.TEXT_ARRAY, [["a", None]])
    assert values(observer, schema) == [["a", None]]
    loaded(told, f"{schema}f", ColumnType.DOUBLE, [0.1 + 0.2])
    assert told.read(f"{schema}f.t", ["value"])["value"].to_list() == [0.1 + 0.2]
