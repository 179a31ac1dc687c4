"""What dashboards read: marts that follow from the tables, what deals said before, and the role that reads and no more."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from pipeboard_assets.bi.calendar import Habits, calendar_load, days
from pipeboard_assets.bi.marts import MARTS, parse_mart
from pipeboard_assets.bi.stored_marts import STORED, mart_load
from pipeboard_assets.catalog import CATALOG
from tests.graph.conftest import Account

Reader = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def synced(account: Account, admin: Reader) -> Account:
    """Synced, then three syncs that each see one deal in another stage: 1 -> 2 -> 1 -> won."""
    green(account)
    company = account.company
    first = next(record for record in company.truth("deals") if record["status"] == "open")
    number = first["id"]
    stages = [stage for stage in company.truth("stages") if stage["pipeline_id"] == first["pipeline_id"]]
    other = max((stage for stage in stages if stage["id"] != first["stage_id"]), key=lambda stage: stage["order_nr"])
    for change in ({"stage_id": other["id"]}, {"stage_id": first["stage_id"]}, {"status": "won"}):
        company.advance(7200)
        company.update("deals", number, change)
        green(account, assets=("deals", "main_bi") if "status" in change else ("deals",))
    return account


@pytest.fixture(scope="module")
def reader(synced: Account, reader_url: str) -> Iterator[Reader]:
    """Connected as a reader after the syncs."""
    with psycopg.connect(reader_url, autocommit=True) as connection:
        yield connection


def green(account: Account, **request: Any) -> None:
    assert {outcome.error for outcome in account.sync(**request).values()} == {None}


def rows(account: Account, table: str, order: str = "1, 2, 3") -> list[dict[str, Any]]:
    return account.warehouse.query(f"SELECT * FROM {table} ORDER BY {order}")


def test_every_mart_returns_rows_and_describes_every_column(synced: Account) -> None:
    for mart in MARTS:
        found = rows(synced, str(mart))
        assert found and [*found[0]] == [*mart.columns], mart
        described = synced.warehouse.query(
            "SELECT count(col_description(attrelid, attnum)) AS found FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            [str(mart)],
        )
        assert described == [{"found": len(mart.columns)}]


def test_every_deal_has_its_visits_in_order_and_without_gaps(synced: Account) -> None:
    visits: dict[int, list[dict[str, Any]]] = {}
    for row in rows(synced, "pipedrive.deal_stage_history", "deal_id, position"):
        visits.setdefault(row["deal_id"], []).append(row)
    deals = {row["id"]: row for row in synced.warehouse.query("SELECT * FROM pipedrive.deals")}
    assert visits.keys() == deals.keys()
    for number, found in visits.items():
        assert found[-1]["stage_id"] == deals[number]["stage_id"]
        assert [row["left_at"] for row in found[:-1]] == [row["entered_at"] for row in found[1:]]
    moved = max(visits.values(), key=len)
    assert [row["position"] for row in moved] == [1, 2, 3]
    assert moved[0]["stage_id"] == moved[2]["stage_id"] != moved[1]["stage_id"]
    assert all(row["seconds"] == (row["left_at"] - row["entered_at"]).total_seconds() for row in moved)


def test_reading_everything_again_adds_no_history(synced: Account) -> None:
    before = rows(synced, "pipedrive.deal_change")
    assert {row["field"] for row in before} >= {"stage_id", "stage_change_time", "status"}
    green(synced, assets=("deals",), full=True)
    green(synced, assets=("deals",), first="2026-01", last="2026-11")
    assert rows(synced, "pipedrive.deal_change") == before


def test_the_funnel_counts_every_living_deal_where_it_is(synced: Account) -> None:
    status = Counter(record["status"] for record in synced.company.truth("deals"))
    funnel = rows(synced, "bi.funnel")
    assert (sum(row["won"] for row in funnel), sum(row["lost"] for row in funnel)) == (status["won"], status["lost"])
    assert all(row["advanced"] <= row["entered"] and row["won"] + row["lost"] <= row["entered"] for row in funnel)


def test_sums_of_the_marts_are_those_of_the_deals(synced: Account) -> None:
    total: dict[tuple[str, str], Decimal] = {}
    for record in synced.company.truth("deals"):
        if record["value"] is not None:
            key = (record["status"], record["currency"])
            total[key] = total.get(key, Decimal()) + Decimal(str(record["value"]))

    def summed(mart: str, value: str, status: str) -> dict[tuple[str, str], Decimal]:
        found: dict[tuple[str, str], Decimal] = {}
        for row in rows(synced, mart):
            if row.get("status", status) == status and row[value] is not None:
                key = (status, row["currency"])
                found[key] = found.get(key, Decimal()) + row[value]
        return found

    def of(status: str) -> dict[tuple[str, str], Decimal]:
        return {key: value for key, value in total.items() if key[0] == status}

    assert summed("bi.velocity", "won_value", "won") == of("won")
    assert summed("bi.closed_deals", "value", "lost") == of("lost")
    assert summed("bi.forecast", "value", "open") == of("open")
    activities = sum(row["activities"] for row in rows(synced, "bi.activity_by_user"))
    assert activities == len(synced.company.truth("activities"))


def test_a_stored_mart_is_computed_when_something_that_it_reads_changed_and_only_then(synced: Account) -> None:
    warehouse, zone = synced.warehouse, synced.settings.timezone
    assert [mart for mart in STORED.values() if mart_load(warehouse, mart, zone)] == []
    stored = STORED["bi.closed_deals"]
    before = rows(synced, str(stored))
    synced.company.advance(7200)
    number = next(each["id"] for each in synced.company.truth("deals") if each["status"] == "lost")
    synced.company.update("deals", number, {"lost_reason": "Another one altogether"})
    green(synced, assets=("deals",))
    assert rows(synced, str(stored)) == before, "the mart follows main_bi, which this sync left alone"
    assert mart_load(warehouse, STORED["bi.activity_by_user"], zone) is None
    green(synced, assets=("deals", "main_bi"))
    assert "Another one altogether" in {row["lost_reason"] for row in rows(synced, str(stored))}
    assert mart_load(warehouse, stored, zone) is None
    assert mart_load(warehouse, stored, "Asia/Tokyo") is not None


def test_a_stored_mart_is_computed_again_when_a_view_below_it_is_another(synced: Account) -> None:
    def later(*changed: str) -> bool:
        marts = [
            replace(each, sql=f"{each.sql} -- of the next release") if str(each) in changed else each for each in MARTS
        ]
        return mart_load(synced.warehouse, STORED["bi.funnel"], synced.settings.timezone, marts=marts) is not None

    green(synced)
    assert (later(), later("bi.velocity"), later("pipedrive.deal_stage_history")) == (False, False, True)


def test_gaps_are_counted(synced: Account) -> None:
    gaps = {row["gap"]: row for row in rows(synced, "bi.data_quality")}
    is_open = [record for record in synced.company.truth("deals") if record["status"] == "open"]
    gap = gaps["open deal without an expected close date"]
    assert gap["of_deals"] == len(is_open)
    assert gap["deals"] == sum(record["expected_close_date"] is None for record in is_open)


def test_a_reader_sees_every_table_and_view(reader: Reader) -> None:
    names = [*(f"{schema}.{entity.name}" for entity in CATALOG for schema in ("pipedrive", "bi")), *map(str, MARTS)]
    for name in (*names, "bi.main_bi", "bi.calendar", "pipedrive.deal_stage_history"):
        assert reader.execute(f"SELECT count(*) FROM (SELECT * FROM {name}) AS q").fetchone() != (0,), name


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM pipeboard.load",
        "DELETE FROM pipedrive.deals",
        "UPDATE bi.main_bi SET title = ''",
        "CREATE TABLE bi.mine (id int)",
        "DROP VIEW bi.funnel",
    ],
)
def test_a_reader_sees_nothing_of_our_state_and_writes_nothing(reader: Reader, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(statement)


def test_the_calendar_is_written_once_and_again_when_habits_change(synced: Account) -> None:
    today = datetime.now(UTC).date()
    assert calendar_load(synced.warehouse, Habits(), today) is None
    other = calendar_load(synced.warehouse, Habits(week_start="sunday"), today)
    assert other is not None and synced.warehouse.load(other).updated > 1000
    independence = synced.warehouse.query("SELECT * FROM bi.calendar WHERE day = '2026-09-07'")
    assert independence[0]["holiday"] is not None and not independence[0]["is_business_day"]


@pytest.mark.parametrize(
    ("habits", "day", "expected"),
    [
        (Habits(), date(2026, 11, 22), {"week": date(2026, 11, 16), "fiscal_year": 2026, "fiscal_quarter": 4}),
        (Habits(week_start="sunday"), date(2026, 11, 22), {"week": date(2026, 11, 22), "is_business_day": False}),
        (Habits(fiscal_year_start=4), date(2026, 3, 31), {"fiscal_year": 2026, "fiscal_quarter": 4}),
        (Habits(fiscal_year_start=4), date(2026, 4, 1), {"fiscal_year": 2027, "fiscal_quarter": 1}),
        (Habits(), date(2026, 11, 20), {"is_business_day": False}),
        (Habits(holidays="none"), date(2026, 11, 20), {"is_business_day": True, "holiday": None}),
        (Habits(holidays="BR-SP"), date(2026, 7, 9), {"is_business_day": False}),
    ],
)
def test_a_day_is_counted_as_the_company_does(habits: Habits, day: date, expected: dict[str, Any]) -> None:
    (row,) = [row for row in days(habits, 2026, 2026) if row["day"] == day]
    assert {name: row[name] for name in expected} == expected


def test_a_mart_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="reads"):
        parse_mart("x", "-- Words.\nSELECT 1")
