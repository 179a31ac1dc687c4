"""The views, and the calendar that they stand on, as software-defined assets: one node each in the graph, one step in a run.

One step, because a view is a few catalogue look-ups and a step of Dagster costs more than all of them together. Nothing
is written where a view already is what it should be.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, Literal

import dagster as dg

from pipeboard_assets.bi.calendar import CALENDAR, Habits, calendar_load
from pipeboard_assets.bi.deal_history import DEAL_CHANGE
from pipeboard_assets.bi.label_views import label_views, read_dictionary
from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.bi.old_names import lineage, mart_views, old_views
from pipeboard_assets.bi.stored_marts import STORED, mart_load
from pipeboard_assets.bi.versions import VALIDITY, as_of, version_views
from pipeboard_assets.catalog import CATALOG, by_name
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.schemas import placement_of
from pipeboard_assets.graph.asset_checks import check_specs, raise_errors, told
from pipeboard_assets.graph.automation import when_upstream_lands
from pipeboard_assets.graph.checks import verdicts
from pipeboard_assets.graph.failures import as_dagster_failure
from pipeboard_assets.graph.view_checks import AS_DECLARED, as_declared, view_checks
from pipeboard_assets.logs import doing
from pipeboard_assets.records.frames import base_attributes
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_io import Placement, View, ViewReport, Warehouse, WarehouseError
from pipeboard_io.io_manager import report_metadata
from pipeboard_resources.settings import Settings

STEP = "bi_views"
SCHEMA = "bi"
OWNER = "team:data"

_RELATIONS = """
SELECT concat(n.nspname, '.', c.relname) AS name FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('bi', 'pipedrive')
"""


class ViewConfig(dg.Config):
    """`full`: compute every stored mart, be it that nothing changed that it reads."""

    mode: Literal["auto", "full"] = "auto"


def view_keys(defs: dg.Definitions) -> list[dg.AssetKey]:
    """Every node of the step."""
    steps = [each for each in defs.assets or () if isinstance(each, dg.AssetsDefinition) and each.op.name == STEP]
    return [key for step in steps for key in step.keys]


def _specs(settings: Settings) -> Iterator[dg.AssetSpec]:
    where = placement_of(settings)
    columns = [(column.name, column.comment) for column in CALENDAR.columns]
    yield _spec(where, str(CALENDAR), (), CALENDAR.comment, columns, kind="table", follows=False)
    for entity in CATALOG:
        reads = (f"pipedrive.{name}" for name in dict.fromkeys((entity.name, *entity.references.values())))
        words = f"{entity.description} Living rows, custom fields under their current labels, names beside ids."
        yield _spec(where, f"{SCHEMA}.{entity.name}", reads, words, _base_columns(entity))
    for versioned in settings.versions:
        words = f"{by_name(versioned).description} Every version of each that a sync has seen, from when until when."
        columns = [*((each.name, each.comment) for each in VALIDITY), *_base_columns(by_name(versioned))]
        yield _spec(where, f"{SCHEMA}.{versioned}_versions", [f"pipedrive.{versioned}"], words, columns)
    for mart in MARTS:
        yield _spec(where, str(mart), mart.reads, mart.description, mart.columns.items(), follows=bool(mart.key))
    if settings.old_names_schema:
        for name, read in lineage().items():
            words = f"{', '.join(read)} under the names of earlier dashboards."
            yield _spec(where, f"{settings.old_names_schema}.{name}", read, words, ())


def _base_columns(entity: Entity) -> list[tuple[str, str | None]]:
    return [(column.name, column.comment) for attribute in base_attributes(entity) for column in attribute.columns]


def _spec(
    where: Placement,
    name: str,
    reads: Iterable[str],
    description: str | None,
    columns: Iterable[tuple[str, str | None]],
    kind: str = "view",
    follows: bool = True,
) -> dg.AssetSpec:
    """A node; skippable, because its tables may not be there yet. `follows`: what it reads makes it another, as the SQL of
    a mart that is not stored it does not."""
    return dg.AssetSpec(
        key=where.relation(name).split("."),
        deps=[dg.AssetKey(where.relation(each).split(".")) for each in reads],
        description=description,
        group_name=SCHEMA,
        kinds={"postgres", kind},
        owners=[OWNER],
        skippable=True,
        automation_condition=when_upstream_lands() if follows else None,
        metadata={
            "dagster/table_name": where.relation(name),
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(each, description=words) for each, words in columns]
            ),
        },
    )


def build_view_assets(settings: Settings) -> dg.AssetsDefinition:
    """All views; one whose tables are not there yet is passed over, and one that fails keeps none of the others. Then those
    that are there are checked, all in one statement."""

    where = placement_of(settings)
    calendar_key = dg.AssetKey([where.schema(CALENDAR.schema), CALENDAR.name])
    declared = view_checks(settings.versions, settings.old_names_schema)
    checks = {dg.AssetKey(where.relation(name).split(".")): each for name, each in declared.items()}
    specs = {key: check_specs(key, (*each, AS_DECLARED)) for key, each in checks.items() if key != calendar_key}
    specs[calendar_key] = check_specs(calendar_key, checks[calendar_key])

    @dg.multi_asset(
        name=STEP,
        specs=[*_specs(settings)],
        check_specs=[spec for each in specs.values() for spec in each],
        can_subset=True,
        required_resource_keys={"warehouse"},
    )
    def bi_views(context: dg.AssetExecutionContext, config: ViewConfig) -> Iterator[Any]:
        doing(run_id=context.run.run_id, asset=STEP)
        warehouse: Warehouse = context.resources.warehouse
        failed: list[WarehouseError] = []
        reports: dict[dg.AssetKey, ViewReport] = {}
        failing = partial(as_dagster_failure, pause_seconds=settings.step_retry_seconds)
        with failing():
            calendar = calendar_load(warehouse, _habits(settings), datetime.now(UTC).date(), run_id=context.run.run_id)
            if calendar is not None and calendar_key in context.selected_asset_keys:
                yield dg.MaterializeResult(
                    asset_key=calendar_key, metadata=report_metadata(CALENDAR, warehouse.load(calendar))
                )
        views = _views(warehouse, settings)
        while True:
            with failing():
                view = next(views, None)
            if view is None:
                break
            key = dg.AssetKey([where.schema(view.schema), view.name])
            if key not in context.selected_asset_keys:
                continue
            try:
                stored = _store(warehouse, view, settings, context.run.run_id, everything=config.mode == "full")
                report = warehouse.define(view)
            except WarehouseError as error:
                failed.append(error)
                continue
            yield dg.MaterializeResult(asset_key=key, metadata={**_metadata(view, report), **stored})
            reports[key] = report
        chosen = [key for key in (calendar_key, *reports) if key in checks and key in context.selected_asset_keys]
        with failing():
            found = verdicts(warehouse, SCHEMA, [check for key in chosen for check in checks[key]])
        answers = iter(found)
        for key in chosen:
            told_by_view = [as_declared(reports[key])] if key in reports else []
            yield from told(specs[key], [*islice(answers, len(checks[key])), *told_by_view])
        if failed:
            with failing():
                raise failed[0]
        raise_errors(found)

    return bi_views


def _store(warehouse: Warehouse, view: View, settings: Settings, run_id: str, *, everything: bool) -> dict[str, Any]:
    """Brings the table behind the view up to date, if it has one; what that came to, as metadata."""
    mart = STORED.get(str(view))
    load = mart_load(warehouse, mart, settings.timezone, run_id=run_id, everything=everything) if mart else None
    if load is None:
        return {}
    report = warehouse.load(load)
    return {"dagster/row_count": report.rows, "seconds_total": round(report.seconds["total"], 3)}


def _habits(settings: Settings) -> Habits:
    return Habits(
        holidays=settings.holidays, week_start=settings.week_start, fiscal_year_start=settings.fiscal_year_start
    )


def _views(warehouse: Warehouse, settings: Settings) -> Iterator[View]:
    """The views whose tables are there, each after those that it reads."""
    where, dictionary = warehouse.placement, read_dictionary(warehouse)
    yield from label_views(dictionary)
    for view in version_views(settings.versions, dictionary):
        yield view
        warehouse.define_function(as_of(view.name.removesuffix("_versions")))
    warehouse.fit(DEAL_CHANGE.table)
    warehouse.fit(DEAL_CHANGELOG)
    present = {row["name"] for row in warehouse.query(_RELATIONS)}
    for mart in MARTS:
        if present.issuperset(map(where.relation, mart.reads)):
            present.add(where.relation(str(mart)))
            yield mart.view(settings.timezone)
    if settings.old_names_schema:
        yield from old_views(settings.old_names_schema, dictionary)
        if where.relation(str(MAIN_BI)) in present:
            yield from mart_views(settings.old_names_schema)


def _metadata(view: View, report: ViewReport) -> dict[str, Any]:
    columns = [dg.TableColumn(column.name, description=column.comment) for column in view.columns]
    kept = {"kept_because": report.reason} if report.reason else {}
    renamed = {"renamed": dict(report.renamed)} if report.renamed else {}
    return {
        "dagster/table_name": str(view),
        "dagster/column_schema": dg.TableSchema(columns),
        "status": report.status.value,
        **renamed,
        **kept,
    }
