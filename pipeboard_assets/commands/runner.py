"""One sync as one Dagster run in this process, and what came of it, asset by asset."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster_shared.error import SerializableErrorInfo

from pipeboard_assets.bi.main_bi import MAIN_BI, UPSTREAM
from pipeboard_assets.catalog import by_name
from pipeboard_assets.graph.automation import DEAL_HISTORY, SYNC_ALL
from pipeboard_assets.graph.entity_assets import asset_key
from pipeboard_assets.graph.failures import STOPPED
from pipeboard_assets.graph.launching import run_config, run_tags, selection
from pipeboard_assets.graph.outcome import AssetOutcome, Status
from pipeboard_assets.graph.request import ASSETS, SyncRequest
from pipeboard_assets.graph.run_process import end_dead_runs, signature
from pipeboard_assets.graph.view_assets import STEP, view_keys
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG

INTERRUPTED = "interrupted; the next sync reads it again"


def run_sync(
    defs: dg.Definitions, instance: dg.DagsterInstance, request: SyncRequest
) -> tuple[str, float, tuple[AssetOutcome, ...]]:
    """Run the selected assets in this process; returns the run's id, its seconds and the outcome of each asset."""
    end_dead_runs(instance)
    started = time.monotonic()
    job = defs.resolve_job_def(request.prefix + (DEAL_HISTORY if request.deal_history else SYNC_ALL))
    result = job.execute_in_process(
        instance=instance,
        # The outcome is told by the caller; Dagster's own log lines would bury it. The run's page in the UI has them.
        run_config={**run_config(request), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={**run_tags(request, job.partitions_def), **signature()},
        # The deals' history is all of a small job.
        asset_selection=None if request.deal_history else selection(request, view_keys(defs)),
        raise_on_error=False,
    )
    seconds = time.monotonic() - started
    return result.run_id, seconds, tuple(_outcomes(request, result.all_events))


def _outcomes(request: SyncRequest, events: Sequence[DagsterEvent]) -> Iterator[AssetOutcome]:
    by_step: dict[str, list[DagsterEvent]] = {}
    for event in events:
        if event.step_key:
            by_step.setdefault(event.step_key, []).append(event)
    run_error = None if by_step else _run_error(events)
    causes: dict[str, set[str]] = {}
    for name in request.assets:
        upstream = set().union(*(causes.get(each, ()) for each in _upstream(name)))
        outcome = _outcome(
            name,
            by_step.get(asset_key(name, request.prefix).to_python_identifier(), []),
            causes=sorted(upstream, key=ASSETS.index),
            run_error=run_error,
        )
        if outcome.status is not Status.SUCCESS:
            causes[name] = upstream if outcome.status is Status.SKIPPED else {name}
        yield outcome
    if not causes and run_error is None:
        yield from _what_to_say_of_views(by_step.get(STEP, []))


def _what_to_say_of_views(events: Sequence[DagsterEvent]) -> Iterator[AssetOutcome]:
    """The views are no tables that people select or count, so a sync names them only where there is something to say.

    Where a table went wrong they were not reached, which that table's error explains.
    """
    outcome = _trouble(STEP, events, causes=(), run_error=None)
    if outcome is None and (notes := tuple(_notes(events))):
        outcome = AssetOutcome(asset=STEP, status=Status.SUCCESS, notes=notes)
    if outcome is not None:
        yield outcome


def _upstream(name: str) -> Sequence[str]:
    if name == DEAL_CHANGELOG.name:
        return ()
    return UPSTREAM if name == MAIN_BI.name else by_name(name).upstream


def _run_error(events: Sequence[DagsterEvent]) -> str | None:
    """Why a run ended before any step: a resource that could not be opened."""
    failed = [event.job_failure_data.error for event in events if event.event_type is DagsterEventType.RUN_FAILURE]
    return _sentence(_innermost(failed[-1])) if failed and failed[-1] is not None else None


def _outcome(
    name: str, events: Sequence[DagsterEvent], *, causes: Sequence[str], run_error: str | None
) -> AssetOutcome:
    trouble = _trouble(name, events, causes=causes, run_error=run_error)
    return trouble or AssetOutcome(asset=name, status=Status.SUCCESS, notes=tuple(_notes(events)), **_figures(events))


def _trouble(
    name: str, events: Sequence[DagsterEvent], *, causes: Sequence[str], run_error: str | None
) -> AssetOutcome | None:
    """Why it did not succeed; `causes`: the assets upstream whose failure would explain that this one was skipped."""
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
    return None


def _notes(events: Sequence[DagsterEvent]) -> Iterator[str]:
    """Checks that found something, though nothing that makes the table wrong."""
    for event in events:
        if event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                yield f"{evaluation.check_name} ({evaluation.metadata['exceptions'].value})"


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
