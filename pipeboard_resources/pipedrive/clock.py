"""Time as a value, so that limits, budgets and waits are tested without sleeping."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock", "at"]


class Clock(Protocol):
    """What the client asks of time."""

    def now(self) -> float:
        """Seconds since 1970 UTC: the same for every process that shares limits through Redis."""

    def monotonic(self) -> float:
        """Seconds that never run backwards, for durations inside this process."""

    def wait(self, seconds: float, cancel: threading.Event | None = None) -> None:
        """Let `seconds` pass, or less when `cancel` is set meanwhile."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float, cancel: threading.Event | None = None) -> None:
        if cancel is None:
            time.sleep(max(0.0, seconds))
        else:
            cancel.wait(max(0.0, seconds))


def at(seconds: float) -> datetime:
    """The instant `seconds` after 1970, aware, UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC)
