"""The body of `pipeboard sync`: from what a person asked for to one Dagster run, its report and its exit status."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.console import progress_display, say, show_outcomes
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.environment import dagster_instance, servers
from pipeboard_assets.observer import Observer
from pipeboard_assets.resources import open_warehouse
from pipeboard_assets.runner import (
    ASSETS,
    INTERRUPTED,
    AssetOutcome,
    Status,
    SyncOutcome,
    SyncRequest,
    overall,
    run_sync,
)
from pipeboard_io import Warehouse
from pipeboard_resources.settings import PIPEDRIVE_KEY_MISSING, MissingSettingError, Settings

EXIT_CODES = {Status.SUCCESS: 0, Status.FAILED: 1, Status.SKIPPED: 1, Status.STOPPED: 75}
MONTHLY = tuple(entity.name for entity in CATALOG if entity.is_incremental)


def asked_for(
    selected: Sequence[str], *, full: bool, months: tuple[str | None, str | None], allow_mass_delete: bool
) -> SyncRequest:
    """The request behind the options. Raises click.UsageError when they contradict each other."""
    names = [name.strip() for item in selected for name in item.split(",") if name.strip()]
    unknown = sorted(set(names) - set(ASSETS))
    if unknown:
        raise click.UsageError(f"no such asset: {', '.join(unknown)}. There are: {', '.join(ASSETS)}")
    first, last = months
    assets = tuple(name for name in ASSETS if name in names) if names else ASSETS
    if first or last:
        _check_months(first, last, assets)
    if full and first:
        raise click.UsageError("--full reads everything; leave out --from and --to")
    return SyncRequest(assets=assets, full=full, first=first, last=last, allow_mass_delete=allow_mass_delete)


def _check_months(first: str | None, last: str | None, assets: Sequence[str]) -> None:
    if first is None or last is None or first > last:
        raise click.UsageError("--from and --to go together, the earlier month first")
    if last > f"{datetime.now(UTC):%Y-%m}":
        raise click.UsageError(f"--to {last} is in the future")
    if not set(assets) & set(MONTHLY):
        raise click.UsageError(f"--from and --to need one of {', '.join(MONTHLY)}; the others are always read whole")


def never_ran(request: SyncRequest, sentence: str) -> dict[str, Any]:
    """The contract of `--json` for a sync that could not even start."""
    assets = tuple(AssetOutcome(asset=name, status=Status.FAILED, error=sentence) for name in request.assets)
    outcome = SyncOutcome(run_id="", status=Status.FAILED, seconds=0.0, requests=0, tokens=0, assets=assets)
    return {**outcome.as_json(), "run_id": None}


def sync(settings: Settings, request: SyncRequest, *, as_json: bool) -> int:
    """Run it, show it, and return the exit status. Raises MissingSettingError, and click.UsageError for lost months."""
    if settings.pipedrive_api_key is None:
        raise MissingSettingError(PIPEDRIVE_KEY_MISSING)
    if request.first and request.first < settings.history_start:
        raise click.UsageError(
            f"--from {request.first} lies before PIPEBOARD_HISTORY_START ({settings.history_start}); that month holds "
            "everything older, so begin there"
        )
    with servers(settings, say) as ready:
        outcome = perform(ready, request)
    if as_json:
        click.echo(json.dumps(outcome.as_json(), ensure_ascii=False))
    else:
        show_outcomes(outcome.assets)
        say(_summary(outcome))
    return exit_code(outcome)


def exit_code(outcome: SyncOutcome) -> int:
    """As DESIGN has it; 130 after Ctrl-C or SIGTERM, as shells do."""
    is_interrupted = any(asset.error == INTERRUPTED for asset in outcome.assets)
    return 130 if is_interrupted else EXIT_CODES[outcome.status]


def perform(settings: Settings, request: SyncRequest) -> SyncOutcome:
    """One sync with servers that are already there."""
    with (
        dagster_instance(settings) as instance,
        open_warehouse(settings) as warehouse,
        progress_display(len(request.assets)) as display,
    ):
        observer = Observer(display)
        asked = replace(request, without_history=without_history(warehouse, request))
        run_id, seconds, assets = run_sync(build_defs(settings, observer=observer), instance, asked)
    return SyncOutcome(
        run_id=run_id,
        status=overall(assets),
        seconds=round(seconds, 3),
        requests=observer.requests,
        tokens=observer.tokens,
        assets=assets,
    )


def without_history(warehouse: Warehouse, request: SyncRequest) -> frozenset[str]:
    """Incremental entities that were never read whole: their first sync reads everything and leaves nobody out."""
    if request.full or request.first:
        return frozenset()
    wanted = (entity.name for entity in CATALOG if entity.is_incremental and entity.name in request.assets)
    read_whole = warehouse.query(
        "SELECT DISTINCT entity FROM pipeboard.load WHERE status = 'success' AND mode = 'full'"
    )
    return frozenset(wanted) - {row["entity"] for row in read_whole}


def _summary(outcome: SyncOutcome) -> str:
    return (
        f"{outcome.seconds:.1f} s, {outcome.requests:,} requests, {outcome.tokens:,} API tokens; run {outcome.run_id}"
    )
