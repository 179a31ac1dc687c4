"""An account to sync and what the exporter says of it, for the tests of this folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from pipeboard_assets.monitoring import build_registry
from pipeboard_resources.pipedrive.standin import Server
from tests.graph.conftest import Account


@dataclass(frozen=True)
class Scrape:
    """What one scrape brought."""

    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "Scrape":
        return cls(tuple(sample for metric in registry.collect() for sample in metric.samples))

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name that have these labels."""
        return sum(each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items())


@pytest.fixture
def watched(standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path) -> Account:
    """A small company of its own and an empty database."""
    return Account(standin_factory(deals=40), fresh_database, tmp_path, redis_url)


@pytest.fixture
def scrape(watched: Account) -> Iterator[Callable[[], Scrape]]:
    """Scrapes what `pipeboard metrics` serves about `watched`."""
    with dg.instance_for_test() as instance:
        registry = build_registry(watched.settings, watched.warehouse, instance)
        yield lambda: Scrape.of(registry)
