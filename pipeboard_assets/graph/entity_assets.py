"""An entity of the catalogue as a software-defined asset, and the single loop that makes them all."""

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import dagster as dg

from pipeboard_assets.bi.deal_history import TRACES
from pipeboard_assets.bi.main_bi import MAIN_BI, SOURCES, TOUCHES, UPSTREAM, main_bi_load
from pipeboard_assets.bi.versions import versions_of
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.graph.asset_checks import check_events, check_specs
from pipeboard_assets.graph.automation import when_upstream_lands
from pipeboard_assets.graph.checks import entity_checks, main_bi_checks, verdicts
from pipeboard_assets.graph.failures import as_dagster_failure
from pipeboard_assets.graph.links import declared_by, metabase, selected_by
from pipeboard_assets.graph.observer import Observer
from pipeboard_assets.logs import doing
from pipeboard_assets.metrics.tally import Tally
from pipeboard_assets.records.custom_fields import CustomFields
from pipeboard_assets.records.frames import Framer, base_attributes
from pipeboard_assets.records.masking import Masks, masked
from pipeboard_assets.sync.covered import failed_last, is_lost, months_read, read_whole
from pipeboard_assets.sync.deal_changelog import ChangelogSync
from pipeboard_assets.sync.entity_sync import FULL, REJECTED, EntitySync, Mode, Policy, Window
from pipeboard_assets.sync.forecast import Forecaster, exceeds_the_day
from pipeboard_assets.sync.months import month_start, window_of
from pipeboard_io import Load, Table, Trace, Warehouse
from pipeboard_io.errors import WarehouseError
from pipeboard_resources.pipedrive.errors import PipedriveError, TokenBudgetSpent
from pipeboard_resources.settings import Settings

OWNER = "team:data"

# Whatever reads Pipedrive: its limits belong to the whole account, so one run at a time (dagster.yaml).
PIPEDRIVE_POOL = "pipedrive"


class SyncConfig(dg.Config):
    """How to run an entity. `auto`: the current month reads what changed, every month together read everything."""

    mode: Literal["auto", "incremental", "backfill", "full", "history", "rejected"] = "auto"
    allow_mass_delete: bool = False


def asset_key(name: str, prefix: str) -> dg.AssetKey:
    """Schema and table, as they are called in the database."""
    return dg.AssetKey([prefix + (MAIN_BI.schema if name == MAIN_BI.name else "pipedrive"), name])


def build_assets(
    settings: Settings, partitions: dg.MonthlyPartitionsDefinition, observer: Observer
) -> list[dg.AssetsDefinition]:
    """Every entity of the catalogue, and the mart."""
    with warnings.catch_warnings():
        # `backfill_policy` is marked beta since 2023 and is what makes a backfill one run; nobody here can act on it.
        warnings.simplefilter("ignore", dg.BetaWarning)
        entities = [build_entity_asset(entity, settings, partitions, observer) for entity in CATALOG]
    return [*entities, build_main_bi_asset(settings)]


def build_entity_asset(
    entity: Entity, settings: Settings, partitions: dg.MonthlyPartitionsDefinition, observer: Observer
) -> dg.AssetsDefinition:
    """Upstream are the entities that its columns refer to; its output is a lazy Load, which the IO manager carries out.
    Then the table is checked."""

    key = asset_key(entity.name, settings.prefix)
    hidden = masks_of(settings).how(entity.name)
    specs = check_specs(key, entity_checks(entity, masked=hidden))

    @dg.asset(
        key=key,
        deps=[asset_key(name, settings.prefix) for name in entity.upstream],
        group_name=entity.group,
        kinds={"pipedrive", "postgres"},
        owners=[OWNER],
        description=entity.description,
        metadata=_declared_columns(entity, key),
        partitions_def=partitions if entity.is_incremental else None,
        backfill_policy=dg.BackfillPolicy.single_run() if entity.is_incremental else None,
        freshness_policy=_freshness_policy(settings),
        automation_condition=when_upstream_lands() if entity.upstream else None,
        check_specs=specs,
        pool=settings.prefix + PIPEDRIVE_POOL,
        required_resource_keys={"pipedrive", "warehouse"},
        io_manager_key="io_manager",
    )
    def entity_asset(context: dg.AssetExecutionContext, config: SyncConfig) -> Iterator[Any]:
        tally = observer.begin(entity.name, context.resources.pipedrive)
        warehouse = context.resources.warehouse
        failing = partial(as_dagster_failure, pause_seconds=settings.step_retry_seconds)
        with failing(), observer.live.stopping_at_error():
            asked = window_of_run(context, partitions, config.mode) if entity.is_incremental else FULL
            window = whole_if_new(entity, asked, warehouse)
            follows_failure = failed_last(warehouse, entity.name)
        sync = EntitySync(
            entity=entity,
            window=window,
            client=tally.client,
            warehouse=warehouse,
            policy=policy_of(settings, config, follows_failure=follows_failure or context.retry_number > 0),
            run_id=context.run.run_id,
            page_read=tally.page_read,
        )
        doing(run_id=sync.run_id, asset=entity.name, **asdict(sync.window))

        def known() -> Table:
            return Framer(entity, CustomFields(), now=datetime.now(UTC)).table

        forecaster = Forecaster(
            warehouse=warehouse, now=datetime.now(UTC), overlap=settings.overlap, page_size=settings.page_size
        )
        with failing(), observer.live.stopping_at_error(), in_the_ledger(sync, tally, window.mode, known):
            expected = forecaster.of(entity, sync.window)
            sync.policy = replace(sync.policy, may_take_days=exceeds_the_day(expected, tally.client))
            context.log.info("forecast: %s", expected)
            load = replace(
                masked(sync.load(), masks_of(settings)),
                facts=lambda: {**tally.facts(), **sync.facts()},
                touch=TOUCHES.get(entity.name),
                trace=_unmasked(TRACES.get(entity.name), hidden),
                versions=versions_of(entity.name) if entity.name in settings.versions else None,
            )
        yield dg.Output(load, metadata=expected.metadata)
        with failing():
            checks = entity_checks(entity, read_whole(warehouse), hidden)
            found = verdicts(warehouse, str(load.table), checks)
        yield from check_events(specs, found)

    return entity_asset


def _unmasked(trace: Trace | None, hidden: Collection[str]) -> Trace | None:
    """Without the columns that are hidden: a mask switched on changes every row, and what it said before must not be kept."""
    shown = {} if trace is None else {name: when for name, when in trace.columns.items() if name not in hidden}
    return replace(trace, columns=shown) if trace is not None and shown else None


def masks_of(settings: Settings) -> Masks:
    """What is to be hidden, with the key of the hashes."""
    return Masks(settings.mask, settings.mask_key.get_secret_value().encode() if settings.mask_key else b"")


@contextmanager
def in_the_ledger(
    sync: EntitySync | ChangelogSync, tally: Tally, mode: Mode, table: Callable[[], Table]
) -> Iterator[None]:
    """A load that fails before it is handed over is a failed load, too; the warehouse has not heard of it yet."""
    started_at = datetime.now(UTC)
    try:
        yield
    except (PipedriveError, WarehouseError) as error:
        load = Load(
            table(),
            frames=(),
            mode=mode.value,
            run_id=sync.run_id,
            facts=tally.facts,
            stops=(TokenBudgetSpent,),
        )
        sync.warehouse.note_failure(load, error, started_at=started_at)
        raise


def policy_of(settings: Settings, config: SyncConfig, *, follows_failure: bool) -> Policy:
    """A full sync trusts no cache, because it is asked for to be sure; nor does what follows a failure, its cause maybe."""
    return Policy(
        overlap=settings.overlap,
        max_delete_percent=settings.max_delete_percent,
        allow_mass_delete=config.allow_mass_delete,
        bypass_cache=follows_failure or config.mode in (Mode.FULL, Mode.REJECTED),
    )


def window_of_run(context: dg.AssetExecutionContext, partitions: dg.MonthlyPartitionsDefinition, mode: str) -> Window:
    """What is to be read: as `mode` says, and in `auto` as the run's partitions do (DESIGN section 6).

    All months together are everything; the current month alone is what changed since the watermark; any other month or
    range, or the current month in a backfill, is read whole. The first month is open to the past.
    """
    if mode in (Mode.FULL, Mode.REJECTED) or not (context.has_partition_key or context.has_partition_key_range):
        return REJECTED if mode == Mode.REJECTED else FULL
    known, asked = partitions.get_partition_keys(), context.partition_key_range
    if mode == "auto" and asked.end == known[-1]:
        if asked.start == known[-1] and "dagster/backfill" not in context.run.tags:
            mode = Mode.INCREMENTAL
        elif asked.start == known[0]:
            return FULL
    return window_of(
        Mode.BACKFILL if mode == "auto" else Mode(mode),
        asked.start[:7],
        asked.end[:7],
        history_start=known[0][:7],
        now=month_start(known[-1][:7]),
    )


def whole_if_new(entity: Entity, asked: Window, warehouse: Warehouse) -> Window:
    """What changed makes no table of an entity that was never read, or whose rows are gone: it is read whole, whoever
    asked for the changes."""
    if asked.mode is not Mode.INCREMENTAL:
        return asked
    was_read = entity.name in {*read_whole(warehouse), *months_read(warehouse)}
    return asked if was_read and not is_lost(warehouse, entity.name) else FULL


class MartConfig(dg.Config):
    """`full`: compute all rows, not only those that something changed for."""

    mode: Literal["auto", "full"] = "auto"


def build_main_bi_asset(settings: Settings) -> dg.AssetsDefinition:
    """The mart: one SELECT, published by the same IO manager."""

    key, checks = asset_key(MAIN_BI.name, settings.prefix), main_bi_checks()
    specs = check_specs(key, checks)

    @dg.asset(
        key=key,
        deps=[asset_key(name, settings.prefix) for name in UPSTREAM],
        group_name="bi",
        kinds={"postgres", "sql"},
        owners=[OWNER],
        description=MAIN_BI.comment,
        metadata={
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(c.name, c.type.value, c.comment) for c in MAIN_BI.columns]
            ),
            "dagster/table_name": ".".join(key.path),
            **selected_by("main_bi.sql", "main_bi.py"),
            **metabase(settings),
        },
        freshness_policy=_freshness_policy(settings),
        automation_condition=when_upstream_lands(),
        check_specs=specs,
        required_resource_keys={"warehouse"},
        io_manager_key="io_manager",
    )
    def main_bi(context: dg.AssetExecutionContext, config: MartConfig) -> Iterator[Any]:
        doing(run_id=context.run.run_id, asset=MAIN_BI.name)
        warehouse = context.resources.warehouse
        failing = partial(as_dagster_failure, pause_seconds=settings.step_retry_seconds)
        with failing():
            load = main_bi_load(
                warehouse,
                timezone=settings.timezone,
                run_id=context.run.run_id,
                everything=config.mode == "full",
            )
        yield dg.Output(load, metadata={"dagster/column_lineage": _main_bi_lineage(settings.prefix)})
        with failing():
            found = verdicts(warehouse, str(MAIN_BI), checks)
        yield from check_events(specs, found)

    return main_bi


def _main_bi_lineage(prefix: str) -> dg.TableColumnLineage:
    """What the UI's Lineage of a column draws; it reads that of the newest materialization."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key(entity, prefix), source) for entity, source in sources]
            for column, sources in SOURCES.items()
        }
    )


def _freshness_policy(settings: Settings) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.time_window(fail_window=settings.fails_after, warn_window=settings.warns_after)


def _declared_columns(entity: Entity, key: dg.AssetKey) -> dict[str, object]:
    columns = [
        dg.TableColumn(column.name, column.type.value, column.comment)
        for attribute in base_attributes(entity)
        for column in attribute.columns
    ]
    return {
        "dagster/column_schema": dg.TableSchema(columns),
        "dagster/table_name": ".".join(key.path),
        **declared_by(entity.record),
    }
