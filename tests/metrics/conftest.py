"""An account to sync and what the exporter says of it, for the tests of this folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import dagster as dg
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipeboard_assets.commands.environment import dagster_instance, process_environment
from pipeboard_assets.commands.monitoring import build_registry
from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.observer import Observer
from pipeboard_assets.graph.outcome import AssetOutcome
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_assets.metrics.live import LivePush
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import Settings
from tests.graph.conftest import Account


@dataclass(frozen=True)
class Scrape:
    """What one scrape brought."""

    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "Scrape":
        return cls(tuple(sample for metric in registry.collect() for sample in metric.samples))

    @classmethod
    def at(cls, address: str) -> "Scrape":
        with urlopen(f"{address}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return cls(tuple(sample for metric in families for sample in metric.samples))

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name that have these labels."""
        return sum(each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items())


def sync(
    account: Account, instance: dg.DagsterInstance, live: LivePush | None = None, **request: object
) -> dict[str, AssetOutcome]:
    """Outcome by asset of a run that pushes to the account's Pushgateway, or as `live` says."""
    pushing = live or LivePush(account.settings.pushgateway_address, every_seconds=0.5)
    defs = build_defs(account.settings, observer=Observer(live=pushing))
    _, _, outcomes = run_sync(defs, instance, SyncRequest(**request))  # type: ignore[arg-type]
    return {outcome.asset: outcome for outcome in outcomes}


@contextmanager
def deployment(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance that `pipeboard metrics` reads; what Dagster is told through the environment is forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**process_environment(settings), "DAGSTER_EVENT_BATCH_SIZE": "500"}.items():
            patch.setenv(name, value)
        with dagster_instance(settings) as instance:
            yield instance


@pytest.fixture
def deployed(watched: Account) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of `watched`, in its database."""
    with deployment(watched.settings) as instance:
        yield instance


@pytest.fixture
def watched(standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path) -> Account:
    """A small company of its own and an empty database."""
    return Account(standin_factory(deals=40), fresh_database, tmp_path, redis_url)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance for the tests of a module: it takes a second to make."""
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def scrape(watched: Account, instance: dg.DagsterInstance) -> Callable[[], Scrape]:
    """Scrapes what `pipeboard metrics` serves about `watched`."""
    registry = build_registry(watched.settings, watched.warehouse, instance)
    return lambda: Scrape.of(registry)
