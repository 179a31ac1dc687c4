"""What one load does, counted while it does it: for its ledger row, which the metrics are summed from, and for the push."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import psutil

from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.figures import Figures
from pipeboard_resources.pipedrive.usage import RequestFact

if TYPE_CHECKING:
    from pipeboard_resources.pipedrive.client import PipedriveClient


class Tally:
    """Counts for `asset` from now on; `client` is the one to read with. Told from several threads.

    `on_request` and `on_page` are told the same.
    """

    def __init__(
        self,
        asset: str,
        client: "PipedriveClient",
        *,
        on_request: Callable[[RequestFact], None],
        on_page: Callable[[str, int], None],
    ) -> None:
        self.asset = asset
        self.client = client.scoped(on_request=self._requested)
        self.records = self.pages = self.requests = self.tokens = 0
        self._on_request, self._on_page = on_request, on_page
        self._cache_before, self._openings_before = client.cache_usage, client.breaker_openings
        self._counters = Figures()
        self._lock = threading.Lock()
        self._process = psutil.Process()
        self._memory_bytes = 0
        self._page_at, self._cpu_at = time.perf_counter(), time.process_time()

    def _requested(self, fact: RequestFact) -> None:
        endpoint = fact.endpoint if fact.endpoint in series.ENDPOINTS else series.OTHER
        with self._lock:
            self.requests += 1
            self.tokens += fact.tokens
            self._counters.add(series.API_REQUESTS, endpoint, _status(fact.status))
            self._counters.add(series.API_TOKENS, endpoint, amount=fact.tokens)
            self._counters.add(series.API_RETRIES, endpoint, amount=int(fact.attempt > 1))
            self._counters.add(series.API_PAGES, endpoint, amount=int(fact.status == 200))
            self._counters.add(series.API_BYTES, endpoint, amount=fact.bytes)
            self._counters.observe(series.API_SECONDS, endpoint, value=fact.seconds)
        self._on_request(fact)

    def page_read(self, entity: str, records: int) -> None:
        """One page of records was handed on; the time since the page before is that of this one."""
        with self._lock:
            now = time.perf_counter()
            self.pages += 1
            self.records += records
            self._counters.observe(series.BATCH_ROWS, self.asset, value=records)
            self._counters.observe(series.BATCH_SECONDS, self.asset, value=now - self._page_at)
            self._page_at = now
            self._memory_bytes = max(self._memory_bytes, self._process.memory_info().rss)
        self._on_page(entity, records)

    def facts(self) -> Mapping[str, Any]:
        """For `Load.facts`: `counters` are added up over the ledger, of `gauges` the newest counts."""
        with self._lock:
            counters = Figures()
            counters.include(self._counters)
            gauges = Figures()
            counters.add(series.CPU, self.asset, amount=time.process_time() - self._cpu_at)
            gauges.set(series.MEMORY_PEAK, self.asset, value=max(self._memory_bytes, self._process.memory_info().rss))
            self._count_client(counters, gauges)
        return {"counters": counters.as_json(), "gauges": gauges.as_json()}

    def _count_client(self, counters: Figures, gauges: Figures) -> None:
        usage, cache, before, plan = self.client.usage, self.client.cache_usage, self._cache_before, self.client.plan
        counters.add(series.API_REFUSALS, "burst", amount=usage.burst_refusals)
        counters.add(series.API_REFUSALS, "daily", amount=usage.daily_refusals)
        counters.add(series.API_WAITING, amount=usage.seconds_waiting)
        counters.add(series.BREAKER_OPENINGS, amount=self.client.breaker_openings - self._openings_before)
        counters.add(series.CACHE, self.asset, "hit", amount=cache.hits - before.hits)
        counters.add(series.CACHE, self.asset, "miss", amount=cache.misses - before.misses)
        counters.add(series.CACHE, self.asset, "error", amount=cache.errors - before.errors)
        told = {
            series.TOKENS_LEFT: plan.tokens_left,
            series.TOKENS_RESERVED: None if plan.tokens_per_day is None else plan.tokens_reserved,
            series.TOKENS_PER_DAY: plan.tokens_per_day,
            series.BURST_LIMIT: plan.requests_per_two_seconds if plan.requests_left is not None else None,
            series.BURST_LEFT: plan.requests_left,
        }
        for gauge, value in told.items():
            if value is not None:
                gauges.set(gauge, value=value)


def _status(status: int | None) -> str:
    if status is None:
        return series.NO_ANSWER
    return "429" if status == 429 else f"{status // 100}xx"
