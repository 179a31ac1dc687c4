"""`pipeboard metrics`: the figures for Prometheus, from the ledger and Dagster's instance."""

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dagster as dg
from prometheus_client import CollectorRegistry, start_http_server
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.commands.console import say
from pipeboard_assets.commands.environment import dagster_instance, servers
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.automation import months
from pipeboard_assets.graph.entity_assets import asset_key
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.collector import FiguresCollector, Source, registry_of
from pipeboard_assets.metrics.figures import Figures
from pipeboard_assets.metrics.instance import History, read_instance
from pipeboard_assets.metrics.ledger import Ledger
from pipeboard_io import Warehouse
from pipeboard_io.errors import WarehouseError
from pipeboard_resources.pipedrive.breaker import Breaker
from pipeboard_resources.pipedrive.clock import SystemClock
from pipeboard_resources.settings import SettingError, Settings
from pipeboard_resources.shared_redis import SharedRedis

# Dagster has one for runs, events and schedules each; after a restart of PostgreSQL the first use of each fails.
_POOLS = 3


def metrics(settings: Settings, *, host: str, port: int, disk: Path | None) -> int:
    """Serve until interrupted; `disk`: a folder on PostgreSQL's disk, by itself that of the embedded server. Raises
    SettingError when the port is taken."""
    if disk is None and settings.database_url is None:
        disk = settings.state_dir
    with servers(settings, say) as ready, exporter(ready, host=host, port=port, disk=disk) as (address, _):
        say(f"Metrics: {address}/metrics  (Ctrl-C stops it)")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


@contextmanager
def exporter(
    settings: Settings, *, host: str = "127.0.0.1", port: int, disk: Path | None = None
) -> Iterator[tuple[str, CollectorRegistry]]:
    """A server on `host` (`port` 0: a free one): its address and what it serves."""
    with dagster_instance(settings) as instance, open_warehouse(settings) as warehouse:
        registry = build_registry(settings, warehouse, instance, disk)
        list(registry.collect())  # the whole ledger is added up now, so that the first scrape is as quick as the next
        try:
            server, thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise SettingError(
                f"{host}:{port} cannot be used ({error.strerror}): pipeboard metrics --port N"
            ) from error
        try:
            yield f"http://{host}:{server.server_port}", registry
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def build_registry(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, disk: Path | None = None
) -> CollectorRegistry:
    """Everything that is scraped; where no `disk` is named, nobody knows PostgreSQL's."""
    ledger = Ledger(warehouse, settings)
    checks = sorted(build_defs(settings).resolve_asset_graph().asset_check_keys, key=str)
    dagster = partial(_read_dagster, settings, warehouse, instance, checks, History())
    storage_trouble = (WarehouseError, dg.DagsterError, SQLAlchemyError)
    disks = () if disk is None else (Source(series.DISKS, partial(_read_disk, disk), trouble=(OSError,)),)
    return registry_of(
        FiguresCollector(
            Source(series.LEDGER, ledger.read, series.DATABASE_UP, (WarehouseError,)),
            Source(series.INSTANCE, dagster, series.DAGSTER_UP, storage_trouble),
            Source(series.EXPORTER, Exporter(settings).read),
            *disks,
            account=settings.account,
        )
    )


def _read_dagster(
    settings: Settings,
    warehouse: Warehouse,
    instance: dg.DagsterInstance,
    checks: Sequence[dg.AssetCheckKey],
    history: History,
) -> Figures:
    partitions = months(settings.history_start).get_partition_keys()
    monthly = {
        entity.name: (asset_key(entity.name, settings.prefix), partitions)
        for entity in CATALOG
        if entity.is_incremental
    }
    warehouse.query("SELECT 1")  # Dagster tries to connect for 10 s and longer; our own connection fails at once

    def read() -> Figures:
        figures = read_instance(instance)
        figures.update(history.read(instance, monthly, checks))
        return figures

    for _ in range(_POOLS):
        try:
            return read()
        except DBAPIError as lost:
            if not lost.connection_invalidated:
                raise
    return read()


def _read_disk(folder: Path) -> Figures:
    figures, disk = Figures(), shutil.disk_usage(folder)
    figures.set(series.DISK_FREE, value=disk.free)
    figures.set(series.DISK, value=disk.total)
    return figures


class Exporter:
    """When it started, and the circuit as all runs share it in Redis."""

    def __init__(self, settings: Settings) -> None:
        self._started_at = time.time()
        self._shared = None if settings.redis_url is None else SharedRedis(settings.redis_url)
        self._breaker = Breaker(settings.pipedrive_base_url, shared=self._shared, clock=SystemClock())

    def read(self) -> Figures:
        """The figures of now; without Redis, or while it does not answer, nobody but the run knows the circuit."""
        figures = Figures()
        figures.set(series.STARTED, value=self._started_at)
        if self._shared is not None and self._shared.attempt(lambda server: bool(server.ping()), False):
            figures.choose(series.BREAKER, state=self._breaker.state)
        return figures
