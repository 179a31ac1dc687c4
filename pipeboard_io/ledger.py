"""One row per load, the durable history that metrics, status and alerts read. Successful rows are part of the publish.

A load notes when it begins and takes that note away, in one transaction, when it says how it ended. So a note whose backend
is gone is of a load that was killed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pipeboard_io.checkpoints import IS_OWNED, UNKNOWN_OWNER_DAYS, owner
from pipeboard_io.connection import Connection
from pipeboard_io.errors import KilledError, WarehouseError
from pipeboard_io.load import Load, LoadReport, json_text
from pipeboard_io.state import State

_COUNTS = (
    "rows", "staged", "inserted", "updated", "unchanged", "outdated", "deleted", "restored", "relabelled", "rejected", "bytes",
)  # fmt: skip
_LISTS = ("columns_added", "columns_widened", "columns_narrower")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which load, since when."""

    load_id: str
    started_at: datetime


def begin(connection: Connection, state: State, load: Load, attempt: Attempt) -> None:
    """Notes that a load is under way on this connection."""
    pid, owner_started_at = owner(connection)
    connection.execute(
        state.compose(
            """INSERT INTO {load_in_progress} (load_id, entity, table_name, mode, run_id, started_at, owner_pid, owner_started_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
        ),
        [
            attempt.load_id, load.table.entity, str(load.table), load.mode, load.run_id, attempt.started_at,
            pid, owner_started_at,
        ],
    )  # fmt: skip


_KILLED = f"""
WITH killed AS (
    DELETE FROM {{load_in_progress}} WHERE NOT {IS_OWNED}
        AND (owner_pid IS NOT NULL OR started_at < now() - make_interval(days => {UNKNOWN_OWNER_DAYS}))
    RETURNING *
)
INSERT INTO {{load}} (load_id, entity, table_name, mode, status, run_id, started_at, finished_at, error_class, error)
SELECT load_id, entity, table_name, mode, 'failed', run_id, started_at, clock_timestamp(), %s, %s
FROM killed ON CONFLICT (load_id) DO NOTHING
"""


def write_killed(connection: Connection, state: State) -> int:
    """Writes the rows of loads whose process was killed; returns how many."""
    kind = KilledError
    message = "Its process was killed, or lost the database. Nothing of it was published; the next load goes on."
    return connection.execute(state.compose(_KILLED), [f"{kind.__module__}.{kind.__qualname__}", message]).rowcount


def write_success(connection: Connection, state: State, load: Load, attempt: Attempt, report: LoadReport) -> None:
    """Writes the row of a load that publishes, in the publishing transaction."""
    values: dict[str, Any] = {name: getattr(report, name) for name in _COUNTS}
    values |= {name: list(getattr(report, name)) for name in _LISTS}
    values |= {
        "ddl": len(report.ddl),
        "seconds": Jsonb({phase: round(seconds, 4) for phase, seconds in report.seconds.items()}),
        "watermarks": Jsonb({name: value.isoformat() for name, value in report.watermarks.items()}),
        "facts": Jsonb(report.facts, dumps=json_text),
    }
    _insert(connection, state, _identity(load, attempt, "success") | values)


def write_failure(
    connection: Connection,
    state: State,
    load: Load,
    attempt: Attempt,
    *,
    error: BaseException,
    seconds: Mapping[str, float],
) -> None:
    """Writes the row of a load that published nothing. Only our own messages are kept: others may hold anything."""
    status = "stopped" if isinstance(error, load.stops) else "failed"
    kind = type(error)
    values = {
        "error_class": f"{kind.__module__}.{kind.__qualname__}",
        "error": str(error)[:2000] if isinstance(error, WarehouseError) else None,
        "seconds": Jsonb({phase: round(spent, 4) for phase, spent in seconds.items()}),
        "facts": Jsonb(dict(load.facts()) if load.facts else {}, dumps=json_text),
    }
    _insert(connection, state, _identity(load, attempt, status) | values)


def _identity(load: Load, attempt: Attempt, status: str) -> dict[str, Any]:
    return {
        "load_id": attempt.load_id,
        "entity": load.table.entity,
        "table_name": str(load.table),
        "mode": load.mode,
        "status": status,
        "run_id": load.run_id,
        "started_at": attempt.started_at,
        "finished_at": "now",
    }


def _insert(connection: Connection, state: State, values: Mapping[str, Any]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    marks = sql.SQL(", ").join([sql.SQL("clock_timestamp()" if name == "finished_at" else "%s") for name in values])
    parameters = [value for name, value in values.items() if name != "finished_at"]
    # The load's own word, where others took it for killed: its connection was closed before it came here, or nobody saw
    # behind a pooler that it was still there. The note first: who takes it away just now has written that row then.
    connection.execute(state.compose("DELETE FROM {load_in_progress} WHERE load_id = %s"), [values["load_id"]])
    connection.execute(state.compose("DELETE FROM {load} WHERE load_id = %s"), [values["load_id"]])
    connection.execute(
        state.compose("INSERT INTO {load} ({names}) VALUES ({marks})", names=names, marks=marks), parameters
    )
