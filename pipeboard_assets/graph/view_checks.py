"""What must be true of views, stored marts and the calendar: that they lose and double nothing of what they stand on.

Each compares with the table that the view reads, which has checks of its own against what it is made of. No Dagster.
"""

from collections.abc import Mapping, Sequence

from pipeboard_assets.bi.calendar import CALENDAR
from pipeboard_assets.bi.deal_history import DEAL_CHANGE
from pipeboard_assets.bi.old_names import OLD_NAMES, lineage
from pipeboard_assets.bi.versions import versions_of
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.graph.checks import Check, Severity, Verdict
from pipeboard_assets.sync.deal_changelog import DEALS_READ
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


def view_checks(versioned: Sequence[str] = (), old_names_schema: str = "") -> Mapping[str, tuple[Check, ...]]:
    """By "schema.name"; `versioned`: the entities whose versions are kept."""
    living = {
        f"bi.{entity.name}": (_one_row_per_living_record(entity.name, f"bi.{entity.name}"),) for entity in CATALOG
    }
    days = {mart: (_has_its_days(*days),) for mart, days in _DAYS.items()}
    further = {**days, "bi.funnel": (_history(),)}
    sums = {mart: (_adds_up(*sums), *further.get(mart, ())) for mart, sums in _SUMS.items()}
    return {
        str(CALENDAR): (_calendar(),),
        "pipedrive.deal_stage_history": (_visits(),),
        **living,
        **sums,
        **{f"bi.{name}_versions": (_one_version_at_a_time(name),) for name in versioned},
        **(_old_views(old_names_schema) if old_names_schema else {}),
    }


def _old_views(schema: str) -> Mapping[str, tuple[Check, ...]]:
    """A name for a name: what each shows has checks of its own."""
    alive = {
        f"{schema}.{name}": (_one_row_per_living_record(each, f"{schema}.{name}"),) for name, each in OLD_NAMES.items()
    }
    return {f"{schema}.{name}": () for name in lineage()} | alive


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


def _one_row_per_living_record(entity: str, view: str) -> Check:
    return Check(
        name="one_row_per_living_record",
        expected=f"As many rows as pipedrive.{entity} has living ones.",
        findings=f"""
            SELECT format('%s rows here, %s living records', here, alive), abs(here - alive)
            FROM (SELECT count(*) AS here FROM {view}) AS h,
                 (SELECT count(*) AS alive FROM pipedrive.{entity} WHERE deleted_at IS NULL) AS t
            WHERE here <> alive""",
        remedy=_AGAIN,
    )


def _one_version_at_a_time(entity: str) -> Check:
    versions = versions_of(entity)
    since = f"coalesce({', '.join(versions.changed_at)})"
    return Check(
        name="one_version_at_a_time",
        expected="No two versions of one record hold at the same moment.",
        findings=f"""
            SELECT format('id %s: the version of %s ends after the next one begins', id, before), 1
            FROM (SELECT id, valid_from, lag(valid_from) OVER version AS before, lag(valid_to) OVER version AS ended
                  FROM (SELECT {versions.key}, valid_from, valid_to FROM {versions.table}
                        UNION ALL SELECT {versions.key}, {since}, 'infinity' FROM pipedrive.{entity}) AS every (id, valid_from, valid_to)
                  WINDOW version AS (PARTITION BY id ORDER BY valid_from, valid_to)) AS one
            WHERE valid_from < ended""",
        remedy=f"Somebody changed {versions.table} by hand: delete the version that is told.",
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


def _visits() -> Check:
    return Check(
        name="visits",
        expected="Every deal has visits one after the other, and the last one is to the stage in which it is.",
        findings="""
            SELECT CASE WHEN v.deal_id IS NULL THEN format('deal %s has no visit', d.id)
                        WHEN v.stage_id IS DISTINCT FROM d.stage_id
                            THEN format('deal %s is in stage %s, and its last visit is to %s', v.deal_id, d.stage_id, v.stage_id)
                        ELSE format('deal %s has visits out of order', v.deal_id) END, 1
            FROM (SELECT id, stage_id FROM pipedrive.deals WHERE stage_id IS NOT NULL) AS d
            FULL JOIN (SELECT deal_id,
                              max(stage_id) FILTER (WHERE is_last) AS stage_id,
                              max(position) = count(*) AND count(*) FILTER (WHERE is_last) = 1
                                  AND coalesce(min(seconds), 0) >= 0 AS is_in_order
                       FROM pipedrive.deal_stage_history GROUP BY deal_id) AS v ON v.deal_id = d.id
            WHERE v.deal_id IS NULL OR v.stage_id IS DISTINCT FROM d.stage_id OR NOT v.is_in_order""",
        remedy=_AGAIN,
    )


def _history() -> Check:
    """A deal that had moved before a sync first saw it was in stages that only its changelog knows."""
    return Check(
        name="history",
        expected="The moves of every living deal are known from the day it was added.",
        findings=f"""
            SELECT format('%s deals had moved before a sync first saw them', count(*)), count(*)
            FROM pipedrive.deals AS d
            LEFT JOIN (SELECT DISTINCT ON (deal_id) deal_id, old_value::timestamptz AS moved_at FROM {DEAL_CHANGE.table}
                       WHERE field = 'stage_change_time' ORDER BY deal_id, noticed_at) AS first ON first.deal_id = d.id
            WHERE d.deleted_at IS NULL
              AND d.add_time < CASE WHEN first.deal_id IS NULL THEN d.stage_change_time ELSE first.moved_at END
              AND NOT EXISTS (SELECT FROM ({DEALS_READ}) AS read WHERE read.id = d.id)
            HAVING count(*) > 0""",
        remedy="Until `pipeboard sync --deal-history` has asked for them, a call and 20 API tokens each, the funnel counts "
        "these deals only in the stages where a sync found them, so that it shows too few.",
        tolerated_percent=None,
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
