"""Changes of chosen columns, kept in a table beside the one that is loaded: what a row said before, and what it says now.

Written by the transaction that changes the row, from both versions of it: nothing is read for it, a repeated load finds
no difference and leaves no trace, and a load that fails leaves none either.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from pipeboard_io.connection import Connection
from pipeboard_io.publishing import Target
from pipeboard_io.table import Column, ColumnType, Table


@dataclass(frozen=True, slots=True)
class Trace:
    """`columns`: a column to watch -> the column of the same row that tells when it changed (its new value).

    The table is `<schema>.<name>` with the watched table's one bigint key under the name `key`.
    """

    schema: str
    name: str
    key: str
    columns: Mapping[str, str]
    comment: str | None = None

    @property
    def table(self) -> Table:
        """Where the changes go: one row for every column that differed, values as text."""
        type_ = ColumnType
        return Table(
            schema=self.schema,
            name=self.name,
            columns=(
                Column(self.key, type_.BIGINT, "Which row changed.", nullable=False),
                Column("field", type_.TEXT, "Which column changed.", nullable=False),
                Column("old_value", type_.TEXT, "What it said before, as text; NULL = nothing."),
                Column("new_value", type_.TEXT, "What it says since, as text."),
                Column("changed_at", type_.TIMESTAMPTZ, "When it changed, as far as the source tells."),
                Column("noticed_at", type_.TIMESTAMPTZ, "When a sync saw it.", nullable=False),
            ),
            primary_key=(self.key, "field", "noticed_at"),
            indexes=("field", "changed_at"),
            comment=self.comment,
            lifecycle=False,
        )


def write(connection: Connection, target: Target, trace: Trace) -> int:
    """Writes the changes that are about to be published; returns how many."""
    (key,) = target.table.primary_key
    watched = [_watched(target, name, at) for name, at in trace.columns.items()]
    return connection.execute(
        target.compose(
            """INSERT INTO {trace} ({own_key}, field, old_value, new_value, changed_at, noticed_at)
               SELECT t.{key}, v.field, v.old_value, v.new_value, coalesce(v.changed_at, {at}), {at}
               FROM {changes} k JOIN {stage} s ON s.ctid = k.__place__ JOIN {target} t ON {joined},
                    LATERAL (VALUES {watched}) AS v(field, old_value, new_value, changed_at, is_changed)
               WHERE k.__kind__ <> 'o' AND v.is_changed""",
            trace=sql.Identifier(trace.schema, trace.name),
            own_key=sql.Identifier(trace.key),
            key=sql.Identifier(key),
            at=sql.Literal(target.published_at),
            joined=target.joined("s", "t"),
            watched=sql.SQL(", ").join(watched),
        )
    ).rowcount


def _watched(target: Target, name: str, at: str) -> sql.Composed:
    """Compared with the column's own type: 10 and 10.00 are one number, though two texts."""
    return sql.SQL("({label}, t.{old}::text, ({new})::text, ({at})::timestamptz, {is_changed})").format(
        label=sql.Literal(name),
        old=sql.Identifier(name),
        new=target.value(name),
        at=target.value(at),
        is_changed=target.is_different(target.table.column(name)),
    )
