"""What starts a sync without anybody asking: the refresh sensor when a table is late, the weekly reconciliation.

The sensor is the cron. Its decision is a function of the situation and says in plain words why it is so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import dagster as dg

from pipeboard_assets.graph.automation import SYNC_ALL
from pipeboard_assets.graph.launching import (
    run_config,
    run_tags,
    runs_of,
    selection,
    with_downstream,
    without,
    without_history,
)
from pipeboard_assets.graph.request import ASSETS, SyncRequest
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_assets.graph.run_process import end_dead_runs
from pipeboard_assets.sync.covered import failed_since, months_read
from pipeboard_assets.sync.freshness import last_successes, late, spoken
from pipeboard_assets.sync.history import progress
from pipeboard_assets.sync.months import month_of, month_start
from pipeboard_resources.pipedrive.errors import PipedriveError
from pipeboard_resources.settings import PIPEDRIVE_KEY_MISSING, Settings

WHY_TAG = "pipeboard/why"

_EVERY_SECONDS = 60
_FIRST_PAUSE = timedelta(minutes=5)
_LONGEST_PAUSE = timedelta(hours=1)
_RUNS_LOOKED_AT = 10

# Not NOT_STARTED: that a command has a run created for an instant says nothing, and one killed then would stay for ever.
_UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_WENT_WRONG = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the decision rests on. `failures`: syncs that failed since the last one that did not; `history`: what is told of
    a first load that is spread over days and not complete."""

    successes: Mapping[str, datetime]
    under_way: Sequence[str] = ()
    history: str | None = None
    failures: int = 0
    failed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to start a sync now, and why."""

    starts: bool
    why: str


def decide(situation: Situation, *, late_after: timedelta, now: datetime) -> Decision:
    """Start when a table is late or missing, but never twice at once, and ever later while syncs fail."""
    if situation.under_way:
        return Decision(False, f"A sync is under way already (run {situation.under_way[0][:8]}).")
    due = late(situation.successes, ASSETS, after=late_after, now=now)
    if not due and situation.history is None:
        return Decision(False, _all_fresh(situation.successes, late_after=late_after, now=now))
    reason = _told_late(due, situation.successes, now=now) if due else str(situation.history)
    if situation.failed_at is not None and situation.failures:
        next_try_at = situation.failed_at + pause(situation.failures)
        if now < next_try_at:
            syncs = "the last sync" if situation.failures == 1 else f"the last {situation.failures} syncs"
            return Decision(False, f"{reason} But {syncs} failed; the next try is at {next_try_at:%H:%M} UTC.")
    return Decision(True, reason)


def pause(failures: int) -> timedelta:
    """Time to leave alone what failed so often: 5, 10, 20, 40 minutes, then an hour."""
    return min(_FIRST_PAUSE * (1 << min(failures - 1, 10)), _LONGEST_PAUSE)


def _all_fresh(successes: Mapping[str, datetime], *, late_after: timedelta, now: datetime) -> str:
    oldest = min(ASSETS, key=lambda name: successes[name])
    age, due_at = now - successes[oldest], successes[oldest] + late_after
    return (
        f"Every table is fresh. The oldest, {oldest}, was synced {spoken(age)} ago; "
        f"the next sync is due at {due_at:%Y-%m-%d %H:%M} UTC."
    )


def _told_late(due: Sequence[str], successes: Mapping[str, datetime], *, now: datetime) -> str:
    first, others = due[0], len(due) - 1
    state = f"was synced {spoken(now - successes[first])} ago" if first in successes else "was never synced"
    also = f" {others} more {'is' if others == 1 else 'are'} late too." if others else ""
    return f"{first} {state}.{also}"


def build_refresh_sensor(
    settings: Settings,
    partitions: dg.PartitionsDefinition[str],
    views: Sequence[dg.AssetKey],
    *,
    now: Now = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Starts `sync_all` as `decide` says; the reason stands in the tick, and in the run it starts. `views`: what every run
    brings up to date beside its tables."""

    @dg.sensor(
        name="refresh",
        job_name=settings.prefix + SYNC_ALL,
        minimum_interval_seconds=_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a sync when a table is late or missing; waits while one runs, and longer while syncs fail.",
    )
    def refresh(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if settings.pipedrive_api_key is None:
            return dg.SkipReason(PIPEDRIVE_KEY_MISSING)
        end_dead_runs(context.instance)
        with open_warehouse(settings) as warehouse:
            warehouse.note_killed_loads()
            successes = last_successes(warehouse)
            new = without_history(warehouse, SyncRequest(prefix=settings.prefix))
            resting = with_downstream(failed_since(warehouse, now() - _LONGEST_PAUSE) & set(ASSETS))
            resting = resting if new - resting else frozenset()
            history = progress(warehouse, new - resting, settings.history_start, now())
            situation = replace(
                _runs(context.instance, settings.prefix + SYNC_ALL),
                successes=successes,
                history=str(history) if history is not None and history.left else None,
            )
            decision = decide(situation, late_after=settings.warns_after, now=now())
            if not decision.starts:
                return dg.SkipReason(decision.why)
            try:
                runs = runs_of(settings, warehouse, SyncRequest(prefix=settings.prefix), resting=resting, now=now())
            except PipedriveError as error:  # a first sync asks how large the account is
                return dg.SkipReason(f"{decision.why} But no sync starts, because {error}")
        request = first_to_start(runs, successes, late_after=settings.warns_after, now=now())
        if request is None:
            return dg.SkipReason(f"{decision.why} But what is left failed lately: {', '.join(sorted(resting))}.")
        context.log.info("a sync starts: %s", decision.why)
        return dg.RunRequest(
            run_config=run_config(request),
            tags={**run_tags(request, partitions), WHY_TAG: decision.why},
            asset_selection=selection(request, views),
        )

    return refresh


def first_to_start(
    runs: Sequence[SyncRequest], successes: Mapping[str, datetime], *, late_after: timedelta, now: datetime
) -> SyncRequest | None:
    """What changed, where that is due, else a month of the history; None where all that is due rests.

    A new month makes it due, too: it is read by its own bounds, and what changed at the end of the last one would be left out.
    """
    this_month = now - month_start(month_of(now))
    due = set(late(successes, ASSETS, after=min(late_after, this_month), now=now))
    return next((run for run in runs if run.is_history or due & set(run.assets)), None)


def _runs(instance: dg.DagsterInstance, job: str) -> Situation:
    """What the newest syncs tell, those of the command included."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job), limit=_RUNS_LOOKED_AT)
    ended = [record for record in records if record.dagster_run.is_finished]
    failed = []
    for record in ended:
        if record.dagster_run.status not in _WENT_WRONG:
            break
        failed.append(record)
    ends = [record.end_time for record in failed if record.end_time is not None]
    return Situation(
        successes={},
        under_way=[each.dagster_run.run_id for each in records if each.dagster_run.status in _UNDER_WAY],
        failures=len(failed),
        failed_at=datetime.fromtimestamp(max(ends), UTC) if ends else None,
    )


def build_weekly_reconciliation(
    settings: Settings, partitions: dg.PartitionsDefinition[str], views: Sequence[dg.AssetKey]
) -> dg.ScheduleDefinition:
    """Once a week everything is read again, and what is gone from Pipedrive is marked: no list of changes tells that.

    But not what a first load is reading month by month: it would take the day's tokens, publish nothing, and be dropped.
    """

    @dg.schedule(
        name="weekly_reconciliation",
        job_name=settings.prefix + SYNC_ALL,
        cron_schedule="0 3 * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Sundays at 03:00 UTC: reads everything again and marks what is gone.",
    )
    def weekly_reconciliation(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        request, why = SyncRequest(full=True, prefix=settings.prefix), "Sunday: everything is read again"
        if loading := _loading_by_months(settings):
            request, why = (
                without(request, loading),
                f"{why} but {', '.join(sorted(loading))}, whose first load goes on",
            )
        return dg.RunRequest(
            run_config=run_config(request),
            tags={**run_tags(request, partitions), WHY_TAG: f"{why}, and what is gone is marked."},
            asset_selection=selection(request, views),
        )

    return weekly_reconciliation


def _loading_by_months(settings: Settings) -> frozenset[str]:
    """Entities of which a first load has read some months and not all."""
    if settings.pipedrive_api_key is None:
        return frozenset()
    with open_warehouse(settings) as warehouse:
        return without_history(warehouse, SyncRequest()) & months_read(warehouse).keys()
