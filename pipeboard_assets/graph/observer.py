"""Who is told what happens during a run: the terminal's display and the live metrics. Facts only, no decisions."""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipeboard_assets.metrics.live import LivePush
from pipeboard_assets.metrics.tally import Tally
from pipeboard_io import LoadReport
from pipeboard_resources.pipedrive.usage import RequestFact

if TYPE_CHECKING:
    from pipeboard_resources.pipedrive.client import PipedriveClient


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
    live: LivePush = field(default_factory=lambda: LivePush(None))
    requests: int = 0
    tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def requested(self, fact: RequestFact) -> None:
        """One request was sent."""
        with self._lock:
            self.requests += 1
            self.tokens += fact.tokens

    def begin(self, entity: str, client: "PipedriveClient") -> Tally:
        """An entity is about to be read: count what it takes, and tell everybody."""
        self.display.started(entity)
        tally = Tally(entity, client, on_request=self.requested, on_page=self.display.page_read)
        self.live.start(tally)
        return tally
