"""How old each table is, and what that age means.

Read from the ledger, not from Dagster's records: there a backfill of old months makes the whole asset look fresh.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pipeboard_io import Warehouse
from pipeboard_resources.settings import Settings

# A backfill that does not reach today, or a second look at rejected records, brings nothing up to date.
BRINGS_UP_TO_DATE = "status = 'success' AND (mode IN ('full', 'incremental', 'select') OR watermarks <> '{}'::jsonb)"
_LAST_SUCCESSES = (
    f"SELECT entity, max(finished_at) AS last_success FROM pipeboard.load WHERE {BRINGS_UP_TO_DATE} GROUP BY entity"
)


class Freshness(StrEnum):
    """What the age of a table's last success means."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    MISSING = "missing"


def last_successes(warehouse: Warehouse) -> dict[str, datetime]:
    """When each table was last brought up to date; a table that never was is not in it."""
    return {row["entity"]: row["last_success"] for row in warehouse.query(_LAST_SUCCESSES)}


def freshness(last_success: datetime | None, settings: Settings, *, now: datetime) -> Freshness:
    """The state of a table last brought up to date at `last_success`."""
    if last_success is None:
        return Freshness.MISSING
    age = now - last_success
    if age >= settings.fails_after:
        return Freshness.FAIL
    return Freshness.WARN if age >= settings.warns_after else Freshness.PASS


def late(successes: Mapping[str, datetime], names: tuple[str, ...], *, after: timedelta, now: datetime) -> list[str]:
    """Those of `names` that are missing or older than `after`, the oldest first."""
    due = [name for name in names if name not in successes or now - successes[name] >= after]
    return sorted(due, key=lambda name: (name in successes, successes.get(name, now)))


def spoken(age: timedelta) -> str:
    """An age as people say it: 40 s, 12 min, 4 h 2 min, 3 d 5 h."""
    seconds = max(0, int(age.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 60:
        return f"{seconds} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"
