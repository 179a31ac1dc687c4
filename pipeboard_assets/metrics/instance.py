"""What Dagster's instance says: runs, daemons, ticks, checks and the months that were read."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES as COMPLETED,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.figures import Figures

# How many times as long as a look took the next one is put off while a run writes; and for how long an event may be looked at
# too soon: a check's verdict is written just after it.
_REST = 30
_LONGEST_REST_SECONDS = 300.0


def read_instance(instance: dg.DagsterInstance) -> Figures:
    """What is so now: runs, daemons and ticks. Raises what Dagster's storage raises."""
    figures = Figures()
    for status in dg.DagsterRunStatus:
        name = status.value.lower()
        if name in series.RUNS.labels["status"]:
            figures.set(series.RUNS, name, value=instance.get_runs_count(dg.RunsFilter(statuses=[status])))
    _add_daemons(figures, instance)
    return figures


class History:
    """What Dagster's log of events says of months and checks. Looking through a year of hourly syncs takes a second, so it is
    done again only when something was written since, and the less often the longer it takes. Not thread-safe."""

    def __init__(self) -> None:
        self._figures = Figures()
        self._newest: int | None = None
        self._read_next_at = self._read_anyway_at = 0.0

    def read(
        self,
        instance: dg.DagsterInstance,
        months: Mapping[str, tuple[dg.AssetKey, Sequence[str]]],
        checks: Sequence[dg.AssetCheckKey],
    ) -> Figures:
        """`months`: key and partitions of every monthly asset by its name. Raises what Dagster's storage raises."""
        began_at, newest = time.monotonic(), instance.event_log_storage.get_maximum_record_id()
        has_news = newest != self._newest and began_at >= self._read_next_at
        if has_news or began_at >= self._read_anyway_at:
            self._figures = _read_history(instance, months, checks)
            self._newest, now = newest, time.monotonic()
            self._read_next_at = now + _REST * (now - began_at)
            self._read_anyway_at = now + _LONGEST_REST_SECONDS
        return self._figures


def _read_history(
    instance: dg.DagsterInstance,
    months: Mapping[str, tuple[dg.AssetKey, Sequence[str]]],
    checks: Sequence[dg.AssetCheckKey],
) -> Figures:
    figures = Figures()
    for asset, (key, partitions) in months.items():
        read = len(set(partitions) & instance.get_materialized_partitions(key))
        figures.set(series.PARTITIONS, asset, "read", value=read)
        figures.set(series.PARTITIONS, asset, "missing", value=len(partitions) - read)
    _add_checks(figures, instance, checks)
    return figures


def _add_daemons(figures: Figures, instance: dg.DagsterInstance) -> None:
    for name, status in instance.get_daemon_statuses().items():
        if status.last_heartbeat is not None:
            figures.set(series.DAEMON, name, value=status.last_heartbeat.timestamp)
    for state in instance.all_instigator_state():
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
            figures.set(series.TICK, state.instigator_name, tick.status.value.lower(), value=tick.timestamp)


def _add_checks(figures: Figures, instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> None:
    failing: Counter[tuple[str, str]] = Counter()
    for key, record in _last_verdicts(instance, checks):
        if record.status is AssetCheckExecutionRecordStatus.FAILED:
            evaluation = record.event and record.event.dagster_event and record.event.dagster_event.event_specific_data
            severity = getattr(evaluation, "severity", dg.AssetCheckSeverity.ERROR)
            failing[key.asset_key.path[-1], severity.value.lower()] += 1
    for asset in dict.fromkeys(key.asset_key.path[-1] for key in checks):
        for severity in series.CHECKS.labels["severity"]:
            figures.set(series.CHECKS, asset, severity, value=failing[asset, severity])


def _last_verdicts(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]
) -> Iterator[tuple[dg.AssetCheckKey, AssetCheckExecutionRecord]]:
    """A check that a run has yet to come to still says what it said before; one that never ran says nothing."""
    storage = instance.event_log_storage
    newest = storage.get_latest_asset_check_execution_by_key(checks) if checks else {}
    for key, record in newest.items():
        if record.status in COMPLETED:
            yield key, record
        else:
            for earlier in storage.get_asset_check_execution_history(key, limit=1, status=COMPLETED):
                yield key, earlier
