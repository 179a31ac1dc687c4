"""`pipeboard status`: how fresh and how complete the tables are, read from the database alone; no API token is spent."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.console import say, show_table
from pipeboard_assets.environment import servers
from pipeboard_assets.main_bi import MAIN_BI
from pipeboard_assets.resources import open_warehouse
from pipeboard_io import Warehouse
from pipeboard_resources.settings import Settings

_WARN_AFTER, _FAIL_AFTER = timedelta(hours=4), timedelta(hours=6)
HEADINGS = ("asset", "rows", "deleted", "rejected", "watermark", "last success", "freshness")


def status(settings: Settings, *, as_json: bool) -> int:
    """Print the state of every table."""
    with servers(settings, say) as ready, open_warehouse(ready) as warehouse:
        assets = table_states(warehouse, now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps({"assets": assets, "tokens_left": None}, ensure_ascii=False))
        return 0
    columns = ("asset", "rows", "deleted", "rejected", "watermark", "last_success", "freshness")
    show_table(HEADINGS, [tuple(state[column] for column in columns) for state in assets])
    return 0


def table_states(warehouse: Warehouse, *, now: datetime) -> list[dict[str, Any]]:
    """One mapping an asset, as the `--json` contract has it."""
    return [_state(warehouse, "pipedrive", entity.name, entity, now) for entity in CATALOG] + [
        _state(warehouse, MAIN_BI.schema, MAIN_BI.name, None, now)
    ]
