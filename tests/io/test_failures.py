"""What a failure leaves behind: the table as before or as after, never between; and what the error says."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import psycopg
import pytest

from pipeboard_io import (
    AuthenticationError,
    Batch,
    Column,
    ColumnType,
    ConstraintError,
    DatabaseMissingError,
    DatabaseUnavailableError,
    DatabaseUrlError,
    Load,
    PrivilegeError,
    Reconcile,
    Reject,
    SchemaDriftError,
    StatementTimeoutError,
    Table,
    TableBlockedError,
    Warehouse,
    WarehouseError,
)
from pipeboard_io.errors import RETRIABLE
from tests.io.observer import Observer
from tests.io.proxy import proxied

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COLUMNS = (Column("id", ColumnType.BIGINT), Column("title", ColumnType.TEXT, "the title"))


def table(schema: str, *more: Column, **other: Any) -> Table:
    return Table(schema, "t", COLUMNS + more, **({"entity": schema} | other))


def frame(ids: range, title: str) -> pl.DataFrame:
    return pl.DataFrame({"id": list(ids), "title": [title] * len(ids)})


def everything(observer: Observer, schema: str) -> tuple[Any, ...]:
    """All that one publish changes together."""
    return (
        observer.sql(f"SELECT id, title, deleted_at IS NULL FROM {schema}.t ORDER BY id"),
        observer.sql("SELECT value FROM pipeboard.watermark WHERE name = %s", schema),
        observer.sql("SELECT id, restored_at IS NULL FROM pipeboard.tombstone WHERE entity = %s ORDER BY id", schema),
        observer.sql("SELECT record_key, resolved_at IS NULL FROM pipeboard.rejected_record WHERE entity = %s", schema),
    )


def computed(schema: str, moment: datetime) -> Load:
    return Load(
        table(schema, Column("added", ColumnType.TEXT, "x"), indexes=("title",)),
        select="SELECT id, 'new' AS title, NULL AS added FROM generate_series(2, 8) AS id",
        watermarks=lambda: {schema: moment},
    )


def change(schema: str, moment: datetime) -> Load:
    batches = [
        Batch(frame(range(2, 6), "new"), checkpoint={"page": 1}),
        Batch(frame(range(5, 9), "new"), (Reject("9", "title", "odd", "{}"),), {"page": 2}),
    ]
    return Load(
        table(schema, Column("added", ColumnType.TEXT, "x"), indexes=("title",)),
        frames=lambda checkpoint: batches[checkpoint["page"] if checkpoint else 0 :],
        reconcile=Reconcile(force=True),
        watermarks=lambda: {schema: moment},
        resume_key=schema,
    )


@pytest.mark.parametrize("load", [change, computed])
def test_a_connection_lost_at_any_statement_leaves_the_table_as_before_or_as_after(
    database_url: str, warehouse: Warehouse, observer: Observer, load: Callable[[str, datetime], Load]
) -> None:
    with proxied(database_url) as (proxy, url):
        shaky = Warehouse(url, lock_timeout_seconds=5)
        shaky.migrate()
        statement, outcomes = 0, set()
        while True:
            statement += 1
            schema = f"lost_{load.__name__}_{statement}"
            warehouse.load(Load(table(schema), frames=[frame(range(4), "old")], watermarks=lambda: {schema: NOON}))  # noqa: B023
            before = everything(observer, schema)
            proxy.reset(break_at=statement)
            later = load(schema, NOON + timedelta(days=1))
            try:
                shaky.load(later)
                break
            except DatabaseUnavailableError:
                found = everything(observer, schema)
            proxy.reset()
            shaky.load(later)
            after = everything(observer, schema)
            assert found in (before, after), f"between, after statement {statement}"
            outcomes.add(found == after)
    assert statement > (30 if load is change else 20)
    # Losing the answer to the COMMIT is the one failure behind which the load is there.
    assert outcomes == {True, False}
    assert [title for _, title, is_alive in after[0] if is_alive] == ["new"] * 7
    warehouse.load(Load(table(f"lost_{load.__name__}"), frames=[]))
    assert observer.stages() == []


def test_a_failing_source_leaves_the_table_as_it_was(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    warehouse.load(Load(table(schema), frames=[frame(range(4), "old")]))
    before = everything(observer, schema)

    def broken() -> Any:
        yield frame(range(2), "new")
        raise ValueError("source broke")

    with pytest.raises(ValueError, match="source broke"):
        warehouse.load(Load(table(schema), frames=broken()))
    assert everything(observer, schema) == before


def test_a_dashboard_query_that_blocks_new_columns_is_named(
    warehouse: Warehouse, database_url: str, schema: str
) -> None:
    warehouse.load(Load(table(schema), frames=[frame(range(4), "old")]))
    with psycopg.connect(database_url, application_name="metabase") as dashboard:
        pid = dashboard.info.backend_pid
        dashboard.execute(f"SELECT * FROM {schema}.t".encode())
        wider = table(schema, Column("added", ColumnType.TEXT))
        with pytest.raises(TableBlockedError, match=r"lock_timeout.*metabase") as caught:
            warehouse.load(Load(wider, frames=[frame(range(2), "new")]))
        # Data alone needs no such lock: readers and loads do not meet.
        warehouse.load(Load(table(schema), frames=[frame(range(2), "new")]))
    assert str(pid) in caught.value.blockers[0]
    assert isinstance(caught.value, RETRIABLE)


def test_a_session_that_holds_another_table_of_ours_is_named_with_it(
    warehouse: Warehouse, database_url: str, schema: str
) -> None:
    with psycopg.connect(database_url, application_name="by hand") as person:
        person.execute("LOCK TABLE pipeboard.watermark")
        with pytest.raises(
            TableBlockedError, match=r"another session holds: pid \d+ \(by hand.*\) on pipeboard.watermark"
        ):
            warehouse.load(
                Load(table(schema), frames=[frame(range(4), "x")], watermarks=lambda: {"w": datetime.now(UTC)})
            )


def test_a_session_that_changes_the_same_row_is_named_and_nothing_is_published(
    warehouse: Warehouse, database_url: str, observer: Observer, schema: str
) -> None:
    warehouse.load(Load(table(schema), frames=[frame(range(4), "old")]))
    before = everything(observer, schema)
    with psycopg.connect(database_url, application_name="by hand") as person:
        person.execute(f"UPDATE {schema}.t SET title = 'mine' WHERE id = 1".encode())
        with pytest.raises(TableBlockedError, match=r"Publishing.*lock_timeout.*by hand, idle in transaction"):
            warehouse.load(Load(table(schema), frames=[frame(range(4), "new")]))
        person.rollback()
    assert everything(observer, schema) == before


def test_a_view_in_the_place_of_the_table_is_an_error(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    observer.sql(f"CREATE SCHEMA {schema}; CREATE VIEW {schema}.t AS SELECT 1 AS id")
    with pytest.raises(SchemaDriftError, match="not a table"):
        warehouse.load(Load(table(schema), frames=[frame(range(2), "a")]))


def test_a_constraint_of_the_user_refuses_with_its_name(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    warehouse.load(Load(table(schema), frames=[frame(range(2), "a")]))
    observer.sql(f"ALTER TABLE {schema}.t ADD CONSTRAINT short CHECK (length(title) < 3)")
    with pytest.raises(ConstraintError) as caught:
        warehouse.load(Load(table(schema), frames=[frame(range(2), "longer")]))
    assert caught.value.constraint == "short"


def test_a_statement_that_runs_too_long_is_told_so(database_url: str, warehouse: Warehouse, schema: str) -> None:
    hasty = Warehouse(database_url, statement_timeout_seconds=0.2)
    slow = Table(schema, "slow", (Column("id", ColumnType.BIGINT),), lifecycle=False)
    with pytest.raises(StatementTimeoutError, match="statement_timeout_seconds"):
        hasty.load(Load(slow, select="SELECT 1 AS id FROM pg_sleep(5)"))


def test_a_table_too_wide_for_a_page_is_an_error_that_says_what_to_do(warehouse: Warehouse, schema: str) -> None:
    many = tuple(Column(f"c{number}", ColumnType.BIGINT) for number in range(1200))
    row = pl.DataFrame({"id": [1], **{column.name: [1] for column in many}})
    with pytest.raises(SchemaDriftError, match="column budget"):
        warehouse.load(Load(table(schema, *many), frames=[row]))


def test_a_value_too_long_for_an_index_of_the_user_is_told_so(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    warehouse.fit(table(schema))
    observer.sql(f"CREATE INDEX ON {schema}.t (id, title)")
    long = observer.value("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 90) n")
    with pytest.raises(SchemaDriftError, match="An index takes keys of up to 2,704 bytes: shorten the values"):
        warehouse.load(Load(table(schema), frames=[frame(range(1), long)]))


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/x", DatabaseUnavailableError, "no server answers"),
        ("postgresql://u:hunter2@127.0.0.1:port/x", DatabaseUrlError, "cannot be read"),
        ("postgresql://u:hun@ter2@nowhere.invalid/x", DatabaseUnavailableError, "%40|no server"),
    ],
)
def test_a_connection_that_cannot_be_made_is_explained_without_the_password(
    url: str, error: type[WarehouseError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        Warehouse(url).watermark("x")
    assert "hun" not in str(caught.value)
    assert "hun" not in repr(Warehouse(url))
    assert caught.value.__cause__ is None


def test_a_wrong_password_is_told_from_a_missing_database(database_url: str) -> None:
    with pytest.raises(DatabaseMissingError, match="create it"):
        Warehouse(database_url + "_not_there").watermark("x")
    scheme, rest = database_url.split("://")
    with pytest.raises(AuthenticationError):
        Warehouse(f"{scheme}://nobody_here:wrong@{rest.partition('@')[2]}").watermark("x")


def test_a_role_that_may_not_create_schemas_is_told_what_to_run(fresh_database: str, postgres_url: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN PASSWORD 'poor'")
    try:
        scheme, rest = fresh_database.split("://")
        poor = Warehouse(f"{scheme}://poor:poor@{rest.partition('@')[2]}")
        with pytest.raises(PrivilegeError, match='GRANT CREATE ON DATABASE "test_[0-9a-f]+" TO "poor"'):
            poor.migrate()
        with psycopg.connect(fresh_database, autocommit=True) as owner:
            owner.execute("CREATE SCHEMA pipeboard AUTHORIZATION poor; CREATE SCHEMA crm AUTHORIZATION poor")
        report = poor.load(Load(table("crm", Column("n", ColumnType.BIGINT)), frames=[frame(range(3), "a")]))
        assert report.rows == 3
        with psycopg.connect(fresh_database, autocommit=True) as owner:
            owner.execute("DROP OWNED BY poor")
    finally:
        with psycopg.connect(fresh_database, autocommit=True) as owner:
            owner.execute("DROP OWNED BY poor; DROP ROLE poor")
