"""The IO manager in real Dagster runs: every form of output, the report as metadata, inputs as frames."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl
import pytest

from pipeboard_io import Column, ColumnType, FrameError, Load, Table, Warehouse
from pipeboard_io.io_manager import PostgresIOManager, Select
from tests.io.observer import Observer

ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", None], "amount": [1.5, 2.5, None]})


def run(url: str, *assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        manager = PostgresIOManager(url=url)
        return dg.materialize(assets, resources={"io_manager": manager}, instance=instance, **options)


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    events = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key and event.asset_key.path[-1] == name
    ]
    return {key: value.value for key, value in events[-1].materialization.metadata.items()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ROWS,
        lambda: ROWS.lazy(),
        lambda: (frame for frame in (ROWS.head(1), ROWS.tail(2))),
        lambda: Load(Table("x", "y", (Column("id", ColumnType.BIGINT),)), frames=[ROWS.select("id")]),
        lambda: Select("SELECT n AS id, 'x' AS name FROM generate_series(1, 3) n"),
    ],
    ids=["frame", "lazy frame", "stream", "load", "select"],
)
def test_every_form_of_output_is_loaded(database_url: str, schema: str, make: Any) -> None:
    @dg.asset(key_prefix=schema)
    def things() -> dg.Output[Any]:
        return dg.Output(make())

    found = metadata(run(database_url, things), "things")
    assert found["dagster/row_count"] == 3


def test_a_lazy_frame_without_rows_makes_the_table(database_url: str, schema: str, observer: Observer) -> None:
    @dg.asset(key_prefix=schema)
    def things() -> pl.LazyFrame:
        return ROWS.lazy().filter(pl.col("id") > 5)

    assert metadata(run(database_url, things), "things")["dagster/row_count"] == 0
    assert observer.sql(f"SELECT id, name, amount FROM {schema}.things") == []


def test_a_first_load_of_empty_lists_leaves_room_for_texts(database_url: str, schema: str, observer: Observer) -> None:
    tags: list[str] = []

    @dg.asset(key_prefix=schema)
    def things() -> pl.DataFrame:
        return pl.DataFrame({"id": [1], "tags": [tags]})

    run(database_url, things)
    tags += ["a", "b"]
    run(database_url, things)
    assert observer.sql(f"SELECT tags FROM {schema}.things") == [(["a", "b"],)]


def test_the_report_becomes_metadata_with_columns_and_their_comments(database_url: str, schema: str) -> None:
    table = Table(schema, "t", (Column("id", ColumnType.BIGINT, "the number"),))

    @dg.asset(key_prefix=schema)
    def things() -> dg.Output[Load]:
        return dg.Output(Load(table, frames=[ROWS.select("id")]))

    found = metadata(run(database_url, things), "things")
    assert (found["dagster/table_name"], found["inserted"], found["unchanged"]) == (f"{schema}.t", 3, 0)
    assert found["seconds_total"] > 0
    column = found["dagster/column_schema"].columns[0]
    assert (column.name, column.type, column.description) == ("id", "bigint", "the number")
    assert "| inserted | 3 |" in found["summary"]


def test_a_users_own_asset_reads_the_table_upstream(database_url: str, schema: str, warehouse: Warehouse) -> None:
    @dg.asset(key_prefix=schema)
    def deals() -> pl.DataFrame:
        return pl.DataFrame({"id": [1, 2, 3], "stage": ["won", "lost", "won"], "value": [10, 20, 30]})

    @dg.asset(key_prefix=schema, metadata={"primary_key": "stage"}, ins={"deals": dg.AssetIn([schema, "deals"])})
    def value_by_stage(deals: pl.DataFrame) -> pl.DataFrame:
        return deals.group_by("stage").agg(pl.col("value").sum())

    assert run(database_url, deals, value_by_stage).success
    assert warehouse.read(f"{schema}.value_by_stage").sort("stage").rows() == [("lost", 20), ("won", 40)]


def test_an_input_annotated_as_lazy_frame_is_lazy(database_url: str, schema: str) -> None:
    got = []

    @dg.asset(key_prefix=schema)
    def things() -> pl.DataFrame:
        return ROWS

    @dg.asset(key_prefix=schema, ins={"things": dg.AssetIn([schema, "things"])})
    def count(things: pl.LazyFrame) -> None:
        got.append((type(things), things.select("id").collect().height))

    run(database_url, things, count)
    assert got == [(pl.LazyFrame, 3)]


def test_an_asset_that_only_depends_reads_nothing_and_stores_nothing(database_url: str, schema: str) -> None:
    @dg.asset(key_prefix=schema)
    def things() -> pl.DataFrame:
        return ROWS

    @dg.asset(key_prefix=schema, deps=[things])
    def after() -> None:
        return None

    assert run(database_url, things, after).success


@pytest.mark.parametrize(("metadata_", "left"), [({}, [3]), ({"complete": False}, [1, 2, 3])], ids=["whole", "part"])
def test_rows_that_an_output_no_longer_brings_leave_its_table(
    database_url: str, schema: str, warehouse: Warehouse, metadata_: dict[str, bool], left: list[int]
) -> None:
    outputs = iter([ROWS, ROWS.tail(1)])

    @dg.asset(key_prefix=schema, metadata=metadata_)
    def things() -> pl.DataFrame:
        return next(outputs)

    for _ in range(2):
        run(database_url, things)
    assert warehouse.read(f"{schema}.things", ["id"])["id"].sort().to_list() == left


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_one_partition_leaves_the_others_alone(database_url: str, schema: str, warehouse: Warehouse) -> None:
    @dg.asset(key_prefix=schema, partitions_def=dg.StaticPartitionsDefinition(["1", "2"]))
    def things(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return ROWS.filter(pl.col("id") == int(context.partition_key))

    for key in ("1", "2"):
        run(database_url, things, partition_key=key)
    assert warehouse.read(f"{schema}.things", ["id"])["id"].sort().to_list() == [1, 2]


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_several_partitions_in_one_output_are_one_load(database_url: str, schema: str, observer: Observer) -> None:
    months = dg.MonthlyPartitionsDefinition("2026-01-01")

    @dg.asset(key_prefix=schema, partitions_def=months, backfill_policy=dg.BackfillPolicy.single_run())
    def things() -> pl.DataFrame:
        return ROWS

    tags = {"dagster/asset_partition_range_start": "2026-01-01", "dagster/asset_partition_range_end": "2026-03-01"}
    result = run(database_url, things, tags=tags)
    assert len(result.get_asset_materialization_events()) == 3
    assert observer.value("SELECT count(*) FROM pipeboard.load WHERE table_name = %s", f"{schema}.things") == 1


def test_a_load_carries_the_run_that_made_it(database_url: str, schema: str, observer: Observer) -> None:
    @dg.asset(key_prefix=schema)
    def things() -> pl.DataFrame:
        return ROWS

    result = run(database_url, things)
    assert (
        observer.value("SELECT run_id FROM pipeboard.load WHERE table_name = %s", f"{schema}.things") == result.run_id
    )


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (5, "gave a int"),
        (iter([]), "no frame at all"),
        (pl.DataFrame({"name": ["a"]}), "primary_key"),
        (pl.DataFrame({"id": [b"x"]}), "polars Binary"),
        (Select("SELECT 1 AS id, point(1, 2) AS place"), "'place' of type point"),
    ],
)
def test_what_cannot_be_stored_says_why(database_url: str, schema: str, output: object, words: str) -> None:
    @dg.asset(key_prefix=schema)
    def things() -> dg.Output[object]:
        return dg.Output(output)

    with pytest.raises(FrameError, match=words):
        run(database_url, things)


def test_the_warehouse_can_come_from_elsewhere(warehouse: Warehouse, schema: str) -> None:
    class Elsewhere(PostgresIOManager):
        def warehouse(self) -> Warehouse:
            return warehouse

    @dg.asset(key_prefix=schema)
    def things() -> pl.DataFrame:
        return ROWS

    assert dg.materialize([things], resources={"io_manager": Elsewhere()}).success


def test_no_configuration_of_the_manager_connects(schema: str) -> None:
    manager = PostgresIOManager(url="postgresql://u:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in repr(manager.warehouse())


def test_a_stream_is_loaded_frame_by_frame(database_url: str, schema: str) -> None:
    alive: list[int] = []

    def frames() -> Iterator[pl.DataFrame]:
        for number in range(5):
            alive.append(number)
            yield pl.DataFrame({"id": [number]})

    @dg.asset(key_prefix=schema)
    def things() -> dg.Output[Any]:
        output = dg.Output(frames())
        assert alive == []
        return output

    assert metadata(run(database_url, things), "things")["dagster/row_count"] == 5
