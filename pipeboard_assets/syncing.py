"""The body of `pipeboard sync`: from what a person asked for to one Dagster run, its report and its exit status."""

import json
from collections.abc import Sequence
from dataclasses import replace

import click

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.console import progress_display, say, show_outcomes
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.environment import dagster_instance, servers
from pipeboard_assets.observer import Observer
from pipeboard_assets.resources import open_warehouse
from pipeboard_assets.runner import ASSETS, Status, SyncOutcome, SyncRequest, overall, run_sync
from pipeboard_io import Warehouse
from pipeboard_resources.settings import PIPEDRIVE_KEY_MISSING, MissingSettingError, Settings

EXIT_CODES = {Status.SUCCESS: 0, Status.FAILED: 1, Status.SKIPPED: 1, Status.STOPPED: 75}


def asked_for(
    selected: Sequence[str], *, full: bool, months: tuple[str | None, str | None], allow_mass_delete: bool
) -> SyncRequest:
    """The request behind the options. Raises click.UsageError when they contradict each other."""
    names = [name.strip() for item in selected for name in item.split(",") if name.strip()]
    unknown = sorted(set(names) - set(ASSETS))
    if unknown:
        raise click.UsageError(f"no such asset: {', '.join(unknown)}. There are: {', '.join(ASSETS)}")
    first, last = months
    if (first is None) != (last is None) or (first and last and first > last):
        raise click.UsageError("--from and --to go together, the earlier month first")
    if full and first:
        raise click.UsageError("--full reads everything; leave out --from and --to")
    assets = tuple(name for name in ASSETS if name in names) if names else ASSETS
    return SyncRequest(assets=assets, full=full, first=first, last=last, allow_mass_delete=allow_mass_delete)


def sync(settings: Settings, request: SyncRequest, *, as_json: bool) -> int:
    """Run it, show it, and return the exit status."""
    if settings.pipedrive_api_key is None:
        raise MissingSettingError(PIPEDRIVE_KEY_MISSING)
    with servers(settings, say) as ready:
        outcome = perform(ready, request)
    if as_json:
        click.echo(json.dumps(outcome.as_json(), ensure_ascii=False))
    else:
        show_outcomes(outcome.assets)
        say(_summary(outcome))
    return EXIT_CODES[outcome.status]


def perform(settings: Settings, request: SyncRequest) -> SyncOutcome:
    """One sync with servers that are already there."""
    with (
        dagster_instance(settings) as instance,
        open_warehouse(settings) as warehouse,
        progress_display(len(request.assets)) as display,
    ):
        observer = Observer(display)
        asked = replace(request, without_history=_without_history(warehouse, request))
        run_id, seconds, assets = run_sync(build_defs(settings, observer=observer), instance, asked)
    return SyncOutcome(
        run_id=run_id,
        status=overall(assets),
        seconds=round(seconds, 3),
        requests=observer.requests,
        tokens=observer.tokens,
        assets=assets,
    )


def _without_history(warehouse: Warehouse, request: SyncRequest) -> frozenset[str]:
    """Incremental entities that were never read whole: their first sync reads everything and leaves nobody out."""
    if request.full or request.first:
        return frozenset()
    wanted = (entity.name for entity in CATALOG if entity.is_incremental and entity.name in request.assets)
    read_whole = warehouse.query("SELECT DISTINCT entity FROM pipeboard.load WHERE status = 'success' AND mode = 'full'")
    return frozenset(wanted) - {row["entity"] for row in read_whole}


def _summary(outcome: SyncOutcome) -> str:
    return f"{outcome.seconds:.1f} s, {outcome.requests:,} requests, {outcome.tokens:,} API tokens; run {outcome.run_id}"
