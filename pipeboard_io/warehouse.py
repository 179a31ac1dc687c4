"""One PostgreSQL database as the rest of a program sees it: load tables, read them, ask for progress. Connects lazily."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any
from uuid import uuid4
from weakref import finalize

import polars as pl
from psycopg.rows import dict_row

from pipeboard_io import checkpoints, dictionary, functions, ledger, reading, schema, snapshot, state, views, watermarks
from pipeboard_io.connection import Connection, Spare, Timeouts, connector, transaction
from pipeboard_io.dictionary import Budget, ColumnAssignment, SourceField
from pipeboard_io.errors import WarehouseError, translated
from pipeboard_io.functions import Function
from pipeboard_io.ledger import Attempt
from pipeboard_io.load import Load, LoadReport
from pipeboard_io.loader import Clock, Loader
from pipeboard_io.placement import Placement
from pipeboard_io.snapshot import Snapshot
from pipeboard_io.state import State
from pipeboard_io.table import Table
from pipeboard_io.views import View, ViewReport

logger = logging.getLogger(__name__)

_DEFAULT_BUDGET = Budget()
_WHERE_THEY_ARE_CALLED = Placement()


class Warehouse:
    """A PostgreSQL database (14 or newer) that loads write to; safe to share among threads.

    Every load opens a connection of its own and closes it; short operations share one that is closed with the warehouse,
    or when nobody holds the warehouse any more. `state_schema` holds ledger, watermarks, checkpoints,
    rejects, tombstones and the column dictionary; it is created by the first operation that needs it. `placement` puts
    schemas elsewhere than they are called, in everything that is asked of this object. `connect` replaces how connections
    are made, for a pool or a proxy; they must be psycopg connections in autocommit mode, with the settings they need given as
    they start: later ones do not last.
    """

    def __init__(
        self,
        url: str,
        *,
        state_schema: str = "pipeboard",
        lock_timeout_seconds: float = 30.0,
        statement_timeout_seconds: float = 60 * 60.0,
        work_memory_megabytes: int = 64,
        budget: Budget = _DEFAULT_BUDGET,
        placement: Placement = _WHERE_THEY_ARE_CALLED,
        connect: Callable[[], Connection] | None = None,
    ) -> None:
        self.placement = placement
        self._state = State(placement.schema(state_schema))
        self._timeouts = Timeouts(lock_seconds=lock_timeout_seconds, statement_seconds=statement_timeout_seconds)
        self._work_memory_megabytes = work_memory_megabytes
        self._budget = budget
        self._connect = connect or connector(url, self._timeouts)
        self._spare = Spare(self._connect)
        finalize(self, self._spare.close)
        self._migration = Lock()
        self._is_migrated = False

    def __repr__(self) -> str:
        return f"Warehouse(state_schema={self._state.schema!r})"

    def close(self) -> None:
        """Close the connection that is kept; whoever goes on opens another one."""
        self._spare.close()

    def migrate(self) -> None:
        """Brings the state schema to this release's version: forwards only, in a transaction, safe side by side."""
        with self._spare.borrowed() as connection:
            state.migrate(connection, self._state, self._timeouts)
        self._is_migrated = True

    def load(self, load: Load) -> LoadReport:
        """Loads one table: all of it becomes visible at once, or nothing.

        Raises LoadError or another WarehouseError, or whatever the frames raise; a row of the ledger tells of it either way.
        """
        self._ensure_state()
        load = self.placement.load(load)
        attempt = Attempt(uuid4().hex, datetime.now(UTC))
        clock = Clock()
        try:
            with self._connect() as connection:
                with translated("Noting in the ledger what begins"):
                    ledger.write_killed(connection, self._state)
                    ledger.begin(connection, self._state, load, attempt)
                report = Loader(
                    connection, self._state, self._timeouts, work_memory_megabytes=self._work_memory_megabytes
                ).run(load, attempt, clock)
        except BaseException as error:
            self._record_failure(load, attempt, error, clock.seconds())
            raise
        logger.info("load published, table=%s rows=%d seconds=%.2f", load.table, report.rows, report.seconds["total"])
        return report

    def note_failure(self, load: Load, error: BaseException, *, started_at: datetime) -> None:
        """Writes into the ledger that a load ended before it could be handed to `load`; `load` only says which one."""
        attempt = Attempt(uuid4().hex, started_at)
        seconds = {"total": (datetime.now(UTC) - started_at).total_seconds()}
        self._record_failure(self.placement.load(load), attempt, error, seconds)

    def note_killed_loads(self) -> int:
        """Writes into the ledger that loads failed whose process was killed; each load does so before it begins. How many."""
        with self._state_connection() as connection, translated("Writing the ledger"):
            return ledger.write_killed(connection, self._state)

    def fit(self, table: Table) -> None:
        """Makes the table exist and have the columns, comments and indexes declared; touches no row of it."""
        self._ensure_state()
        with self._spare.borrowed() as connection:
            loader = Loader(connection, self._state, self._timeouts, work_memory_megabytes=self._work_memory_megabytes)
            loader.fit_table(self.placement.table(table), has_load=False)

    def define(self, view: View) -> ViewReport:
        """Makes the view what it is declared to be; writes nothing where it already is.

        Renamed columns are renamed in place and new ones appended, so that views on it keep working. Raises
        SchemaDriftError where a relation of that name is not ours, and another WarehouseError for SQL that does not run.
        """
        view = self.placement.view(view)
        with self._state_connection() as connection, translated(f"Defining the view {view}"):
            return views.define(connection, self._state, self._timeouts, view)

    def define_function(self, function: Function) -> bool:
        """Makes the function what it is declared to be; whether anything was to be done. Raises WarehouseError."""
        function = self.placement.function(function)
        with self._state_connection() as connection, translated(f"Defining the function {function}"):
            return functions.define(connection, self._timeouts, function)

    def ddl(self, table: Table) -> list[str]:
        """The statements that `load` would run to make the table fit; raises SchemaDriftError where none can."""
        table = self.placement.table(table)
        with self._spare.borrowed() as connection, translated(f"Comparing {table} with the database"):
            change = schema.difference(table, schema.read(connection, table, self._state))
        return [*change.statements, *change.indexes]

    def drift(self, table: Table) -> schema.Change:
        """How the table differs from the declaration, narrower columns included."""
        table = self.placement.table(table)
        with self._spare.borrowed() as connection, translated(f"Comparing {table} with the database"):
            return schema.difference(table, schema.read(connection, table, self._state))

    def watermark(self, name: str) -> datetime | None:
        """The greatest instant safely loaded under that name; None before the first."""
        with self._state_connection() as connection, translated("Reading a watermark"):
            return watermarks.read(connection, self._state, name)

    def watermarks(self) -> dict[str, datetime]:
        """Every watermark by name."""
        with self._state_connection() as connection, translated("Reading the watermarks"):
            return watermarks.read_all(connection, self._state)

    def checkpoint(self, resume_key: str) -> Mapping[str, Any] | None:
        """Where an interrupted load stopped; None where there is nothing to continue.

        For a look only. A load that resumes gets its checkpoint as the argument of `Load.frames`, which cannot be stale.
        """
        with self._state_connection() as connection, translated("Reading a checkpoint"):
            return checkpoints.read(connection, self._state, resume_key)

    def assign_columns(
        self, entity: str, fields: Sequence[SourceField], *, reserved: Collection[str]
    ) -> ColumnAssignment:
        """The columns of an entity's custom fields, chosen once per key and kept for ever.

        `fields` is the complete list: a known field that is not in it is marked retired, and revived when it returns.
        `reserved` are the names of the entity's own columns. Writes only what changed.
        """
        with self._state_connection() as connection, translated(f"Assigning columns of {entity}"):
            return dictionary.assign_columns(
                connection, self._state, self._timeouts,
                entity=entity, fields=fields, reserved=reserved, budget=self._budget,
            )  # fmt: skip

    def preview_columns(
        self, entity: str, fields: Sequence[SourceField], *, reserved: Collection[str]
    ) -> ColumnAssignment:
        """What `assign_columns` would return now; nothing of it is kept."""
        with (
            self._state_connection() as connection,
            translated(f"Previewing columns of {entity}"),
            connection.transaction(force_rollback=True),
        ):
            return dictionary.assign_columns(
                connection, self._state, self._timeouts,
                entity=entity, fields=fields, reserved=reserved, budget=self._budget,
            )  # fmt: skip

    def read(self, table: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A table ("schema.name") as a frame; `columns` picks some of them."""
        return self.scan(table).select(*columns).collect() if columns is not None else self.scan(table).collect()

    def scan(self, table: str) -> pl.LazyFrame:
        """A table ("schema.name") as a lazy frame, read when collected: only the columns used, in batches."""
        return reading.scan(self._connect, self.placement.relation(table))

    def query(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a SELECT as dictionaries, in a read-only transaction."""
        with self._spare.borrowed() as connection, translated("A query"), transaction(connection, self._timeouts):
            connection.execute("SET TRANSACTION READ ONLY")
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(self.placement.sql(query), params).fetchall()

    @contextmanager
    def vacant(self, schemas: Sequence[str]) -> Iterator[None]:
        """These schemas exist and are empty while another program fills them. Raises RestoreError, or PrivilegeError."""
        with self._connect() as connection, state.vacant(connection, self._state, self._timeouts, schemas):
            yield

    @contextmanager
    def snapshot(self, schemas: Sequence[str] = ()) -> Iterator[Snapshot]:
        """One moment of the database, for several queries and for pg_dump; writers go on beside it. No table of these
        schemas, named as the server knows them, is altered meanwhile."""
        with (
            self._connect() as connection,
            snapshot.opened(connection, self._state, self._timeouts, self.placement, schemas) as opened,
        ):
            yield opened

    def describe(self, select: str) -> list[tuple[str, str]]:
        """(name, type) of the columns that a SELECT yields, without running it."""
        text = f"SELECT * FROM (\n{self.placement.sql(select).strip().rstrip(';')}\n) AS q LIMIT 0".encode()
        with self._spare.borrowed() as connection, translated("Describing a SELECT"):
            found = connection.execute(text).description or []
            types = connection.execute(
                "SELECT ARRAY(SELECT format_type(oid, NULL) FROM unnest(%s::oid[]) WITH ORDINALITY k(oid, n) ORDER BY n)",
                [[column.type_code for column in found]],
            ).fetchone()
        names = types[0] if types else []
        return [(column.name, str(kind)) for column, kind in zip(found, names, strict=True)]

    def _ensure_state(self) -> None:
        with self._migration:
            if not self._is_migrated:
                self.migrate()

    def _state_connection(self) -> AbstractContextManager[Connection]:
        self._ensure_state()
        return self._spare.borrowed()

    def _record_failure(self, load: Load, attempt: Attempt, error: BaseException, seconds: Mapping[str, float]) -> None:
        try:
            with (
                self._spare.borrowed() as connection,
                translated("Writing the ledger"),
                transaction(connection, self._timeouts),
            ):
                ledger.write_failure(connection, self._state, load, attempt, error=error, seconds=seconds)
        except WarehouseError as unwritten:
            # The load's own error is the one to report; a database that is down cannot keep a ledger.
            logger.warning("failed load not in the ledger, table=%s reason=%s", load.table, type(unwritten).__name__)
