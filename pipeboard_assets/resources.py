"""Resources of the graph: Pipedrive and Redis from `pipeboard_resources`, the warehouse and its IO manager."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from pipeboard_assets.failures import as_dagster_failure
from pipeboard_assets.observer import Observer
from pipeboard_io import Load, Warehouse
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
        )
        warehouse.migrate()
        yield warehouse


def build_resources(settings: Settings, observer: Observer) -> Mapping[str, dg.ResourceDefinition]:
    """By resource key; nothing connects before a run needs it."""
    return {
        "redis": build_redis_resource(settings),
        "pipedrive": build_pipedrive_resource(settings, observer.requested),
        "warehouse": _build_warehouse_resource(settings),
        "io_manager": _build_io_manager(observer),
    }


def _build_warehouse_resource(settings: Settings) -> dg.ResourceDefinition:
    @dg.resource(description="PostgreSQL: the tables, and our own state about them.")
    def warehouse(_context: dg.InitResourceContext) -> Iterator[Warehouse]:
        with as_dagster_failure(), open_warehouse(settings) as opened:
            yield opened

    return warehouse


class ReportingIOManager(dg.IOManager):
    """Publishes a Load, tells the display, and translates what goes wrong."""

    def __init__(self, warehouse: Warehouse, observer: Observer) -> None:
        self._warehouse = warehouse
        self._observer = observer

    def handle_output(self, context: dg.OutputContext, obj: Load) -> None:
        with as_dagster_failure():
            report = self._warehouse.load(obj)
        context.add_output_metadata(
            {
                "dagster/row_count": report.rows,
                "inserted": report.inserted,
                "updated": report.updated,
                "unchanged": report.unchanged,
                "deleted": report.deleted,
                "restored": report.restored,
                "rejected": report.rejected,
                "seconds": report.seconds["total"],
            }
        )
        self._observer.display.loaded(context.asset_key.path[-1], report)

    def load_input(self, context: dg.InputContext) -> object:
        raise NotImplementedError


def _build_io_manager(observer: Observer) -> dg.IOManagerDefinition:
    @dg.io_manager(required_resource_keys={"warehouse"}, description="Evolves tables and upserts frames in PostgreSQL.")
    def io_manager(context: dg.InitResourceContext) -> ReportingIOManager:
        return ReportingIOManager(context.resources.warehouse, observer)

    return io_manager
