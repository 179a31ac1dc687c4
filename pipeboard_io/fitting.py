"""Finds the values that do not fit, one by one, by asking PostgreSQL itself; used only where something did not fit.

Three places: a batch that COPY refused, a staged column whose existing type in the table is another one, and a text too long
for an index.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from psycopg import sql

from pipeboard_io.connection import Connection
from pipeboard_io.copy import ORDER, stage_columns
from pipeboard_io.load import ABSENT
from pipeboard_io.publishing import Target
from pipeboard_io.rejects import key_text
from pipeboard_io.schema import catalog_name
from pipeboard_io.state import State
from pipeboard_io.table import Column, ColumnType, Table

# A btree entry holds 2,704 bytes (a third of a page), its header and alignment included.
_INDEXABLE_BYTES = 2_600


def misfits(
    connection: Connection, state: State, table: Table, stage_name: str, lines: bytes
) -> Mapping[str, Sequence[tuple[int, str]]]:
    """By column, the (row number, reason) of each value of the lines that its declared type refuses."""
    probe = state.name(f"{stage_name}_probe")
    columns = stage_columns(table)
    names = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column.name)) for column in columns)
    connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({})").format(probe, names))
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(probe)) as copy:
        copy.write(lines)
    found = defaultdict(list)
    for column in columns:
        if column.type is ColumnType.TEXT:
            continue
        query = state.compose(
            """SELECT {order}::bigint, r FROM {probe}, LATERAL {why_not}({value}, {wanted}, {wanted}) r
               WHERE {value} IS NOT NULL AND r IS NOT NULL""",
            order=sql.Identifier(ORDER),
            probe=probe,
            value=sql.Identifier(column.name),
            wanted=sql.Literal(catalog_name(column.type)),
        )
        for order, reason in connection.execute(query).fetchall():
            found[column.name].append((int(order), str(reason)))
    connection.execute(sql.SQL("DROP TABLE {}").format(probe))
    return found


def reject_misfits(connection: Connection, target: Target, narrow: Sequence[tuple[Column, str]]) -> None:
    """Sets aside the staged values that an existing column of another type cannot hold; the rest of the row stays."""
    for column, existing in narrow:
        reason = target.compose(
            "{why_not}(s.{column}::text, {existing}, {declared})",
            column=sql.Identifier(column.name),
            existing=sql.Literal(existing),
            declared=sql.Literal(catalog_name(column.type)),
        )
        spoilt = target.compose(
            "s.{column} IS NOT NULL AND {reason} IS NOT NULL", column=sql.Identifier(column.name), reason=reason
        )
        _set_aside(connection, target, column.name, spoilt=spoilt, reason=reason)


def reject_unindexable(connection: Connection, target: Target, columns: Collection[str]) -> None:
    """Sets aside the staged texts that are too long for an index on their column; the rest of the row stays.

    The key has an index always, and a record without its key is set aside as a whole.
    """
    indexed = {*columns, *target.table.primary_key}
    for column in target.table.columns:
        if column.type is ColumnType.TEXT and column.name in indexed:
            # What compression leaves of it, as in the index: such a row is wide enough to be compressed in the stage.
            spoilt = sql.SQL("pg_column_size(s.{}) > {}").format(
                sql.Identifier(column.name), sql.Literal(_INDEXABLE_BYTES)
            )
            reason = sql.Literal(
                f"longer, even compressed, than the {_INDEXABLE_BYTES} bytes that an index on this column takes"
            )
            _set_aside(connection, target, column.name, spoilt=spoilt, reason=reason)


def reject_nulls(connection: Connection, target: Target, required: Sequence[str]) -> None:
    """Sets aside the staged records that would put NULL where the table takes none."""
    for column in required:
        spoilt = target.compose(
            """s.{column} IS NULL AND (NOT coalesce({name} = ANY(s.{absent}), false)
                                       OR NOT EXISTS (SELECT FROM {target} t WHERE {joined}))""",
            column=sql.Identifier(column),
            name=sql.Literal(column),
            absent=sql.Identifier(ABSENT),
            joined=target.joined("s", "t"),
        )
        _remove(
            connection, target, spoilt=spoilt, reason=sql.Literal(f"{column} is null and the table does not allow it")
        )


def _set_aside(
    connection: Connection, target: Target, column: str, *, spoilt: sql.Composable, reason: sql.Composable
) -> None:
    if column in target.table.primary_key:
        _remove(connection, target, spoilt=spoilt, reason=reason)
        return
    connection.execute(
        target.compose(
            """INSERT INTO {staged_reject} (stage, record_key, column_name, reason, raw)
               SELECT {name}, {key}, {column_name}, {reason}, to_jsonb(s)::text FROM {stage} s WHERE {spoilt}""",
            name=sql.Literal(target.stage.name),
            key=key_text(target.table, "s"),
            column_name=sql.Literal(column),
            reason=reason,
            spoilt=spoilt,
        )
    )
    connection.execute(
        target.compose(
            "UPDATE {stage} s SET {column} = NULL WHERE {spoilt}", column=sql.Identifier(column), spoilt=spoilt
        )
    )


def _remove(connection: Connection, target: Target, *, spoilt: sql.Composable, reason: sql.Composable) -> None:
    connection.execute(
        target.compose(
            """WITH s AS (DELETE FROM {stage} s WHERE {spoilt} RETURNING *)
               INSERT INTO {staged_reject} (stage, record_key, column_name, reason, raw)
               SELECT {name}, {key}, NULL, {reason}, to_jsonb(s)::text FROM s""",
            spoilt=spoilt,
            name=sql.Literal(target.stage.name),
            key=key_text(target.table, "s"),
            reason=reason,
        )
    )
