"""The sensor that alerts: gathers what happened since its last look from runs, tables and daemons, and posts it.

It has a cursor of its own instead of Dagster's run-failure sensors: those miss a failed check in a run that succeeded,
forget what was told before, and lose a message whose delivery failed.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from pipeboard_assets.graph.alerts import Memory, message_about
from pipeboard_assets.graph.automation import SYNC_ALL
from pipeboard_assets.graph.news import daemon_news, freshness_news, run_news, tick_news, token_news
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_resources.notifier import Notifier
from pipeboard_resources.settings import Settings

NAME = "alerts"

_EVERY_SECONDS = 60
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)
_RUNS_AT_ONCE = 50

Now = Callable[[], datetime]


def build_alert_sensor(settings: Settings, *, now: Now = lambda: datetime.now(UTC)) -> dg.SensorDefinition:
    """One message a run, one for late tables, one for the API tokens, one for Dagster itself; what could not be delivered is tried again."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the channels of PIPEBOARD_ALERT_URLS of failed runs and checks, stale tables, spent API tokens, "
        "and of daemons, sensors and schedules that stand still.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        notifier = Notifier(settings.alert_urls)
        if not notifier.channels:
            return dg.SensorResult(skip_reason="PIPEBOARD_ALERT_URLS is empty: nobody is told of anything.")
        moment, whose = now(), f"{settings.account}: " if settings.account else ""
        memory = Memory.model_validate_json(context.cursor) if context.cursor else Memory(seen_until=moment)
        for run in _new_runs(context.instance, memory, settings.prefix):
            fresh = memory.fresh(run_news(context.instance, run, settings.prefix), now=moment)
            if fresh:
                link = f"{settings.ui_url}/runs/{run.run_id}"
                memory.post(
                    message_about(f"{whose}run {run.run_id[:8]}", fresh, link=link), notifier.channels, now=moment
                )
        with open_warehouse(settings) as warehouse:
            late = [*freshness_news(warehouse, settings, now=moment)]
            spent = [*token_news(warehouse, settings, now=moment)]
        standing = [
            *daemon_news(context.instance),
            *tick_news(context.instance, _watched(context), now=moment, location=_location(context)),
        ]
        for subject, told in (("freshness", late), ("API tokens", spent), ("Dagster", standing)):
            if news := memory.fresh(told, now=moment):
                memory.post(message_about(whose + subject, news, link=settings.ui_url), notifier.channels, now=moment)
        sent, waiting, given_up = memory.deliver(notifier, now=moment)
        said = (
            f"{sent} sent, {waiting} to be tried again, {given_up} given up."
            if sent + waiting + given_up
            else "No news."
        )
        return dg.SensorResult(skip_reason=said, cursor=memory.model_dump_json())

    return alerts


def _watched(context: dg.SensorEvaluationContext) -> set[str]:
    """Sensors and schedules of this code location, those of one's own assets included; this sensor cannot tell of itself."""
    repository = context.repository_def
    if repository is None:
        return set()
    sensors, schedules = repository.sensor_defs, repository.schedule_defs
    return {*(each.name for each in sensors), *(each.name for each in schedules)} - {NAME}


def _location(context: dg.SensorEvaluationContext) -> str | None:
    """The code location: that of another company has sensors of the same names."""
    origin = context.code_location_origin
    return None if origin is None else origin.location_name


def _new_runs(instance: dg.DagsterInstance, memory: Memory, prefix: str) -> list[dg.DagsterRun]:
    """Runs that ended since the last look, each once. One that Dagster starts again by itself is not over yet."""
    # A second of overlap: several runs may end in the same one.
    ended = dg.RunsFilter(statuses=list(_ENDED), updated_after=memory.seen_until - timedelta(seconds=1))
    records = instance.get_run_records(ended, limit=_RUNS_AT_ONCE, ascending=True)
    fresh = [each for each in records if each.dagster_run.run_id not in memory.seen_runs]
    for record in fresh:
        memory.seen_until = max(memory.seen_until, record.update_timestamp.replace(tzinfo=UTC))
    memory.seen_runs = [*memory.seen_runs, *(each.dagster_run.run_id for each in fresh)][-_RUNS_AT_ONCE * 4 :]
    ended_for_good = (each.dagster_run for each in fresh if each.dagster_run.tags.get("dagster/will_retry") != "true")
    return [run for run in ended_for_good if _is_of(run, prefix)]


def _is_of(run: dg.DagsterRun, prefix: str) -> bool:
    """Whether it is the company's: several share an instance only when each of them has a prefix."""
    keys = run.asset_selection or ()
    return not prefix or run.job_name == prefix + SYNC_ALL or any(key.path[0].startswith(prefix) for key in keys)
