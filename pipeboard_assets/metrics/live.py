"""What only a load in progress knows, pushed to a Pushgateway every few seconds and removed when the load ends.

One group per entity (`job="pipeboard_run"`, `asset`): a load that was killed leaves an old heartbeat behind, which an
alert sees and the next load of that entity replaces. A gateway in trouble costs a run a warning and a few seconds in all;
it is tried again with every push, and the removal is tried whatever became of the pushes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
_REMOVALS = 3


class LivePush:
    """Pushes for one load at a time. `address` (host:port) None: does nothing; `account` becomes a part of the group."""

    def __init__(
        self,
        address: str | None,
        *,
        account: str = "",
        every_seconds: float = 5.0,
        timeout_seconds: float = 2.0,
        patience_seconds: float = 10.0,
    ) -> None:
        self._address = address
        self._account = account
        self._every_seconds = every_seconds
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_in_trouble = False

    def start(self, tally: Tally) -> None:
        """Push what `tally` counts, from now on."""
        self.stop()
        if self._address is None:
            return
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._push_until_ended, args=(self._address, tally, self._ended), name="live-push", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """The load is over: remove its group, and wait for that as long as patience lasts; again: does nothing.

        Patience is for all loads of the process together: the thread goes on removing when nobody waits for it any more.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
            began_at = time.monotonic()
            thread.join(self._patience_seconds)
            self._patience_seconds = max(0.0, self._patience_seconds - (time.monotonic() - began_at))

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
        push = partial(push_to_gateway, address, JOB, registry, group, timeout=self._timeout_seconds)
        remove = partial(delete_from_gateway, address, JOB, group, timeout=self._timeout_seconds)
        while not ended.is_set():
            self._answers(push)
            ended.wait(self._every_seconds)
        # A push that came too late for us may have reached the gateway all the same.
        any(self._answers(remove) for _ in range(_REMOVALS))

    def _answers(self, ask: Callable[[], None]) -> bool:
        """Whether the gateway did what it was asked for; trouble is told when it begins."""
        try:
            ask()
        except _TROUBLE as trouble:
            if not self._is_in_trouble:
                logger.warning("Pushgateway not usable (%s); the run goes on without it", type(trouble).__name__)
            self._is_in_trouble = True
        else:
            self._is_in_trouble = False
        return not self._is_in_trouble


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
