"""One sync as one Dagster run in this process, and what came of it, asset by asset."""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster_shared.error import SerializableErrorInfo

from pipeboard_assets.automation import month_key, range_tags
from pipeboard_assets.catalog import by_name
from pipeboard_assets.entity_assets import asset_key
from pipeboard_assets.failures import STOPPED
from pipeboard_assets.main_bi import MAIN_BI, UPSTREAM
from pipeboard_assets.outcome import AssetOutcome, Status
from pipeboard_assets.request import ASSETS, SyncRequest
from pipeboard_assets.sync import Mode
from pipeboard_resources.embedded.processes import is_process

INTERRUPTED = "interrupted; the next sync reads it again"

# Tags of a run: which process carries it out.
HOST = "pipeboard/host"
PID = "pipeboard/pid"


def run_sync(
    defs: dg.Definitions, instance: dg.DagsterInstance, request: SyncRequest
) -> tuple[str, float, tuple[AssetOutcome, ...]]:
    """Run the selected assets in this process; returns the run's id, its seconds and the outcome of each asset."""
    end_dead_runs(instance)
    started = time.monotonic()
    job = defs.resolve_job_def("sync_all")
    result = job.execute_in_process(
        instance=instance,
        run_config=_run_config(request),
        tags={**_partition_tags(request, job.partitions_def), HOST: socket.gethostname(), PID: str(os.getpid())},
        asset_selection=[asset_key(name) for name in request.assets],
        raise_on_error=False,
    )
    seconds = time.monotonic() - started
    return result.run_id, seconds, tuple(_outcomes(request.assets, result.all_events))


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Runs of this machine whose process was killed: nobody else would ever say that they are over."""
    unfinished = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED], tags={HOST: socket.gethostname()}
    )
    for run in instance.get_runs(unfinished):
        if not is_process(int(run.tags[PID]), "pipeboard"):
            instance.report_run_failed(
                run, "Its process was killed. Nothing is half done; the next sync reads it again."
            )


def _run_config(request: SyncRequest) -> dict[str, Any]:
    ops = {
        asset_key(name).to_python_identifier(): {
            "config": {"mode": _mode(name, request), "allow_mass_delete": request.allow_mass_delete}
        }
        for name in request.assets
        if name != MAIN_BI.name
    }
    # The outcome is told by the caller; Dagster's own log lines would bury it. The run's page in the UI has them.
    return {"ops": ops, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _mode(name: str, request: SyncRequest) -> str:
    if request.retry_rejected:
        return Mode.REJECTED.value
    if request.full or name in request.without_history:
        return Mode.FULL.value
    return Mode.BACKFILL.value if request.first else Mode.INCREMENTAL.value


def _partition_tags(request: SyncRequest, partitions: dg.PartitionsDefinition[str] | None) -> Mapping[str, str]:
    """The range asked for; the whole history where it is read anew; else the current month."""
    if partitions is None or not any(name in ASSETS and _is_monthly(name) for name in request.assets):
        return {}
    keys = partitions.get_partition_keys()
    if request.first and request.last:
        return range_tags(month_key(request.first), month_key(request.last))
    if request.full or request.without_history:
        return range_tags(keys[0], keys[-1])
    return {"dagster/partition": keys[-1]}


def _is_monthly(name: str) -> bool:
    return name != MAIN_BI.name and by_name(name).is_incremental


def _outcomes(names: Sequence[str], events: Sequence[DagsterEvent]) -> Iterator[AssetOutcome]:
    by_step: dict[str, list[DagsterEvent]] = {}
    for event in events:
        if event.step_key:
            by_step.setdefault(event.step_key, []).append(event)
    run_error = None if by_step else _run_error(events)
    causes: dict[str, set[str]] = {}
    for name in names:
        upstream = set().union(*(causes.get(each, ()) for each in _upstream(name)))
        outcome = _outcome(
            name,
            by_step.get(asset_key(name).to_python_identifier(), []),
            causes=sorted(upstream, key=ASSETS.index),
            run_error=run_error,
        )
        if outcome.status is not Status.SUCCESS:
            causes[name] = upstream if outcome.status is Status.SKIPPED else {name}
        yield outcome


def _upstream(name: str) -> Sequence[str]:
    return UPSTREAM if name == MAIN_BI.name else by_name(name).upstream


def _run_error(events: Sequence[DagsterEvent]) -> str | None:
    """Why a run ended before any step: a resource that could not be opened."""
    failed = [event.job_failure_data.error for event in events if event.event_type is DagsterEventType.RUN_FAILURE]
    return _sentence(_innermost(failed[-1])) if failed and failed[-1] is not None else None


def _outcome(
    name: str, events: Sequence[DagsterEvent], *, causes: Sequence[str], run_error: str | None
) -> AssetOutcome:
    """`causes`: the assets upstream whose failure would explain that this one was skipped."""
    kinds = {event.event_type for event in events}
    failure = next((e for e in reversed(events) if e.event_type is DagsterEventType.STEP_FAILURE), None)
    if failure is not None:
        stopped, message = _failure_of(failure)
        return AssetOutcome(asset=name, status=Status.STOPPED if stopped else Status.FAILED, error=message)
    if run_error is not None:
        return AssetOutcome(asset=name, status=Status.FAILED, error=run_error)
    if DagsterEventType.STEP_SUCCESS not in kinds:
        why = f"{', '.join(causes)} did not succeed" if causes else "the run ended before its turn"
        return AssetOutcome(asset=name, status=Status.SKIPPED, error=f"skipped, because {why}")
    return AssetOutcome(asset=name, status=Status.SUCCESS, **_figures(events))


def _failure_of(event: DagsterEvent) -> tuple[bool, str]:
    """Whether it stopped on purpose, and the innermost message: the sentence that we wrote, not Dagster's wrapping."""
    data = event.step_failure_data
    if data.user_failure_data is not None:
        metadata = data.user_failure_data.metadata
        return STOPPED in metadata, data.user_failure_data.description or "failed"
    error = None if data.error is None else _innermost(data.error)
    if error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        return True, INTERRUPTED
    return False, _sentence(error) if error is not None else "failed"


def _innermost(error: SerializableErrorInfo) -> SerializableErrorInfo:
    while error.cause is not None:
        error = error.cause
    return error


def _sentence(error: SerializableErrorInfo) -> str:
    """The message as it was raised: Dagster puts the class before it."""
    head, _, sentence = error.message.strip().partition(": ")
    is_class = error.cls_name is not None and head.endswith(error.cls_name)
    return sentence if is_class and sentence else error.message.strip()


def _figures(events: Sequence[DagsterEvent]) -> dict[str, Any]:
    """Counts that the IO manager wrote. A range emits one materialization per month, all alike: read one, add none."""
    made = next((e for e in reversed(events) if e.event_type is DagsterEventType.ASSET_MATERIALIZATION), None)
    if made is None:
        return {}
    metadata = made.step_materialization_data.materialization.metadata
    counts = {
        name: metadata[name].value for name in ("inserted", "updated", "unchanged", "deleted", "restored", "rejected")
    }
    return {"rows": metadata["dagster/row_count"].value, "seconds": metadata["seconds_total"].value, **counts}
