"""The table `bi.calendar`: one row a day, with holidays, business days, weeks and fiscal years as the settings say.

Holidays come from the library `holidays`. The table is written again when a setting, the year or the library changes;
for a calendar of your own, set the holidays to none and join a table of yours. No Dagster here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import version
from typing import Any

import polars as pl

from pipeboard_io import Column, ColumnType, Load, Reconcile, Table, Warehouse

FIRST_YEAR = 2010
YEARS_AHEAD = 5

type_ = ColumnType

CALENDAR = Table(
    schema="bi",
    name="calendar",
    primary_key=("day",),
    lifecycle=False,
    comment="One row a day: business days, holidays, weeks and fiscal years of the company.",
    columns=(
        Column("day", type_.DATE, "The day.", nullable=False),
        Column("week", type_.DATE, "First day of its week."),
        Column("month", type_.DATE, "First day of its month."),
        Column("quarter", type_.DATE, "First day of its quarter."),
        Column("year", type_.INTEGER, "Its year."),
        Column("fiscal_year", type_.INTEGER, "Its fiscal year, named after the year in which that ends."),
        Column("fiscal_quarter", type_.INTEGER, "Quarter of the fiscal year, 1 to 4."),
        Column("weekday", type_.INTEGER, "1 for Monday to 7 for Sunday."),
        Column("holiday", type_.TEXT, "Name of the holiday; NULL if it is none."),
        Column("is_business_day", type_.BOOLEAN, "Monday to Friday, and no holiday."),
    ),
)

_LAST = """
SELECT facts ->> 'basis' AS basis FROM pipeboard.load
WHERE entity = 'calendar' AND status = 'success' ORDER BY finished_at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a company counts. `holidays`: ISO country, or country-region as in BR-SP, or none."""

    holidays: str = "BR"
    week_start: str = "monday"
    fiscal_year_start: int = 1
    """Month, 1 to 12."""


def calendar_load(warehouse: Warehouse, habits: Habits, today: date, *, run_id: str | None = None) -> Load | None:
    """The load that brings the calendar up to date; None where it is."""
    last_year = today.year + YEARS_AHEAD
    basis = f"{habits} {last_year} {version('holidays')}"
    if warehouse.ddl(CALENDAR) == [] and [row["basis"] for row in warehouse.query(_LAST)] == [basis]:
        return None
    frame = pl.DataFrame(list(days(habits, FIRST_YEAR, last_year)), infer_schema_length=None)
    return Load(
        CALENDAR,
        frames=[frame],
        reconcile=Reconcile(force=True),
        mode="full",
        run_id=run_id,
        facts=lambda: {"basis": basis},
    )


def days(habits: Habits, first_year: int, last_year: int) -> Iterator[dict[str, Any]]:
    """The rows from 1 January of the first year to 31 December of the last."""
    found = _holidays(habits.holidays, first_year, last_year)
    day = date(first_year, 1, 1)
    while day.year <= last_year:
        yield _row(day, found.get(day), habits)
        day += timedelta(days=1)


def _holidays(code: str, first_year: int, last_year: int) -> dict[date, str]:
    if code == "none":
        return {}
    from holidays import country_holidays  # 0.1 s, and only when the calendar is written

    country, _, region = code.partition("-")
    return dict(country_holidays(country, subdiv=region or None, years=range(first_year, last_year + 1)))


def _row(day: date, holiday: str | None, habits: Habits) -> dict[str, Any]:
    days_into_week = day.isoweekday() % 7 if habits.week_start == "sunday" else day.weekday()
    months_into_year = (day.month - habits.fiscal_year_start) % 12
    began = day.year - (day.month < habits.fiscal_year_start)
    return {
        "day": day,
        "week": day - timedelta(days=days_into_week),
        "month": day.replace(day=1),
        "quarter": date(day.year, (day.month - 1) // 3 * 3 + 1, 1),
        "year": day.year,
        "fiscal_year": began if habits.fiscal_year_start == 1 else began + 1,
        "fiscal_quarter": months_into_year // 3 + 1,
        "weekday": day.isoweekday(),
        "holiday": holiday,
        "is_business_day": day.isoweekday() <= 5 and holiday is None,
    }
