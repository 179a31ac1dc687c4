"""`pipeboard status`: how fresh and how complete the tables are, read from the database alone; no API token is spent."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.commands.console import say, show_table
from pipeboard_assets.commands.environment import servers
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_assets.metrics.series import API_TOKENS
from pipeboard_assets.sync.freshness import freshness, last_successes
from pipeboard_assets.sync.history import history_told
from pipeboard_io import Warehouse
from pipeboard_resources.settings import Settings

COLUMNS = ("asset", "rows", "deleted", "rejected", "watermark", "last_success", "freshness")
HEADINGS = ("asset", "rows", "deleted", "rejected", "watermark (UTC)", "last sync", "freshness")

# The day's budget is full again at some midnight: what was told more than a day ago says nothing of today.
_TOKENS_LEFT = """
SELECT (facts ->> 'tokens_left')::bigint AS tokens_left FROM pipeboard.load
WHERE facts ->> 'tokens_left' IS NOT NULL AND finished_at > now() - interval '1 day' ORDER BY id DESC LIMIT 1
"""
_TOKENS_USED = """
SELECT coalesce(sum(value::numeric), 0)::bigint AS tokens FROM pipeboard.load, jsonb_each_text(facts -> 'counters')
WHERE starts_with(key, %s) AND finished_at > now() - interval '1 day'
"""
_REJECTED = (
    "SELECT entity, count(*) AS rejected FROM pipeboard.rejected_record WHERE resolved_at IS NULL GROUP BY entity"
)


def status(settings: Settings, *, as_json: bool) -> int:
    """Print the state of every table."""
    with servers(settings, say) as ready, open_warehouse(ready) as warehouse:
        assets = table_states(warehouse, settings, now=datetime.now(UTC))
        told = warehouse.query(_TOKENS_LEFT)
        tokens_left = told[0]["tokens_left"] if told else None
        (used,) = warehouse.query(_TOKENS_USED, [f'["{API_TOKENS.name}"'])
        history = history_told(warehouse, settings.history_start, datetime.now(UTC))
    if as_json:
        click.echo(json.dumps({"assets": assets, "tokens_left": tokens_left}, ensure_ascii=False))
    else:
        now = datetime.now(UTC)
        show_table(HEADINGS, [tuple(_shown(state[name], name, now=now) for name in COLUMNS) for state in assets])
        if history:
            say(history)
        if tokens_left is not None:
            say(f"API tokens: {used['tokens']:,} used in the last 24 hours, {tokens_left:,} left when last told.")
    return 0


def table_states(warehouse: Warehouse, settings: Settings, *, now: datetime) -> list[dict[str, Any]]:
    """One mapping an asset, as the `--json` contract has it; instants RFC 3339 in UTC, None where there is nothing yet."""
    successes = last_successes(warehouse)
    rejected = {row["entity"]: row["rejected"] for row in warehouse.query(_REJECTED)}
    watermarks = warehouse.watermarks()
    states = []
    for schema, name, lists in _tables():
        marks = [watermarks[each] for each in lists if each in watermarks]
        states.append(
            {
                "asset": name,
                **_counts(warehouse, schema, name),
                "watermark": _instant(min(marks, default=None)),
                "last_success": _instant(successes.get(name)),
                "freshness": freshness(successes.get(name), settings, now=now),
                "rejected": rejected.get(name, 0),
            }
        )
    return states


def _shown(value: object, name: str, *, now: datetime) -> object:
    """Short enough for a line of 80 columns: the watermark to the minute, the last success by its age."""
    if value is None or name not in ("watermark", "last_success"):
        return value
    instant = datetime.fromisoformat(str(value))
    if name == "watermark":
        return f"{instant:%Y-%m-%d %H:%M}"
    minutes = int((now - instant).total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // 1440} d ago"


def _tables() -> list[tuple[str, str, tuple[str, ...]]]:
    """Schema, table and the names of its watermarks."""
    entities = [("pipedrive", entity.name, tuple(each.name for each in entity.lists)) for entity in CATALOG]
    return [*entities, (MAIN_BI.schema, MAIN_BI.name, ())]


def _counts(warehouse: Warehouse, schema: str, name: str) -> Mapping[str, int]:
    exists = warehouse.query(f"SELECT to_regclass('{schema}.{name}') IS NOT NULL AS exists")[0]["exists"]
    if not exists:
        return {"rows": 0, "deleted": 0}
    if name == MAIN_BI.name:
        return {**warehouse.query("SELECT count(*) AS rows FROM bi.main_bi")[0], "deleted": 0}
    counting = "SELECT count(*) FILTER (WHERE deleted_at IS NULL) AS rows, count(deleted_at) AS deleted FROM pipedrive."
    return warehouse.query(counting + name)[0]


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
