"""Resources of the graph: Pipedrive and Redis from `pipeboard_resources`, the warehouse and its IO manager."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any, Self

import dagster as dg
from pydantic import PrivateAttr

from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.bi.picture import mart_picture
from pipeboard_assets.catalog.schemas import placement_of
from pipeboard_assets.graph.failures import as_dagster_failure, ending_the_run
from pipeboard_assets.graph.observer import Observer
from pipeboard_assets.graph.run_process import sign
from pipeboard_assets.sync.month_counts import count_months
from pipeboard_io import Load, LoadReport, Warehouse
from pipeboard_io.io_manager import PostgresIOManager
from pipeboard_resources.dagster_resources import build_pipedrive_resource, build_redis_resource, open_database_url
from pipeboard_resources.settings import Settings


@contextmanager
def open_warehouse(settings: Settings) -> Iterator[Warehouse]:
    """The database, with our own schema up to date. Raises WarehouseError."""
    with open_database_url(settings) as url:
        warehouse = Warehouse(
            url,
            lock_timeout_seconds=settings.lock_timeout_seconds,
            statement_timeout_seconds=settings.statement_timeout_seconds,
            placement=placement_of(settings),
        )
        with closing(warehouse):
            warehouse.migrate()
            yield warehouse


def build_resources(settings: Settings, observer: Observer) -> Mapping[str, dg.ResourceDefinition]:
    """By resource key; nothing connects before a run needs it."""
    return {
        "redis": build_redis_resource(settings),
        "pipedrive": build_pipedrive_resource(settings, observer.requested),
        "warehouse": _build_warehouse_resource(settings),
        "io_manager": _build_io_manager(settings, observer),
    }


def _build_warehouse_resource(settings: Settings) -> dg.ResourceDefinition:
    @dg.resource(description="PostgreSQL: the tables, and our own state about them.")
    def warehouse(context: dg.InitResourceContext) -> Iterator[Warehouse]:
        if context.instance is None or context.run is None:  # opened by hand, in no run
            opening: AbstractContextManager[None] = nullcontext()
        else:
            sign(context.instance, context.run)
            opening = ending_the_run(context.instance, context.run)
        with opening, open_warehouse(settings) as opened:
            yield opened

    return warehouse


class ReportingIOManager(PostgresIOManager):
    """The IO manager of `pipeboard_io` on the run's warehouse; tells the display, and Dagster in its words what failed."""

    _observer: Observer = PrivateAttr()
    _settings: Settings = PrivateAttr()

    @classmethod
    def over(cls, warehouse: Warehouse, observer: Observer, settings: Settings) -> Self:
        """One that stores in `warehouse`, which is no configuration: its URL must not reach Dagster's snapshots."""
        manager = cls()
        manager._warehouse = warehouse
        manager._observer = observer
        manager._settings = settings
        return manager

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        super().handle_output(context, obj)
        if context.has_asset_partitions:
            self._count_partitions(context)

    def _count_partitions(self, context: dg.OutputContext) -> None:
        """Each month with its own rows; Dagster would show the whole table's for every one."""
        first = context.asset_partitions_def.get_first_partition_key()
        assert first is not None
        with as_dagster_failure(pause_seconds=self._settings.step_retry_seconds):
            counts = count_months(
                self.warehouse(), context.asset_key.path[-1], context.asset_partition_keys, first=first
            )
        for month, rows in counts.items():
            context.step_context.add_asset_metadata({"dagster/partition_row_count": rows}, partition_key=month)

    def described(self, load: Load, report: LoadReport) -> dict[str, Any]:
        metadata = super().described(load, report)
        if str(load.table) == str(MAIN_BI) and report.inserted + report.updated + report.deleted:
            with as_dagster_failure(pause_seconds=self._settings.step_retry_seconds):
                picture = mart_picture(self.warehouse(), timezone=self._settings.timezone)
            metadata["picture"] = dg.MetadataValue.md(picture)
        return metadata

    def publish(self, load: Load) -> LoadReport:
        try:
            with as_dagster_failure(pause_seconds=self._settings.step_retry_seconds):
                report = super().publish(load)
        finally:
            self._observer.live.stop()
        self._observer.display.loaded(load.table.name, report)
        return report


def _build_io_manager(settings: Settings, observer: Observer) -> dg.IOManagerDefinition:
    @dg.io_manager(required_resource_keys={"warehouse"}, description="Evolves tables and upserts frames in PostgreSQL.")
    def io_manager(context: dg.InitResourceContext) -> ReportingIOManager:
        return ReportingIOManager.over(context.resources.warehouse, observer, settings)

    return io_manager
