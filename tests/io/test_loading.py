"""Loads as a user meets them: upserts, unchanged rows, absent columns, duplicates, life cycle, watermarks, ledger."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeboard_io import (
    Batch,
    Column,
    ColumnType,
    FrameError,
    Load,
    LoadError,
    MassDeleteError,
    Reconcile,
    Reject,
    Table,
    Warehouse,
)
from tests.io.observer import Observer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def deals(schema: str, **other: object) -> Table:
    columns = (
        Column("id", ColumnType.BIGINT),
        Column("title", ColumnType.TEXT),
        Column("value", ColumnType.NUMERIC),
        Column("update_time", ColumnType.TIMESTAMPTZ),
    )
    return Table(schema, "deals", columns, **({"version_column": "update_time"} | other))  # type: ignore[arg-type]


def frame(ids: range | list[int], title: str = "a", *, minutes: int = 0) -> pl.DataFrame:
    count = len(ids)
    return pl.DataFrame(
        {
            "id": list(ids),
            "title": [title] * count,
            "value": ["1.5"] * count,
            "update_time": [NOON + timedelta(minutes=minutes)] * count,
        },
        schema_overrides={"id": pl.Int64, "title": pl.String, "value": pl.String},
    )


def titles(observer: Observer, table: Table) -> dict[int, str | None]:
    return {row["id"]: row["title"] for row in observer.rows(table, "id", "title")}


def test_a_first_load_creates_the_table_and_inserts_all_rows(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    report = warehouse.load(Load(deals(schema), frames=[frame(range(3)), frame(range(3, 5))]))
    assert (report.rows, report.inserted, report.updated, report.unchanged) == (5, 5, 0, 0)
    assert len(observer.rows(deals(schema))) == 5


def test_a_load_counts_inserted_updated_and_unchanged_rows(warehouse: Warehouse, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(4))]))
    report = warehouse.load(Load(deals(schema), frames=[frame([0, 1]), frame([2], "b"), frame([9])]))
    assert (report.inserted, report.updated, report.unchanged, report.rows) == (1, 1, 2, 5)


def test_unchanged_rows_are_not_touched(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    table = deals(schema, indexes=("title",))
    load = Load(table, frames=[frame(range(2000))])
    warehouse.load(load)
    observer.sql("CHECKPOINT")
    warehouse.load(
        load
    )  # the first write to a page after a checkpoint copies all of it to the WAL, catalogues' pages too
    places, updates = (
        observer.places(table),
        "SELECT n_tup_upd + n_tup_ins FROM pg_stat_user_tables WHERE schemaname = %s",
    )
    written_before = observer.value(updates, schema)
    with observer.wal() as wal:
        report = warehouse.load(load)
    assert report.is_unchanged
    assert observer.places(table) == places
    assert observer.value(updates, schema) == written_before
    # The ledger row, and the catalogue rows of a staging table that comes and goes.
    assert wal[0] < 40_000


def test_an_empty_stream_of_frames_is_a_load_of_nothing(warehouse: Warehouse, schema: str) -> None:
    report = warehouse.load(Load(deals(schema), frames=[]))
    assert (report.rows, report.staged) == (0, 0)


def test_a_batch_without_rows_may_still_bring_rejects(warehouse: Warehouse, schema: str) -> None:
    report = warehouse.load(Load(deals(schema), frames=[Batch(pl.DataFrame(), (Reject("1", None, "bad", "{}"),))]))
    assert report.rejected == 1


def test_a_column_missing_from_a_frame_keeps_its_values(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(2), "kept")]))
    report = warehouse.load(Load(deals(schema), frames=[frame(range(3), minutes=1).drop("title")]))
    assert report.updated == 2
    assert titles(observer, deals(schema)) == {0: "kept", 1: "kept", 2: None}


def test_a_column_absent_from_one_row_keeps_that_value_alone(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(3), "old")]))
    newer = frame(range(3), "new").with_columns(pl.Series("__absent__", [["title"], None, []]))
    warehouse.load(Load(deals(schema), frames=[newer]))
    assert titles(observer, deals(schema)) == {0: "old", 1: "new", 2: "new"}


def test_a_null_is_not_absence(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame([1], "old")]))
    warehouse.load(Load(deals(schema), frames=[frame([1]).with_columns(title=pl.lit(None))]))
    assert titles(observer, deals(schema)) == {1: None}


def test_the_newest_of_several_versions_wins_in_any_order(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    versions = [frame([1], "new", minutes=5), frame([1], "old", minutes=1), frame([1], "middle", minutes=3)]
    report = warehouse.load(Load(deals(schema), frames=versions))
    assert (report.staged, report.inserted) == (1, 1)
    assert titles(observer, deals(schema)) == {1: "new"}


def test_the_last_staged_wins_without_a_version(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    table = deals(schema, version_column=None)
    warehouse.load(Load(table, frames=[frame([1], "first", minutes=5), frame([1, 1], "last", minutes=1)]))
    assert titles(observer, table) == {1: "last"}


def test_a_newer_version_that_lacks_a_column_takes_it_from_the_older_one(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    frames = [frame([1], minutes=2).drop("title"), frame([1], "older", minutes=1), frame([1], "oldest")]
    warehouse.load(Load(deals(schema), frames=frames))
    assert titles(observer, deals(schema)) == {1: "older"}


def test_an_older_version_never_replaces_a_stored_newer_one(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    warehouse.load(Load(deals(schema), frames=[frame([1], "new", minutes=5)]))
    report = warehouse.load(Load(deals(schema), frames=[frame([1], "old", minutes=1)]))
    assert (report.outdated, report.updated) == (1, 0)
    assert titles(observer, deals(schema)) == {1: "new"}


def test_a_complete_load_is_right_even_about_an_older_version(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    warehouse.load(Load(deals(schema), frames=[frame([1], "new", minutes=5)]))
    warehouse.load(Load(deals(schema), frames=[frame([1], "restored from backup")], reconcile=Reconcile()))
    assert titles(observer, deals(schema)) == {1: "restored from backup"}


def test_a_complete_load_leaves_alone_what_another_load_wrote_meanwhile(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    table = deals(schema)
    warehouse.load(Load(table, frames=[frame(range(3))]))

    def sweep():  # type: ignore[no-untyped-def]
        yield frame([0, 1])
        warehouse.load(Load(table, frames=[frame([1, 7], "meanwhile", minutes=9)]))
        yield frame([2])

    report = warehouse.load(Load(table, frames=sweep(), reconcile=Reconcile(force=True)))
    assert (report.deleted, report.rows) == (0, 4)
    assert titles(observer, table) == {0: "a", 1: "meanwhile", 2: "a", 7: "meanwhile"}


def test_a_row_found_deleted_meanwhile_is_not_revived_by_an_older_reading(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    table = deals(schema)
    warehouse.load(Load(table, frames=[frame(range(3))]))

    def slow():  # type: ignore[no-untyped-def]
        yield frame([0, 1, 2])
        warehouse.load(Load(table, frames=[frame([0, 1])], reconcile=Reconcile()))

    report = warehouse.load(Load(table, frames=slow()))
    assert (report.outdated, report.rows) == (1, 2)


def test_reconciliation_marks_what_the_source_no_longer_has(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    table = deals(schema, entity=schema)
    warehouse.load(Load(table, frames=[frame(range(5))]))
    report = warehouse.load(Load(table, frames=[frame(range(3))], reconcile=Reconcile()))
    assert (report.deleted, report.rows, report.unchanged) == (2, 3, 3)
    gone = "SELECT id, reason, restored_at FROM pipeboard.tombstone WHERE entity = %s ORDER BY id"
    assert observer.sql(gone, schema) == [("3", "vanished", None), ("4", "vanished", None)]


def test_rows_that_come_back_are_restored(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    table = deals(schema, entity=schema)
    warehouse.load(Load(table, frames=[frame(range(5))]))
    warehouse.load(Load(table, frames=[frame(range(3))], reconcile=Reconcile()))
    report = warehouse.load(Load(table, frames=[frame([4])]))
    assert (report.restored, report.rows) == (1, 4)
    still_gone = "SELECT id FROM pipeboard.tombstone WHERE entity = %s AND restored_at IS NULL"
    assert observer.sql(still_gone, schema) == [("3",)]


def test_deleted_at_of_the_source_is_kept_and_the_first_one_stays(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    table = deals(schema, entity=schema)
    gone = frame([1]).with_columns(deleted_at=pl.lit(NOON), __reason__=pl.lit("merged"))
    warehouse.load(Load(table, frames=[frame([1, 2])]))
    report = warehouse.load(Load(table, frames=[gone]))
    again = warehouse.load(Load(table, frames=[gone.with_columns(deleted_at=pl.lit(NOON + timedelta(days=1)))]))
    assert (report.deleted, report.rows, again.is_unchanged) == (1, 1, True)
    assert observer.rows(table, "id", "deleted_at")[0]["deleted_at"] == NOON
    assert observer.sql("SELECT id, reason FROM pipeboard.tombstone WHERE entity = %s", schema) == [("1", "merged")]


def test_too_many_deletions_stop_the_load_with_the_count_and_ten_ids(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    table = deals(schema)
    warehouse.load(Load(table, frames=[frame(range(30))]))
    with pytest.raises(MassDeleteError, match="29 of 30 rows") as caught:
        warehouse.load(Load(table, frames=[frame([0], "changed", minutes=1)], reconcile=Reconcile()))
    assert (caught.value.count, len(caught.value.ids)) == (29, 10)
    assert titles(observer, table) == dict.fromkeys(range(30), "a")
    assert observer.value(f"SELECT count(*) FROM {schema}.deals WHERE deleted_at IS NOT NULL") == 0


@pytest.mark.parametrize(
    ("reconcile", "deleted"),
    [(Reconcile(force=True), 29), (Reconcile(max_share_percent=97), 29), (Reconcile(spare_rows=29), 29)],
)
def test_the_guard_lets_through_what_it_allows(
    warehouse: Warehouse, schema: str, reconcile: Reconcile, deleted: int
) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(30))]))
    assert warehouse.load(Load(deals(schema), frames=[frame([0])], reconcile=reconcile)).deleted == deleted


def test_new_rows_do_not_hide_a_mass_delete(warehouse: Warehouse, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(30))]))
    with pytest.raises(MassDeleteError):
        warehouse.load(Load(deals(schema), frames=[frame(range(100, 1000))], reconcile=Reconcile()))


def test_a_rejected_record_is_not_taken_for_a_vanished_one(warehouse: Warehouse, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(3))]))
    batch = Batch(frame([0, 1]), (Reject("2", None, "no title", "{}"),))
    report = warehouse.load(Load(deals(schema), frames=[batch], reconcile=Reconcile()))
    assert (report.deleted, report.rejected, report.rows) == (0, 1, 3)


def test_a_watermark_moves_forward_only(warehouse: Warehouse, schema: str) -> None:
    for hours, expected in ((1, 1), (0, 1), (2, 2)):
        moment = NOON + timedelta(hours=hours)
        warehouse.load(Load(deals(schema), frames=[], watermarks=lambda moment=moment: {schema: moment}))  # type: ignore[misc]
        assert warehouse.watermark(schema) == NOON + timedelta(hours=expected)
    assert warehouse.watermarks()[schema] == NOON + timedelta(hours=2)


def test_a_watermark_stays_when_the_load_fails(warehouse: Warehouse, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(30))], watermarks=lambda: {schema: NOON}))
    later = {schema: NOON + timedelta(days=1)}
    with pytest.raises(MassDeleteError):
        warehouse.load(Load(deals(schema), frames=[], reconcile=Reconcile(), watermarks=lambda: later))
    assert warehouse.watermark(schema) == NOON


def test_a_watermark_without_a_time_zone_is_refused(warehouse: Warehouse, schema: str) -> None:
    naive = {schema: datetime(2026, 1, 1)}
    with pytest.raises(ValueError, match="time zone"):
        warehouse.load(Load(deals(schema), frames=[frame([1])], watermarks=lambda: naive))


def test_every_load_leaves_one_row_in_the_ledger(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    table = deals(schema, entity=schema)
    warehouse.load(Load(table, frames=[frame(range(3))], mode="full", run_id="run", facts=lambda: {"requests": 7}))
    found = observer.sql(
        "SELECT status, mode, run_id, rows, inserted, facts, seconds ? 'publish' FROM pipeboard.load WHERE entity = %s",
        schema,
    )
    assert found == [("success", "full", "run", 3, 3, {"requests": 7}, True)]


def test_a_failed_load_is_in_the_ledger_with_its_error(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield frame([1])
        raise RuntimeError("secret of the source")

    with pytest.raises(RuntimeError):
        warehouse.load(Load(deals(schema, entity=schema), frames=broken()))
    found = observer.sql("SELECT status, error_class, error, rows FROM pipeboard.load WHERE entity = %s", schema)
    assert found == [("failed", "builtins.RuntimeError", None, None)]


def test_a_load_stopped_on_purpose_is_not_a_failure(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    def spent():  # type: ignore[no-untyped-def]
        yield frame([1])
        raise TimeoutError

    with pytest.raises(TimeoutError):
        warehouse.load(Load(deals(schema, entity=schema), frames=spent(), stops=(TimeoutError,)))
    assert observer.value("SELECT status FROM pipeboard.load WHERE entity = %s", schema) == "stopped"


def test_a_load_that_fails_leaves_no_staging_table(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield frame([1])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        warehouse.load(Load(deals(schema), frames=broken()))
    assert observer.stages() == []


def test_a_generator_is_closed_when_the_load_fails(warehouse: Warehouse, schema: str) -> None:
    closed = []

    def source():  # type: ignore[no-untyped-def]
        try:
            yield frame([1]).rename({"title": "heading"})
        finally:
            closed.append(True)

    with pytest.raises(FrameError):
        warehouse.load(Load(deals(schema), frames=source()))
    assert closed == [True]


def test_a_key_of_several_columns_identifies_rows(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    columns = (Column("a", ColumnType.TEXT), Column("b", ColumnType.INTEGER), Column("n", ColumnType.INTEGER))
    table = Table(schema, "pairs", columns, primary_key=("a", "b"))
    rows = pl.DataFrame({"a": ["x", "x", "y", "x"], "b": [1, 2, 1, 1], "n": [1, 2, 3, 4]})
    warehouse.load(Load(table, frames=[rows]))
    report = warehouse.load(Load(table, frames=[rows.tail(2)], reconcile=Reconcile()))
    assert (report.deleted, report.unchanged, report.rows) == (1, 2, 2)
    assert [row["n"] for row in observer.rows(table)] == [4, 2, 3]


def test_a_table_of_keys_alone_loads_and_loads_again(warehouse: Warehouse, schema: str) -> None:
    table = Table(schema, "keys", (Column("id", ColumnType.BIGINT),), lifecycle=False)
    rows = pl.DataFrame({"id": [3, 1, 2]})
    assert warehouse.load(Load(table, frames=[rows])).inserted == 3
    assert warehouse.load(Load(table, frames=[rows])).is_unchanged


def test_rows_without_a_key_are_rejected(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    table = deals(schema, entity=schema)
    report = warehouse.load(Load(table, frames=[pl.concat([frame([1]), frame([2]).with_columns(id=None)])]))
    assert (report.inserted, report.rejected) == (1, 1)
    assert observer.value("SELECT reason FROM pipeboard.rejected_record WHERE entity = %s", schema) == "the key is null"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.with_columns(heading=1), "'heading'.*not declared"),
        (lambda f: f.with_columns(id=pl.col("id").cast(pl.String)), "'id' as polars String.*bigint"),
        (lambda f: f.with_columns(value=True), "'value' as polars Boolean.*numeric"),
        (lambda f: f.with_columns(title=pl.col("id")), "'title' as polars Int64.*text"),
        (lambda f: f.drop("id"), "lacks its key column 'id'"),
    ],
)
def test_a_frame_that_does_not_fit_is_an_error_that_names_the_column(
    warehouse: Warehouse, schema: str, spoil: object, words: str
) -> None:
    with pytest.raises(FrameError, match=words):
        warehouse.load(Load(deals(schema), frames=[spoil(frame([1]))]))  # type: ignore[operator]


def test_a_select_load_inserts_updates_and_removes(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(10))]))
    mart = Table(
        schema,
        "mart",
        (Column("deal_id", ColumnType.BIGINT), Column("t", ColumnType.TEXT)),
        ("deal_id",),
        lifecycle=False,
    )
    select = f"SELECT id AS deal_id, title || '%' AS t FROM {schema}.deals WHERE deleted_at IS NULL -- all living"
    assert warehouse.load(Load(mart, select=select)).inserted == 10
    warehouse.load(Load(deals(schema), frames=[frame([1], "b"), frame([2, 3]).with_columns(deleted_at=pl.lit(NOON))]))
    places = dict(observer.sql(f"SELECT deal_id, ctid FROM {schema}.mart"))
    report = warehouse.load(Load(mart, select=select))
    assert (report.updated, report.deleted, report.unchanged, report.rows) == (1, 2, 7, 8)
    moved = [key for key, place in observer.sql(f"SELECT deal_id, ctid FROM {schema}.mart") if places[key] != place]
    assert moved == [1]


def test_a_select_that_repeats_a_key_is_an_error(warehouse: Warehouse, schema: str) -> None:
    table = Table(schema, "twice", (Column("id", ColumnType.BIGINT),), lifecycle=False)
    with pytest.raises(LoadError, match="1 keys more than once"):
        warehouse.load(Load(table, select="SELECT 1 AS id UNION ALL SELECT 1"))


@pytest.mark.parametrize("rows", ["(1, 1), (NULL, 1)", "(NULL, 1), (NULL, 1), (1, NULL)"])
def test_a_select_whose_key_is_null_is_an_error_that_says_so(warehouse: Warehouse, schema: str, rows: str) -> None:
    columns = (Column("a", ColumnType.BIGINT), Column("b", ColumnType.BIGINT))
    table = Table(schema, "keyless", columns, ("a", "b"), lifecycle=False)
    with pytest.raises(LoadError, match=rf"brings {rows.count('NULL')} rows whose key \(a, b\) is null"):
        warehouse.load(Load(table, select=f"SELECT * FROM (VALUES {rows}) AS v (a, b)"))


def test_a_select_into_a_table_with_a_life_cycle_marks_rows_that_left(warehouse: Warehouse, schema: str) -> None:
    table = Table(schema, "kept", (Column("id", ColumnType.BIGINT),))
    warehouse.load(Load(table, select="SELECT generate_series(1, 20) AS id"))
    report = warehouse.load(Load(table, select="SELECT generate_series(11, 21) AS id"))
    assert (report.deleted, report.inserted, report.rows) == (10, 1, 11)


def test_a_report_adds_up(warehouse: Warehouse, schema: str) -> None:
    warehouse.load(Load(deals(schema), frames=[frame(range(10), minutes=1)]))
    warehouse.load(Load(deals(schema), frames=[frame(range(8), minutes=1)], reconcile=Reconcile(force=True)))
    gone = frame([3], minutes=2).with_columns(deleted_at=pl.lit(NOON))
    mixed = [frame([0]), frame([1], minutes=1), frame([2, 8], "b", minutes=2), gone, frame([20])]
    report = warehouse.load(Load(deals(schema), frames=mixed))
    assert (report.outdated, report.unchanged, report.updated, report.restored) == (1, 1, 1, 1)
    assert (report.deleted, report.inserted, report.staged, report.rows) == (1, 1, 6, 9)


def test_a_column_called_deleted_at_is_an_ordinary_one_without_a_life_cycle(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    columns = (Column("id", ColumnType.BIGINT), Column("deleted_at", ColumnType.TIMESTAMPTZ))
    table = Table(schema, "t", columns, lifecycle=False)
    for at in (NOON, NOON + timedelta(days=1)):
        warehouse.load(Load(table, frames=[pl.DataFrame({"id": [1], "deleted_at": [at]})]))
        assert observer.rows(table) == [{"id": 1, "deleted_at": at}]


@pytest.mark.parametrize("name", ["kind", "place", "age", "key", "row"])
def test_a_key_of_any_name_loads_and_loads_again(warehouse: Warehouse, schema: str, name: str) -> None:
    table = Table(schema, "t", (Column(name, ColumnType.TEXT), Column("n", ColumnType.BIGINT)), primary_key=(name,))
    for number in (1, 2):
        report = warehouse.load(Load(table, frames=[pl.DataFrame({name: ["a"], "n": [number]})]))
    assert report.updated == 1


def test_a_record_with_half_a_key_deletes_no_row(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    columns = (Column("a", ColumnType.BIGINT), Column("b", ColumnType.BIGINT))
    table = Table(schema, "t", columns, primary_key=("a", "b"))
    warehouse.load(Load(table, frames=[pl.DataFrame({"a": [1, 2], "b": [1, 2]})]))
    halved = pl.DataFrame({"a": [1, 2], "b": [1, None]})
    with pytest.raises(LoadError, match="1 records came without a key"):
        warehouse.load(Load(table, frames=[halved], reconcile=Reconcile()))
    assert observer.value(f"SELECT count(*) FROM {schema}.t WHERE deleted_at IS NULL") == 2


def test_rows_without_a_version_come_in_their_order(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    columns = (Column("id", ColumnType.BIGINT), Column("a", ColumnType.TEXT), Column("version", ColumnType.BIGINT))
    brought = [{"a": ["old"], "version": [5]}, {"a": ["new"]}, {"version": [6]}]
    frames = [pl.DataFrame({"id": [1], **row}) for row in brought]
    for name, loads in (("together", [frames]), ("apart", [[frame] for frame in frames])):
        table = Table(schema, name, columns, version_column="version")
        for load in loads:
            warehouse.load(Load(table, frames=load))
        assert observer.rows(table) == [{"id": 1, "a": "new", "version": 6}], name


def test_a_record_with_an_odd_time_of_deletion_stays_as_it_was(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    table = Table(schema, "t", (Column("id", ColumnType.BIGINT),))
    warehouse.load(Load(table, frames=[pl.DataFrame({"id": [1, 2], "deleted_at": [NOON, None]})]))
    for odd in ("rubbish", "yesterday"):
        frame = pl.DataFrame({"id": [1, 2], "deleted_at": [odd, None]})
        report = warehouse.load(Load(table, frames=[frame], reconcile=Reconcile()))
        assert (report.rejected, report.restored, report.deleted) == (1, 0, 0)
    assert observer.sql(f"SELECT id FROM {schema}.t WHERE deleted_at IS NULL") == [(2,)]
