"""`pipeboard plan`: what the next sync would change in the schema and ask of the API. Publishes nothing, keeps nothing."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.commands.console import say, show_table
from pipeboard_assets.commands.environment import servers
from pipeboard_assets.graph.entity_assets import masks_of
from pipeboard_assets.graph.launching import mode_of, runs_of
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_assets.records.custom_fields import parse_fields, preview
from pipeboard_assets.records.frames import Framer, reserved_names
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG, changelog_forecast
from pipeboard_assets.sync.entity_sync import FULL, Mode, Window
from pipeboard_assets.sync.forecast import EntityForecast, Forecaster
from pipeboard_assets.sync.freshness import last_successes
from pipeboard_assets.sync.history import highest_ids
from pipeboard_assets.sync.months import month_of, window_of
from pipeboard_io import Table, Warehouse
from pipeboard_resources.dagster_resources import open_pipedrive, open_redis
from pipeboard_resources.pipedrive.client import PipedriveClient
from pipeboard_resources.pipedrive.endpoint import CURRENT_USER, Forecast
from pipeboard_resources.settings import Settings

_READS = {
    Mode.FULL: "everything",
    Mode.INCREMENTAL: "what changed",
    Mode.BACKFILL: "the months",
    Mode.HISTORY: "months left",
    Mode.CHANGELOG: "changelogs left",
}


def plan(settings: Settings, request: SyncRequest, *, as_json: bool) -> int:
    """Show it and return 0. Spends tokens on the field metadata, and on one record of each list that is not stored yet."""
    with (
        servers(settings, say) as ready,
        open_warehouse(ready) as warehouse,
        open_redis(ready) as redis,
        open_pipedrive(ready, redis) as client,
    ):
        runs = runs_of(ready, warehouse, request)
        wanted = (statement for table in _tables(client, warehouse, request) for statement in warehouse.ddl(table))
        ddl = list(dict.fromkeys(wanted))  # every table asks for its schema
        forecasts = list(_forecasts(ready, client, warehouse, request, runs))
        left, reserve = client.plan.tokens_left, client.plan.tokens_reserved
        company = _company_cost(warehouse)
    total = sum((each.cost for each in forecasts if each.cost is not None), start=company)
    if as_json:
        click.echo(json.dumps({"ddl": ddl, "requests": total.requests, "tokens": total.tokens}, ensure_ascii=False))
        return 0
    _show(ddl, forecasts, total)
    if any(run.without_history or run.is_history for run in runs):
        say("Never loaded before: the highest id stands for the number of records, so this is the most it can be.")
    if left is not None:
        say(_budget(total.tokens, left, reserve))
    return 0


def _tables(client: PipedriveClient, warehouse: Warehouse, request: SyncRequest) -> Iterator[Table]:
    """As the load would want them, with columns for the custom fields that Pipedrive has now."""
    for entity in _entities(request):
        pages = [] if entity.fields is None else client.pages(entity.fields)
        fields = parse_fields(record for page in pages for record in page.records)
        custom = preview(entity.name, fields, warehouse, reserved_names(entity))
        yield Framer(entity, custom, now=datetime.now(UTC)).table
    if MAIN_BI.name in request.assets:
        yield MAIN_BI
    if request.deal_history:
        yield DEAL_CHANGELOG


def _forecasts(
    settings: Settings, client: PipedriveClient, warehouse: Warehouse, request: SyncRequest, runs: Sequence[SyncRequest]
) -> Iterator[EntityForecast]:
    """Of each entity, and of each way that the runs read it: a first load may be spread over months."""
    now = datetime.now(UTC)
    forecaster = Forecaster(warehouse=warehouse, now=now, overlap=settings.overlap, page_size=settings.page_size)
    for entity in _entities(request):
        reading = [run for run in runs if entity.name in run.assets]
        months = [run for run in reading if run.is_history and entity.is_incremental]
        for run in [run for run in reading if run not in months][:1]:
            window = _window(entity, run, settings.history_start, now)
            found = forecaster.of(entity, window)
            yield (
                found
                if found.cost is not None
                else forecaster.of(entity, window, highest_ids=highest_ids(client, entity))
            )
        if months:
            yield forecaster.of_months(entity, len(months), highest_ids=highest_ids(client, entity))
    if request.deal_history:
        client.current_user()  # any answer tells how many tokens are left
        yield changelog_forecast(warehouse, masks_of(settings).how("deals"))


def _window(entity: Entity, run: SyncRequest, history_start: str, now: datetime) -> Window:
    if not entity.is_incremental:
        return FULL
    first, last = run.first or month_of(now), run.last or month_of(now)
    return window_of(mode_of(entity.name, run), first, last, history_start=history_start, now=now)


def _company_cost(warehouse: Warehouse) -> Forecast:
    """Whose company the key is of: asked before anything is stored, and known from then on."""
    return Forecast(0, 0) if last_successes(warehouse) else Forecast(1, CURRENT_USER.tokens)


def _entities(request: SyncRequest) -> list[Entity]:
    return [entity for entity in CATALOG if entity.name in request.assets]


def _show(ddl: list[str], forecasts: list[EntityForecast], total: Forecast) -> None:
    rows = [(each.entity, _READS[each.mode], each.records, *_figures(each.cost)) for each in forecasts]
    show_table(("asset", "reads", "records", "requests", "tokens"), [*rows, ("all", "", None, *_figures(total))])
    click.echo("\nNo table changes." if not ddl else "\nChanges of tables:\n")
    for statement in ddl:
        click.echo(f"{statement};")


def _figures(cost: Forecast | None) -> tuple[int, int]:
    return (0, 0) if cost is None else (cost.requests, cost.tokens)


def _budget(tokens: int, left: int, reserve: int) -> str:
    usable = max(0, left - reserve)
    if tokens <= usable:
        return f"Tokens left today: {left:,}, of which {reserve:,} are kept back. This sync fits."
    return (
        f"Tokens left today: {left:,}, of which {reserve:,} are kept back: {tokens - usable:,} too few. The sync will stop "
        "on its way (exit 75) and the next one goes on from there; a first load takes months one by one, the newest first."
    )
