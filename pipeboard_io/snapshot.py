"""One moment of a database, held open: its queries, and pg_dump beside them, all see the same rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from pipeboard_io.checkpoints import PROGRESS, STAGES
from pipeboard_io.connection import Connection, Timeouts, may_idle, scalar, transaction
from pipeboard_io.errors import translated
from pipeboard_io.placement import Placement
from pipeboard_io.state import State

# Without staged rows and what tells of them, which may be dropped while the snapshot is open; dumping.py leaves out the same.
_TABLES = """
SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%(schemas)s) AND c.relkind = 'r' AND c.relpersistence = 'p'
  AND NOT (n.nspname = %(state)s AND (c.relname ~ %(stages)s OR c.relname = ANY (%(progress)s))) ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What a table holds: the number of its rows, and a sum over their texts that any other value changes."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`id` is what pg_dump takes as --snapshot, as long as the snapshot is open."""

    id: str
    state: State
    _connection: Connection = field(repr=False)
    _placement: Placement

    def query(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a SELECT as dictionaries. Raises WarehouseError."""
        with translated("A query"), self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(self._placement.sql(query).encode(), params).fetchall()

    def contents(self, schemas: Sequence[str]) -> dict[str, Content]:
        """Every lasting table of these schemas by name ("schema.table"). Reads all of them. Raises WarehouseError."""
        return {
            f"{table['schema']}.{table['name']}": self._content(sql.Identifier(table["schema"], table["name"]))
            for table in self.query(_TABLES, _asked(schemas, self.state))
        }

    def _content(self, table: sql.Identifier) -> Content:
        counting = (
            "SELECT count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0)::text AS digest FROM {} AS t"
        )
        (found,) = self.query(sql.SQL(counting).format(table).as_string(self._connection))
        return Content(**found)


def _asked(schemas: Sequence[str], state: State) -> dict[str, Any]:
    return {"schemas": list(schemas), "state": state.schema, "stages": STAGES, "progress": list(PROGRESS)}


@contextmanager
def opened(
    connection: Connection, state: State, timeouts: Timeouts, placement: Placement, schemas: Sequence[str] = ()
) -> Iterator[Snapshot]:
    """A snapshot on a connection that is used for nothing else meanwhile. Raises WarehouseError.

    What these schemas hold is locked before the snapshot is taken: a table that is rewritten after it, as when a column is
    widened, is empty for whoever looks with it. Rows are read and written beside it all the same.
    """
    with translated("Taking a snapshot"):
        tables = connection.execute(_TABLES, _asked(schemas, state)).fetchall() if schemas else ()
        with transaction(connection, timeouts):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            may_idle(connection)
            for schema, name in tables:
                connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(schema, name)))
            yield Snapshot(str(scalar(connection, "SELECT pg_export_snapshot()")), state, connection, placement)
