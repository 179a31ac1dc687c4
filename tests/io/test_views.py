"""Views follow their declaration in place, and what people built on them keeps working."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import pytest

from pipeboard_io import Column, Load, SchemaDriftError, Table, View, ViewColumn, ViewReport, ViewStatus, Warehouse
from pipeboard_io import ColumnType as T
from tests.io.observer import Observer


def stand(warehouse: Warehouse, schema: str, **types: T) -> Table:
    """A table `t` with one row: id 1, and NULL elsewhere."""
    table = Table(schema, "t", (Column("id", T.BIGINT), *(Column(name, kind) for name, kind in types.items())))
    warehouse.load(Load(table, frames=[pl.DataFrame({"id": [1]})]))
    return table


def view(schema: str, *columns: tuple[str, str], **options: Any) -> View:
    """`columns`: (key, name); the expression is the key."""
    made = tuple(ViewColumn(name, f't."{key}"', f"words of {name}", key=key) for key, name in columns)
    return View(schema, "v", made, f"FROM {schema}.t AS t", **options)


def names(observer: Observer, schema: str, relation: str = "v") -> list[str]:
    return [
        name
        for (name,) in observer.sql(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
            "ORDER BY ordinal_position",
            schema,
            relation,
        )
    ]


def test_a_view_is_made_once_with_its_comments(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    stand(warehouse, schema, a=T.TEXT)
    made = view(schema, ("id", "id"), ("a", 'Diz "oi" 100%'), comment="A view.")
    assert [warehouse.define(made).status for _ in range(2)] == [ViewStatus.CREATED, ViewStatus.UNCHANGED]
    assert names(observer, schema) == ["id", 'Diz "oi" 100%']
    assert observer.value("SELECT col_description(%s::regclass, 2)", f"{schema}.v") == 'words of Diz "oi" 100%'
    assert observer.value("SELECT obj_description(%s::regclass)", f"{schema}.v") == "A view."


def test_renames_even_a_swap_and_new_columns_keep_the_views_on_it(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    stand(warehouse, schema, a=T.TEXT, b=T.INTEGER, c=T.DATE)
    warehouse.define(view(schema, ("a", "one"), ("b", "two")))
    observer.sql(f"CREATE VIEW {schema}.mine AS SELECT one, two FROM {schema}.v")
    report = warehouse.define(view(schema, ("c", "three"), ("b", "one"), ("a", "two")))
    assert (report.status, report.renamed) == (ViewStatus.CHANGED, {"one": "two", "two": "one"})
    assert names(observer, schema) == ["two", "one", "three"]
    observer.sql(f"UPDATE {schema}.t SET a = 'x', b = 7")
    assert observer.sql(f"SELECT one, two FROM {schema}.mine") == [("x", 7)]


def test_another_type_or_a_column_fewer_puts_the_views_on_it_up_again(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    stand(warehouse, schema, a=T.INTEGER, b=T.TEXT)
    warehouse.define(view(schema, ("a", "a"), ("b", "b")))
    observer.sql(
        f"""CREATE VIEW {schema}.mine AS SELECT a AS "My A" FROM {schema}.v;
            CREATE VIEW {schema}.upon WITH (security_barrier=true) AS SELECT "My A" + 1 AS more FROM {schema}.mine;
            COMMENT ON COLUMN {schema}.mine."My A" IS 'my words'; GRANT SELECT ON {schema}.upon, {schema}.v TO PUBLIC"""
    )
    changed = View(schema, "v", (ViewColumn("a", "t.a::numeric / 2"),), f"FROM {schema}.t AS t")
    assert warehouse.define(changed).status is ViewStatus.CHANGED
    observer.sql(f"UPDATE {schema}.t SET a = 3")
    assert str(observer.value(f"SELECT more FROM {schema}.upon")).rstrip("0") == "2.5"
    assert observer.value("SELECT col_description(%s::regclass, 1)", f"{schema}.mine") == "my words"
    for name in ("upon", "v"):
        assert observer.value("SELECT has_table_privilege('public', %s, 'SELECT')", f"{schema}.{name}")
    options = "SELECT reloptions FROM pg_class WHERE oid = %s::regclass"
    assert observer.value(options, f"{schema}.upon") == ["security_barrier=true"]


def test_a_view_that_cannot_be_put_up_again_keeps_the_old_definition_and_the_report_says_why(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    stand(warehouse, schema, a=T.INTEGER, b=T.TEXT)
    warehouse.define(view(schema, ("a", "a"), ("b", "b")))
    observer.sql(f"CREATE VIEW {schema}.mine AS SELECT b FROM {schema}.v")
    report = warehouse.define(view(schema, ("a", "a")))
    assert report.status is ViewStatus.KEPT and report.reason is not None and '"b"' not in names(observer, schema)
    assert "does not exist" in report.reason
    assert names(observer, schema) == ["a", "b"]
    observer.sql(f"DROP VIEW {schema}.mine; CREATE MATERIALIZED VIEW {schema}.mine AS SELECT a FROM {schema}.v")
    kept = warehouse.define(view(schema, ("a", "a")))
    assert kept.reason is not None and f"{schema}.mine" in kept.reason
    observer.sql(f"DROP MATERIALIZED VIEW {schema}.mine")
    assert warehouse.define(view(schema, ("a", "a"))).status is ViewStatus.CHANGED


def test_a_relation_of_that_name_that_is_not_ours_is_left_alone(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    stand(warehouse, schema, a=T.TEXT)
    observer.sql(f"CREATE VIEW {schema}.v AS SELECT 1 AS mine")
    with pytest.raises(SchemaDriftError, match="rename it"):
        warehouse.define(view(schema, ("a", "a")))
    assert names(observer, schema) == ["mine"]


def test_a_view_that_was_dropped_or_changed_by_hand_is_made_again(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    stand(warehouse, schema, a=T.TEXT)
    made = view(schema, ("a", "a"))
    warehouse.define(made)
    observer.sql(f"DROP VIEW {schema}.v")
    assert warehouse.define(made).status is ViewStatus.CREATED
    observer.sql(f"ALTER VIEW {schema}.v RENAME COLUMN a TO z")
    report = warehouse.define(made)
    assert report.status is ViewStatus.CHANGED and "AS z" in (report.by_hand or "")
    assert names(observer, schema) == ["a"]
    assert warehouse.define(made).by_hand is None


def test_a_view_put_in_the_place_of_ours_with_the_same_columns_is_told(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    stand(warehouse, schema, a=T.TEXT)
    made = view(schema, ("a", "a"))
    warehouse.define(made)
    observer.sql(f"CREATE OR REPLACE VIEW {schema}.v AS SELECT 'mine'::text AS a")
    report = warehouse.define(made)
    assert report.status is ViewStatus.CHANGED and "'mine'::text" in (report.by_hand or "")
    assert observer.sql(f"SELECT a FROM {schema}.v") == [(None,)]
    assert warehouse.define(made) == ViewReport(f"{schema}.v", ViewStatus.UNCHANGED, {})


def test_a_type_widens_below_views(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    stand(warehouse, schema, a=T.INTEGER)
    warehouse.define(view(schema, ("id", "id"), ("a", "Número")))
    observer.sql(f'CREATE VIEW {schema}.mine AS SELECT sum("Número") AS total FROM {schema}.v')
    observer.sql(f"CREATE VIEW {schema}.form AS SELECT id, a FROM {schema}.t")
    observer.sql(f"ALTER VIEW {schema}.form ALTER a SET DEFAULT 7")
    wider = Table(schema, "t", (Column("id", T.BIGINT), Column("a", T.BIGINT)))
    report = warehouse.load(Load(wider, frames=[pl.DataFrame({"id": [1], "a": [2**40]})]))
    assert report.columns_widened == ("a",)
    assert observer.value(f"SELECT total FROM {schema}.mine") == 2**40
    assert observer.sql(f"INSERT INTO {schema}.form (id) VALUES (2) RETURNING a") == [(7,)]
    assert warehouse.define(view(schema, ("id", "id"), ("a", "Número"))).status is ViewStatus.UNCHANGED


@pytest.fixture
def loader(database_url: str, observer: Observer, schema: str) -> Iterator[Warehouse]:
    """As a role that is no superuser; beside it there is a role `<schema>_other`."""
    roles = [f"{schema}_{name}" for name in ("loader", "other")]
    parts = urlsplit(database_url)
    observer.sql(f"CREATE ROLE {roles[0]} LOGIN PASSWORD 'x'; CREATE ROLE {roles[1]}")
    observer.sql(f"GRANT CREATE ON DATABASE {parts.path[1:]} TO {roles[0]}")
    url = urlunsplit(parts._replace(netloc=f"{roles[0]}:x@{parts.hostname}:{parts.port}"))
    yield Warehouse(url, state_schema=f"{schema}_state")
    for role in roles:
        observer.sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE MATERIALIZED VIEW {schema}.mine AS SELECT a FROM {schema}.v",
        """CREATE VIEW {schema}.mine AS SELECT a FROM {schema}.v; GRANT ALL ON SCHEMA {schema} TO {schema}_other;
           ALTER VIEW {schema}.mine OWNER TO {schema}_other""",
    ],
    ids=["materialized", "of another role"],
)
def test_a_view_that_cannot_be_taken_down_keeps_the_column_narrow_and_the_load_says_so(
    loader: Warehouse, observer: Observer, schema: str, statement: str
) -> None:
    stand(loader, schema, a=T.INTEGER)
    loader.define(view(schema, ("id", "id"), ("a", "a")))
    observer.sql(statement.format(schema=schema))
    wider = Table(schema, "t", (Column("id", T.BIGINT), Column("a", T.BIGINT), Column("b", T.TEXT)))
    rows = pl.DataFrame({"id": [1, 2, 3], "a": [7, 2**40, 8], "b": ["x", "y", "z"]})
    report = loader.load(Load(wider, frames=[rows]))
    assert (report.columns_widened, report.columns_added, report.rejected) == ((), ("b",), 1)
    (narrower,) = report.columns_narrower
    assert narrower.startswith("a: has integer, wanted bigint") and f"{schema}.mine stands in the way" in narrower
    assert observer.sql(f"SELECT id, a, b FROM {schema}.t ORDER BY id") == [(1, 7, "x"), (2, None, "y"), (3, 8, "z")]
    observer.sql(f"DROP {'MATERIALIZED ' if 'MATERIALIZED' in statement else ''}VIEW {schema}.mine")
    assert loader.load(Load(wider, frames=[rows])).columns_widened == ("a",)
    assert observer.value(f"SELECT a FROM {schema}.t WHERE id = 2") == 2**40


@pytest.mark.parametrize("columns", [(), (("a", "x"), ("b", "x")), (("a", "x"), ("a", "y")), (("a", "é" * 32),), (("a", ""),)])  # fmt: skip
def test_a_declaration_that_contradicts_itself_is_refused(columns: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        view("s", *columns)
