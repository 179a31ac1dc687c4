"""Checks in Dagster's words: carried out by the step that loaded the table, so that a red one stops what is downstream."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from pipeboard_assets.graph.checks import Check, Severity, Verdict


def check_specs(key: dg.AssetKey, checks: Sequence[Check]) -> list[dg.AssetCheckSpec]:
    """What an asset declares. All block: an ERROR stops what is downstream, a WARN never does."""
    return [dg.AssetCheckSpec(check.name, asset=key, blocking=True, description=check.expected) for check in checks]


def check_events(
    specs: Sequence[dg.AssetCheckSpec], found: Sequence[Verdict]
) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation]:
    """What the step yields for what its checks found, each explaining itself. Raises dg.Failure if one is an ERROR.

    Evaluations, not `AssetCheckResult`s: for each of those Dagster reads the newest materialization back, schema and
    all, which took a third of the checks' time.
    """
    yield from told(specs, found)
    raise_errors(found)


def told(
    specs: Sequence[dg.AssetCheckSpec], found: Sequence[Verdict]
) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation]:
    """The verdicts as events, in the order of the specs."""
    for spec, verdict in zip(specs, found, strict=True):
        yield dg.Output(None, output_name=spec.get_python_identifier())
        yield _evaluation(spec, verdict)


def raise_errors(found: Sequence[Verdict]) -> None:
    """Raises dg.Failure if one is an ERROR."""
    errors = [verdict for verdict in found if not verdict.is_passed and verdict.severity is Severity.ERROR]
    if errors:
        # Dagster's own words name the check only, and reading again would not mend what was read.
        raise dg.Failure(description=" ".join(map(str, errors)), allow_retries=False)


def _evaluation(spec: dg.AssetCheckSpec, verdict: Verdict) -> dg.AssetCheckEvaluation:
    is_error = verdict.severity is Severity.ERROR
    explained: dict[str, dg.MetadataValue[Any] | str | int] = {
        "expected": verdict.check.expected,
        "seen": verdict.seen,
        "exceptions": verdict.found,
        "examples": dg.MetadataValue.md("\n".join(f"- {example}" for example in verdict.examples)),
        "what to do": verdict.check.remedy,
    }
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=verdict.is_passed,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=None if verdict.is_passed else f"{verdict.seen}. {verdict.check.remedy}",
        metadata=explained if not verdict.is_passed else {"expected": verdict.check.expected},
        blocking=True,
    )
