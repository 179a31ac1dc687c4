"""Whole rows as they were, kept in a table beside the one that is loaded: from when until when the source said so.

Written by the transaction that changes the row, out of the stored version. One that is replaced without a later time of
change was wrong, not earlier, and is not kept; a repeated load finds no difference and keeps nothing.
"""

from dataclasses import dataclass

from psycopg import sql

from pipeboard_io.connection import Connection
from pipeboard_io.publishing import Target
from pipeboard_io.table import Column, ColumnType, Table


@dataclass(frozen=True, slots=True)
class Versions:
    """Where the versions of one table go: `<schema>.<name>`, keyed by that table's one bigint key and `valid_from`.

    `changed_at`: the column that tells when the source last changed a row.
    """

    schema: str
    name: str
    key: str
    changed_at: str
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
    """Keeps the versions that are about to be replaced; returns how many."""
    return connection.execute(
        target.compose(
            """INSERT INTO {versions} AS v ({key}, valid_from, valid_to, row)
               SELECT t.{key}, t.{changed_at}, {next}, to_jsonb(t)
               FROM {changes} k JOIN {stage} s ON s.ctid = k.place JOIN {target} t ON {joined}
               WHERE k.kind <> 'o' AND t.{changed_at} < {next}
               ON CONFLICT ({key}, valid_from) DO UPDATE SET valid_to = EXCLUDED.valid_to, row = EXCLUDED.row""",
            versions=sql.Identifier(versions.schema, versions.name),
            key=sql.Identifier(versions.key),
            changed_at=sql.Identifier(versions.changed_at),
            next=target.value(versions.changed_at),
            joined=target.joined("s", "t"),
        )
    ).rowcount
