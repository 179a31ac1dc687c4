"""How much of the day's API tokens is spent, as Pipedrive last told a load."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeboard_assets.metrics import series
from pipeboard_io import Warehouse

# The budget is full again at some midnight: what was told more than a day ago says nothing of today.
_SAYS_NOTHING_AFTER = timedelta(days=1)

_NEWEST = """
SELECT (facts -> 'gauges' ->> %(left)s)::float8 AS tokens_left, (facts -> 'gauges' ->> %(per_day)s)::float8 AS per_day,
       status = 'stopped' AS is_stopped
FROM pipeboard.load WHERE facts -> 'gauges' ? %(per_day)s AND finished_at > %(since)s ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Tokens left of the account's day, and the share spent (0 to 100) of those that are not left to others."""

    left: int
    per_day: int
    percent: float


def token_use(warehouse: Warehouse, *, reserve_percent: float, now: datetime) -> TokenUse | None:
    """What the newest load was told; None where none was today. Raises WarehouseError."""
    names = {"left": json.dumps([series.TOKENS_LEFT.name]), "per_day": json.dumps([series.TOKENS_PER_DAY.name])}
    rows = warehouse.query(_NEWEST, {**names, "since": now - _SAYS_NOTHING_AFTER})
    if not rows or not rows[0]["per_day"]:
        return None
    left, per_day = rows[0]["tokens_left"] or 0, rows[0]["per_day"]
    usable = per_day * (1 - reserve_percent / 100)
    spent = 100 if rows[0]["is_stopped"] else min(100, (per_day - left) * 100 / usable)
    return TokenUse(int(left), int(per_day), spent)
