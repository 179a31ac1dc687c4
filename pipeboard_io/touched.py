"""What loads wrote, noted for the marts that are computed from it: they compute only what it concerns.

A load with a `Touch` notes one value of every row that it writes, as it was and as it is; a SELECT load with a `Scope`
takes the notes and computes the keys that follow from them. Notes are written and taken in the transactions that publish,
so none is lost and none is taken too early.
"""

from psycopg import sql

from pipeboard_io.connection import Connection, scalar
from pipeboard_io.load import Scope, Touch
from pipeboard_io.publishing import Target

SCOPE = sql.Identifier("pg_temp", "scope")


def note_all(connection: Connection, target: Target) -> None:
    """The table was empty: one note stands for all its rows."""
    connection.execute(
        target.compose("INSERT INTO {touched} (table_name) VALUES ({table})", table=sql.Literal(str(target.table)))
    )


def note_changes(connection: Connection, target: Target, touch: Touch) -> None:
    """Notes the rows about to be written, where a column that matters differs."""
    connection.execute(
        target.compose(
            """INSERT INTO {touched} (table_name, value)
               SELECT DISTINCT {table}, v.value
               FROM {changes} k JOIN {stage} s ON s.ctid = k.__place__ LEFT JOIN {target} t ON {joined},
                    LATERAL (VALUES (t.{column}), ({value})) AS v(value)
               WHERE k.__kind__ <> 'o' AND v.value IS NOT NULL AND (k.__kind__ <> 'c' OR {differs})""",
            table=sql.Literal(str(target.table)),
            joined=target.joined("s", "t"),
            column=sql.Identifier(touch.column),
            value=target.value(touch.column),
            differs=_differs(target, touch),
        )
    )


def _differs(target: Target, touch: Touch) -> sql.Composable:
    tests = [target.is_different(target.table.column(name)) for name in touch.when]
    return sql.SQL(" OR ").join(tests) if tests else sql.SQL("true")


def note_written(connection: Connection, target: Target, touch: Touch) -> None:
    """Notes what this publish wrote without staging it: rows that vanished, labels that were renewed."""
    connection.execute(
        target.compose(
            """INSERT INTO {touched} (table_name, value)
               SELECT DISTINCT {table}, t.{column} FROM {target} t WHERE t.synced_at = {at} AND t.{column} IS NOT NULL""",
            table=sql.Literal(str(target.table)),
            column=sql.Identifier(touch.column),
            at=sql.Literal(target.published_at),
        )
    )


def take(connection: Connection, target: Target, scope: Scope, *, was_empty: bool) -> bool:
    """Takes the notes that the scope reads; True where its keys are in `pg_temp.scope`, False where all must be computed."""
    tables = sql.Literal(list(scope.tables))
    everything = target.compose("SELECT EXISTS (SELECT FROM {touched} WHERE table_name = ANY({tables}) AND value IS NULL)", tables=tables)  # fmt: skip
    if was_empty or scope.keys is None or scalar(connection, everything):
        connection.execute(target.compose("DELETE FROM {touched} WHERE table_name = ANY({tables})", tables=tables))
        return False
    # A note of all rows that was written since is left for the next load: here it would lead nowhere.
    (key,) = target.table.primary_key
    statements = target.compose(
        """CREATE TEMP TABLE scope ({key} bigint PRIMARY KEY) ON COMMIT DROP;
           WITH touched AS (DELETE FROM {touched} WHERE table_name = ANY({tables}) AND value IS NOT NULL RETURNING table_name, value)
           INSERT INTO {scope} SELECT q.key FROM (\n{keys}\n) AS q(key) WHERE q.key IS NOT NULL ON CONFLICT DO NOTHING;
           ANALYZE {scope}""",
        key=sql.Identifier(key),
        tables=tables,
        scope=SCOPE,
        keys=sql.SQL(scope.keys),
    )
    connection.execute(statements.as_bytes(connection))
    return True
