"""Composition root for Dagster: assets, jobs, sensors and resources put together. Loads with no environment, connects to nothing."""

import dagster as dg

from pipeboard_assets.graph.alert_sensor import build_alert_sensor
from pipeboard_assets.graph.automation import build_deal_history, build_downstream_sensor, build_sync_all, months
from pipeboard_assets.graph.changelog_asset import build_changelog_asset
from pipeboard_assets.graph.entity_assets import build_assets
from pipeboard_assets.graph.observer import Observer
from pipeboard_assets.graph.refresh import build_refresh_sensor, build_weekly_reconciliation
from pipeboard_assets.graph.resources import build_resources
from pipeboard_assets.graph.view_assets import build_view_assets
from pipeboard_assets.logs import configure_logs
from pipeboard_assets.metrics.live import LivePush
from pipeboard_resources.settings import Settings


def build_defs(settings: Settings, *, observer: Observer | None = None) -> dg.Definitions:
    """Everything that Dagster shows. Tests and commands pass their own settings and observer; nothing is patched."""
    watched = observer or Observer(live=LivePush(settings.pushgateway_address, account=settings.account))
    partitions = months(settings.history_start)
    views = build_view_assets(settings)
    shown = sorted(views.keys)
    return dg.Definitions(
        assets=[*build_assets(settings, partitions, watched), build_changelog_asset(settings, watched), views],
        jobs=[build_sync_all(settings.prefix), build_deal_history(settings.prefix)],
        schedules=[build_weekly_reconciliation(settings, partitions, shown)],
        sensors=[
            build_refresh_sensor(settings, partitions, shown),
            build_downstream_sensor(),
            build_alert_sensor(settings),
        ],
        resources=build_resources(settings, watched),
        executor=dg.in_process_executor,  # a spawned step costs 1.5-2 s; concurrency lives inside the steps
    )


_settings = Settings()
configure_logs(_settings.log_format)
defs = build_defs(_settings)
