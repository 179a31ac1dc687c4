"""Whole rows as they were, kept in a table beside the one that is loaded: from when until when the source said so.

Written by the transaction that changes the row, out of the stored version. One that is replaced without a later time of
change was wrong, not earlier, and is not kept; a repeated load finds no difference and keeps nothing. Where the source goes
back in time, so do the versions: at no moment two of them hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from pipeboard_io.connection import Connection
from pipeboard_io.publishing import Target
from pipeboard_io.table import Column, ColumnType, Table


@dataclass(frozen=True, slots=True)
class Versions:
    """Where the versions of one table go: `<schema>.<name>`, keyed by that table's one bigint key and `valid_from`.

    `changed_at`: the columns that tell when the source last changed a row; the first that is filled counts.
    """

    schema: str
    name: str
    key: str
    changed_at: tuple[str, ...]
    comment: str | None = None

    @property
    def table(self) -> Table:
        """One row for every version that is over; the version in force is the row itself."""
        type_ = ColumnType
        return Table(
            schema=self.schema,
            name=self.name,
            columns=(
                Column(self.key, type_.BIGINT, "Which row.", nullable=False),
                Column("valid_from", type_.TIMESTAMPTZ, "When the source changed it to this version.", nullable=False),
                Column("valid_to", type_.TIMESTAMPTZ, "When the source changed it to the next.", nullable=False),
                Column("row", type_.JSONB, "The whole row, by column."),
            ),
            primary_key=(self.key, "valid_from"),
            indexes=("valid_to",),
            comment=self.comment,
            lifecycle=False,
        )


def write(connection: Connection, target: Target, versions: Versions) -> int:
    """Keeps the versions that are about to be replaced, and takes back those that the source takes back; returns how many
    are kept."""
    parts = {
        "versions": sql.Identifier(versions.schema, versions.name),
        "key": sql.Identifier(versions.key),
        "since": _first(sql.SQL("t.{}").format(sql.Identifier(name)) for name in versions.changed_at),
        "next": _first(map(target.value, versions.changed_at)),
        "joined": target.joined("s", "t"),
    }
    connection.execute(
        target.compose(
            """WITH back AS (
                   SELECT t.{key}, {next} AS since
                   FROM {changes} k JOIN {stage} s ON s.ctid = k.__place__ JOIN {target} t ON {joined}
                   WHERE k.__kind__ <> 'o' AND {next} < {since}),
               gone AS (DELETE FROM {versions} v USING back b WHERE v.{key} = b.{key} AND v.valid_from >= b.since)
               UPDATE {versions} v SET valid_to = b.since
               FROM back b WHERE v.{key} = b.{key} AND v.valid_from < b.since AND v.valid_to > b.since""",
            **parts,
        )
    )
    return connection.execute(
        target.compose(
            """INSERT INTO {versions} AS v ({key}, valid_from, valid_to, row)
               SELECT t.{key}, {since}, {next}, to_jsonb(t)
               FROM {changes} k JOIN {stage} s ON s.ctid = k.__place__ JOIN {target} t ON {joined}
               WHERE k.__kind__ <> 'o' AND {since} < {next}
               ON CONFLICT ({key}, valid_from) DO UPDATE SET valid_to = EXCLUDED.valid_to, row = EXCLUDED.row""",
            **parts,
        )
    ).rowcount


def _first(values: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("coalesce({})").format(sql.SQL(", ").join(values))
