"""Tables that change: columns added and widened, values that do not fit, and what the user made by hand survives."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from pipeboard_io import Batch, Column, ColumnType, Load, Reconcile, Reject, Table, Touch, Warehouse
from pipeboard_io.schema import Fit, fit
from tests.io.observer import Observer

T = ColumnType


def table(schema: str, **columns: Any) -> Table:
    extra = columns.pop("options", {})
    named = tuple(Column(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in columns.items())
    return Table(schema, "t", (Column("id", T.BIGINT), *named), **({"entity": schema} | extra))


def load(warehouse: Warehouse, made: Table, **columns: list[Any]) -> Any:
    count = len(next(iter(columns.values())))
    return warehouse.load(Load(made, frames=[pl.DataFrame({"id": range(count), **columns})]))


def types(observer: Observer, schema: str) -> dict[str, str]:
    return dict(
        observer.sql(
            """SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
               WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped""",
            f"{schema}.t",
        )
    )


@pytest.mark.parametrize(
    ("declared", "existing", "expected"),
    [
        (T.BIGINT, "bigint", Fit.SAME),
        (T.BIGINT, "integer", Fit.WIDEN),
        (T.INTEGER, "bigint", Fit.ROOMY),
        (T.INTEGER, "numeric", Fit.ROOMY),
        (T.NUMERIC, "numeric(10,2)", Fit.WIDEN),
        (T.NUMERIC, "double precision", Fit.NARROW),
        (T.INTEGER, "numeric(4,2)", Fit.NARROW),
        (T.DOUBLE, "integer", Fit.WIDEN),
        (T.DOUBLE, "bigint", Fit.NARROW),
        (T.TEXT, "character varying(20)", Fit.WIDEN),
        (T.TEXT, "character varying", Fit.ROOMY),
        (T.TEXT, "jsonb", Fit.NARROW),
        (T.DATE, "timestamp with time zone", Fit.NARROW),
        (T.TIMESTAMPTZ, "date", Fit.NARROW),
        (T.TIMESTAMPTZ, "timestamp(3) with time zone", Fit.WIDEN),
        (T.DATE, "text", Fit.ROOMY),
        (T.BIGINT_ARRAY, "integer[]", Fit.WIDEN),
        (T.TEXT_ARRAY, "text", Fit.NARROW),
    ],
)
def test_the_lattice_says_which_types_are_wider(declared: ColumnType, existing: str, expected: Fit) -> None:
    assert fit(declared, existing) is expected


def test_a_new_column_is_added_and_old_rows_have_null(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    load(warehouse, table(schema, a=T.TEXT), a=["x", "y"])
    report = load(warehouse, table(schema, a=T.TEXT, b=T.INTEGER), a=["x"], b=[7])
    assert report.columns_added == ("b",)
    assert observer.rows(table(schema, a=T.TEXT, b=T.INTEGER)) == [
        {"id": 0, "a": "x", "b": 7},
        {"id": 1, "a": "y", "b": None},
    ]


def test_an_all_null_column_has_its_column(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    load(warehouse, table(schema, a=T.NUMERIC), a=[None])
    assert types(observer, schema)["a"] == "numeric"


def test_wider_types_are_widened_in_place(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    load(warehouse, table(schema, a=T.INTEGER, b=T.BIGINT, c=T.DATE), a=[1], b=[2], c=["2026-01-31"])
    report = load(warehouse, table(schema, a=T.BIGINT, b=T.NUMERIC, c=T.TEXT), a=[2**40], b=["0.5"], c=["soon"])
    assert set(report.columns_widened) == {"a", "b", "c"}
    assert len([statement for statement in report.ddl if statement.startswith("ALTER")]) == 1
    assert {name: types(observer, schema)[name] for name in "abc"} == {"a": "bigint", "b": "numeric", "c": "text"}


def test_a_narrower_declaration_keeps_the_column_and_its_values(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, table(schema, a=T.TEXT), a=["x", "y"])
    report = load(warehouse, table(schema, a=T.INTEGER), a=[5])
    assert (report.columns_widened, report.columns_narrower, report.rejected) == ((), (), 0)
    assert observer.rows(table(schema, a=T.TEXT), "a") == [{"a": "5"}, {"a": "y"}]


def test_values_that_do_not_fit_an_existing_column_are_rejected_alone(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, table(schema, a=T.DOUBLE, b=T.TEXT), a=[1.5, 2.0, 0.0], b=["x", "x", "x"])
    report = load(warehouse, table(schema, a=T.JSONB, b=T.TEXT), a=["1.25", "[]", "true"], b=["y"] * 3)
    assert report.columns_narrower == ("a: has double precision, wanted jsonb",)
    assert (report.rejected, report.updated) == (2, 3)
    assert observer.rows(table(schema, a=T.TEXT, b=T.TEXT), "a", "b") == [
        {"a": 1.25, "b": "y"},
        {"a": None, "b": "y"},
        {"a": None, "b": "y"},
    ]


def test_a_value_that_would_change_silently_does_not_fit(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    observer.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id bigint PRIMARY KEY, a date)")
    report = load(warehouse, table(schema, a=T.TIMESTAMPTZ), a=["2026-01-31T00:00:00Z", "2026-01-31T10:00:00Z"])
    assert report.rejected == 1
    assert observer.value(f"SELECT count(a) FROM {schema}.t") == 1


def test_a_rejected_value_is_resolved_when_the_record_loads_clean(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made, still = (
        table(schema, a=T.NUMERIC),
        "SELECT resolved_at IS NULL FROM pipeboard.rejected_record WHERE entity = %s",
    )
    load(warehouse, made, a=["1", "x"])
    load(warehouse, made, a=["1"])
    assert observer.sql(still, schema) == [(True,)]
    load(warehouse, made, a=["1", "2"])
    assert observer.sql(still, schema) == [(False,)]
    load(warehouse, made, a=["1", "x"])
    assert observer.sql(still, schema) == [(True,)]


def test_what_a_user_made_by_hand_survives(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    made = table(schema, a=(T.TEXT, "ours"), options={"indexes": ("a",), "comment": "ours"})
    load(warehouse, made, a=["x", "y"])
    observer.sql(
        f"""ALTER TABLE {schema}.t ADD COLUMN note text DEFAULT 'mine'; CREATE INDEX mine ON {schema}.t (lower(a));
            CREATE VIEW {schema}.v AS SELECT id, a FROM {schema}.t; GRANT SELECT ON {schema}.t TO PUBLIC;
            COMMENT ON COLUMN {schema}.t.a IS 'my own words'; COMMENT ON TABLE {schema}.t IS 'my table'"""
    )
    wider = table(
        schema, a=(T.TEXT, "ours, changed"), b=(T.TEXT, "new"), options={"indexes": ("a",), "comment": "ours, changed"}
    )
    load(warehouse, wider, a=["x", "z"], b=["n", "n"])
    assert observer.sql(f"SELECT a, note, b FROM {schema}.t ORDER BY id") == [("x", "mine", "n"), ("z", "mine", "n")]
    assert observer.value(f"SELECT count(*) FROM {schema}.v") == 2
    assert observer.value("SELECT has_table_privilege('public', %s, 'SELECT')", f"{schema}.t")
    assert observer.value("SELECT obj_description(%s::regclass)", f"{schema}.t") == "my table"
    comments = (
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
    )
    assert observer.value(comments, f"{schema}.t", "a") == "my own words"
    assert observer.value(comments, f"{schema}.t", "b") == "new"
    assert observer.value("SELECT count(*) FROM pg_indexes WHERE schemaname = %s", schema) == 3


def test_our_own_comments_follow_the_declaration(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    for words in ("old", "new"):
        load(warehouse, table(schema, a=(T.TEXT, words)), a=["x"])
    comment = "SELECT col_description(%s::regclass, 2)"
    assert observer.value(comment, f"{schema}.t") == "new"


def test_indexes_are_made_once_and_a_users_own_will_do(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    made = table(schema, a=T.TEXT, b=T.TEXT, options={"indexes": ("a", "b")})
    observer.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id bigint PRIMARY KEY, a text, b text); CREATE INDEX mine ON {schema}.t (b, a)")  # fmt: skip
    for _ in range(2):
        load(warehouse, made, a=["x"], b=["y"])
    names = {name for (name,) in observer.sql("SELECT indexname FROM pg_indexes WHERE schemaname = %s", schema)}
    assert names == {"t_pkey", "mine", "t_a_idx"}


def test_the_plan_is_what_a_load_then_does_and_is_empty_afterwards(warehouse: Warehouse, schema: str) -> None:
    made = table(schema, a=(T.TEXT, "words"), options={"indexes": ("a",)})
    planned = warehouse.ddl(made)
    assert tuple(planned) == load(warehouse, made, a=["x"]).ddl
    assert warehouse.ddl(made) == []
    assert load(warehouse, made, a=["x"]).ddl == ()


def test_a_table_without_a_key_gets_one(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    observer.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t AS SELECT 0::bigint AS id, 'old' AS a")
    assert load(warehouse, table(schema, a=T.TEXT), a=["new"]).updated == 1


def test_a_column_that_takes_no_null_rejects_the_record(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    made = Table(schema, "t", (Column("id", T.BIGINT), Column("a", T.TEXT, nullable=False)), entity=schema)
    report = load(warehouse, made, a=["x", None])
    assert (report.rows, report.rejected) == (1, 1)
    frame = pl.DataFrame({"id": [0, 5]})
    assert warehouse.load(Load(made, frames=[frame])).rejected == 1
    assert observer.rows(made) == [{"id": 0, "a": "x"}]


@pytest.mark.parametrize(
    "name",
    ['a"b', "a;b", "a.b", "select", "Select", "50%", "%s", "{x}", "ação", "😀", " ", "a\nb", "x" * 63, "\\", "'"],
)
def test_any_name_is_data(warehouse: Warehouse, observer: Observer, schema: str, name: str) -> None:
    odd = Table(
        f"{schema}{name}"[:40],
        name,
        (Column("id", T.BIGINT), Column(name, T.TEXT, name)),
        indexes=(name,),
        entity=schema,
    )
    rows = pl.DataFrame({"id": [1, 2], name: ["x", "y"]})
    assert warehouse.load(Load(odd, frames=[rows])).inserted == 2
    assert warehouse.load(Load(odd, frames=[rows.head(1), rows.drop(name)], reconcile=None)).is_unchanged
    newer = Table(odd.schema, name, (*odd.columns, Column(f"{name}2"[-60:], T.TEXT, name)), entity=schema)
    assert warehouse.load(Load(newer, frames=[rows])).columns_added == (f"{name}2"[-60:],)
    assert [row[name] for row in observer.rows(newer)] == ["x", "y"]


@pytest.mark.parametrize("key", ["a%sb", "100%", "%(x)s", '"', "{x}"])
def test_any_name_of_a_key_is_data_to_rejects_notes_and_tombstones(
    warehouse: Warehouse, observer: Observer, schema: str, key: str
) -> None:
    odd = Table(schema, f"t{key}", (Column(key, T.BIGINT), Column("a", T.BIGINT)), (key,), entity=f"{schema}{key}")
    both, one = pl.DataFrame({key: [1, 2], "a": [1, 2]}), pl.DataFrame({key: [1], "a": [3]})
    resolved = "SELECT resolved_at IS NOT NULL FROM pipeboard.rejected_record WHERE entity = %s"
    warehouse.load(Load(odd, frames=[Batch(both, (Reject("1", "a", "odd", "{}"),))], touch=Touch(key)))
    assert observer.value(resolved, odd.entity) is False
    warehouse.load(Load(odd, frames=[one], touch=Touch(key)))
    assert observer.value(resolved, odd.entity) is True
    warehouse.load(Load(odd, frames=[one], touch=Touch(key), reconcile=Reconcile()))
    assert observer.value("SELECT id FROM pipeboard.tombstone WHERE entity = %s", odd.entity) == "2"


def test_a_state_schema_whose_name_holds_a_parameter_is_refused(database_url: str) -> None:
    with pytest.raises(ValueError, match="cannot be called 'a%s'"):
        Warehouse(database_url, state_schema="a%s")


@pytest.mark.parametrize(
    "declaration",
    [
        {"columns": (Column("a", T.TEXT), Column("a", T.TEXT)), "primary_key": ("a",)},
        {"columns": (Column("a", T.TEXT),)},
        {"columns": (Column("id", T.TEXT), Column("synced_at", T.TEXT))},
        {"columns": (Column("id", T.TEXT), Column("é" * 32, T.TEXT))},
        {"columns": (Column("id", T.TEXT), Column("__order__", T.TEXT))},
        {"columns": (Column("id", T.TEXT),), "primary_key": ()},
        {"columns": (Column("id", T.TEXT),), "indexes": ("b",)},
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(declaration: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Table("s", "t", **declaration)


@pytest.mark.parametrize(
    "name", ["collation", "concurrently", "lateral", "system_user", "tablesample", "select", "excluded", "User"]
)
def test_a_reserved_word_names_a_column(warehouse: Warehouse, observer: Observer, schema: str, name: str) -> None:
    made = table(schema, options={"indexes": (name,)}, **{name: (T.TEXT, "a comment")})
    load(warehouse, made, **{name: ["x"]})
    load(warehouse, made, **{name: ["y"]})
    assert observer.rows(made) == [{"id": 0, name: "y"}]


def day(rejected: bool, minute: int) -> pl.DataFrame:
    at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
    return pl.DataFrame({"id": [1], "day": ["rubbish" if rejected else "2026-01-01"], "at": [at]})


def unresolved(observer: Observer, entity: str) -> list[str]:
    query = "SELECT record_key FROM pipeboard.rejected_record WHERE entity = %s AND resolved_at IS NULL"
    return [key for (key,) in observer.sql(query, entity)]


def test_an_older_version_that_is_not_written_resolves_no_reject(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made = table(schema, day=T.DATE, at=T.TIMESTAMPTZ, options={"version_column": "at"})
    warehouse.load(Load(made, frames=[day(True, 5)]))
    assert warehouse.load(Load(made, frames=[day(False, 1)])).outdated == 1
    assert unresolved(observer, schema) == ["1"]
    warehouse.load(Load(made, frames=[day(False, 6)]))
    assert unresolved(observer, schema) == []


def test_a_load_resolves_no_reject_of_one_that_read_later(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made = table(schema, day=T.DATE, at=T.TIMESTAMPTZ, options={"version_column": "at"})
    warehouse.load(Load(made, frames=[day(False, 1)]))

    def slow() -> Iterator[pl.DataFrame]:
        yield day(False, 1)
        warehouse.load(Load(made, frames=[day(True, 5)]))

    warehouse.load(Load(made, frames=slow(), reconcile=Reconcile()))
    assert unresolved(observer, schema) == ["1"]
    warehouse.load(Load(made, frames=[day(False, 6)], reconcile=Reconcile()))
    assert unresolved(observer, schema) == []


def test_a_row_that_does_not_bring_the_column_does_not_resolve_its_reject(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made = table(schema, day=T.DATE, at=T.TIMESTAMPTZ)
    warehouse.load(Load(made, frames=[day(True, 1)]))
    warehouse.load(Load(made, frames=[day(False, 2).drop("day")]))
    assert unresolved(observer, schema) == ["1"]
    warehouse.load(Load(made, frames=[day(False, 3)]))
    assert unresolved(observer, schema) == []


@pytest.mark.parametrize("microsecond", [0, 500_000])
def test_a_reject_of_a_row_whose_key_is_an_instant_is_resolved(
    warehouse: Warehouse, observer: Observer, schema: str, microsecond: int
) -> None:
    made = table(schema, day=T.DATE, at=T.TIMESTAMPTZ, options={"primary_key": ("at",)})
    for rejected in (True, False):
        at = pl.col("at").dt.offset_by(f"{microsecond}us").dt.convert_time_zone("America/Sao_Paulo")
        warehouse.load(Load(made, frames=[day(rejected, 1).with_columns(at)]))
        assert len(unresolved(observer, schema)) == rejected


def test_texts_for_a_jsonb_column_are_tried_one_by_one(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    load(warehouse, table(schema, a=T.JSONB, b=T.JSONB), a=['["x"]'], b=["1"])
    report = load(warehouse, table(schema, a=T.TEXT_ARRAY, b=T.TEXT), a=[["y"]], b=["2"])
    assert (report.rejected, report.updated) == (1, 1)
    assert observer.sql(f"SELECT a, b FROM {schema}.t") == [(None, 2)]


@pytest.mark.parametrize("existing", ["json", "xml", "varchar"])
def test_a_column_of_a_type_that_knows_no_equal_is_compared_as_text(
    warehouse: Warehouse, observer: Observer, schema: str, existing: str
) -> None:
    observer.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id bigint PRIMARY KEY, a {existing})")
    made = table(schema, a=T.JSONB if existing == "json" else T.TEXT)
    counts = [load(warehouse, made, a=[text]) for text in ("[1]", "[1]", "[2]", "[2]")]
    assert [(report.inserted, report.updated, report.rejected) for report in counts] == [
        (1, 0, 0),
        (0, 0, 0),
        (0, 1, 0),
        (0, 0, 0),
    ]
    assert observer.value(f"SELECT a::text FROM {schema}.t") == "[2]"


def test_what_stands_on_a_view_in_the_way_keeps_the_column_narrow_and_is_named(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    load(warehouse, table(schema, a=T.INTEGER), a=[1])
    observer.sql(f"CREATE VIEW {schema}.v AS SELECT a FROM {schema}.t")
    observer.sql(f"CREATE FUNCTION {schema}.f() RETURNS SETOF {schema}.v LANGUAGE sql AS 'SELECT * FROM {schema}.v'")
    report = load(warehouse, table(schema, a=T.BIGINT), a=[2])
    assert types(observer, schema)["a"] == "integer"
    assert f"function {schema}.f() depends on" in report.columns_narrower[0]
