"""What talking to Pipedrive has cost so far: facts for the application to log and measure."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace

__all__ = ["RequestFact", "Usage", "UsageMeter"]


@dataclass(frozen=True, slots=True)
class RequestFact:
    """One request that was sent. `status` is None when no answer came; `attempt` counts from 1; `tokens` as charged."""

    endpoint: str
    page: int
    status: int | None
    seconds: float
    tokens: int
    attempt: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals of one client. `bytes` is JSON after decompression; `seconds_waiting` was spent on limits, not on answers."""

    requests: int = 0
    tokens: int = 0
    retries: int = 0
    burst_refusals: int = 0
    daily_refusals: int = 0
    bytes: int = 0
    seconds_requesting: float = 0.0
    seconds_waiting: float = 0.0

    def __sub__(self, earlier: Usage) -> Usage:
        """What was spent since `earlier`."""
        return Usage(**{each.name: getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self)})


class UsageMeter:
    """Adds up from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage = Usage()

    def add(self, **amounts: float) -> None:
        """Add `amounts` to the fields of Usage with those names."""
        with self._lock:
            sums = {name: getattr(self._usage, name) + amount for name, amount in amounts.items()}
            self._usage = replace(self._usage, **sums)

    def read(self) -> Usage:
        """The totals now."""
        return self._usage
