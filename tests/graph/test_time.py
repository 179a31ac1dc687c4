"""Time against us: loads that go on days later, a first load across a month's end, records that bear a time to come."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pipeboard_assets.catalog import by_name
from pipeboard_assets.sync.entity_sync import FULL, EntitySync, Mode, Policy, Window
from pipeboard_io import LoadError, LoadReport
from pipeboard_resources.pipedrive.errors import PipedriveError
from pipeboard_resources.pipedrive.standin import Company
from tests.graph.company_life import MONTHS, Line, World

OCTOBER, NOVEMBER = MONTHS[9], MONTHS[10]
SINCE_NOVEMBER = Window(Mode.INCREMENTAL, NOVEMBER)


def begin(world: World, **arguments: Any) -> Company:
    world.begin()
    if arguments:
        world.server.standin.company = Company.generate(seed=3, **arguments)
    return world.server.company


def load(world: World, entity: str, window: Window, **policy: Any) -> LoadReport:
    with world.client() as client:
        sync = EntitySync(
            entity=by_name(entity),
            window=window,
            client=client,
            warehouse=world.warehouse,
            policy=Policy(overlap=timedelta(minutes=10), **policy),
        )
        return world.warehouse.load(sync.load())


def stored(world: World, entity: str) -> dict[int, dict[str, Any]]:
    rows = world.warehouse.query(f"SELECT * FROM pipedrive.{entity} WHERE deleted_at IS NULL")
    return {row["id"]: row for row in rows}


def unarchived(company: Company) -> list[int]:
    return [record["id"] for record in company.truth("deals") if not record["is_archived"]]


@pytest.mark.parametrize("window", [SINCE_NOVEMBER, Window(Mode.BACKFILL, MONTHS[4])], ids=["incremental", "backfill"])
def test_a_load_that_goes_on_days_later_brings_what_happened_meanwhile(world: World, window: Window) -> None:
    """The first of its two lists had been read to its end."""
    company = begin(world)
    load(world, "deals", FULL)
    company.advance(3600)
    edited, later, gone = unarchived(company)[:3]
    company.update("deals", edited, {"title": "before"})
    world.server.faults.add("status_403", "/api/v2/deals/archived", times=None)
    with pytest.raises(PipedriveError):
        load(world, "deals", window)
    Line.hang_up()
    world.server.reset()
    company.advance(3 * 86_400)
    company.update("deals", later, {"title": "three days later"})
    company.delete("deals", gone)
    new = company.create("deals", {"title": "new"})
    assert load(world, "deals", window).resumed
    found = stored(world, "deals")
    assert (found[edited]["title"], found[later]["title"], found[new]["title"]) == ("before", "three days later", "new")
    assert gone not in found


def test_a_backfill_that_goes_on_later_reverts_no_value_that_another_sync_brought(world: World) -> None:
    """Values that touch no `update_time`: nobody would bring them again before the next full sync."""
    company = begin(world)
    load(world, "persons", FULL)
    everybody = company.ids("persons")
    backfill = Window(Mode.BACKFILL, None, MONTHS[11], moves_watermark=False)
    world.server.faults.add("status_403", "/api/v2/persons", nth=4, times=None)
    with pytest.raises(PipedriveError):
        load(world, "persons", backfill)
    Line.hang_up()
    world.server.reset()
    for number in everybody:
        company.update("persons", number, {"name": "counted anew"}, touch=False)
    load(world, "persons", Window(Mode.BACKFILL, None, moves_watermark=False))
    assert load(world, "persons", backfill).resumed
    assert {row["name"] for row in stored(world, "persons").values()} == {"counted anew"}


def test_a_first_load_across_a_months_end_leaves_no_gap(world: World) -> None:
    company = begin(world, deals=60, now=datetime(2026, 10, 31, 12, tzinfo=UTC))
    load(world, "persons", Window(Mode.HISTORY, OCTOBER))
    company.advance(10 * 3600)
    old = [each["id"] for each in company.truth("persons") if "2026-01" < (each["update_time"] or "") < "2026-09"]
    company.update("persons", old[0], {"name": "changed on the last evening of October"})
    new = company.create("persons", {"name": "created then"})
    company.advance(2 * 3600 + 300)
    for number in old[1:14]:
        company.update("persons", number, {"name": "in November"})
    load(world, "persons", Window(Mode.HISTORY, NOVEMBER))
    company.advance(86_400)
    for month in range(8, -1, -1):
        window = Window(Mode.HISTORY, MONTHS[month] if month else None, MONTHS[month + 1], moves_watermark=False)
        load(world, "persons", window)
        load(world, "persons", SINCE_NOVEMBER)
    found = stored(world, "persons")
    assert {old[0], new} <= found.keys() == set(company.ids("persons"))


def test_a_list_that_was_empty_in_its_newest_month_is_read_from_there(world: World) -> None:
    company = begin(world, deals=120, now=datetime(2026, 10, 30, 12, tzinfo=UTC))
    for record in company.truth("deals"):
        if record["is_archived"] and (record["update_time"] or "") >= "2026-10":
            company.remove("deals", record["id"])
    old = [each for each in unarchived(company) if "2026-01" < (company.get("deals", each)["update_time"]) < "2026-09"]
    load(world, "deals", Window(Mode.HISTORY, OCTOBER))
    company.advance(3600)
    company.archive(old[0])
    assert company.get("deals", old[0])["update_time"].startswith("2026-10-30")
    company.advance(3 * 86_400)
    for number in old[1:30]:
        company.archive(number)
    load(world, "deals", SINCE_NOVEMBER)
    for month in range(8, -1, -1):
        load(
            world,
            "deals",
            Window(Mode.HISTORY, MONTHS[month] if month else None, MONTHS[month + 1], moves_watermark=False),
        )
    load(world, "deals", SINCE_NOVEMBER)
    assert stored(world, "deals").keys() == set(company.ids("deals"))


@pytest.mark.parametrize("ahead", [timedelta(minutes=3), timedelta(days=2000)])
def test_a_record_that_bears_a_time_to_come_takes_nobody_along(world: World, ahead: timedelta) -> None:
    """What changes during a sweep lies before it in the list, where the sweep has been already."""
    company = begin(world, deals=150, now=datetime(2026, 11, 20, 12, tzinfo=UTC))
    load(world, "persons", FULL)
    company.advance(7200)
    company.update("persons", company.ids("persons")[-1], {"name": "of the future"}, at=company.now() + ahead)
    by_time = [number for _, number in sorted((r["update_time"] or "", r["id"]) for r in company.truth("persons"))]
    middle, pages = by_time[len(by_time) // 2 - 3 : len(by_time) // 2], 0

    def work(company: Company, endpoint: str, _page: int) -> None:
        nonlocal pages
        pages += endpoint == "persons"
        if endpoint == "persons" and pages == 3:
            for number in middle:
                company.update("persons", number, {"name": "edited during the sweep"})

    world.server.before_page = work
    assert load(world, "persons", FULL).deleted == 0
    world.server.before_page = None
    company.advance(1200)
    load(world, "persons", SINCE_NOVEMBER)
    assert [stored(world, "persons")[number]["name"] for number in middle] == ["edited during the sweep"] * 3


@pytest.mark.parametrize(("entity", "title"), [("persons", "name"), ("deals", "title")])
def test_what_a_record_from_the_future_says_today_is_stored(world: World, entity: str, title: str) -> None:
    company = begin(world, deals=60, now=datetime(2026, 11, 20, 12, tzinfo=UTC))
    number = company.ids(entity)[0]
    company.update(entity, number, {title: "of the future"}, at=company.now() + timedelta(days=2000))
    load(world, entity, FULL)
    company.advance(3600)
    company.update(entity, number, {title: "today"})
    load(world, entity, SINCE_NOVEMBER)
    assert stored(world, entity)[number][title] == "today"


def test_a_deal_from_the_future_that_is_deleted_today_is_gone(world: World) -> None:
    company = begin(world, deals=60, now=datetime(2026, 11, 20, 12, tzinfo=UTC))
    number = company.ids("deals")[0]
    company.update("deals", number, {"title": "of the future"}, at=company.now() + timedelta(days=2000))
    load(world, "deals", FULL)
    company.advance(3600)
    company.delete("deals", number)
    load(world, "deals", SINCE_NOVEMBER)
    assert number not in stored(world, "deals")


def test_a_first_load_that_began_with_a_month_too_early_leaves_no_gap(world: World) -> None:
    """Our clock was an hour ahead on the last evening of October."""
    company = begin(world, deals=60, now=datetime(2026, 10, 31, 23, 30, tzinfo=UTC))
    load(world, "persons", Window(Mode.HISTORY, NOVEMBER))
    load(world, "persons", Window(Mode.HISTORY, OCTOBER, NOVEMBER, moves_watermark=False))
    company.advance(600)
    old = [each["id"] for each in company.truth("persons") if "2026-01" < (each["update_time"] or "") < "2026-09"]
    company.update("persons", old[0], {"name": "changed on the last evening of October"})
    company.advance(3600)
    for number in old[1:14]:
        company.update("persons", number, {"name": "in November"})
    for month in range(8, -1, -1):
        load(world, "persons", SINCE_NOVEMBER)
        window = Window(Mode.HISTORY, MONTHS[month] if month else None, MONTHS[month + 1], moves_watermark=False)
        load(world, "persons", window)
    assert stored(world, "persons").keys() == set(company.ids("persons"))


def test_a_clock_that_was_ahead_hides_from_no_sweep_what_went_or_came_back(world: World) -> None:
    """That of PostgreSQL, set right meanwhile: rows that were stored before the sweep bear a time after it."""
    company = begin(world)
    load(world, "persons", FULL)
    gone, again = company.ids("persons")[:2]
    record = company.collection("persons").records[again]
    company.remove("persons", again)
    load(world, "persons", FULL)
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute("UPDATE pipedrive.persons SET synced_at = synced_at + interval '1 hour'")
    company.remove("persons", gone)
    company.collection("persons").put(record)
    report = load(world, "persons", FULL)
    assert (report.deleted, report.restored) == (1, 1)
    assert stored(world, "persons").keys() == set(company.ids("persons"))


def test_a_sweep_that_meets_a_record_without_id_takes_nobody_for_gone(world: World) -> None:
    company = begin(world)
    load(world, "persons", FULL)
    world.server.faults.add("record_without_id", "/api/v2/persons", times=1)
    with pytest.raises(LoadError, match="without a key"):
        load(world, "persons", FULL)
    Line.hang_up()
    assert stored(world, "persons").keys() == set(company.ids("persons"))


def test_a_sweep_larger_than_the_days_tokens_goes_on_the_next_day(world: World) -> None:
    company = begin(world, deals=60, now=datetime(2026, 11, 20, 12, tzinfo=UTC))
    load(world, "persons", FULL)
    gone = company.ids("persons")[-1]
    company.remove("persons", gone)
    world.server.faults.add("daily_429", "/api/v2/persons", nth=6, times=None)
    with pytest.raises(PipedriveError):
        load(world, "persons", FULL, may_take_days=True)
    Line.hang_up()
    world.server.reset()
    report = load(world, "persons", FULL, may_take_days=True)
    assert report.resumed and report.deleted == 1
    assert stored(world, "persons").keys() == set(company.ids("persons"))
