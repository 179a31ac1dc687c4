"""Finds the values that do not fit, one by one, by asking PostgreSQL itself; used only where something did not fit.

Two places: a batch that COPY refused, and a staged column whose existing type in the table is another one.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from psycopg import sql

from pipeboard_io.connection import Connection
from pipeboard_io.copy import ORDER, stage_columns
from pipeboard_io.rejects import key_text
from pipeboard_io.schema import catalog_name
from pipeboard_io.state import State
from pipeboard_io.table import Column, ColumnType, Table


def misfits(
    connection: Connection, state: State, table: Table, stage_name: str, csv: bytes
) -> Mapping[str, Sequence[tuple[int, str]]]:
    """By column, the (row number, reason) of each value of the CSV that its declared type refuses."""
    probe = state.name(f"{stage_name}_probe")
    columns = stage_columns(table)
    names = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column.name)) for column in columns)
    connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({})").format(probe, names))
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(probe)) as copy:
        copy.write(csv)
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
            found[column.name].append((int(order), str(reason)))  # type: ignore[call-overload]
    connection.execute(sql.SQL("DROP TABLE {}").format(probe))
    return found


def reject_misfits(
    connection: Connection, state: State, table: Table, stage_name: str, narrow: Sequence[tuple[Column, str]]
) -> None:
    """Sets aside the staged values that an existing column of another type cannot hold; the rest of the row stays."""
    for column, existing in narrow:
        connection.execute(
            state.compose(
                """WITH spoilt AS (
                     SELECT s.{order} AS place, r AS reason FROM {stage} s, LATERAL {why_not}(s.{column}::text, {existing}, {declared}) r
                     WHERE s.{column} IS NOT NULL AND r IS NOT NULL),
                   noted AS (
                     INSERT INTO {staged_reject} (stage, record_key, column_name, reason, raw)
                     SELECT {name}, {key}, {column_name}, reason, to_jsonb(s)::text
                     FROM {stage} s JOIN spoilt ON s.{order} = spoilt.place)
                   UPDATE {stage} s SET {column} = NULL FROM spoilt WHERE s.{order} = spoilt.place""",
                order=sql.Identifier(ORDER),
                stage=state.name(stage_name),
                column=sql.Identifier(column.name),
                existing=sql.Literal(existing),
                declared=sql.Literal(catalog_name(column.type)),
                name=sql.Literal(stage_name),
                column_name=sql.Literal(column.name),
                key=key_text(table, "s"),
            )
        )


def reject_nulls(
    connection: Connection, state: State, table: Table, stage_name: str, required: Sequence[str]
) -> None:
    """Sets aside the staged records that bring NULL where the table takes none."""
    for column in required:
        connection.execute(
            state.compose(
                """WITH spoilt AS (
                     DELETE FROM {stage} s WHERE s.{column} IS NULL AND NOT coalesce({column_name} = ANY(s.{absent}), false)
                     RETURNING *)
                   INSERT INTO {staged_reject} (stage, record_key, column_name, reason, raw)
                   SELECT {name}, {key}, NULL, {reason}, to_jsonb(s)::text FROM spoilt s""",
                stage=state.name(stage_name),
                column=sql.Identifier(column),
                absent=sql.Identifier("__absent__"),
                column_name=sql.Literal(column),
                name=sql.Literal(stage_name),
                key=key_text(table, "s"),
                reason=sql.Literal(f"{column} is null and the table does not allow it"),
            )
        )
