"""One load from claim to publish: stage the frames as they come, make the table fit, publish in one short transaction."""

import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import perf_counter
from typing import Any

import psycopg
from psycopg import sql

from pipeboard_io import (
    checkpoints,
    dependents,
    dictionary,
    fitting,
    ledger,
    rejects,
    schema,
    tombstones,
    touched,
    traces,
    versions,
    watermarks,
)
from pipeboard_io.checkpoints import Stage
from pipeboard_io.connection import Connection, Timeouts, advisory_lock, lock_key, scalar, transaction
from pipeboard_io.errors import (
    LoadError,
    MassDeleteError,
    ResumeError,
    SchemaDriftError,
    TableBlockedError,
    translated,
    without_values,
)  # fmt: skip
from pipeboard_io.ledger import Attempt
from pipeboard_io.load import Batch, Frames, Load, LoadReport, Reconcile
from pipeboard_io.publishing import (
    CHANGED,
    DELETED,
    NEW,
    OUTDATED,
    RESTORED,
    Target,
    drop_changes,
    drop_outdated,
    publish_rows,
    settle_duplicates,
    stage_select,
)  # fmt: skip
from pipeboard_io.schema import Change, Existing
from pipeboard_io.staging import Stager
from pipeboard_io.state import State, schema_lock
from pipeboard_io.table import LIFECYCLE_COLUMNS, Table

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Clock:
    """Seconds spent by phase; phases do not nest, `total` counts everything."""

    _seconds: dict[str, float] = field(default_factory=dict)
    _open: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time inside to the phase."""
        self._open[name] = perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + perf_counter() - self._open.pop(name)

    def divide(self, name: str, parts: Mapping[str, float]) -> None:
        """Count seconds of a phase that is over as those of its parts."""
        for part, seconds in parts.items():
            self._seconds[part] = self._seconds.get(part, 0.0) + seconds
            self._seconds[name] -= seconds

    def seconds(self) -> dict[str, float]:
        """The seconds so far, a phase that still runs included, with the total."""
        now = perf_counter()
        running = {name: self._seconds.get(name, 0.0) + now - began for name, began in self._open.items()}
        return {**self._seconds, **running, "total": now - self._began}


@dataclass(frozen=True, slots=True)
class _Job:
    """What one load carries from step to step."""

    load: Load
    attempt: Attempt
    stage: Stage
    clock: Clock
    has_long_texts: bool = False

    @property
    def table(self) -> Table:
        return self.load.table

    @property
    def reconcile(self) -> Reconcile | None:
        """The policy; a SELECT is complete by nature and its rows that left are expected to leave."""
        return Reconcile(force=True) if self.load.select and self.load.reconcile is None else self.load.reconcile


@dataclass(frozen=True, slots=True)
class _Drained:
    """What the caller knows once its frames are all handed over."""

    watermarks: Mapping[str, datetime]
    facts: Mapping[str, Any]


class Loader:
    """Runs one load on one connection."""

    def __init__(self, connection: Connection, state: State, timeouts: Timeouts, *, work_memory_megabytes: int) -> None:
        self._connection = connection
        self._state = state
        self._timeouts = timeouts
        self._work_memory_megabytes = work_memory_megabytes

    def run(self, load: Load, attempt: Attempt, clock: Clock) -> LoadReport:
        """Loads one table; see `Warehouse.load`."""
        with self._staged(load, attempt) as stage:
            job = _Job(load, attempt, stage, clock)
            if load.frames is not None:
                self._stage_frames(job)
            drained = _Drained(
                dict(load.watermarks()) if load.watermarks else {}, dict(load.facts()) if load.facts else {}
            )
            with clock.phase("ddl"):
                change = self.fit_table(load.table)
                if load.trace is not None:
                    self.fit_table(load.trace.table, has_load=False)
                if load.versions is not None:
                    self.fit_table(load.versions.table, has_load=False)
            if load.frames is not None:
                self._settle_staged(job)
            return self._publish(job, drained, change)

    @contextmanager
    def _staged(self, load: Load, attempt: Attempt) -> Iterator[Stage]:
        """The stage of the load, kept for the next try only where one can continue it."""
        if load.select is not None:
            with translated(f"Preparing to load {load.table}"):
                stage = checkpoints.of_select(self._connection, load.table, attempt.load_id)
            yield stage
            return
        with translated(f"Preparing to stage rows of {load.table}"):
            checkpoints.sweep(self._connection, self._state, self._timeouts)
            stage = checkpoints.claim(
                self._connection, self._state, self._timeouts,
                table=load.table, load_id=attempt.load_id, resume_key=load.resume_key,
            )  # fmt: skip
        try:
            yield stage
        except BaseException as error:
            # After a refused mass delete the source is read again: it may have shown too little.
            if load.resume_key is None or isinstance(error, MassDeleteError):
                self._discard(stage)
            raise
        checkpoints.drop(self._connection, self._state, self._timeouts, stage.name)

    def _discard(self, stage: Stage) -> None:
        try:
            with self._transaction(durable=False):
                checkpoints.forget(self._connection, self._state, stage.name)
        except psycopg.Error as error:
            # The first error is the one to report; the next load sweeps the stage away.
            logger.warning("staging table left behind, stage=%s sqlstate=%s", stage.name, error.sqlstate)
            return
        checkpoints.drop(self._connection, self._state, self._timeouts, stage.name)

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[None]:
        with transaction(self._connection, self._timeouts, durable=durable):
            yield

    @contextmanager
    def _attempt(self, job: _Job, verb: str) -> Iterator[None]:
        """Tells psycopg's errors in our words, naming who is in the way where a lock was not granted."""
        with translated(f"{verb} {job.table}"):
            try:
                yield
            except psycopg.errors.LockNotAvailable as error:
                raise self._blocked(job.table, verb) from without_values(error)

    def _blocked(self, table: Table, verb: str) -> TableBlockedError:
        blockers = _sessions_holding(self._connection, self._state, table)
        return TableBlockedError(
            f"{verb} {table} waited {self._timeouts.lock_seconds:g} s (lock_timeout) for a lock that another session holds: "
            f"{'; '.join(blockers) or 'none is visible to this role'}. End that query or wait for it, then run again",
            blockers=blockers,
        )

    def _stage_frames(self, job: _Job) -> None:
        frames = _frames(job)
        clock = job.clock
        with Stager(self._connection, self._state, self._timeouts, job.table, job.stage) as stager:
            iterator = iter(frames)
            # A generator that is not drained holds connections and files until it is closed.
            with closing(iterator) if isinstance(iterator, Generator) else nullcontext():
                while True:
                    with clock.phase("fetch"):
                        item = next(iterator, None)
                    if item is None:
                        break
                    if isinstance(item, Batch):
                        clock.divide("fetch", item.seconds)
                    with clock.phase("stage"):
                        stager.add(item)
            with clock.phase("stage"):
                stager.flush()

    def fit_table(self, table: Table, *, has_load: bool = True) -> Change:
        """Makes the table fit in a short transaction of its own; readers see its data change only when published.

        Indexes come at the end of a load; without one (`has_load=False`) they are made here.
        """
        with translated(f"Comparing {table} with the database"):
            change = self._difference(table)
        if not change.statements and (has_load or not change.indexes):
            return change
        try:
            with translated(f"Changing the columns of {table}"), self._transaction():
                advisory_lock(self._connection, _table_lock(table))
                if change.creates_schema:
                    schema_lock(self._connection, table.schema)
                change = self._apply(table, self._difference(table))
                for statement in () if has_load else change.indexes:
                    self._connection.execute(statement.encode())
        except LoadError as error:
            raise self._ddl_error(table, error) from error.__cause__
        logger.info("table changed, table=%s added=%d widened=%d", table, len(change.added), len(change.widened))
        return change

    def _apply(self, table: Table, change: Change) -> Change:
        """PostgreSQL changes no type under a view: plain views are taken down for that moment and put up again. Where that
        cannot be done, columns keep their type, and the change that is returned says why."""
        refusal = self._refusal(table, change)
        if refusal is None:
            return change
        try:
            with self._connection.transaction():
                views = dependents.read(self._connection, schema.read(self._connection, table, self._state).oid)
                dependents.take_down(self._connection, views)
                schema.apply(self._connection, table, change, self._state)
                dependents.put_up(self._connection, views)
            return change
        except SchemaDriftError as blocked:
            kept_because = str(blocked)
        except psycopg.errors.DependentObjectsStillExist as error:
            kept_because = f"{error.diag.message_primary} ({error.diag.message_detail})"
        except (psycopg.ProgrammingError, psycopg.NotSupportedError):
            kept_because = refusal
        kept = self._difference(table, kept_because=kept_because)
        schema.apply(self._connection, table, kept, self._state)
        return kept

    def _refusal(self, table: Table, change: Change) -> str | None:
        """Applies the change with its views in place; why that cannot be, where it cannot."""
        if change.widened and dependents.read_rows(
            self._connection, schema.read(self._connection, table, self._state).oid
        ):
            return "a view reads its rows as values"
        try:
            with self._connection.transaction():
                schema.apply(self._connection, table, change, self._state)
        except psycopg.errors.FeatureNotSupported as error:
            return f"{error.diag.message_primary} ({error.diag.message_detail})"
        return None

    def _difference(self, table: Table, *, kept_because: str | None = None) -> Change:
        existing = schema.read(self._connection, table, self._state)
        return schema.difference(table, existing, kept_because=kept_because)

    def _ddl_error(self, table: Table, error: LoadError) -> LoadError:
        is_locked = isinstance(error.__cause__, psycopg.errors.LockNotAvailable)
        return self._blocked(table, "Changing the columns of") if is_locked else error

    def _settle_staged(self, job: _Job) -> None:
        with job.clock.phase("settle"), self._attempt(job, "Settling"), self._transaction(durable=False):
            self._settle(job)

    def _settle(self, job: _Job) -> None:
        """Makes the staged rows publishable: one per key, every value one that the table takes."""
        existing = schema.read(self._connection, job.table, self._state)
        target = self._target(job, existing)
        duplicates = settle_duplicates(self._connection, target)
        if duplicates and job.load.select is not None:
            raise LoadError(f"the SELECT for {job.table} brings {duplicates} keys more than once: make its key unique")
        fitting.reject_misfits(self._connection, target, schema.narrow_columns(job.table, existing))
        fitting.reject_nulls(self._connection, target, _required(job.table, existing))
        if job.has_long_texts:
            fitting.reject_unindexable(self._connection, target, existing.indexed | {*job.table.indexes})

    def _target(self, job: _Job, existing: Existing) -> Target:
        published_at = scalar(self._connection, "SELECT clock_timestamp()")
        return Target(
            table=job.table,
            stage=job.stage,
            state=self._state,
            casts=schema.casts(job.table, existing),
            is_complete=job.reconcile is not None,
            published_at=published_at,
        )

    def _publish(self, job: _Job, drained: _Drained, change: Change) -> LoadReport:
        try:
            return self._publish_once(job, drained, change)
        except SchemaDriftError as error:
            # "index row size exceeds": some text is too long for an index. Rare, so only then every text is measured.
            if not isinstance(error.__cause__, psycopg.errors.ProgramLimitExceeded) or job.has_long_texts:
                raise
        again = replace(job, has_long_texts=True)
        if job.load.frames is not None:
            self._settle_staged(again)
        return self._publish_once(again, drained, change)

    def _publish_once(self, job: _Job, drained: _Drained, change: Change) -> LoadReport:
        with self._attempt(job, "Publishing"), self._transaction():
            if job.load.frames is not None:
                checkpoints.fence(self._connection, self._state, job.stage)
            with job.clock.phase("lock"):
                advisory_lock(self._connection, _table_lock(job.table))
            with job.clock.phase("publish"):
                return self._published(job, drained, change)

    def _published(self, job: _Job, drained: _Drained, change: Change) -> LoadReport:
        connection, state, table = self._connection, self._state, job.table
        connection.execute(sql.SQL("SET LOCAL work_mem = {}").format(sql.Literal(f"{self._work_memory_megabytes}MB")))
        existing = schema.read(connection, table, state)
        now = schema.difference(table, existing, kept_because=change.kept_because)
        if now.added or now.widened:
            raise TableBlockedError(f"{table} was changed by another session while it was loading: run again")
        target = self._target(job, existing)
        was_empty = bool(scalar(connection, target.compose("SELECT NOT EXISTS (SELECT FROM {target})")))
        if job.load.select is not None:
            target = self._compute(job, target, job.load.select, was_empty=was_empty)
        rows = self._write_rows(job, target, was_empty=was_empty)
        for statement in now.indexes:
            connection.execute(statement.encode())
        watermarks.advance(connection, state, drained.watermarks, load_id=job.stage.load_id)
        rejected = rejects.publish(
            connection, state, table,
            stage_name=job.stage.name, load_id=job.stage.load_id, run_id=job.load.run_id,
            started_at=job.stage.started_at, is_complete=target.is_complete,
        )  # fmt: skip
        report = LoadReport(
            table=str(table),
            load_id=job.stage.load_id,
            mode=job.load.mode,
            **rows,
            rejected=rejected,
            columns_added=change.added,
            columns_widened=change.widened,
            columns_narrower=now.narrower,
            ddl=(*change.statements, *now.indexes),
            seconds=job.clock.seconds(),
            bytes=job.stage.bytes,
            watermarks=drained.watermarks,
            facts=drained.facts,
            resumed=job.stage.is_resumed,
        )
        ledger.write_success(connection, state, job.load, job.attempt, report)
        if job.load.select is None:
            checkpoints.forget(connection, state, job.stage.name)
        else:
            connection.execute(target.compose("DROP TABLE {stage}"))
        return report

    def _compute(self, job: _Job, target: Target, select: str, *, was_empty: bool) -> Target:
        """Stages the SELECT: all of it, or the part that the notes of its sources lead to."""
        scope = job.load.scope
        if scope is not None and touched.take(self._connection, target, scope, was_empty=was_empty):
            target, select = replace(target, is_scoped=True), scope.select
        stage_select(self._connection, target, select)
        self._settle(job)
        return target

    def _write_rows(self, job: _Job, target: Target, *, was_empty: bool) -> dict[str, int]:
        """Everything that changes the table itself; returns the report's row counts."""
        connection, touch = self._connection, job.load.touch
        living_before = tombstones.living(connection, target) if job.reconcile else 0
        staged = int(scalar(connection, target.compose("SELECT count(*) FROM {stage}")))

        def keep_changes() -> None:
            if job.load.trace is not None:
                traces.write(connection, target, job.load.trace)
            if job.load.versions is not None:
                versions.write(connection, target, job.load.versions)
            if touch is not None:
                touched.note_changes(connection, target, touch)

        kinds = publish_rows(connection, target, was_empty=was_empty, before_writing=keep_changes)
        tombstones.note(connection, target, kinds, was_empty=was_empty)
        if kinds.get(OUTDATED) and not job.reconcile:
            drop_outdated(connection, target)
        drop_changes(connection, target)
        vanished = 0
        if job.reconcile and not was_empty:
            vanished = tombstones.delete_vanished(connection, target, job.reconcile, living_before=living_before)
        relabelled = dictionary.relabel(connection, target, job.load.masks)
        if touch is not None and was_empty and staged:
            touched.note_all(connection, target)
        elif touch is not None and (vanished or relabelled):
            touched.note_written(connection, target, touch)
        return {
            "rows": tombstones.living(connection, target),
            "staged": staged,
            "inserted": kinds.get(NEW, 0),
            "updated": kinds.get(CHANGED, 0),
            "unchanged": staged - sum(kinds.values()),
            "outdated": kinds.get(OUTDATED, 0),
            "deleted": kinds.get(DELETED, 0) + vanished,
            "restored": kinds.get(RESTORED, 0),
            "relabelled": relabelled,
        }


def _frames(job: _Job) -> Frames:
    frames, load = job.load.frames, job.load
    if callable(frames):
        return frames(job.stage.state)
    if job.stage.is_restarted and load.resume_key is not None:
        # Frames made beforehand may begin in the middle: the rows before it are the ones just thrown away.
        raise ResumeError(
            f"the rows staged for {load.table} under {load.resume_key!r} no longer fit the table and were discarded: "
            "run again to begin anew",
            resume_key=load.resume_key,
        )
    return frames if frames is not None else ()


def _required(table: Table, existing: Existing) -> list[str]:
    """Columns in which the table takes no NULL, beyond the key (whose NULLs never get this far)."""
    own = {*table.primary_key, *(LIFECYCLE_COLUMNS if table.lifecycle else ())}
    return [
        column.name
        for column in table.columns
        if column.name not in own and (not column.nullable or existing.columns[column.name].is_not_null)
    ]


def _table_lock(table: Table) -> str:
    return lock_key("table", table.schema, table.name)


_HOLDERS = """
WITH held AS (
  SELECT l.pid, n.nspname, c.relname, l.relation IS NOT DISTINCT FROM to_regclass(%(table)s) AS is_target FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE l.granted AND l.pid <> pg_backend_pid() AND c.relkind <> 'i' AND n.nspname = ANY (%(schemas)s)
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
), nearest AS (
  SELECT pid, string_agg(DISTINCT format('%%I.%%I', nspname, relname), ', ') FILTER (WHERE NOT is_target) AS others FROM held
  WHERE is_target OR NOT EXISTS (SELECT FROM held WHERE is_target) GROUP BY pid
)
SELECT concat(format('pid %%s (%%s, %%s, for %%s s)', pid, coalesce(nullif(a.application_name, ''), 'unnamed'),
                     coalesce(a.state, 'state hidden'), round(extract(epoch FROM clock_timestamp() - a.xact_start))),
              ' on ' || others)
FROM nearest JOIN pg_catalog.pg_stat_activity a USING (pid) ORDER BY a.xact_start
"""


def _sessions_holding(connection: Connection, state: State, table: Table) -> list[str]:
    """The sessions that hold a lock on the table: pid, application, state, since when; not their SQL, which holds data.

    Where none does, those that hold one on a table beside it or of the state schema, and on which.
    """
    name = sql.Identifier(table.schema, table.name).as_string(connection)
    rows = connection.execute(_HOLDERS, {"table": name, "schemas": [table.schema, state.schema]}).fetchall()
    return [str(text) for (text,) in rows]
