"""Random tables, loads, splits and evolutions against a plain Python model of what the table must hold."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeboard_io import Batch, Column, ColumnType, Load, Reconcile, Table, Warehouse
from tests.io.observer import Observer

ABSENT = object()
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
DTYPES = {
    ColumnType.BIGINT: pl.Int64, ColumnType.INTEGER: pl.Int32, ColumnType.NUMERIC: pl.String, ColumnType.TEXT: pl.String,
    ColumnType.BOOLEAN: pl.Boolean, ColumnType.TEXT_ARRAY: pl.List(pl.String), ColumnType.BIGINT_ARRAY: pl.List(pl.Int64),
}  # fmt: skip
TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.BIGINT: st.integers(-(2**63), 2**63 - 1),
    ColumnType.INTEGER: st.integers(-(2**31), 2**31 - 1),
    ColumnType.NUMERIC: st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    ),
    ColumnType.TEXT: TEXTS | st.sampled_from(["", "\\N", "\\.", '"', "a\r\nb", ",", "NULL", "{}", "\u2028", "\ufeff"]),
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.TEXT_ARRAY: st.lists(TEXTS | st.none(), max_size=3),
    ColumnType.BIGINT_ARRAY: st.lists(st.integers(-9, 9) | st.none(), max_size=3),
}
WIDER = {
    ColumnType.INTEGER: [ColumnType.BIGINT, ColumnType.NUMERIC],
    ColumnType.BIGINT: [ColumnType.NUMERIC],
    ColumnType.NUMERIC: [],
}
# psycopg has no text for a decimal with an exponent that polars would not write as well.
KEYS = st.integers(0, 6)


@dataclass(frozen=True)
class Row:
    """One staged row; `values` has ABSENT for what it does not bring."""

    key: int
    version: int | None
    values: dict[str, Any]
    is_deleted: bool = False


@dataclass
class Model:
    """The table as it must be: by key, the values, the version and whether the row is deleted."""

    rows: dict[int, Row] = field(default_factory=dict)

    def load(self, staged: list[Row], *, is_complete: bool) -> None:
        brought: dict[int, Row] = {}
        for row in sorted(staged, key=lambda row: -1 if row.version is None else row.version):
            brought[row.key] = merged(brought.get(row.key), row)
        for key, row in brought.items():
            stored = self.rows.get(key)
            if stored is not None and not is_complete and is_older(row, stored):
                continue
            self.rows[key] = merged(stored, row)
        if is_complete:
            for key in self.rows.keys() - brought.keys():
                self.rows[key] = replace(self.rows[key], is_deleted=True)

    def content(self, columns: list[str]) -> list[tuple[Any, ...]]:
        def plain(value: Any) -> Any:
            return None if value is ABSENT else value

        return [
            (key, row.version, row.is_deleted, *(plain(row.values.get(name)) for name in columns))
            for key, row in sorted(self.rows.items())
        ]


def merged(old: Row | None, new: Row) -> Row:
    inherited = {name: value for name, value in (old.values if old else {}).items()}
    return replace(new, values=inherited | {name: value for name, value in new.values.items() if value is not ABSENT})


def is_older(new: Row, stored: Row) -> bool:
    return stored.version is not None and (new.version is None or new.version < stored.version)


@st.composite
def loads(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A life of a table: loads in order, each with the columns declared by then and the rows in frames."""
    types = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    declared = {f"column {number}": kind for number, kind in enumerate(types)}
    history = []
    for number in range(draw(st.integers(1, 4))):
        if number:
            declared = dict(declared)
            if draw(st.booleans()):
                declared[f"added {number}"] = draw(st.sampled_from(list(VALUES)))
            for name, kind in declared.items():
                if WIDER.get(kind) and draw(st.booleans()):
                    declared[name] = draw(st.sampled_from(WIDER[kind]))
        history.append(draw(one_load(declared)))
    return history


@st.composite
def one_load(draw: st.DrawFn, declared: dict[str, ColumnType]) -> dict[str, Any]:
    rows = st.builds(
        Row,
        key=KEYS,
        version=st.none() | st.integers(0, 3),
        values=st.fixed_dictionaries(
            {name: st.just(ABSENT) | st.none() | VALUES[kind] for name, kind in declared.items()}
        ),
        is_deleted=st.sampled_from([False, False, False, True]),
    )
    frames = draw(
        st.lists(st.tuples(st.lists(rows, max_size=5), st.sets(st.sampled_from(sorted(declared)))), max_size=3)
    )
    return {
        "declared": declared,
        # Columns that a whole frame leaves out are absent from each of its rows.
        "frames": [
            ([replace(r, values=r.values | dict.fromkeys(out, ABSENT)) for r in rows], out) for rows, out in frames
        ],
        "is_complete": draw(st.sampled_from([False, False, True])),
        "breaks_at": draw(st.none() | st.integers(0, len(frames))),
    }


class BrokenSourceError(Exception):
    """What ends a source before its end here."""


def source(frames: list[pl.DataFrame], *, breaks_at: int | None = None) -> Callable[..., Iterator[Batch]]:
    """The frames behind the checkpoint, each with its own; breaks before frame number `breaks_at`."""

    def batches(checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        for number in range(checkpoint["next"] if checkpoint else 0, len(frames) + 1):
            if number == breaks_at:
                raise BrokenSourceError
            if number < len(frames):
                yield Batch(frames[number], checkpoint={"next": number + 1})

    return batches


def frame(rows: list[Row], left_out: set[str], declared: dict[str, ColumnType]) -> pl.DataFrame:
    def cell(row: Row, name: str) -> Any:
        value = row.values[name]
        return None if value is ABSENT else str(value) if isinstance(value, Decimal) else value

    data: dict[str, Any] = {
        "id": pl.Series([row.key for row in rows], dtype=pl.Int64),
        "version": pl.Series([None if r.version is None else EPOCH + timedelta(hours=r.version) for r in rows], dtype=pl.Datetime("us", "UTC")),
        "deleted_at": pl.Series([EPOCH if row.is_deleted else None for row in rows], dtype=pl.Datetime("us", "UTC")),
        "__absent__": pl.Series([[n for n, v in row.values.items() if v is ABSENT] for row in rows], dtype=pl.List(pl.String)),
    }  # fmt: skip
    for name, kind in declared.items():
        if name not in left_out:
            data[name] = pl.Series([cell(row, name) for row in rows], dtype=DTYPES[kind])
    return pl.DataFrame(data)


def table(schema: str, declared: dict[str, ColumnType]) -> Table:
    columns = (Column("id", ColumnType.BIGINT), Column("version", ColumnType.TIMESTAMPTZ))
    named = tuple(Column(name, kind) for name, kind in declared.items())
    return Table(schema, "t", columns + named, version_column="version")


def stored(connection: psycopg.Connection, made: Table, columns: list[str]) -> list[tuple[Any, ...]]:
    rows = Observer(connection).rows(made, "id", "version", "deleted_at", *columns)
    return [
        (
            row["id"],
            None if row["version"] is None else (row["version"] - EPOCH) // timedelta(hours=1),
            row["deleted_at"] is not None,
            *(row[name] for name in columns),
        )
        for row in rows
    ]


@pytest.fixture(scope="module")
def connection(database_url: str):  # type: ignore[no-untyped-def]
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as connection:
        yield connection


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(history=loads())
def test_any_life_of_a_table_ends_as_the_model_says(
    warehouse: Warehouse, connection: psycopg.Connection, history: list[dict[str, Any]]
) -> None:
    model, schema = Model(), f"m_{uuid.uuid4().hex[:12]}"
    loaded: list[str] | None = None
    for step in history:
        made, columns = table(schema, step["declared"]), list(step["declared"])
        frames = [frame(rows, out, step["declared"]) for rows, out in step["frames"]]
        load = Load(
            made,
            frames=source(frames),
            reconcile=Reconcile(force=True) if step["is_complete"] else None,
            resume_key=schema,
        )
        if is_broken := step["breaks_at"] is not None:
            with pytest.raises(BrokenSourceError):
                warehouse.load(replace(load, frames=source(frames, breaks_at=step["breaks_at"])))
            assert loaded is None or stored(connection, made, loaded) == model.content(loaded)
        report = warehouse.load(load)
        assert report.resumed == is_broken
        model.load([row for rows, _ in step["frames"] for row in rows], is_complete=step["is_complete"])
        assert stored(connection, made, columns) == model.content(columns)
        assert report.rows == sum(not row.is_deleted for row in model.rows.values())
        # The same rows once more: nothing is written.
        if not any(out for _, out in step["frames"]):
            places = Observer(connection).places(made)
            assert warehouse.load(load).is_unchanged
            assert Observer(connection).places(made) == places
        loaded = columns
    connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_batches_and_splits_do_not_matter(
    warehouse: Warehouse, connection: psycopg.Connection, data: st.DataObject
) -> None:
    declared = {"a": ColumnType.TEXT, "b": ColumnType.NUMERIC}
    cells = st.fixed_dictionaries({name: st.none() | VALUES[kind] for name, kind in declared.items()})
    rows = data.draw(
        st.lists(st.builds(Row, KEYS, st.integers(0, 5), cells), max_size=12, unique_by=lambda r: (r.key, r.version))
    )
    contents = []
    for _ in range(2):
        shuffled = data.draw(st.permutations(rows))
        cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=3)))
        parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
        frames = [frame(part, set(), declared) for part in parts]
        made = table(f"m_{uuid.uuid4().hex[:12]}", declared)
        for load in frames if data.draw(st.booleans()) else [frames]:
            warehouse.load(Load(made, frames=load if isinstance(load, list) else [load]))
        contents.append(stored(connection, made, list(declared)))
        connection.execute(f"DROP SCHEMA {made.schema} CASCADE".encode())
    assert contents[0] == contents[1]
