"""What came of a sync, asset by asset, and the contract of `pipeboard sync --json`. Loads no Dagster."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How an asset, or the whole run, ended. `stopped`: early and on purpose, to be continued by the next run."""

    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetOutcome:
    """Rows are counts of records; `rows`: alive in the table afterwards. `notes`: what checks found that is no error."""

    asset: str
    status: Status
    error: str | None = None
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    restored: int = 0
    rejected: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOutcome:
    """The contract of `pipeboard sync --json`."""

    run_id: str
    status: Status
    seconds: float
    requests: int
    tokens: int
    assets: tuple[AssetOutcome, ...] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """The contract; what checks noted stands in the UI."""
        whole = asdict(self)
        for asset in whole["assets"]:
            del asset["notes"]
        return whole


def together(first: AssetOutcome, then: AssetOutcome) -> AssetOutcome:
    """Two runs of one asset told as one: how it ended is how the later one did."""
    counts = ("inserted", "updated", "unchanged", "deleted", "restored", "rejected", "seconds")
    return replace(then, **{name: getattr(first, name) + getattr(then, name) for name in counts})


def overall(outcomes: Sequence[AssetOutcome]) -> Status:
    """Failed before stopped: what needs a person is said first. Only all green is green."""
    statuses = {outcome.status for outcome in outcomes}
    for status in (Status.FAILED, Status.STOPPED):
        if status in statuses:
            return status
    return Status.SUCCESS if statuses <= {Status.SUCCESS} else Status.FAILED


def never_ran(assets: Sequence[str], sentence: str, *, is_stopped: bool) -> dict[str, Any]:
    """The contract of `--json` for a sync that could not even start."""
    status = Status.STOPPED if is_stopped else Status.FAILED
    left_out = tuple(AssetOutcome(asset=name, status=status, error=sentence) for name in assets)
    outcome = SyncOutcome(run_id="", status=status, seconds=0.0, requests=0, tokens=0, assets=left_out)
    return {**outcome.as_json(), "run_id": None}
