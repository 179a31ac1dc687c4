"""Views that follow their declaration in place: a renamed column is renamed, a new one is appended, nothing is dropped.

A view that somebody built on one of ours keeps working through all of that, because PostgreSQL ties it to the column and
not to its name. Only another type or a column that is gone needs the view to be made anew; then the views on it are
taken down and put up again, and where that cannot be done the old view stays and the report says why.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pipeboard_io import dependents
from pipeboard_io.connection import Connection, Timeouts, advisory_lock, lock_key, transaction
from pipeboard_io.errors import SchemaDriftError
from pipeboard_io.load import json_text
from pipeboard_io.state import State, create_schema
from pipeboard_io.table import NAME_BYTES


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column: `name` as people see it, `expression` in SQL over the view's body; `key` stays when the name changes."""

    name: str
    expression: str
    comment: str | None = None
    key: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key or self.name)


@dataclass(frozen=True, slots=True)
class View:
    """A view: `SELECT <columns> <body>`, where the body begins with FROM or WITH-less SQL of that kind.

    Raises ValueError where names or keys repeat or a name is none.
    """

    schema: str
    name: str
    columns: tuple[ViewColumn, ...]
    body: str
    comment: str | None = None

    def __post_init__(self) -> None:
        for values in ([column.name for column in self.columns], [column.key for column in self.columns]):
            if len({*values}) < len(values) or not values:
                raise ValueError(f"{self} has no columns, or names one twice: {values}")
        for column in self.columns:
            if not column.name or "\x00" in column.name or len(column.name.encode()) > NAME_BYTES:
                raise ValueError(f"{self}: {column.name!r} cannot name a column: 1 to {NAME_BYTES} bytes, no NUL")

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def fingerprint(self) -> str:
        """Of everything declared."""
        columns = [[column.key, column.name, column.expression, column.comment] for column in self.columns]
        return sha256(json_text([self.body, self.comment, columns]).encode()).hexdigest()


class ViewStatus(StrEnum):
    """What defining a view came to. `kept`: the old one stays, because the new one could not take its place."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    CHANGED = "changed"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class ViewReport:
    """`renamed`: old name -> new name; `reason` only where the old view was kept; `by_hand`: the definition that somebody
    had put in the place of ours, where there was one."""

    view: str
    status: ViewStatus
    renamed: Mapping[str, str]
    reason: str | None = None
    by_hand: str | None = None


@dataclass(frozen=True, slots=True)
class _Stored:
    """The view as it is: `oid` 0 where there is none; `names` by key in the view's order, as far as they are ours."""

    oid: int = 0
    fingerprint: str = ""
    names: Mapping[str, str] | None = None
    by_hand: str | None = None


def define(connection: Connection, state: State, timeouts: Timeouts, view: View) -> ViewReport:
    """Makes the view what its declaration says; see `Warehouse.define`."""
    if _read(connection, state, view).fingerprint == view.fingerprint:
        return ViewReport(str(view), ViewStatus.UNCHANGED, {})
    with transaction(connection, timeouts):
        advisory_lock(connection, lock_key("view", view.schema, view.name))
        stored = _read(connection, state, view)
        create_schema(connection, view.schema)
        if not stored.oid:
            _create(connection, view, view.columns)
            _remember(connection, state, view, view.columns)
            return ViewReport(str(view), ViewStatus.CREATED, {})
        return replace(_change(connection, state, view, stored), by_hand=stored.by_hand)


def _read(connection: Connection, state: State, view: View) -> _Stored:
    found = connection.execute(
        """SELECT c.oid, c.relkind::text, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                                                 WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum),
                  pg_get_viewdef(c.oid), md5(pg_get_viewdef(c.oid))
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = %s AND c.relname = %s""",
        [view.schema, view.name],
    ).fetchone()
    if found is None:
        return _Stored()
    oid, kind, names, definition, printed = found
    ours = connection.execute(
        state.compose("SELECT fingerprint, columns, coalesce(definition, %s) FROM {view} WHERE view_name = %s"),
        [printed, str(view)],
    ).fetchone()
    if kind != "v" or ours is None:
        raise SchemaDriftError(f"{view} exists and Pipeboard did not make it: rename it, then run again")
    fingerprint, columns, made = ours
    if [name for _, name in columns] != names:
        return _Stored(int(oid), by_hand=str(definition))
    if printed != made:
        return _Stored(int(oid), names={str(key): str(name) for key, name in columns}, by_hand=str(definition))
    return _Stored(int(oid), str(fingerprint), {str(key): str(name) for key, name in columns})


def _change(connection: Connection, state: State, view: View, stored: _Stored) -> ViewReport:
    try:
        with connection.transaction():
            return _changed_in_place(connection, state, view, stored)
    except psycopg.errors.InvalidTableDefinition:
        pass  # another type, or a column fewer: made anew below
    try:
        with connection.transaction():
            _make_anew(connection, view, stored)
            _remember(connection, state, view, view.columns)
            return ViewReport(str(view), ViewStatus.CHANGED, {})
    except SchemaDriftError as error:
        return ViewReport(str(view), ViewStatus.KEPT, {}, reason=str(error))


def _changed_in_place(connection: Connection, state: State, view: View, stored: _Stored) -> ViewReport:
    names = stored.names or {}
    declared = {column.key: column for column in view.columns}
    if not names or names.keys() - declared.keys():
        raise psycopg.errors.InvalidTableDefinition
    renamed = {name: declared[key].name for key, name in names.items() if declared[key].name != name}
    for statement in _renames(view, renamed):
        connection.execute(statement)
    columns = [declared[key] for key in names] + [column for column in view.columns if column.key not in names]
    _create(connection, view, columns)
    _remember(connection, state, view, columns)
    return ViewReport(str(view), ViewStatus.CHANGED, renamed)


def _renames(view: View, renamed: Mapping[str, str]) -> Iterator[sql.Composed]:
    """By way of names that nobody uses, so that two columns can swap theirs."""
    passing = {old: f"__{position}__" for position, old in enumerate(renamed)}
    for before, after in (*passing.items(), *((passing[old], new) for old, new in renamed.items())):
        yield sql.SQL("ALTER VIEW {} RENAME COLUMN {} TO {}").format(
            _name(view), sql.Identifier(before), sql.Identifier(after)
        )


def _make_anew(connection: Connection, view: View, stored: _Stored) -> None:
    on_it = dependents.read(connection, stored.oid)
    grants = dependents.privileges(connection, stored.oid, _name(view))
    with _in_the_way(view):
        dependents.take_down(connection, on_it)
        connection.execute(sql.SQL("DROP VIEW {}").format(_name(view)))
    _create(connection, view, view.columns)
    with _in_the_way(view):
        for statement in grants:
            connection.execute(statement)
        dependents.put_up(connection, on_it)


@contextmanager
def _in_the_way(view: View) -> Iterator[None]:
    """What stands on the view, and not its own definition, is at fault."""
    try:
        yield
    except (psycopg.ProgrammingError, psycopg.errors.DependentObjectsStillExist) as error:
        seen = error.diag.message_primary or type(error).__name__
        raise SchemaDriftError(f"{view} stays as it was, because of what stands on it: {seen}") from error


def _create(connection: Connection, view: View, columns: Sequence[ViewColumn]) -> None:
    items = [sql.SQL("{} AS {}").format(sql.SQL(c.expression), sql.Identifier(c.name)) for c in columns]
    statements = [
        sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {}\n{}").format(
            _name(view), sql.SQL(",\n       ").join(items), sql.SQL(view.body)
        ),
        sql.SQL("COMMENT ON VIEW {} IS {}").format(_name(view), sql.Literal(view.comment)),
        *(
            sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(_name(view), sql.Identifier(c.name), sql.Literal(c.comment))
            for c in columns
        ),
    ]
    # One round trip; as bytes, because a % in a definition is not a parameter.
    connection.execute(sql.SQL(";\n").join(statements).as_bytes(connection))


def _remember(connection: Connection, state: State, view: View, columns: Sequence[ViewColumn]) -> None:
    connection.execute(
        state.compose(
            """INSERT INTO {view} (view_name, fingerprint, columns, definition)
               VALUES (%s, %s, %s, md5(pg_get_viewdef(%s::regclass)))
               ON CONFLICT (view_name) DO UPDATE
               SET fingerprint = EXCLUDED.fingerprint, columns = EXCLUDED.columns, definition = EXCLUDED.definition,
                   defined_at = now()"""
        ),
        [
            str(view),
            view.fingerprint,
            Jsonb([[column.key, column.name] for column in columns]),
            _name(view).as_string(connection),
        ],
    )


def _name(view: View) -> sql.Identifier:
    return sql.Identifier(view.schema, view.name)
