"""The checks that run after every load: each finds its damage, a red one stops what is downstream and names itself."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.rows import dict_row

from pipeboard_assets.bi.main_bi import MAIN_BI, SOURCES, main_bi_load
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.catalog import CATALOG, by_name
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.checks import Severity, Verdict, entity_checks, main_bi_checks, verdicts
from pipeboard_assets.graph.outcome import Status, overall
from pipeboard_assets.graph.view_checks import view_checks
from pipeboard_assets.sync.covered import read_whole
from pipeboard_io import Warehouse
from pipeboard_resources.settings import Settings
from tests.graph.conftest import Account

Damage = Callable[..., Verdict]


@pytest.fixture(scope="module")
def synced(account: Account) -> Account:
    assert {outcome.error for outcome in account.sync().values()} == {None}
    return account


@pytest.fixture
def damage(synced: Account, postgres_url: str) -> Iterator[Damage]:
    """`damage(table, check, *statements)`: what the check finds in a copy of the database after these statements."""
    assert synced.settings.database_url is not None
    original = urlsplit(synced.settings.database_url.get_secret_value())
    name = f"{original.path[1:]}_damaged"
    copy = urlunsplit(original._replace(path=f"/{name}"))
    with psycopg.connect(postgres_url, autocommit=True) as server:
        # A warehouse keeps a connection for its next question, and a template must have none.
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [original.path[1:]])
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{original.path[1:]}"'.encode())

        def damage(table: str, check: str, *statements: str) -> Verdict:
            with psycopg.connect(copy) as connection:
                for statement in statements:
                    connection.execute(statement.encode())
            return examined(Warehouse(copy), table)[check]

        yield damage
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def examined(warehouse: Warehouse, table: str) -> dict[str, Verdict]:
    """What the checks of a table find, by name."""
    schema, _, name = table.partition(".")
    if table in view_checks():
        checks = view_checks()[table]
    else:
        checks = main_bi_checks() if schema == "bi" else entity_checks(by_name(name), read_whole(warehouse))
    return {verdict.check.name: verdict for verdict in verdicts(warehouse, table, checks)}


def loads(entity: str, *rows: int) -> str:
    """More loads in the ledger, the newest last."""
    values = ", ".join(f"('t{n}', '{entity}', '', '', 'success', now(), {count})" for n, count in enumerate(rows))
    return f"INSERT INTO pipeboard.load (load_id, entity, table_name, mode, status, started_at, rows) VALUES {values}"


def test_every_asset_has_its_checks_and_all_of_them_block() -> None:
    specs = [spec for asset in build_defs(Settings(_env_file=None)).assets or () for spec in asset.check_specs]  # type: ignore[union-attr]
    by_asset = {
        name: {spec.name for spec in specs if spec.asset_key.path == ["pipedrive", name]} for name in ("deals", "users")
    }
    assert all(spec.blocking and spec.description for spec in specs)
    assert by_asset["users"] == {"unique_key", "required_columns", "volume", "rejected_records", "columns"}
    assert by_asset["deals"] == by_asset["users"] | {"references", "watermark", "custom_fields", "summary"}
    views = {".".join(spec.asset_key.path) for spec in specs}
    assert views >= {"bi.calendar", *map(str, MARTS), *(f"bi.{entity.name}" for entity in CATALOG)}


def test_a_synced_company_passes_but_for_users_who_left(synced: Account) -> None:
    found = {entity.name: examined(synced.warehouse, f"pipedrive.{entity.name}") for entity in CATALOG}
    found["main_bi"] = examined(synced.warehouse, "bi.main_bi")
    found |= {name: examined(synced.warehouse, name) for name in view_checks()}
    odd = {(name, each.check.name) for name, checks in found.items() for each in checks.values() if not each.is_passed}
    assert odd <= {(name, "references") for name in ("organizations", "persons", "deals", "activities")} | {
        (name, "watermark")
        for name in found  # the company's clock stands still
    } | {("bi.funnel", "history")}
    assert all(
        "is not in users" in example
        for name, check in odd
        for example in found[name][check].examples
        if check == "references"
    )


@pytest.mark.parametrize(
    ("table", "check", "statements", "severity", "example"),
    [
        (
            "pipedrive.deals",
            "unique_key",
            ("ALTER TABLE {t} DROP CONSTRAINT deals_pkey", "INSERT INTO {t} SELECT * FROM {t} WHERE id = 1"),
            Severity.ERROR,
            "id 1: 2 rows",
        ),
        (
            "pipedrive.deals",
            "required_columns",
            ("UPDATE {t} SET title = NULL, status = NULL WHERE id = 1",),
            Severity.WARN,
            "id 1 lacks title, status",
        ),
        ("pipedrive.deals", "required_columns", ("UPDATE {t} SET title = NULL",), Severity.ERROR, "id 1 lacks title"),
        (
            "pipedrive.deals",
            "references",
            ("DELETE FROM pipedrive.persons",),
            Severity.ERROR,
            "person_id",
        ),
        (
            "pipedrive.stages",
            "references",
            ("DELETE FROM pipeboard.load",),
            Severity.WARN,
            "pipelines was never read whole",
        ),
        ("pipedrive.users", "volume", (loads("users", 9, 0),), Severity.ERROR, "0 rows are alive; usually"),
        (
            "pipedrive.deals",
            "volume",
            (loads("deals", 290, 310, 300, 120),),
            Severity.WARN,
            "120 rows are alive; usually 300 are",
        ),
        ("pipedrive.deals", "volume", (loads("deals", 290, 310, 300, 12),), Severity.ERROR, "12 rows are alive"),
        (
            "pipedrive.deals",
            "rejected_records",
            (
                "INSERT INTO pipeboard.rejected_record (entity, record_key, column_name, reason, raw, load_id)"
                + " VALUES ('deals', '7', 'close_time', 'no instant', '{{}}', 'x')",
            ),
            Severity.WARN,
            "id 7: close_time: no instant",
        ),
        (
            "pipedrive.deals",
            "columns",
            ("UPDATE {t} SET extra = '{{\"brand_new\": 1}}' WHERE id < 4",),
            Severity.WARN,
            "unknown attribute brand_new, kept in extra (3 rows)",
        ),
        (
            "pipedrive.deals",
            "columns",
            (loads("deals", 300), "UPDATE pipeboard.load SET columns_added = '{{cf_x}}' WHERE load_id = 't0'"),
            Severity.WARN,
            "new column cf_x",
        ),
        (
            "pipedrive.deals",
            "watermark",
            ("UPDATE pipeboard.watermark SET value = now() + interval '1 day' WHERE name = 'deals'",),
            Severity.WARN,
            "the newest change is of ",
        ),
        (
            "pipedrive.deals",
            "custom_fields",
            ("UPDATE pipeboard.custom_field SET columns = '[{{\"name\": \"cf_gone\"}}]' WHERE entity = 'deals'",),
            Severity.ERROR,
            "has no column cf_gone",
        ),
        (
            "pipedrive.deals",
            "summary",
            ("UPDATE {t} SET value = value + 1 WHERE id = (SELECT min(id) FROM {t} WHERE status = 'won')",),
            Severity.WARN,
            "won ",
        ),
        ("pipedrive.deals", "summary", ("DELETE FROM {t} WHERE id % 10 = 3",), Severity.ERROR, " in Pipedrive"),
        (
            "bi.main_bi",
            "one_row_per_living_deal",
            ("DELETE FROM {t} WHERE deal_id = 1",),
            Severity.ERROR,
            "deal 1 has no row",
        ),
        (
            "bi.main_bi",
            "one_row_per_living_deal",
            ("UPDATE pipedrive.deals SET deleted_at = now() WHERE id = 1",),
            Severity.ERROR,
            "deal 1 has a row but is not alive",
        ),
        (
            "bi.deals",
            "one_row_per_living_record",
            (
                "CREATE OR REPLACE VIEW public.few AS SELECT * FROM {t} LIMIT 7",
                "ALTER VIEW {t} RENAME TO old",
                "ALTER VIEW public.few SET SCHEMA bi",
                "ALTER VIEW bi.few RENAME TO deals",
            ),
            Severity.ERROR,
            "7 rows here, ",
        ),
        ("bi.funnel", "adds_up", ("DELETE FROM pipeboard.mart_funnel WHERE won > 0",), Severity.ERROR, "won: "),
        *(
            (
                "pipedrive.deal_stage_history",
                "visits",
                (
                    f"CREATE VIEW public.other AS SELECT {columns} FROM {{t}} WHERE {rows}",
                    "ALTER VIEW {t} RENAME TO old",
                    "ALTER VIEW public.other SET SCHEMA pipedrive",
                    "ALTER VIEW pipedrive.other RENAME TO deal_stage_history",
                ),
                Severity.ERROR,
                example,
            )
            for columns, rows, example in (
                ("*", "deal_id <> 1", "deal 1 has no visit"),
                ("deal_id, stage_id + 1 AS stage_id, position, seconds, is_last", "true", "and its last visit is to"),
                (
                    "deal_id, stage_id, position + 1 AS position, seconds, is_last",
                    "true",
                    "deal 1 has visits out of order",
                ),
                ("deal_id, stage_id, position, -1 AS seconds, is_last", "true", "deal 1 has visits out of order"),
            )
        ),
        (
            "bi.closed_deals",
            "adds_up",
            ("UPDATE pipeboard.mart_closed_deals SET value = value + 1",),
            Severity.ERROR,
            "lost ",
        ),
        (
            "bi.activity_by_user",
            "adds_up",
            ("DELETE FROM pipeboard.mart_activity_by_user",),
            Severity.ERROR,
            "in the tables below",
        ),
        (
            "bi.forecast",
            "adds_up",
            (
                "CREATE OR REPLACE VIEW {t} AS SELECT month, is_past, pipeline_name, owner_name, currency, deals, value, weighted_value, without_probability FROM (SELECT f.*, row_number() OVER () AS n FROM (SELECT date_trunc('month', expected_close_date)::date AS month, false AS is_past, pipeline_name, owner_name, currency, 1::bigint AS deals, value, weighted_value, 0::bigint AS without_probability FROM bi.main_bi WHERE status = 'open') AS f) AS g WHERE n > 3",
            ),
            Severity.ERROR,
            "open ",
        ),
        (
            "bi.calendar",
            "every_day",
            ("DELETE FROM {t} WHERE day = '2026-02-03'",),
            Severity.ERROR,
            "days from 2010-01-01",
        ),
        (
            "bi.activity_by_user",
            "calendar",
            ("UPDATE pipedrive.activities SET due_date = '1999-12-31' WHERE id = 1",),
            Severity.WARN,
            "1999-12-31: 1 activities",
        ),
        ("bi.main_bi", "sums_by_currency", ("UPDATE {t} SET value = 2 * value",), Severity.ERROR, "in pipedrive.deals"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_check_finds_its_damage_and_shows_it(
    damage: Damage, table: str, check: str, statements: tuple[str, ...], severity: Severity, example: str
) -> None:
    verdict = damage(table, check, *(statement.format(t=table) for statement in statements))
    assert not verdict.is_passed and verdict.severity is severity
    assert any(example in each for each in verdict.examples), verdict.examples
    assert len(verdict.examples) <= 5 and verdict.check.remedy in str(verdict)


def test_a_red_check_fails_the_sync_names_itself_and_stops_what_is_downstream(fresh_account: Account) -> None:
    company = fresh_account.company
    assert fresh_account.sync()["deals"].status is Status.SUCCESS
    company.advance(3600)
    for number in company.ids("deals")[:10]:
        company.update("deals", number, {"title": None})
    outcomes = fresh_account.sync()
    deals = outcomes["deals"]
    assert (deals.status, overall(list(outcomes.values()))) == (Status.FAILED, Status.FAILED)
    assert deals.error is not None
    assert deals.error.startswith(
        "check required_columns: title, status, pipeline_id, stage_id: filled in every living row."
    )
    assert "Seen: 10 exceptions: id 1 lacks title; " in deals.error and deals.error.endswith("`extra`.")
    assert (outcomes["activities"].status, outcomes["main_bi"].status) == (Status.SKIPPED, Status.SKIPPED)
    company.advance(3600)
    for number in company.ids("deals")[3:10]:
        company.update("deals", number, {"title": "again"})
    outcomes = fresh_account.sync()
    assert overall(list(outcomes.values())) is Status.SUCCESS
    assert "required_columns (3)" in outcomes["deals"].notes, "a few are no error"


def test_every_column_of_the_mart_moves_with_the_columns_that_it_says_it_comes_from(synced: Account) -> None:
    """NULL in a source, inside a transaction that is taken back: what main_bi.sql then says of each column differs."""
    select = main_bi_load(synced.warehouse).select
    assert synced.settings.database_url is not None and select is not None
    moved: dict[str, set[tuple[str, str]]] = {column.name: set() for column in MAIN_BI.columns}
    with psycopg.connect(synced.settings.database_url.get_secret_value(), row_factory=dict_row) as connection:
        before = {row["deal_id"]: row for row in connection.execute(select.encode())}
        for entity, column in sorted(
            {source for sources in SOURCES.values() for source in sources} - {("deals", "id")}
        ):
            connection.execute(f"UPDATE pipedrive.{entity} SET {column} = NULL".encode())
            after = connection.execute(select.encode()).fetchall()
            connection.rollback()
            for name, sources in moved.items():
                if any(row[name] != before[row["deal_id"]][name] for row in after):
                    sources.add((entity, column))
    assert moved.pop("deal_id") == set()
    assert moved == {name: set(sources) for name, sources in SOURCES.items() if name != "deal_id"}
