"""What must be true of views, stored marts and the calendar: that they lose and double nothing of what they stand on.

Each compares with the table that the view reads, which has checks of its own against what it is made of. No Dagster.
"""

from collections.abc import Mapping

from pipeboard_assets.bi.calendar import CALENDAR
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.graph.checks import Check, Severity, Verdict
from pipeboard_io import ViewReport

_AGAIN = (
    "A sync beside this one may be the cause: run `pipeboard sync` once more. If it stays, somebody changed a table or the "
    "view by hand: `pipeboard sync --full` computes it again."
)

# By mart: what it says, and what the tables below it say, as SELECTs of (kind, number), one row a kind.
_SUMS = {
    "bi.funnel": (
        "SELECT 'won', sum(won) FROM bi.funnel UNION ALL SELECT 'lost', sum(lost) FROM bi.funnel",
        """SELECT d.status, count(*) FROM pipedrive.deals AS d
           JOIN pipedrive.stages AS s ON s.id = d.stage_id JOIN pipedrive.pipelines AS p ON p.id = s.pipeline_id
           WHERE d.deleted_at IS NULL AND d.status IN ('won', 'lost') GROUP BY d.status""",
    ),
    "bi.velocity": (
        "SELECT 'closed', sum(closed) FROM bi.velocity",
        "SELECT 'closed', count(*) FROM bi.main_bi WHERE status IN ('won', 'lost') AND close_time IS NOT NULL",
    ),
    "bi.closed_deals": (
        "SELECT concat(status, ' ', currency), sum(value) FROM bi.closed_deals GROUP BY 1",
        "SELECT concat(status, ' ', currency), sum(value) FROM bi.main_bi WHERE status IN ('won', 'lost') GROUP BY 1",
    ),
    "bi.activity_by_user": (
        "SELECT 'activities', sum(activities) FROM bi.activity_by_user",
        "SELECT 'activities', count(*) FROM pipedrive.activities WHERE deleted_at IS NULL",
    ),
    "bi.forecast": (
        "SELECT concat('open ', currency), sum(value) FROM bi.forecast GROUP BY 1",
        "SELECT concat('open ', currency), sum(value) FROM bi.main_bi WHERE status = 'open' GROUP BY 1",
    ),
    "bi.stalled_deals": (
        "SELECT 'deals', count(*) FROM bi.stalled_deals",
        "SELECT 'deals', count(DISTINCT s.deal_id) FROM bi.stalled_deals AS s JOIN bi.main_bi AS b USING (deal_id) WHERE b.status = 'open'",
    ),
    "bi.data_quality": (
        "SELECT 'deals', max(of_deals) FROM bi.data_quality",
        "SELECT 'deals', nullif(count(*), 0) FROM bi.main_bi",
    ),
    "pipedrive.deal_stage_history": (
        "SELECT 'deals with changes', count(DISTINCT deal_id) FROM pipedrive.deal_change",
        "SELECT 'deals with changes', count(*) FROM pipedrive.deals AS d WHERE EXISTS (SELECT FROM pipedrive.deal_change AS c WHERE c.deal_id = d.id)",
    ),
}  # fmt: skip

# By mart that reads the calendar: what it dates, and a SELECT of (day, number) of what has no day there.
_DAYS = {
    "bi.closed_deals": (
        "closed deals",
        "SELECT month, sum(deals) FROM bi.closed_deals WHERE month IS NOT NULL AND fiscal_year IS NULL GROUP BY month",
    ),
    "bi.activity_by_user": (
        "activities",
        """SELECT due_date, count(*) FROM pipedrive.activities WHERE deleted_at IS NULL AND due_date IS NOT NULL
               AND NOT EXISTS (SELECT FROM bi.calendar AS c WHERE c.day = due_date) GROUP BY due_date""",
    ),
}


def view_checks() -> Mapping[str, tuple[Check, ...]]:
    """By "schema.name"."""
    living = {f"bi.{entity.name}": (_one_row_per_living_record(entity.name),) for entity in CATALOG}
    sums = {str(mart): (_adds_up(*_SUMS[str(mart)]),) for mart in MARTS}
    days = {mart: (*sums[mart], _has_its_days(*days)) for mart, days in _DAYS.items()}
    return {str(CALENDAR): (_calendar(),), **living, **sums, **days}


# Told by who defines the view, not by a SELECT.
AS_DECLARED = Check(
    name="as_declared",
    expected="The view is as the last sync left it, and could follow its declaration.",
    findings="",
    remedy="Give a view of yours another name: this one is defined anew by every sync.",
    tolerated_percent=None,
)


def as_declared(report: ViewReport) -> Verdict:
    """What became of a view that somebody had changed, or that stands in the way of what it should be."""
    changed = f"it was changed by hand and is ours again; it said: {report.by_hand}" if report.by_hand else None
    kept = f"the old one was kept: {report.reason}" if report.reason else None
    found = tuple(filter(None, (changed, kept)))
    return Verdict(AS_DECLARED, Severity.WARN, len(found), found)


def _one_row_per_living_record(entity: str) -> Check:
    return Check(
        name="one_row_per_living_record",
        expected=f"As many rows as pipedrive.{entity} has living ones.",
        findings=f"""
            SELECT format('%s rows here, %s living records', here, alive), abs(here - alive)
            FROM (SELECT count(*) AS here FROM bi.{entity}) AS h,
                 (SELECT count(*) AS alive FROM pipedrive.{entity} WHERE deleted_at IS NULL) AS t
            WHERE here <> alive""",
        remedy=_AGAIN,
    )


def _adds_up(here: str, there: str) -> Check:
    return Check(
        name="adds_up",
        expected="The same totals as in the tables below.",
        findings=f"""
            SELECT format('%s: %s here, %s in the tables below', coalesce(h.kind, t.kind), h.number, t.number), 1
            FROM ({here}) AS h (kind, number) FULL JOIN ({there}) AS t (kind, number) ON t.kind = h.kind
            WHERE coalesce(h.number, 0) <> coalesce(t.number, 0)""",
        remedy=_AGAIN,
    )


def _calendar() -> Check:
    return Check(
        name="every_day",
        expected="Every day from the first to the last, once.",
        findings=f"""
            SELECT format('%s days from %s to %s', days, first, last), abs(last - first + 1 - days)
            FROM (SELECT count(*) AS days, min(day) AS first, max(day) AS last FROM {CALENDAR}) AS c
            WHERE days <> last - first + 1""",
        remedy=f"Somebody changed the table: DROP TABLE {CALENDAR}, and the next sync writes it again.",
    )


def _has_its_days(what: str, without: str) -> Check:
    return Check(
        name="calendar",
        expected=f"Every day of its {what} is in {CALENDAR}.",
        findings=f"SELECT format('%s: %s {what}', day, number), number::bigint FROM ({without}) AS w (day, number)",
        remedy="They have no week or fiscal year in reports. Look in Pipedrive whether the date is a slip.",
        tolerated_percent=None,
    )
