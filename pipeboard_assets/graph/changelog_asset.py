"""The changelogs of deals as a software-defined asset, in a job of its own: they cost a call a deal, so no sync asks for them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg

from pipeboard_assets.graph.asset_checks import check_events, check_specs
from pipeboard_assets.graph.automation import changelog_key
from pipeboard_assets.graph.checks import changelog_checks, verdicts
from pipeboard_assets.graph.entity_assets import OWNER, PIPEDRIVE_POOL, asset_key, in_the_ledger, masks_of
from pipeboard_assets.graph.failures import as_dagster_failure
from pipeboard_assets.graph.observer import Observer
from pipeboard_assets.logs import doing
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG, ChangelogSync
from pipeboard_assets.sync.entity_sync import Mode
from pipeboard_io import LoadReport, Warehouse
from pipeboard_resources.settings import Settings

_COUNTS = ("inserted", "updated", "unchanged", "deleted", "restored", "rejected")
_ROWS = f"SELECT count(*) AS rows FROM {DEAL_CHANGELOG}"


def build_changelog_asset(settings: Settings, observer: Observer) -> dg.AssetsDefinition:
    """Load after load until nothing is left or the day's tokens are spent; each is published, and none is asked for again."""

    checks = changelog_checks()
    specs = check_specs(changelog_key(settings.prefix), checks)

    @dg.asset(
        key=changelog_key(settings.prefix),
        deps=[asset_key("deals", settings.prefix)],
        group_name="crm_sales",
        kinds={"pipedrive", "postgres"},
        owners=[OWNER],
        description=DEAL_CHANGELOG.comment,
        metadata={
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(c.name, c.type.value, c.comment) for c in DEAL_CHANGELOG.columns]
            ),
            "dagster/table_name": ".".join(changelog_key(settings.prefix).path),
        },
        check_specs=specs,
        pool=settings.prefix + PIPEDRIVE_POOL,
        required_resource_keys={"pipedrive", "warehouse"},
    )
    def deal_changelog(context: dg.AssetExecutionContext) -> Iterator[Any]:
        doing(run_id=context.run.run_id, asset=DEAL_CHANGELOG.name)
        warehouse: Warehouse = context.resources.warehouse
        with as_dagster_failure(pause_seconds=settings.step_retry_seconds):
            reports = [*iter(partial(_load_next, context, settings, observer), None)]
            warehouse.fit(DEAL_CHANGELOG)
            (rows,) = warehouse.query(_ROWS)
            found = verdicts(warehouse, str(DEAL_CHANGELOG), checks)
        yield dg.MaterializeResult(metadata={"dagster/row_count": rows["rows"], **_sums(reports)})
        yield from check_events(specs, found)

    return deal_changelog


def _load_next(context: dg.AssetExecutionContext, settings: Settings, observer: Observer) -> LoadReport | None:
    """The next hundred deals, None where nothing is left. A tally each, because the metrics add up what every load counted."""
    tally = observer.begin(DEAL_CHANGELOG.name, context.resources.pipedrive)
    sync = ChangelogSync(
        client=tally.client,
        warehouse=context.resources.warehouse,
        run_id=context.run.run_id,
        page_read=tally.page_read,
        hidden=masks_of(settings).how("deals"),
    )
    try:
        with in_the_ledger(sync, tally, Mode.CHANGELOG, lambda: DEAL_CHANGELOG):
            load = sync.load()
        if load is None:
            return None
        return sync.warehouse.load(replace(load, facts=lambda: {**tally.facts(), **sync.facts()}))
    finally:
        observer.live.stop()


def _sums(reports: Sequence[LoadReport]) -> dict[str, Any]:
    counts = {name: sum(getattr(report, name) for report in reports) for name in _COUNTS}
    return {**counts, "seconds_total": round(sum(report.seconds["total"] for report in reports), 3)}
