"""Which parts of Pipedrive's history are in the tables, and which load failed: told by the ledger of loads. No Dagster."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from pipeboard_io import Warehouse

# A first load that is spread over months ends with the month that is open to the past.
_READ_WHOLE = """
SELECT DISTINCT entity FROM pipeboard.load
WHERE status = 'success' AND (mode = 'full' OR facts @> '{"completes_history": true}')
"""
_MONTHS = """
SELECT entity, facts ->> 'month' AS month, finished_at FROM pipeboard.load
WHERE status = 'success' AND mode = 'history' ORDER BY finished_at
"""
_HALF_READ = """
SELECT entity FROM unnest(%s::text[]) AS entity
WHERE EXISTS (SELECT FROM pipeboard.checkpoint WHERE starts_with(resume_key, entity || ' full ') AND state IS NOT NULL)
"""
_EXISTS = "SELECT to_regclass('pipedrive.{table}') IS NOT NULL AS exists"
_EMPTIED = """
SELECT NOT EXISTS (SELECT FROM pipedrive.{table}) AND coalesce((
    SELECT rows FROM pipeboard.load WHERE entity = %s AND status = 'success' ORDER BY id DESC LIMIT 1), 0) > 0 AS emptied
"""
_FAILED_SINCE = """
SELECT entity FROM (SELECT DISTINCT ON (entity) entity, status, finished_at FROM pipeboard.load
                    ORDER BY entity, finished_at DESC) AS newest
WHERE status = 'failed' AND finished_at > %s
"""
_LAST_STATUS = "SELECT status FROM pipeboard.load WHERE entity = %s ORDER BY finished_at DESC LIMIT 1"


def read_whole(warehouse: Warehouse) -> frozenset[str]:
    """Entities whose lists were read from end to end at least once."""
    return frozenset(row["entity"] for row in warehouse.query(_READ_WHOLE))


def half_read(warehouse: Warehouse, entities: Collection[str]) -> frozenset[str]:
    """Those of the entities of which a load of everything broke off after its first page."""
    return frozenset(row["entity"] for row in warehouse.query(_HALF_READ, [list(entities)]))


def table_exists(warehouse: Warehouse, entity: str) -> bool:
    """Whether there is a table of the entity, whatever the ledger says."""
    return bool(warehouse.query(_EXISTS.format(table=entity))[0]["exists"])


def is_lost(warehouse: Warehouse, entity: str) -> bool:
    """Whether somebody dropped or emptied the table that the ledger tells of: what changed since then would not fill it."""
    if not table_exists(warehouse, entity):
        return True
    return bool(warehouse.query(_EMPTIED.format(table=entity), [entity])[0]["emptied"])


def newest_month(warehouse: Warehouse, entity: str) -> datetime | None:
    """When the newest month began that a first load, spread over days, has read; None where there is none."""
    months = [month for month, _ in months_read(warehouse).get(entity, ())]
    return datetime.fromisoformat(f"{max(months)}-01").replace(tzinfo=UTC) if months else None


def months_read(warehouse: Warehouse) -> Mapping[str, Sequence[tuple[str, datetime]]]:
    """By entity, the months (YYYY-MM) of a first load that is spread over days, and when each was finished."""
    months: dict[str, list[tuple[str, datetime]]] = {}
    for row in warehouse.query(_MONTHS):
        months.setdefault(row["entity"], []).append((row["month"], row["finished_at"]))
    return months


def failed_since(warehouse: Warehouse, moment: datetime) -> frozenset[str]:
    """Entities whose newest load went wrong after that moment."""
    return frozenset(row["entity"] for row in warehouse.query(_FAILED_SINCE, [moment]))


def failed_last(warehouse: Warehouse, entity: str) -> bool:
    """Whether its newest load went wrong; one that stopped on purpose did not."""
    return [row["status"] for row in warehouse.query(_LAST_STATUS, [entity])] == ["failed"]
