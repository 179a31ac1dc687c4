"""What somebody else's connection sees of a table: rows, physical places, and how much was written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pipeboard_io import Table


@dataclass(frozen=True)
class Observer:
    connection: psycopg.Connection

    def sql(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """The rows of any statement, [] where it has none."""
        cursor = self.connection.execute(query.encode() if not params else query, params or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *params: object) -> Any:
        return self.sql(query, *params)[0][0]

    def rows(self, table: Table, *columns: str) -> list[dict[str, Any]]:
        """The table's rows by key, of the declared columns unless told which."""
        names = columns or tuple(column.name for column in table.columns)
        query = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.Identifier(table.schema, table.name),
            sql.SQL(", ").join(map(sql.Identifier, table.primary_key)),
        )
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query).fetchall()

    def places(self, table: Table) -> list[tuple[Any, ...]]:
        """Physical place and writing transaction of every row version: equal before and after = nothing was written."""
        name = sql.Identifier(table.schema, table.name).as_string(self.connection)
        return self.sql(f"SELECT ctid, xmin FROM {name} ORDER BY ctid")

    @contextmanager
    def wal(self) -> Iterator[list[int]]:
        """Bytes of WAL written inside, in a list once it is over."""
        before = self.value("SELECT pg_current_wal_insert_lsn()")
        written: list[int] = []
        yield written
        written.append(int(self.value("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", before)))

    def stages(self) -> list[str]:
        """Staging tables that exist now."""
        return [
            name for (name,) in self.sql(r"SELECT relname FROM pg_class WHERE relname ~ '^stage_' AND relkind = 'r'")
        ]
