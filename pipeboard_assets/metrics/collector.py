"""From where figures come to what Prometheus reads. A source that does not answer is said to be down; the others go on."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from pipeboard_assets.metrics.figures import Figures
from pipeboard_assets.metrics.series import Series

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Reads the figures of some series; `up` tells whether it could, `trouble` is what it raises when it cannot."""

    declared: tuple[Series, ...]
    read: Callable[[], Figures]
    up: Series | None = None
    trouble: tuple[type[Exception], ...] = ()


class FiguresCollector(Collector):
    """Asks every source at each scrape, one scrape at a time. `account` is on every sample, unless it is empty: one
    Prometheus may watch several companies."""

    def __init__(self, *sources: Source, account: str = "") -> None:
        self._sources = sources
        self._labels = {"account": account} if account else {}
        self._lock = threading.Lock()

    def describe(self) -> list[Metric]:
        """Nothing: so that registering asks no source."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, without those of a source that is down: a counter at 0 would look like one that began anew."""
        with self._lock:
            metrics = [metric for source in self._sources for metric in _read(source)]
        for metric in metrics:
            metric.samples = [each._replace(labels={**self._labels, **each.labels}) for each in metric.samples]
        yield from metrics


def _read(source: Source) -> Iterator[Metric]:
    try:
        figures = source.read()
    except source.trouble as trouble:
        logger.warning("No figures for this scrape, because of %s", type(trouble).__name__)
        is_up = False
    else:
        is_up = True
        yield from figures.metrics(source.declared)
    if source.up is not None:
        told = Figures()
        told.set(source.up, value=float(is_up))
        yield from told.metrics((source.up,))


def registry_of(collector: FiguresCollector) -> CollectorRegistry:
    """A registry with nothing else in it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry
