"""When things run: monthly partitions, the job that refreshes everything, and what follows an ad-hoc materialization.

A partition is the records whose `update_time` falls in that month.
"""

from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG

SYNC_ALL = "sync_all"
DEAL_HISTORY = "deal_history"

# Tag of a run that brings along what is downstream by itself, so that nothing has to follow it.
SYNC_TAG = "pipeboard/sync"
# A failed step was tried again where that could help. dagster.yaml says so, too; this holds without it.
_SYNC_TAGS = {SYNC_TAG: "yes", "dagster/retry_on_asset_or_op_failure": "false"}


def months(history_start: str) -> dg.MonthlyPartitionsDefinition:
    """Months in UTC from `history_start` (YYYY-MM) up to and including the current one."""
    return dg.MonthlyPartitionsDefinition(start_date=f"{history_start}-01", end_offset=1)


def month_key(month: str) -> str:
    """Partition key of YYYY-MM."""
    return f"{month}-01"


def range_tags(first_key: str, last_key: str) -> dict[str, str]:
    """Tags of one run over a range of partitions (BackfillPolicy.single_run)."""
    return {"dagster/asset_partition_range_start": first_key, "dagster/asset_partition_range_end": last_key}


def build_sync_all(prefix: str) -> UnresolvedAssetJobDefinition:
    """The one job that refreshes everything: monthly assets by key or range, the others beside them. Without the changelogs
    of deals, which cost a call each.

    Dagster infers the partitions from the monthly assets and runs the unpartitioned ones without a key.
    """
    return dg.define_asset_job(
        prefix + SYNC_ALL,
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(changelog_key(prefix)),
        description="Every table, in order. With the current month's key: what changed since the last sync.",
        tags=_SYNC_TAGS,
    )


def changelog_key(prefix: str) -> dg.AssetKey:
    """Of the changelogs of deals, which no sync asks for by itself."""
    return dg.AssetKey([prefix + DEAL_CHANGELOG.schema, DEAL_CHANGELOG.name])


def build_deal_history(prefix: str) -> UnresolvedAssetJobDefinition:
    """The job that asks for the changelogs of deals, and brings up to date what is computed from them."""
    return dg.define_asset_job(
        prefix + DEAL_HISTORY,
        selection=dg.AssetSelection.assets(changelog_key(prefix)).downstream(),
        description="What deals said before the first sync: a call a deal, as far as the day's API tokens go.",
        tags=_SYNC_TAGS,
    )


def when_upstream_lands() -> dg.AutomationCondition[Any]:
    """Like `eager()`, with three differences that the mixed graph needs.

    What a sync brings is not followed: it carries everything downstream along, and where it did not, a check or an
    error kept it from doing so. Of a monthly upstream one month is enough, any month: `eager()` waits for all of them
    for ever, and with the last one alone a backfill would go unnoticed. Nothing follows an upstream that failed.
    """
    condition = dg.AutomationCondition
    landed = condition.newly_updated() & ~condition.all_new_updates_have_run_tags(tag_keys={SYNC_TAG})
    return (
        condition.in_latest_time_window()
        & condition.any_deps_match(landed | condition.will_be_requested()).since_last_handled()
        & condition.all_deps_match(~condition.missing())
        & ~condition.any_deps_match(condition.execution_failed())
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    ).with_label("when_upstream_lands")


def build_downstream_sensor() -> dg.AutomationConditionSensorDefinition:
    """Evaluates `when_upstream_lands`; Dagster's own sensor for that is stopped until somebody starts it."""
    return dg.AutomationConditionSensorDefinition(
        "follow_upstream",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="After one asset was materialized by hand, or a backfill: runs what depends on it.",
    )
