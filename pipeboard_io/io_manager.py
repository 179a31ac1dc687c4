"""Dagster's side: an IO manager for assets that output a `Load`, a frame, a stream of frames or a SELECT.

The only module of this package that imports Dagster.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import dagster as dg
import polars as pl
from pydantic import PrivateAttr

from pipeboard_io.errors import FrameError
from pipeboard_io.inference import table_from_frame, table_from_select
from pipeboard_io.load import Batch, Load, LoadReport, Reconcile
from pipeboard_io.table import Table
from pipeboard_io.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Select:
    """An output computed inside PostgreSQL: the table becomes what this SELECT says."""

    sql: str
    primary_key: tuple[str, ...] | None = None


class PostgresIOManager(dg.ConfigurableIOManager):
    """Stores outputs in PostgreSQL tables and reads them back as polars frames.

    An asset may output
    - a `Load`, which says everything itself;
    - a `polars.DataFrame` or `LazyFrame`, an iterator of frames or batches (wrapped in `dg.Output`, for Dagster takes a
      bare generator for events), or a `Select`.
    In the second case the table is named by the asset key (its last part; the part before it is the schema, else
    `schema_name`), the types come from the frame, and the key from the asset's metadata: `{"primary_key": "id"}`, or a
    list of names; the default is `id`. Such a table has a row's life cycle only where metadata `lifecycle` is true.
    The output is the whole table, and rows that it no longer brings leave, unless the asset has partitions or its metadata
    `complete` is false: then rows are added and updated only.

    Several partitions in one output are one load. Subclass and override `warehouse` to get the database from elsewhere.
    """

    url: str = ""
    schema_name: str = "public"
    state_schema: str = "pipeboard"
    _warehouse: Warehouse | None = PrivateAttr(default=None)

    def warehouse(self) -> Warehouse:
        """The database to store in, made once; no connection is opened."""
        if self._warehouse is None:
            self._warehouse = Warehouse(self.url, state_schema=self.state_schema)
        return self._warehouse

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Loads the output into its table and describes the load in the output's metadata."""
        if obj is None:
            return
        load = self.load_from(context, obj)
        report = self.publish(load)
        context.add_output_metadata(self.described(load, report))

    def described(self, load: Load, report: LoadReport) -> dict[str, Any]:
        """What the output's metadata says of a load that was carried out; subclasses add to it here."""
        return report_metadata(load.table, report)

    def publish(self, load: Load) -> LoadReport:
        """Carries out the load; subclasses hear of it here."""
        return self.warehouse().load(load)

    def load_from(self, context: dg.OutputContext, obj: object) -> Load:
        """The load that an output stands for; raises FrameError for what cannot be stored."""
        if isinstance(obj, Load):
            return obj
        schema, name = self._table_name(context.asset_key.path if context.has_asset_key else [context.name])
        metadata = context.definition_metadata or {}
        key = _primary_key(metadata)
        run_id = context.run_id
        if isinstance(obj, Select):
            table = table_from_select(
                self.warehouse(), obj.sql, schema=schema, name=name, primary_key=obj.primary_key or key
            )
            return Load(table, select=obj.sql, run_id=run_id, mode="select")
        first, frames = _peeked(obj)
        is_mortal = bool(_plain(metadata.get("lifecycle", False)))
        table = table_from_frame(first, schema=schema, name=name, primary_key=key, lifecycle=is_mortal)
        is_complete = bool(_plain(metadata.get("complete", not context.has_asset_partitions)))
        reconcile = Reconcile(force=True) if is_complete else None
        return Load(table, frames=frames, reconcile=reconcile, run_id=run_id)

    def load_input(self, context: dg.InputContext) -> pl.DataFrame | pl.LazyFrame | None:
        """The upstream table: lazy where the input is annotated as LazyFrame, else whole. `dg.Nothing` reads nothing."""
        if context.dagster_type.is_nothing or context.dagster_type.typing_type is type(None):
            return None
        schema, name = self._upstream_table(context)
        frame = self.warehouse().scan(f"{schema}.{name}")
        return frame if context.dagster_type.typing_type is pl.LazyFrame else frame.collect()

    def _upstream_table(self, context: dg.InputContext) -> tuple[str, str]:
        # What a Load stored says where it went: it need not be the place that the asset key suggests.
        stored = context.upstream_output.definition_metadata if context.upstream_output else {}
        if table_name := _plain((stored or {}).get("dagster/table_name")):
            schema, _, name = str(table_name).rpartition(".")
            return schema, name
        path = context.asset_key.path if context.has_asset_key else [context.name]
        return self._table_name(path)

    def _table_name(self, path: Sequence[str]) -> tuple[str, str]:
        return (path[-2] if len(path) > 1 else self.schema_name), path[-1]


def _plain(value: object) -> object:
    return value.value if isinstance(value, dg.MetadataValue) else value


def _primary_key(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    key: Any = _plain(metadata.get("primary_key", "id"))
    return (key,) if isinstance(key, str) else tuple(map(str, key))


def _peeked(obj: object) -> tuple[pl.DataFrame, Iterator[pl.DataFrame | Batch]]:
    """The first frame, and all of them: the table's types come from the first."""
    match obj:
        case pl.DataFrame() | Batch():
            items: Iterator[pl.DataFrame | Batch] = iter([obj])
        case pl.LazyFrame():
            items = (
                iter(obj.collect_batches(chunk_size=50_000))
                if hasattr(obj, "collect_batches")
                else iter([obj.collect()])
            )
        case Iterable():
            items = iter(obj)
        case _:
            raise FrameError(
                f"an asset stored by PostgresIOManager gave a {type(obj).__name__}: give a polars frame, an iterator of "
                "frames, a Select or a Load"
            )
    first = next(items, None)
    if first is None and isinstance(obj, pl.LazyFrame):
        first = pl.DataFrame(schema=obj.collect_schema())
    if first is None:
        raise FrameError("an asset gave no frame at all: give an empty frame with a schema, so that the table is known")
    return first.frame if isinstance(first, Batch) else first, chain([first], items)


def report_metadata(table: Table, report: LoadReport) -> dict[str, Any]:
    """A load's report as output metadata: numbers become plots, the schema becomes the asset's columns."""
    columns = [
        dg.TableColumn(column.name, column.type.value, description=column.comment) for column in table.all_columns
    ]
    counts = ("inserted", "updated", "unchanged", "deleted", "restored", "rejected", "relabelled", "outdated")
    return {
        "dagster/row_count": report.rows,
        "dagster/table_name": report.table,
        "dagster/column_schema": dg.TableSchema(columns),
        **{name: getattr(report, name) for name in counts},
        **{f"seconds_{phase}": round(seconds, 3) for phase, seconds in report.seconds.items()},
        "bytes": report.bytes,
        "load_id": report.load_id,
        "mode": report.mode,
        "summary": dg.MetadataValue.md(_summary(report, counts)),
    }


def _summary(report: LoadReport, counts: Sequence[str]) -> str:
    lines = [f"| {report.table} | rows |", "|---|---:|", f"| alive afterwards | {report.rows} |"]
    lines += [f"| {name} | {getattr(report, name)} |" for name in counts if getattr(report, name)]
    if report.columns_narrower:
        lines += ["", "Columns kept with another type: " + "; ".join(report.columns_narrower)]
    if report.ddl:
        lines += ["", "```sql", *[f"{statement};" for statement in report.ddl[:50]], "```"]
    return "\n".join(lines)
