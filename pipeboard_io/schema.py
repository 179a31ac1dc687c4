"""The table as it is against the table as declared: additive DDL, or a value-by-value fit; never a drop or a rename.

The lattice (also in the README), declared type <- existing types that it has room for, widened in place:
    bigint <- smallint, integer        numeric <- smallint, integer, bigint, numeric(p,s)
    double precision <- smallint, integer, real                bigint[] <- smallint[], integer[]
    text <- varchar(n), char(n), uuid, boolean, every number, date, time, timestamp      text[] <- varchar[]
A date never becomes a timestamptz: midnight in UTC is the day before in half the world. Where the existing type is the
wider one it stays and everything fits. Anything else stays as well, and values that do not fit are rejected one by one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import (
    CreateColumn,
    CreateSchema,
    CreateTable,
    SetColumnComment,
    SetTableComment,
)
from sqlalchemy.sql.ddl import DDLElement

from pipeboard_io.connection import Connection
from pipeboard_io.errors import SchemaDriftError
from pipeboard_io.state import State
from pipeboard_io.table import Column, ColumnType, Table

# With the driver's own paramstyle a % in a name or a comment would be doubled.
DIALECT = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
# Reserved in PostgreSQL 14 to 18 (pg_get_keywords()), and not in SQLAlchemy's list.
DIALECT.identifier_preparer.reserved_words = {
    *DIALECT.identifier_preparer.reserved_words,
    *("collation", "concurrently", "lateral", "system_user", "tablesample"),
}

_INTEGERS = ("smallint", "integer")
_NUMBERS = (*_INTEGERS, "bigint", "numeric", "real", "double precision")
_TIMES = ("date", "time", "timestamp with time zone", "timestamp without time zone", "time without time zone")
_ROOM: Mapping[str, tuple[str, ...]] = {
    "integer": ("smallint",),
    "bigint": _INTEGERS,
    "numeric": (*_INTEGERS, "bigint"),
    "double precision": (*_INTEGERS, "real"),
    "text": ("character varying", "character", "name", "uuid", "boolean", *_NUMBERS, *_TIMES),
    "bigint[]": ("smallint[]", "integer[]"),
    "text[]": ("character varying[]",),
}
_CATALOG_NAMES = {
    ColumnType.TIMESTAMPTZ: "timestamp with time zone",
    ColumnType.TIME: "time without time zone",
}


class Fit(Enum):
    """How a declared column meets the existing one."""

    SAME = "same"
    ROOMY = "roomy"
    """The existing type is wider: it stays, every value fits."""
    WIDEN = "widen"
    """The declared type is wider: the column is altered in place."""
    NARROW = "narrow"
    """Neither: the column stays, each value is tried."""


def catalog_name(column_type: ColumnType) -> str:
    """The type as format_type() spells it."""
    return _CATALOG_NAMES.get(column_type, column_type.value)


def fit(declared: ColumnType, existing: str) -> Fit:
    """How values of the declared type fit a column whose type format_type() calls `existing`."""
    wanted = catalog_name(declared)
    if existing == wanted:
        return Fit.SAME
    base, is_limited = _without_modifier(existing)
    if base == wanted or base in _ROOM.get(wanted, ()):
        is_unlimited_varchar = base.startswith("character varying") and not is_limited
        return Fit.ROOMY if is_unlimited_varchar else Fit.WIDEN
    if not is_limited and wanted in _ROOM.get(base, ()):
        return Fit.ROOMY
    return Fit.NARROW


def _without_modifier(name: str) -> tuple[str, bool]:
    """`numeric(10,2)` -> ("numeric", True); the modifier may stand inside, as in `timestamp(3) with time zone`."""
    head, bracket, rest = name.partition("(")
    return (head + rest.partition(")")[2], True) if bracket else (name, False)


@dataclass(frozen=True, slots=True)
class ExistingColumn:
    """A column in the catalogue; `type` as format_type() spells it."""

    name: str
    type: str
    is_not_null: bool
    comment: str | None


@dataclass(frozen=True, slots=True)
class Existing:
    """What the catalogue says of a table; `kind` is pg_class.relkind, '' where there is none."""

    kind: str
    has_schema: bool
    comment: str | None
    columns: Mapping[str, ExistingColumn]
    unique_keys: frozenset[frozenset[str]]
    indexed: frozenset[str]
    """Columns that lead an index."""
    own_comments: Mapping[str, str]
    """Comments that we set; key '' is the table's."""
    oid: int = 0

    @property
    def is_table(self) -> bool:
        return self.kind in ("r", "p")


@dataclass(frozen=True, slots=True)
class Change:
    """What would make the table fit. `statements` run before publishing, `indexes` at its end."""

    statements: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    narrower: tuple[str, ...] = ()
    comments: Mapping[str, str] | None = None
    creates_schema: bool = False
    kept_because: str | None = None
    """Why columns that would be widened stay as they are."""


_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(a.attrelid, a.attnum)
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_INDEXES = """
SELECT i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.n <= i.indnkeyatts ORDER BY k.n)
FROM pg_catalog.pg_index i WHERE i.indrelid = %s AND i.indisvalid
"""


def read(connection: Connection, table: Table, state: State) -> Existing:
    """The table as the catalogue has it now."""
    row = connection.execute(
        """SELECT c.oid, c.relkind::text, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')""",
        [table.schema, table.name],
    ).fetchone()
    if row is None:
        schema = connection.execute(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", [table.schema]
        ).fetchone()
        return Existing("", schema is not None, None, {}, frozenset(), frozenset(), {})
    oid, kind, comment = row
    columns = [ExistingColumn(*found) for found in connection.execute(_COLUMNS, [oid]).fetchall()]
    indexes = connection.execute(_INDEXES, [oid]).fetchall()
    return Existing(
        kind=str(kind),
        has_schema=True,
        comment=comment,
        columns={column.name: column for column in columns},
        unique_keys=frozenset(frozenset(names) for is_unique, names in indexes if is_unique),
        indexed=frozenset(names[0] for _, names in indexes if names),
        own_comments=_own_comments(connection, table, state),
        oid=int(oid),
    )


def _own_comments(connection: Connection, table: Table, state: State) -> dict[str, str]:
    if connection.execute("SELECT to_regclass(%s)", [_quoted(state.schema, "declared_comment")]).fetchone() == (None,):
        return {}
    rows = connection.execute(
        state.compose("SELECT column_name, comment FROM {declared_comment} WHERE table_name = %s"), [str(table)]
    ).fetchall()
    return {str(name): str(comment) for name, comment in rows}


def difference(table: Table, existing: Existing, *, kept_because: str | None = None) -> Change:
    """The change that makes the existing table fit the declaration; raises SchemaDriftError where none can.

    `kept_because`: no column can be widened, and why; then each value is tried, as in a column of another type.
    """
    if not existing.kind:
        return _creation(table, existing)
    if not existing.is_table:
        raise SchemaDriftError(f"{table} exists and is not a table: rename that view, or load into another name")
    fits = {
        column: fit(column.type, existing.columns[column.name].type)
        for column in table.all_columns
        if column.name in existing.columns
    }
    added = [column for column in table.all_columns if column.name not in existing.columns]
    wider = [column for column, how in fits.items() if how is Fit.WIDEN]
    widened, kept = (wider, []) if kept_because is None else ([], wider)
    narrow = [column for column, how in fits.items() if how is Fit.NARROW]
    comments = dict(_comments(table, existing, {column.name for column in added}))
    return Change(
        statements=(*_alterations(table, existing, added, widened), *_comment_statements(table, comments)),
        indexes=_index_statements(table, existing),
        added=tuple(column.name for column in added),
        widened=tuple(column.name for column in widened),
        narrower=(
            *(_narrowness(column, existing) for column in narrow),
            *(f"{_narrowness(column, existing)}; {kept_because}" for column in kept),
        ),
        comments=comments,
        kept_because=kept_because,
    )


def _creation(table: Table, existing: Existing) -> Change:
    comments = {column.name: column.comment for column in table.all_columns if column.comment is not None}
    if table.comment is not None:
        comments[""] = table.comment
    schema = [] if existing.has_schema else [_compiled(CreateSchema(table.schema))]
    return Change(
        statements=(*schema, _compiled(CreateTable(table.to_sqlalchemy())), *_comment_statements(table, comments)),
        indexes=_index_statements(table, existing),
        added=tuple(column.name for column in table.all_columns),
        comments=comments,
        creates_schema=not existing.has_schema,
    )


def _narrowness(column: Column, existing: Existing) -> str:
    return f"{column.name}: has {existing.columns[column.name].type}, wanted {catalog_name(column.type)}"


def _alterations(table: Table, existing: Existing, added: list[Column], widened: list[Column]) -> Iterator[str]:
    """One ALTER TABLE for everything, so that a table is rewritten at most once."""
    described = table.to_sqlalchemy()
    actions = [f"ADD COLUMN {_compiled(CreateColumn(_nullable(described, column)))}" for column in added]
    for column in widened:
        name, wanted = quote(column.name), catalog_name(column.type)
        actions.append(f"ALTER COLUMN {name} TYPE {wanted} USING {name}::{wanted}")
    if frozenset(table.primary_key) not in existing.unique_keys:
        actions.append(f"ADD PRIMARY KEY ({', '.join(quote(name) for name in table.primary_key)})")
    if actions:
        yield f"ALTER TABLE {_quoted(table.schema, table.name)} {', '.join(actions)}"


def _nullable(described: sa.Table, column: Column) -> sa.Column[object]:
    """The column for ADD COLUMN: a table with rows cannot take a NOT NULL column that has no default."""
    return sa.Column(column.name, described.c[column.name].type, nullable=True)


def _comments(table: Table, existing: Existing, added: set[str]) -> Iterator[tuple[str, str]]:
    wanted = [("", table.comment, existing.comment)]
    for column in table.all_columns:
        found = existing.columns.get(column.name)
        wanted.append((column.name, column.comment, found.comment if found else None))
    for name, comment, found_comment in wanted:
        is_ours = name in added or found_comment == existing.own_comments.get(name)
        if comment is not None and comment != found_comment and is_ours:
            yield name, comment


def _comment_statements(table: Table, comments: Mapping[str, str]) -> Iterator[str]:
    described = table.to_sqlalchemy()
    for name, comment in comments.items():
        if name:
            described.c[name].comment = comment
            yield _compiled(SetColumnComment(described.c[name]))
        else:
            described.comment = comment
            yield _compiled(SetTableComment(described))


def _index_statements(table: Table, existing: Existing) -> tuple[str, ...]:
    """Without a name: PostgreSQL finds one that is free and short enough."""
    covered = {*existing.indexed, table.primary_key[0]}
    names = [name for name in dict.fromkeys(table.indexes) if name not in covered]
    return tuple(f"CREATE INDEX ON {_quoted(table.schema, table.name)} ({quote(name)})" for name in names)


def _compiled(element: DDLElement | CreateColumn) -> str:
    return str(element.compile(dialect=DIALECT)).strip()


def quote(name: str) -> str:
    """A name as an identifier, quoted only where it must be."""
    return str(DIALECT.identifier_preparer.quote(name))


def _quoted(schema: str, name: str) -> str:
    return f"{quote(schema)}.{quote(name)}"


def apply(connection: Connection, table: Table, change: Change, state: State) -> None:
    """Runs the change's statements (not its indexes) in the caller's transaction and remembers the comments we set."""
    if change.statements:
        # One round trip for 1,400 comments; bytes, because text with a % would be taken for a query with parameters.
        connection.execute(";\n".join(change.statements).encode())
    if change.comments:
        connection.execute(
            state.compose(
                """INSERT INTO {declared_comment} (table_name, column_name, comment)
                   SELECT %s, * FROM unnest(%s::text[], %s::text[])
                   ON CONFLICT (table_name, column_name) DO UPDATE SET comment = EXCLUDED.comment"""
            ),
            [str(table), list(change.comments), list(change.comments.values())],
        )


def casts(table: Table, existing: Existing) -> dict[str, sql.Composable]:
    """How each staged column is written as a value of the existing column: templates in which `{}` is the value."""
    templates: dict[str, sql.Composable] = {}
    for column in table.columns:
        found = existing.columns[column.name].type
        how = fit(column.type, found)
        if how is Fit.ROOMY:
            templates[column.name] = sql.SQL("::" + found)
        elif how is not Fit.SAME:
            templates[column.name] = sql.SQL("::text::" + found)
    return templates


def narrow_columns(table: Table, existing: Existing) -> list[tuple[Column, str]]:
    """Columns whose values must be tried one by one, with the existing type: those that were not to be widened, too."""
    found = [(column, existing.columns[column.name].type) for column in table.columns]
    return [(column, kind) for column, kind in found if fit(column.type, kind) in (Fit.NARROW, Fit.WIDEN)]
