"""Who is told what happens during a run: the terminal's display, later the live metrics. Facts only, no decisions."""

import threading
from dataclasses import dataclass, field
from typing import Protocol

from pipeboard_io import LoadReport
from pipeboard_resources.pipedrive.usage import RequestFact


class Display(Protocol):
    """Shows progress; every call must be quick."""

    def started(self, asset: str) -> None: ...

    def page_read(self, entity: str, records: int) -> None: ...

    def loaded(self, asset: str, report: LoadReport) -> None: ...


class Silence:
    """A display that shows nothing: runs that Dagster's daemon starts tell their story in the UI."""

    def started(self, asset: str) -> None:
        """Say nothing."""

    def page_read(self, entity: str, records: int) -> None:
        """Say nothing."""

    def loaded(self, asset: str, report: LoadReport) -> None:
        """Say nothing."""


@dataclass(slots=True)
class Observer:
    """What assets and resources report to; counts what the API was asked for. Requests come from several threads."""

    display: Display = field(default_factory=Silence)
    requests: int = 0
    tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def requested(self, fact: RequestFact) -> None:
        """One request was sent."""
        with self._lock:
            self.requests += 1
            self.tokens += fact.tokens
