"""Staging tables and how far each has come: claimed by one load at a time, continued after a crash, removed when dead.

The row in `checkpoint` is committed together with the rows it stands for. A stage with a resume key is a logged table, so
that a crash of PostgreSQL costs no page; any other is unlogged and emptied by it. `load_id` and the row in `live_stage`
are the fence: a load whose stage was taken over, or went through a crash, cannot commit another row to it.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pipeboard_io.connection import Connection, Timeouts, advisory_lock, lock_key, scalar, transaction
from pipeboard_io.copy import stage_columns
from pipeboard_io.errors import ResumeError
from pipeboard_io.load import json_text
from pipeboard_io.schema import catalog_name
from pipeboard_io.state import State
from pipeboard_io.table import Table

logger = logging.getLogger(__name__)

# Part of every stage's fingerprint: raise it when the meaning of staged rows changes, and old ones are read anew.
STAGE_VERSION = 2
# How long rows wait for a load that would continue, and for one of which nobody can say whether it still runs.
RESUMABLE_DAYS = 7
UNKNOWN_OWNER_DAYS = 1
SECONDS_TO_LEAVE = 2.0
# A dead stage that somebody reads, pg_dump for hours, is dropped another time: shorter than any deadlock_timeout.
_SECONDS_TO_DROP = 0.2

# What a backup leaves out: stages come and go beside it, and what tells of them is worth nothing without them.
STAGES = "^stage_[a-z0-9_]*_[0-9a-f]{16}$"
PROGRESS = ("checkpoint", "staged_reject", "live_stage", "load_in_progress")
# What tells a stage from a table of somebody else that is called alike.
STAGE_MARK = "Rows of a load that is not published yet (pipeboard_io)"


@dataclass(slots=True)
class Stage:
    """A staging table claimed by one load."""

    name: str
    load_id: str
    started_at: datetime
    next_order: int = 0
    bytes: int = 0
    absent: frozenset[str] = frozenset()
    """Columns that at least one staged row does not bring."""
    is_ascending: bool = True
    """Whether keys came in strictly ascending order, so that none can be there twice."""
    has_deleted: bool = False
    state: Mapping[str, Any] | None = None
    """The checkpoint to continue from."""
    is_kept: bool = False
    """Whether a later load may continue it, so that what is staged must outlive a crash of the server."""
    is_resumed: bool = False
    is_restarted: bool = False
    """Whether rows were staged under this resume key that no longer fit the table and were thrown away."""


def fingerprint(table: Table) -> str:
    """Changes whenever staged rows of the old shape could not be mixed with new ones."""
    parts = [f"{column.name} {column.type.value}" for column in stage_columns(table)]
    text = "\n".join([str(STAGE_VERSION), str(table), *table.primary_key, str(table.version_column), *parts])
    return hashlib.sha256(text.encode()).hexdigest()


def read(connection: Connection, state: State, resume_key: str) -> Mapping[str, Any] | None:
    """The checkpoint to continue from; None where there is nothing to continue."""
    found = scalar(connection, state.compose("SELECT state FROM {checkpoint} WHERE resume_key = %s"), [resume_key])
    return found if isinstance(found, dict) else None


def claim(
    connection: Connection, state: State, timeouts: Timeouts, *, table: Table, load_id: str, resume_key: str | None
) -> Stage:
    """The stage of this load: the one left behind under `resume_key` if it fits the table, else a new, empty one.

    Raises ResumeError when a load that is still running holds it.
    """
    with transaction(connection, timeouts, durable=resume_key is not None):
        if resume_key is None:
            return _created(connection, state, table, load_id, resume_key)
        advisory_lock(connection, lock_key("resume", state.schema, resume_key))
        had_state = read(connection, state, resume_key) is not None
        if (stage := _continued(connection, state, table, load_id, resume_key)) is None:
            stage = _created(connection, state, table, load_id, resume_key)
            stage.is_restarted = had_state
        return stage


def _stage_name(table: Table, load_id: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "_", table.name.lower())[:30]
    digest = hashlib.sha256(lock_key(table.schema, table.name, load_id).encode()).hexdigest()
    return f"stage_{slug}_{digest[:16]}"


_OWNER = """SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = %s"""
# When our machine or the network between is gone, the server notices after two minutes. By default it takes two hours, in
# which no load may continue the staged rows. For the session: between its transactions it waits for the source.
_NOTICE_SOON = "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 15; SET tcp_keepalives_count = 4"


def owner(connection: Connection) -> tuple[int | None, datetime | None]:
    """The backend that loads. Behind a pooler the announced pid is not the backend's, which changes as well: unknown."""
    pid = scalar(connection, "SELECT pg_backend_pid()")
    if pid != connection.info.backend_pid:
        return None, None
    connection.execute(_NOTICE_SOON)
    return pid, scalar(connection, _OWNER, [pid])


IS_OWNED = """EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = owner_pid AND a.pid <> pg_backend_pid()
               AND coalesce(a.backend_start = owner_started_at, true))"""


def _continued(connection: Connection, state: State, table: Table, load_id: str, resume_key: str) -> Stage | None:
    row = connection.execute(
        state.compose(
            f"""SELECT stage, shape, started_at, next_order, bytes, absent, is_ascending, has_deleted, state, {IS_OWNED}
                FROM {{checkpoint}} WHERE resume_key = %s FOR UPDATE"""
        ),
        [resume_key],
    ).fetchone()
    if row is None:
        return None
    name, shape, *_, state_value, is_owned = row
    if is_owned and not _left_by_its_owner(connection, state, resume_key):
        raise ResumeError(
            f"loading {table} cannot continue {resume_key!r}: another load is staging under the same key right now. "
            "Wait for it, or end its process",
            resume_key=resume_key,
        )
    if shape != fingerprint(table) or not _exists(connection, state, str(name)):
        logger.info("staged rows discarded: the table's shape changed, table=%s resume_key=%s", table, resume_key)
        forget(connection, state, str(name))
        return None
    pid, started = owner(connection)
    connection.execute(
        state.compose(
            """UPDATE {checkpoint} SET load_id = %s, owner_pid = %s, owner_started_at = %s, touched_at = now()
               WHERE resume_key = %s"""
        ),
        [load_id, pid, started, resume_key],
    )
    _mark_live(connection, state, str(name))
    _, _, started_at, next_order, size, absent, is_ascending, has_deleted, _, _ = row
    return Stage(
        name=str(name),
        load_id=load_id,
        started_at=started_at,
        next_order=next_order,
        bytes=size,
        absent=frozenset(absent),
        # What was staged last is not known any more, so order proves nothing from here on.
        is_ascending=bool(is_ascending) and next_order == 0,
        has_deleted=bool(has_deleted),
        state=state_value,
        is_kept=True,
        is_resumed=True,
    )


def _left_by_its_owner(connection: Connection, state: State, resume_key: str) -> bool:
    """Whether the load that staged is over after all: its backend outlives a connection that was closed just now."""
    query = state.compose(f"SELECT {IS_OWNED} FROM {{checkpoint}} WHERE resume_key = %s")
    deadline = monotonic() + SECONDS_TO_LEAVE
    while monotonic() < deadline:
        connection.execute("SELECT pg_stat_clear_snapshot(), pg_sleep(0.02)")
        if not scalar(connection, query, [resume_key]):
            return True
    return False


def _exists(connection: Connection, state: State, name: str) -> bool:
    return scalar(connection, "SELECT to_regclass(%s)", [state.name(name).as_string(connection)]) is not None


def _created(connection: Connection, state: State, table: Table, load_id: str, resume_key: str | None) -> Stage:
    name, is_kept = _stage_name(table, load_id), resume_key is not None
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(catalog_name(column.type)))
        for column in stage_columns(table)
    ]
    connection.execute(
        state.compose(
            "CREATE {persistence} TABLE {stage} ({columns}) WITH (autovacuum_enabled = off)",
            persistence=sql.SQL("" if is_kept else "UNLOGGED"),
            stage=state.name(name),
            columns=sql.SQL(", ").join(columns),
        )
    )
    connection.execute(
        state.compose("COMMENT ON TABLE {stage} IS {mark}", stage=state.name(name), mark=sql.Literal(STAGE_MARK))
    )
    pid, owner_started = owner(connection)
    started_at = scalar(
        connection,
        state.compose(
            """INSERT INTO {checkpoint} (stage, resume_key, is_kept, table_name, load_id, shape, started_at, owner_pid, owner_started_at)
               VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp(), %s, %s) RETURNING started_at"""
        ),
        [name, resume_key, is_kept, str(table), load_id, fingerprint(table), pid, owner_started],
    )
    _mark_live(connection, state, name)
    return Stage(name=name, load_id=load_id, started_at=started_at, is_kept=is_kept)


def _mark_live(connection: Connection, state: State, name: str) -> None:
    connection.execute(state.compose("INSERT INTO {live_stage} VALUES (%s) ON CONFLICT DO NOTHING"), [name])


def advance(connection: Connection, state: State, stage: Stage, checkpoint: Mapping[str, Any] | None) -> None:
    """Notes, in the transaction that stages rows, how far they go; raises ResumeError when the stage was taken over."""
    updated = connection.execute(
        state.compose(
            """UPDATE {checkpoint} SET state = coalesce(%s, state), next_order = %s, bytes = %s, absent = %s,
                      is_ascending = %s, has_deleted = %s, touched_at = clock_timestamp()
               WHERE stage = %s AND load_id = %s AND stage IN (SELECT stage FROM {live_stage})"""
        ),
        [
            None if checkpoint is None else Jsonb(checkpoint, dumps=json_text),
            stage.next_order,
            stage.bytes,
            sorted(stage.absent),
            stage.is_ascending,
            stage.has_deleted,
            stage.name,
            stage.load_id,
        ],
    )
    _require_claim(updated.rowcount, stage)


def fence(connection: Connection, state: State, stage: Stage) -> None:
    """Holds the claim until the transaction ends; raises ResumeError when another load has taken it over."""
    held = connection.execute(
        state.compose(
            """SELECT 1 FROM {checkpoint}
               WHERE stage = %s AND load_id = %s AND stage IN (SELECT stage FROM {live_stage}) FOR UPDATE"""
        ),
        [stage.name, stage.load_id],
    )
    _require_claim(held.rowcount, stage)


def _require_claim(rows: int, stage: Stage) -> None:
    if rows != 1:
        raise ResumeError(
            f"the staging table {stage.name} was taken over by another load, or the server crashed meanwhile: run again",
            resume_key=stage.name,
        )


def of_select(connection: Connection, table: Table, load_id: str) -> Stage:
    """The stage of a SELECT: made, used and dropped within the publishing transaction, so it needs no checkpoint."""
    started_at = scalar(connection, "SELECT clock_timestamp()")
    return Stage(_stage_name(table, load_id), load_id, started_at, is_ascending=False)


def forget(connection: Connection, state: State, name: str) -> None:
    """Deletes what tells of a stage, in the caller's transaction: it is dead then. Its table goes by `drop`, or a sweep.

    Not in the same transaction: a DROP waits for whoever reads the stage, which pg_dump does as long as it runs.
    """
    connection.execute(state.compose("DELETE FROM {staged_reject} WHERE stage = %s"), [name])
    connection.execute(state.compose("DELETE FROM {checkpoint} WHERE stage = %s"), [name])
    connection.execute(state.compose("DELETE FROM {live_stage} WHERE stage = %s"), [name])


def drop(connection: Connection, state: State, timeouts: Timeouts, name: str) -> bool:
    """Drops a stage that is dead, with what still tells of it; False where it has to wait for a sweep.

    Alone, or in a savepoint of the caller's transaction, which waits no longer for locks from here on.
    """
    try:
        with transaction(connection, replace(timeouts, lock_seconds=_SECONDS_TO_DROP), durable=False):
            forget(connection, state, name)
            connection.execute(state.compose("DROP TABLE IF EXISTS {stage}", stage=state.name(name)))
    except psycopg.Error as error:
        logger.warning("staging table left to a later load, stage=%s sqlstate=%s", name, error.sqlstate)
        return False
    return True


_DEAD = f"""
SELECT c.relname FROM pg_catalog.pg_class c LEFT JOIN {{checkpoint}} k ON k.stage = c.relname
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s)
  AND c.relkind = 'r' AND c.relname ~ %(stages)s AND obj_description(c.oid, 'pg_class') = %(mark)s
  AND pg_has_role(c.relowner, 'USAGE')
  AND (k.stage IS NULL OR NOT ({IS_OWNED}) AND k.touched_at < now() - CASE
        WHEN k.is_kept THEN make_interval(days => {RESUMABLE_DAYS})
        WHEN k.owner_pid IS NULL THEN make_interval(days => {UNKNOWN_OWNER_DAYS})
        ELSE interval '0' END)
"""


def sweep(connection: Connection, state: State, timeouts: Timeouts) -> int:
    """Removes the stages of loads that died, but those in use; returns how many. One at a time does it, the others pass by."""
    with transaction(connection, timeouts, durable=False):
        key = lock_key("sweep", state.schema)
        if not scalar(connection, "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [key]):
            return 0
        asked = {"schema": state.schema, "stages": STAGES, "mark": STAGE_MARK}
        dead = [str(name) for (name,) in connection.execute(state.compose(_DEAD), asked).fetchall()]
        removed = sum(drop(connection, state, timeouts, name) for name in dead)
    if removed:
        logger.info("staging tables of dead loads removed, count=%d", removed)
    return removed
