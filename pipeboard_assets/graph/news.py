"""What there is to tell: of runs and their checks, of late tables, of the day's API tokens, of daemons, sensors and schedules.

Each is asked for all that holds now, what is well included; `Memory` knows which of it people have not heard yet.
"""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorType, TickStatus

from pipeboard_assets.graph.alerts import Level, News
from pipeboard_assets.graph.entity_assets import asset_key
from pipeboard_assets.graph.request import ASSETS
from pipeboard_assets.metrics.token_use import token_use
from pipeboard_assets.sync.freshness import Freshness, freshness, last_successes, spoken
from pipeboard_io import Warehouse
from pipeboard_resources.settings import Settings

_Type = dg.DagsterEventType
_TOLD_OF_A_RUN = {_Type.STEP_SUCCESS, _Type.STEP_FAILURE, _Type.ASSET_CHECK_EVALUATION, _Type.RUN_FAILURE}

_WARN_OF_TOKENS_PERCENT = 75

# One tick that fails may be a database that restarts.
_FAILED_TICKS = 3
_SILENT_AFTER = timedelta(minutes=15)


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
            # One step makes all views, so that its name does not tell them apart.
            checked = name if name in ASSETS else ".".join(check.asset_key.path)
            yield News(
                key=f"check {checked} {check.check_name}", level=level, text=f"{checked}, {check.check_name}: {said}"
            )
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
    """Tables past the fail window, and those that are back. One that was never synced is no table yet.

    Stored marts and the calendar are computed when something changed, so their age says nothing.
    """
    successes = last_successes(warehouse)
    for name, last in [(name, successes[name]) for name in ASSETS if name in successes]:
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


def token_news(warehouse: Warehouse, settings: Settings, *, now: datetime) -> Iterator[News]:
    """The day's API tokens at 75 and 100 percent of what may be spent; nothing where nothing was told today."""
    use = token_use(warehouse, reserve_percent=settings.token_reserve_percent, now=now)
    if use is None:
        return
    is_spent, is_low = use.percent >= 100, use.percent >= _WARN_OF_TOKENS_PERCENT
    told = f"{use.percent:.0f} % of the day's API tokens that Pipeboard may use are spent ({use.left:,} of {use.per_day:,} left)."
    advice = {
        Level.ERROR: " Syncs stop until the budget is full again, at midnight of Pipedrive's server, and then go on by themselves.",
        Level.WARN: " Sync less often (PIPEBOARD_FRESH_WARN_HOURS), look what else uses the account's tokens, or buy a top-up.",
    }
    level = Level.ERROR if is_spent else Level.WARN if is_low else Level.OVER
    yield News(key="tokens", level=level, text=told + advice.get(level, ""))


def tick_news(
    instance: dg.DagsterInstance, names: Collection[str], *, now: datetime, location: str | None = None
) -> Iterator[News]:
    """Those of the sensors and schedules `names` that fail, fell silent or were stopped; one that never ticked is not told of.
    `location`: of that code location only."""
    # An instance in memory has no daemon and keeps no ticks.
    for state in instance.all_instigator_state() if instance.schedule_storage is not None else ():
        if state.instigator_name in names and location in (None, state.repository_selector.location_name):
            level, said = _ticking(instance, state, now)
            kind = state.instigator_type.value.lower()
            yield News(
                key=f"{kind} {state.instigator_name}", level=level, text=f"The {kind} `{state.instigator_name}` {said}"
            )


def _ticking(instance: dg.DagsterInstance, state: InstigatorState, now: datetime) -> tuple[Level, str]:
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=_FAILED_TICKS + 1)
    ended = [tick for tick in ticks if tick.status is not TickStatus.STARTED][:_FAILED_TICKS]
    if not state.is_running:
        return Level.WARN, "was stopped. If nobody meant to: start it again under Automation in the UI."
    if len(ended) == _FAILED_TICKS and all(tick.status is TickStatus.FAILURE for tick in ended):
        return (
            Level.ERROR,
            f"failed {_FAILED_TICKS} times in a row. Its page in the UI, under Automation, shows the error.",
        )
    silence = timedelta(seconds=now.timestamp() - ticks[0].timestamp) if ticks else timedelta()
    if state.instigator_type is InstigatorType.SENSOR and silence > _SILENT_AFTER:
        return Level.ERROR, f"last ticked {spoken(silence)} ago: restart `pipeboard ui` or dagster-daemon."
    return Level.OVER, "ticks again."
