"""What only a load in progress knows, pushed to a Pushgateway every few seconds and removed when the load ends.

One group per entity (`job="pipeboard_run"`, `asset`): a load that was killed leaves an old heartbeat behind, which an
alert sees and the next load of that entity replaces. A gateway in trouble costs a run a warning and a few seconds.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import psutil
from prometheus_client import delete_from_gateway, push_to_gateway

from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.collector import FiguresCollector, Source, registry_of
from pipeboard_assets.metrics.figures import Figures
from pipeboard_assets.metrics.tally import Tally

logger = logging.getLogger(__name__)

JOB = "pipeboard_run"
_TROUBLE = (OSError, HTTPException, ValueError)  # the last: an address that is none


class LivePush:
    """Pushes for one load at a time. `address` (host:port) None: does nothing; `account` becomes a part of the group."""

    def __init__(
        self, address: str | None, *, account: str = "", every_seconds: float = 5.0, timeout_seconds: float = 2.0
    ) -> None:
        self._address = address
        self._account = account
        self._every_seconds = every_seconds
        self._timeout_seconds = timeout_seconds
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_usable = True

    def start(self, tally: Tally) -> None:
        """Push what `tally` counts, from now on."""
        self.stop()
        if self._address is None or not self._is_usable:
            return
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._push_until_ended, args=(self._address, tally, self._ended), name="live-push", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """The load is over: remove its group. Returns after a few seconds at most; again: does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
            thread.join(2 * self._timeout_seconds)

    @contextmanager
    def stopping_at_error(self) -> Iterator[None]:
        """`stop` when the block fails."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _push_until_ended(self, address: str, tally: Tally, ended: threading.Event) -> None:
        group = {"asset": tally.asset, **({"account": self._account} if self._account else {})}
        progress = Progress(tally)
        registry = registry_of(FiguresCollector(Source(series.LIVE, progress.read)))
        try:
            while not ended.is_set():
                push_to_gateway(address, JOB, registry, group, timeout=self._timeout_seconds)
                ended.wait(self._every_seconds)
            delete_from_gateway(address, JOB, group, timeout=self._timeout_seconds)
        except _TROUBLE as trouble:
            # The run comes first: nothing more is pushed by this process.
            self._is_usable = False
            logger.warning("Pushgateway not usable (%s); the run goes on without it", type(trouble).__name__)


class Progress:
    """How far a load and its process are. CPU is reckoned from one reading to the next."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._started_at = time.time()
        self._process = psutil.Process()
        self._process.cpu_percent()

    def read(self) -> Figures:
        """The figures of now."""
        tally, figures = self._tally, Figures()
        with self._process.oneshot():
            now = {
                series.RUN_HEARTBEAT: time.time(),
                series.RUN_STARTED: self._started_at,
                series.RUN_RECORDS: tally.records,
                series.RUN_PAGES: tally.pages,
                series.RUN_REQUESTS: tally.requests,
                series.RUN_TOKENS: tally.tokens,
                series.RUN_MEMORY: self._process.memory_info().rss,
                series.RUN_CPU: self._process.cpu_percent(),
                series.RUN_THREADS: self._process.num_threads(),
            }
        for gauge, value in now.items():
            figures.set(gauge, tally.asset, value=value)
        return figures
