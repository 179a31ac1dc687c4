"""The sensor that alerts: gathers what happened since its last look from runs, tables and daemons, and posts it.

It has a cursor of its own instead of Dagster's run-failure sensors: those miss a failed check in a run that succeeded,
forget what was told before, and lose a message whose delivery failed.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from pipeboard_assets.graph.alerts import Level, Memory, News, message_about
from pipeboard_assets.graph.automation import SYNC_ALL
from pipeboard_assets.graph.entity_assets import asset_key
from pipeboard_assets.graph.request import ASSETS
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_assets.sync.freshness import Freshness, freshness, last_successes, spoken
from pipeboard_io import Warehouse
from pipeboard_resources.notifier import Notifier
from pipeboard_resources.settings import Settings

_EVERY_SECONDS = 60
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)
_RUNS_AT_ONCE = 50
_Type = dg.DagsterEventType
_TOLD_OF_A_RUN = {_Type.STEP_SUCCESS, _Type.STEP_FAILURE, _Type.ASSET_CHECK_EVALUATION, _Type.RUN_FAILURE}

Now = Callable[[], datetime]


def build_alert_sensor(settings: Settings, *, now: Now = lambda: datetime.now(UTC)) -> dg.SensorDefinition:
    """One message a run, one for late tables, one for Dagster itself; what could not be delivered is tried again."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the channels of PIPEBOARD_ALERT_URLS of failed runs and checks, stale tables, silent daemons.",
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
            late = memory.fresh(freshness_news(warehouse, settings, now=moment), now=moment)
        silent = memory.fresh(daemon_news(context.instance), now=moment)
        for subject, news in (("freshness", late), ("Dagster", silent)):
            if news:
                memory.post(message_about(whose + subject, news, link=settings.ui_url), notifier.channels, now=moment)
        sent, waiting, given_up = memory.deliver(notifier, now=moment)
        said = (
            f"{sent} sent, {waiting} to be tried again, {given_up} given up."
            if sent + waiting + given_up
            else "No news."
        )
        return dg.SensorResult(skip_reason=said, cursor=memory.model_dump_json())

    return alerts


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


def run_news(instance: dg.DagsterInstance, run: dg.DagsterRun, prefix: str) -> Iterator[News]:
    """What a run tells: of each asset, of each check, and of the run itself where no step explains its end."""
    steps = {asset_key(name, prefix).to_python_identifier(): name for name in ASSETS}
    explained = False
    reds = set()
    for entry in instance.all_logs(run.run_id, of_type=_TOLD_OF_A_RUN):
        event = entry.get_dagster_event()
        name = steps.get(event.step_key or "", event.step_key or "")
        if event.event_type is _Type.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            is_error = check.severity is dg.AssetCheckSeverity.ERROR
            level = Level.OVER if check.passed else Level.ERROR if is_error else Level.WARN
            said = "passes again." if check.passed else check.description or "did not pass."
            if level is Level.ERROR:
                reds.add(name)
            yield News(key=f"check {name} {check.check_name}", level=level, text=f"{name}, {check.check_name}: {said}")
        elif event.event_type is _Type.STEP_SUCCESS:
            yield News(key=f"asset {name}", level=Level.OVER, text=f"{name} is up to date again.")
        elif event.event_type is _Type.STEP_FAILURE:
            explained = True
            if name not in reds:  # its check has said so
                yield News(key=f"asset {name}", level=Level.ERROR, text=f"{name}: {_why(event)}")
        elif event.event_type is _Type.RUN_FAILURE and not explained:
            yield News(key="run", level=Level.ERROR, text=f"{run.job_name}: {event.message}")
    if run.status is dg.DagsterRunStatus.SUCCESS:
        yield News(key="run", level=Level.OVER, text=f"{run.job_name} succeeds again.")


def _why(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    return "failed; its page shows the error."  # not the error itself: a stranger's message may hold anything


def freshness_news(warehouse: Warehouse, settings: Settings, *, now: datetime) -> Iterator[News]:
    """Tables past the fail window, and those that are back. One that was never synced is no table yet."""
    for name, last in last_successes(warehouse).items():
        is_stale = freshness(last, settings, now=now) is Freshness.FAIL
        said = f"was last synced {spoken(now - last)} ago."
        advice = f" The sensor `refresh` says why: {settings.ui_url}/overview/automation" if is_stale else ""
        yield News(key=f"fresh {name}", level=Level.ERROR if is_stale else Level.OVER, text=f"{name} {said}{advice}")


def daemon_news(instance: dg.DagsterInstance) -> Iterator[News]:
    """Daemons that fell silent. That all of them did only somebody outside can tell."""
    for name, status in instance.get_daemon_statuses().items():
        if status.required and status.last_heartbeat is not None:
            level = Level.OVER if status.healthy else Level.ERROR
            said = "ticks again." if status.healthy else "no longer ticks: restart `pipeboard ui` or dagster-daemon."
            yield News(key=f"daemon {name}", level=level, text=f"Dagster's {name.lower()} daemon {said}")
