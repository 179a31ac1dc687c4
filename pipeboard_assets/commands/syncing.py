"""The body of `pipeboard sync`: from what a person asked for to one Dagster run, its report and its exit status."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import click
from sqlalchemy.exc import DBAPIError

from pipeboard_assets.bi.main_bi import MAIN_BI, UPSTREAM
from pipeboard_assets.commands.console import progress_display, say, show_outcomes
from pipeboard_assets.commands.environment import dagster_instance, servers
from pipeboard_assets.commands.runner import INTERRUPTED, run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.entity_assets import masks_of
from pipeboard_assets.graph.launching import runs_of, without
from pipeboard_assets.graph.observer import Display, Observer, Silence
from pipeboard_assets.graph.outcome import AssetOutcome, Status, SyncOutcome, overall, together
from pipeboard_assets.graph.request import ASSETS, MONTHLY, SyncRequest
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_assets.graph.view_assets import STEP
from pipeboard_assets.metrics.live import LivePush
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG, deal_history_told
from pipeboard_assets.sync.history import history_told
from pipeboard_io import Warehouse
from pipeboard_io.errors import DatabaseUnavailableError
from pipeboard_resources.pipedrive.errors import BlockedError
from pipeboard_resources.settings import PIPEDRIVE_KEY_MISSING, MissingSettingError, Settings

EXIT_CODES = {Status.SUCCESS: 0, Status.FAILED: 1, Status.SKIPPED: 1, Status.STOPPED: 75}


def sync(settings: Settings, request: SyncRequest, *, as_json: bool) -> int:
    """Run it, show it, and return the exit status. Raises MissingSettingError."""
    if settings.pipedrive_api_key is None:
        raise MissingSettingError(PIPEDRIVE_KEY_MISSING)
    with servers(settings, say) as ready:
        try:
            outcome = perform(ready, request)
        except DBAPIError:  # of Dagster's storage, whose text is SQL with its parameters
            raise DatabaseUnavailableError(
                "PostgreSQL went away while the run was being recorded. Nothing is half done; run it again"
            ) from None
    if as_json:
        click.echo(json.dumps(outcome.as_json(), ensure_ascii=False))
    else:
        show_outcomes(outcome.assets)
        say(_summary(outcome) if outcome.assets else "Nothing is rejected.")
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
        _display(settings, request) as display,
    ):
        observer = Observer(display, LivePush(settings.pushgateway_address, account=settings.account))
        if request.retry_rejected:
            request = replace(request, assets=with_rejects(warehouse, request))
        outcome = SyncOutcome(run_id="", status=Status.SUCCESS, seconds=0.0, requests=0, tokens=0)
        for planned in runs_of(settings, warehouse, request) if request.assets else ():
            run = without(planned, {each.asset for each in outcome.assets if each.status is not Status.SUCCESS})
            if planned.is_history and not set(run.assets) & set(MONTHLY):
                continue
            run_id, seconds, assets = run_sync(build_defs(settings, observer=observer), instance, run)
            outcome = _with_run(outcome, run_id, seconds, assets, observer)
            if any(each.status is Status.STOPPED or _is_shut_out(each) for each in assets):
                break
        if request.deal_history and outcome.status in (Status.SUCCESS, Status.STOPPED):
            say(deal_history_told(warehouse, masks_of(settings).how("deals")))
        if told := history_told(warehouse, settings.history_start, datetime.now(UTC)):
            say(told)
    return outcome


def _is_shut_out(outcome: AssetOutcome) -> bool:
    """By the firewall before Pipedrive: whoever goes on asking is shut out for longer."""
    return (outcome.error or "").endswith(BlockedError.default_advice)


def _with_run(
    outcome: SyncOutcome, run_id: str, seconds: float, assets: Sequence[AssetOutcome], observer: Observer
) -> SyncOutcome:
    found = {each.asset: each for each in outcome.assets if each.asset != STEP}  # every run looks at all views
    found |= {each.asset: together(found[each.asset], each) if each.asset in found else each for each in assets}
    return SyncOutcome(
        run_id=run_id,
        status=overall(tuple(found.values())),
        seconds=round(outcome.seconds + seconds, 3),
        requests=observer.requests,
        tokens=observer.tokens,
        assets=tuple(found[name] for name in (*ASSETS, DEAL_CHANGELOG.name, *_red(found)) if name in found),
    )


def _red(found: Mapping[str, AssetOutcome]) -> Sequence[str]:
    """The views are no tables that people select or count: named where they are what is wrong."""
    return [STEP] if STEP in found and found[STEP].status is not Status.SUCCESS else []


def _display(settings: Settings, request: SyncRequest) -> AbstractContextManager[Display]:
    """Progress for people; nothing between the lines of a log for machines."""
    return nullcontext(Silence()) if settings.log_format == "json" else progress_display(len(request.assets))


def with_rejects(warehouse: Warehouse, request: SyncRequest) -> tuple[str, ...]:
    """Those of the selected assets of which something is rejected, and the mart if one of them feeds it."""
    rows = warehouse.query("SELECT DISTINCT entity FROM pipeboard.rejected_record WHERE resolved_at IS NULL")
    rejected = {row["entity"] for row in rows}
    feeds_mart = bool(rejected & set(request.assets) & set(UPSTREAM))
    return tuple(name for name in request.assets if name in rejected or (name == MAIN_BI.name and feeds_mart))


def _summary(outcome: SyncOutcome) -> str:
    return (
        f"{outcome.seconds:.1f} s, {outcome.requests:,} requests, {outcome.tokens:,} API tokens; run {outcome.run_id}"
    )
