"""What the database says: sums over the ledger, the newest loads, tables, watermarks, rejects and connections."""

import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.figures import Figures
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_assets.sync.freshness import BRINGS_UP_TO_DATE, freshness
from pipeboard_io import Warehouse
from pipeboard_resources.settings import Settings

# Rows get their number before they become visible, by at most as long as a publishing transaction takes after it.
_SETTLED = "SELECT coalesce(max(id), 0) AS id FROM pipeboard.load WHERE finished_at < now() - interval '2 hours'"


def _load_sums() -> str:
    total = "(seconds->>'total')::float8"
    columns = [
        "count(*)::float8 AS loads",
        f"count({total})::float8 AS timed",  # how long a load took that was killed, nobody knows
        *(f"sum({name})::float8 AS {name}" for name in ("bytes", "ddl", *series.OUTCOMES)),
        *(f"coalesce(sum((seconds->>'{name}')::float8), 0) AS in_{name}" for name in (*series.PHASES, "total")),
        *(
            f"count(*) FILTER (WHERE {total} <= {bound})::float8 AS within_{place}"
            for place, bound in enumerate(series.LOAD_SECONDS.buckets)
        ),
    ]
    return (
        f"SELECT entity, mode, status, {', '.join(columns)} FROM pipeboard.load "
        "WHERE id > %(after)s AND id <= %(until)s GROUP BY entity, mode, status"
    )


_LOADS = _load_sums()

_COUNTERS = """
SELECT key, sum(value::float8) AS value FROM pipeboard.load, jsonb_each_text(facts->'counters')
WHERE id > %(after)s AND id <= %(until)s GROUP BY key
"""

# In one statement, so that a load that ends meanwhile is counted once.
_STARTED = """
SELECT entity, mode, count(*)::float8 AS loads FROM (
    SELECT entity, mode FROM pipeboard.load WHERE id > %(after)s AND id <= %(until)s
    UNION ALL SELECT entity, mode FROM pipeboard.load_in_progress WHERE %(is_open)s
) AS l GROUP BY entity, mode
"""

# The size of a table waits for whoever rewrites it, for minutes when a column of a large one becomes wider: it is left out then.
_SUCCESSES = f"""
SELECT a.entity, c.finished_at AS up_to_date_at, l.rows, l.table_name, l.staged / greatest((l.seconds->>'total')::float8, 0.001) AS speed,
       CASE WHEN NOT EXISTS (
           SELECT FROM pg_locks AS k WHERE k.mode = 'AccessExclusiveLock'
           AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND k.relation IN (
               SELECT to_regclass(l.table_name)::oid
               UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass(l.table_name)
           )
       ) THEN pg_total_relation_size(to_regclass(l.table_name)) END AS bytes
FROM unnest(%s::text[]) AS a (entity) CROSS JOIN LATERAL (
    SELECT * FROM pipeboard.load AS l WHERE l.entity = a.entity AND l.status = 'success'
    ORDER BY l.finished_at DESC LIMIT 1
) AS l LEFT JOIN LATERAL (
    SELECT finished_at FROM pipeboard.load AS l WHERE l.entity = a.entity AND {BRINGS_UP_TO_DATE}
    ORDER BY l.finished_at DESC LIMIT 1
) AS c ON true
"""

_GAUGES = """
SELECT g.key, g.value::float8 AS value FROM unnest(%s::text[]) AS a (entity) CROSS JOIN LATERAL (
    SELECT l.facts, l.id, l.finished_at FROM pipeboard.load AS l WHERE l.entity = a.entity AND l.facts ? 'gauges'
    ORDER BY l.finished_at DESC LIMIT 1
) AS l CROSS JOIN jsonb_each_text(l.facts->'gauges') AS g
WHERE l.finished_at > now() - interval '1 day' OR g.key <> ALL (%s::text[]) ORDER BY l.id
"""

# The budget is full again at some midnight: what was told more than a day ago says nothing of today.
_OF_TODAY = tuple(json.dumps([each.name]) for each in (series.TOKENS_LEFT, series.BURST_LEFT))

# One statement, because a connection costs more than what it asks. Of another role's connection PostgreSQL hides state and
# kind from whoever is no member of pg_read_all_stats, who could read everybody's queries then: it counts as `other`.
_NOW = """
SELECT pg_database_size(current_database()) AS bytes,
       (SELECT facts ->> 'deals_left' FROM pipeboard.load WHERE entity = %(changelog)s AND facts ? 'deals_left'
        ORDER BY finished_at DESC LIMIT 1)::float8 AS deals_left,
       (SELECT jsonb_object_agg(name, extract(epoch FROM value)) FROM pipeboard.watermark) AS watermarks,
       (SELECT jsonb_object_agg(entity, records) FROM (
           SELECT entity, count(*) AS records FROM pipeboard.rejected_record WHERE resolved_at IS NULL GROUP BY entity
       ) AS r) AS rejected,
       (SELECT jsonb_object_agg(state, connections) FROM (
           SELECT CASE WHEN state = ANY (%(states)s) THEN state ELSE %(other)s END AS state, count(*) AS connections
           FROM pg_stat_activity
           WHERE datname = current_database() AND coalesce(backend_type, %(client)s) = %(client)s GROUP BY 1
       ) AS c) AS connections
"""

_END_OF_LEDGER = 2**62
_SETTLE_EVERY_SECONDS = 3600.0


class Ledger:
    """Sums over the ledger, added up once: a scrape reads the rows of the last hours only. Thread-safe."""

    def __init__(self, warehouse: Warehouse, settings: Settings) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._lock = threading.Lock()
        self._settled = Figures()
        self._settled_until = 0
        self._settle_next_at = 0.0

    def read(self) -> Figures:
        """Every figure of the database, counters since the first load. Raises WarehouseError."""
        figures = self._sums()
        newest = self._warehouse.query(_GAUGES, [list(series.SOURCES), list(_OF_TODAY)])
        figures.update(Figures.from_json((row["key"], row["value"]) for row in newest))
        self._add_successes(figures)
        self._add_now(figures)
        return figures

    def _sums(self) -> Figures:
        with self._lock:
            self._settle()
            figures = self._between(self._settled_until, _END_OF_LEDGER)
            figures.include(self._settled)
        return figures

    def _settle(self) -> None:
        """Add up for good what nobody changes any more, once an hour."""
        if time.monotonic() < self._settle_next_at:
            return
        until = self._warehouse.query(_SETTLED)[0]["id"]
        if until > self._settled_until:
            self._settled.include(self._between(self._settled_until, until))
            self._settled_until = until
        self._settle_next_at = time.monotonic() + _SETTLE_EVERY_SECONDS

    def _between(self, after: int, until: int) -> Figures:
        span = {"after": after, "until": until, "is_open": until == _END_OF_LEDGER}
        figures = Figures.from_json((row["key"], row["value"]) for row in self._warehouse.query(_COUNTERS, span))
        for row in self._warehouse.query(_LOADS, span):
            _add_loads(figures, row)
        for row in self._warehouse.query(_STARTED, span):
            figures.add(series.LOADS_STARTED, row["entity"], row["mode"], amount=row["loads"])
        return figures

    def _add_successes(self, figures: Figures) -> None:
        successes = {row["entity"]: row for row in self._warehouse.query(_SUCCESSES, [list(series.LOADED)])}
        for asset in series.ASSETS:
            up_to_date_at = successes.get(asset, {}).get("up_to_date_at")
            state = freshness(up_to_date_at, self._settings, now=datetime.now(UTC))
            figures.choose(series.FRESHNESS, asset, state=state)
            if up_to_date_at is not None:
                figures.set(series.LAST_SUCCESS, asset, value=up_to_date_at.timestamp())
        for asset, last in successes.items():
            figures.set(series.TABLE_ROWS, asset, value=last["rows"])
            figures.set(series.ROWS_PER_SECOND, asset, value=last["speed"])
            if last["bytes"] is not None:
                figures.set(series.TABLE_BYTES, asset, value=last["bytes"])

    def _add_now(self, figures: Figures) -> None:
        states = series.CONNECTIONS.labels["state"]
        names = {"other": series.OTHER, "client": "client backend", "changelog": DEAL_CHANGELOG.entity}
        (now,) = self._warehouse.query(_NOW, {"states": list(states), **names})
        figures.set(series.DATABASE_BYTES, value=now["bytes"])
        if now["deals_left"] is not None:
            figures.set(series.DEALS_LEFT, value=now["deals_left"])
        for name, instant in (now["watermarks"] or {}).items():
            figures.set(series.WATERMARK, name, value=instant)
        for asset in series.LOADED:
            figures.set(series.REJECTED, asset, value=(now["rejected"] or {}).get(asset, 0))
        for state in states:
            figures.set(series.CONNECTIONS, state, value=(now["connections"] or {}).get(state, 0))


def _add_loads(figures: Figures, row: Mapping[str, Any]) -> None:
    """Loads of one entity, mode and status, added up."""
    asset = row["entity"]
    figures.add(series.LOADS, asset, row["mode"], row["status"], amount=row["loads"])
    figures.add(series.STAGED_BYTES, asset, amount=row["bytes"])
    figures.add(series.DDL, asset, amount=row["ddl"])
    for outcome in series.OUTCOMES:
        figures.add(series.ROWS, asset, row["mode"], outcome, amount=row[outcome])
    for phase in series.PHASES:
        figures.add(series.PHASE_SECONDS, asset, phase, amount=row[f"in_{phase}"])
    within = [row[f"within_{place}"] for place in range(len(series.LOAD_SECONDS.buckets))]
    counts = dict(zip(series.LOAD_SECONDS.bounds, (*within, row["timed"]), strict=True))
    figures.merge(series.LOAD_SECONDS, asset, counts=counts, total=row["in_total"])
