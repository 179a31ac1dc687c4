"""SQL of the publishing transaction: from settled staged rows to the table. Every statement here runs under its lock.

Unchanged rows are found by an anti-join and never touched: no row version, no WAL, no bloat (an upsert would lock each).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from pipeboard_io.checkpoints import Stage
from pipeboard_io.connection import Connection, scalar
from pipeboard_io.copy import ORDER
from pipeboard_io.errors import LoadError
from pipeboard_io.load import ABSENT, REASON
from pipeboard_io.state import State
from pipeboard_io.table import DELETED_AT, SYNCED_AT, Column, ColumnType, Table

NEW, CHANGED, RESTORED, DELETED, OUTDATED = "n", "c", "r", "d", "o"
# pg_stats.correlation is 1 for a table that lies in the order of the column. Below this, lookups would jump about.
_IN_ORDER = 0.9


@dataclass(frozen=True, slots=True)
class Target:
    """What the statements of one publish are made of."""

    table: Table
    stage: Stage
    state: State
    casts: Mapping[str, sql.Composable]
    """Suffix that turns a staged value into one of the existing column, where their types differ."""
    is_complete: bool
    """The load brings every row there is, so its source is right even about rows that look older than the stored ones."""
    published_at: datetime
    is_scoped: bool = False
    """Only the keys in `pg_temp.scope` are computed; other rows stay."""

    @property
    def name(self) -> sql.Identifier:
        return sql.Identifier(self.table.schema, self.table.name)

    @property
    def changes(self) -> sql.Identifier:
        """The list of keys to write, gone before the transaction ends."""
        return self.state.name(f"{self.stage.name}_keys")

    def compose(self, text: str, **parts: sql.Composable) -> sql.Composed:
        """SQL in which {target}, {stage} and {changes} are this publish's tables."""
        own = {"target": self.name, "stage": self.state.name(self.stage.name), "changes": self.changes}
        return self.state.compose(text, **own, **parts)

    def joined(self, left: str, right: str) -> sql.Composed:
        """Equality of the keys of two aliases; the staged side is cast where the types differ."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(self._key(left, name), self._key(right, name)) for name in self.table.primary_key
        )

    def _key(self, alias: str, name: str) -> sql.Composed:
        cast = self.casts.get(name, sql.SQL("")) if alias == "s" else sql.SQL("")
        return sql.SQL("{}.{}{}").format(sql.SQL(alias), sql.Identifier(name), cast)

    def staged(self, name: str) -> sql.Composed:
        """The staged value of a column, as the existing column's type."""
        return sql.SQL("s.{}{}").format(sql.Identifier(name), self.casts.get(name, sql.SQL("")))

    def value(self, name: str) -> sql.Composed:
        """The value that a column gets: the staged one, or the stored one where the row does not bring it."""
        if name not in self.stage.absent:
            return self.staged(name)
        return sql.SQL("CASE WHEN {} = ANY(s.{}) THEN t.{} ELSE {} END").format(
            sql.Literal(name), sql.Identifier(ABSENT), sql.Identifier(name), self.staged(name)
        )

    def is_different(self, column: Column) -> sql.Composed:
        """Whether the row changes the column. Texts byte by byte: another collation may hold 'ACME' equal to 'Acme'.

        Values of an existing column of another type as texts too: so may that type (citext), or it knows no = (json).
        """
        suffix = ""
        if column.name in self.casts:
            suffix = '::text COLLATE "C"'
        elif column.type in (ColumnType.TEXT, ColumnType.TEXT_ARRAY):
            suffix = ' COLLATE "C"'
        return sql.SQL("t.{}{suffix} IS DISTINCT FROM ({}){suffix}").format(
            sql.Identifier(column.name), self.value(column.name), suffix=sql.SQL(suffix)
        )

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self.table.columns]


def publish_rows(
    connection: Connection, target: Target, *, was_empty: bool, before_writing: Callable[[], None]
) -> dict[str, int]:
    """Writes what changed; returns the number of staged rows of each kind (NEW, CHANGED, RESTORED, DELETED, OUTDATED).

    `before_writing` is called where stored rows are about to change: {changes} says which, and both versions are there.
    """
    if was_empty:
        return {NEW: connection.execute(_insertion(target)).rowcount}
    with _walking_the_key(connection, target):
        connection.execute(_changed_keys(target))
    rows = connection.execute(target.compose("SELECT __kind__, count(*) FROM {changes} GROUP BY __kind__")).fetchall()
    counts = {str(kind): int(count) for kind, count in rows}
    if sum(count for kind, count in counts.items() if kind != OUTDATED):
        before_writing()
        connection.execute(_upsert(target))
    return counts


@contextmanager
def _walking_the_key(connection: Connection, target: Target) -> Iterator[None]:
    """Where both sides lie in the order of the key, looks stored rows up instead of hashing them: half the time.

    A hash of a million wide rows goes through temporary files. The planner cannot know that the lookups follow the order.
    """
    if not target.stage.is_ascending or not _lies_in_order(connection, target):
        yield
        return
    connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    yield
    connection.execute("SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT")


def _lies_in_order(connection: Connection, target: Target) -> bool:
    """Whether the table's rows lie by their key; one without statistics was filled moments ago, as the stage was."""
    query = """SELECT c.relkind = 'r' AND coalesce(s.correlation, 1) > %s FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_stats s
               ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = %s AND NOT s.inherited
               WHERE n.nspname = %s AND c.relname = %s"""
    table = target.table
    return bool(scalar(connection, query, [_IN_ORDER, table.primary_key[0], table.schema, table.name]))


def drop_changes(connection: Connection, target: Target) -> None:
    """Forgets which keys changed."""
    connection.execute(target.compose("DROP TABLE IF EXISTS {changes}"))


def drop_outdated(connection: Connection, target: Target) -> None:
    """Takes the rows that were not written out of the stage: what was rejected of the newer one is not settled by them."""
    connection.execute(
        target.compose("DELETE FROM {stage} s USING {changes} k WHERE s.ctid = k.__place__ AND k.__kind__ = 'o'")
    )


def _insertion(target: Target) -> sql.Composed:
    """Into an empty table: nothing to compare, nothing to keep, a third faster than an upsert."""
    names, values = _targets_and_values(target, [target.staged(name) for name in target.columns])
    return target.compose("INSERT INTO {target} ({names}) SELECT {values} FROM {stage} s", names=names, values=values)


def _targets_and_values(target: Target, values: Sequence[sql.Composable]) -> tuple[sql.Composed, sql.Composed]:
    names = [sql.Identifier(name) for name in target.columns]
    values = list(values)
    if target.table.lifecycle:
        names += [sql.Identifier(SYNCED_AT), sql.Identifier(DELETED_AT)]
        values += [sql.Literal(target.published_at), sql.SQL("s.deleted_at")]
    return sql.SQL(", ").join(names), sql.SQL(", ").join(values)


def _changed_keys(target: Target) -> sql.Composed:
    """Only keys and places: the table stays narrow, and CREATE TABLE AS may use parallel workers, INSERT may not.

    Fetching 10,000 of a million staged rows by their place takes a tenth of what joining them by key does.
    """
    keys = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(target.staged(name), sql.Identifier(name)) for name in target.table.primary_key
    )
    return target.compose(
        """CREATE UNLOGGED TABLE {changes} WITH (autovacuum_enabled = off) AS
           SELECT s.ctid AS __place__, {keys}, {kind} AS __kind__ FROM {stage} s LEFT JOIN {target} t ON {joined}
           WHERE t.{key} IS NULL OR {outdated} OR {differs}""",
        keys=keys,
        kind=_kind(target),
        key=sql.Identifier(target.table.primary_key[0]),
        joined=target.joined("s", "t"),
        outdated=_is_outdated(target),
        differs=_differs(target),
    )


def _kind(target: Target) -> sql.Composed:
    lifecycle = sql.SQL(
        "WHEN t.deleted_at IS NOT NULL AND s.deleted_at IS NULL THEN 'r'"
        " WHEN t.deleted_at IS NULL AND s.deleted_at IS NOT NULL THEN 'd'"
        if target.table.lifecycle
        else ""
    )
    return sql.SQL("(CASE WHEN t.{} IS NULL THEN 'n' WHEN {} THEN 'o' {} ELSE 'c' END)::\"char\"").format(
        sql.Identifier(target.table.primary_key[0]), _is_outdated(target), lifecycle
    )


def _differs(target: Target) -> sql.Composed:
    others = [column for column in target.table.columns if column.name not in target.table.primary_key]
    tests = [target.is_different(column) for column in others]
    if target.table.lifecycle:
        tests.append(sql.SQL("(t.deleted_at IS NULL) <> (s.deleted_at IS NULL)").format())
    return sql.SQL(" OR ").join(tests) if tests else sql.SQL("false").format()


def _is_no_time_to_come(target: Target, version: str) -> sql.Composed:
    """A time that is still to come proves no row newer: the record's next change bears an earlier one."""
    if target.table.column(version).type is not ColumnType.TIMESTAMPTZ or version in target.casts:
        return sql.SQL("true").format()
    return sql.SQL("t.{} <= {}").format(sql.Identifier(version), sql.Literal(target.stage.started_at))


def _is_outdated(target: Target) -> sql.Composed:
    """Whether a staged row is older than the stored one, which another load wrote meanwhile or has always been newer."""
    tests = []
    if target.stage.is_resumed:
        # Staged before an interruption, which may have been long ago: a row of the same version that another load wrote
        # meanwhile is as new at least, and differs only where the source touches no version.
        tests.append(sql.SQL("{} AND NOT {}").format(written_meanwhile(target), _is_newer(target)))
    if (version := target.table.version_column) is not None:
        # NULL is the oldest version, as it is among staged rows.
        newer = sql.SQL("t.{0} IS NOT NULL AND coalesce(t.{0} > {1}, true)").format(
            sql.Identifier(version), target.value(version)
        )
        proven = [written_meanwhile(target)]
        if not target.is_complete:
            proven.append(_is_no_time_to_come(target, version))
        tests.append(sql.SQL("{} AND ({})").format(newer, sql.SQL(" OR ").join(proven)))
    if target.table.lifecycle:
        # Found deleted by another load while this one was reading: only a newer version brings it back.
        revived = sql.SQL("t.deleted_at IS NOT NULL AND s.deleted_at IS NULL AND {}").format(written_meanwhile(target))
        if version is not None:
            revived = sql.SQL("{} AND NOT coalesce({} > t.{}, false)").format(
                revived, target.value(version), sql.Identifier(version)
            )
        tests.append(revived)
    return sql.SQL("({})").format(sql.SQL(" OR ").join(tests)) if tests else sql.SQL("false").format()


def _is_newer(target: Target) -> sql.Composed:
    version = target.table.version_column
    if version is None:
        return sql.SQL("true").format()
    return sql.SQL("coalesce({} > t.{}, false)").format(target.value(version), sql.Identifier(version))


def written_meanwhile(target: Target) -> sql.Composed:
    """Not later than now, under the table's lock: such a time was written before the server's clock was set back."""
    if not target.table.lifecycle:
        return sql.SQL("false").format()
    return sql.SQL("coalesce(t.synced_at BETWEEN {} AND {}, false)").format(
        sql.Literal(target.stage.started_at), sql.Literal(target.published_at)
    )


def _upsert(target: Target) -> sql.Composed:
    names, values = _targets_and_values(target, [target.value(name) for name in target.columns])
    updated = [name for name in target.columns if name not in target.table.primary_key]
    sets = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in updated]
    if target.table.lifecycle:
        sets.append(sql.SQL("synced_at = EXCLUDED.synced_at").format())
        sets.append(
            sql.SQL(
                "deleted_at = CASE WHEN EXCLUDED.deleted_at IS NOT NULL THEN coalesce(w.deleted_at, EXCLUDED.deleted_at) END"
            ).format()
        )
    stored = target.compose("LEFT JOIN {target} t ON {joined}", joined=target.joined("s", "t"))
    return target.compose(
        """INSERT INTO {target} AS w ({names})
           SELECT {values} FROM {stage} s JOIN {changes} k ON s.ctid = k.__place__ {stored} WHERE k.__kind__ <> 'o'
           ON CONFLICT ({key}) DO {action}""",
        names=names,
        values=values,
        stored=stored if target.stage.absent else sql.SQL(""),
        key=sql.SQL(", ").join(map(sql.Identifier, target.table.primary_key)),
        action=sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(sets)) if sets else sql.SQL("NOTHING"),
    )


def settle_duplicates(connection: Connection, target: Target) -> int:
    """Leaves one staged row per key, the newest; returns how many went. A column that it lacks comes from the next older.

    So the outcome is the same as if the rows had been loaded one after the other, oldest first.
    """
    if target.stage.is_ascending:
        return 0
    keys = sql.SQL(", ").join(map(sql.Identifier, target.table.primary_key))
    parts = {"keys": keys, "order": _newest_first(target), "absent": sql.Identifier(ABSENT)}
    created = connection.execute(
        target.compose(
            "CREATE UNLOGGED TABLE {changes} AS SELECT {keys} FROM {stage} GROUP BY {keys} HAVING count(*) > 1", **parts
        )
    )
    if created.rowcount:
        # The version first: it says which row is the next older one.
        for name in sorted(target.stage.absent, key=lambda name: (name != target.table.version_column, name)):
            _inherit_absent(connection, target, name, parts)
        connection.execute(
            target.compose(
                """DELETE FROM {stage} s USING (
                     SELECT i.ctid, row_number() OVER (PARTITION BY {keys} ORDER BY {order}) AS age
                     FROM {stage} i JOIN {changes} USING ({keys})) d
                   WHERE s.ctid = d.ctid AND d.age > 1""",
                **parts,
            )
        )
    drop_changes(connection, target)
    return created.rowcount


def _newest_first(target: Target) -> sql.Composed:
    staged_last = sql.SQL("{} DESC").format(sql.Identifier(ORDER))
    if target.table.version_column is None:
        return staged_last
    return sql.SQL("{} DESC NULLS LAST, {}").format(sql.Identifier(target.table.version_column), staged_last)


def _inherit_absent(connection: Connection, target: Target, name: str, parts: Mapping[str, sql.Composable]) -> None:
    connection.execute(
        target.compose(
            """UPDATE {stage} s SET {column} = o.{column}, {absent} = array_remove(s.{absent}, {name})
               FROM (SELECT DISTINCT ON ({keys}) {keys}, {column} FROM {stage} JOIN {changes} USING ({keys})
                     WHERE NOT coalesce({name} = ANY({absent}), false) ORDER BY {keys}, {order}) o
               WHERE {joined} AND {name} = ANY(s.{absent})""",
            column=sql.Identifier(name),
            name=sql.Literal(name),
            joined=target.joined("s", "o") if not target.casts else _plain_join(target),
            **parts,
        )
    )


def _plain_join(target: Target) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("s.{0} = o.{0}").format(sql.Identifier(name)) for name in target.table.primary_key
    )


def stage_select(connection: Connection, target: Target, select: str) -> int:
    """Computes a SELECT into the stage, typed as declared; returns the number of rows. Raises LoadError for a null key."""
    columns = [
        sql.SQL("CAST(q.{0} AS {1}) AS {0}").format(sql.Identifier(column.name), sql.SQL(column.type.value))
        for column in target.table.columns
    ]
    own = [
        sql.SQL("NULL::bigint AS {}").format(sql.Identifier(ORDER)),
        sql.SQL("NULL::text[] AS {}").format(sql.Identifier(ABSENT)),
    ]
    if target.table.lifecycle:
        own += [
            sql.SQL("NULL::timestamptz AS deleted_at").format(),
            sql.SQL("NULL::text AS {}").format(sql.Identifier(REASON)),
        ]
    statement = target.compose(
        "CREATE UNLOGGED TABLE {stage} WITH (autovacuum_enabled = off) AS SELECT {columns} FROM (\n{select}\n) AS q",
        columns=sql.SQL(", ").join([*columns, *own]),
        select=sql.SQL(select.strip().rstrip(";")),
    )
    # As bytes: a % in the SELECT is not a parameter.
    count = connection.execute(statement.as_bytes(connection)).rowcount
    is_keyless = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(n)) for n in target.table.primary_key)
    if keyless := scalar(connection, target.compose("SELECT count(*) FROM {stage} WHERE {null}", null=is_keyless)):
        raise LoadError(
            f"the SELECT for {target.table} brings {keyless} rows whose key ({', '.join(target.table.primary_key)}) is "
            "null: leave them out, or give them a key"
        )
    return count
