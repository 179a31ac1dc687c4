"""When things run: monthly partitions and jobs. A partition is the records whose `update_time` falls in that month."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


def months(history_start: str) -> dg.MonthlyPartitionsDefinition:
    """Months in UTC from `history_start` (YYYY-MM) up to and including the current one."""
    return dg.MonthlyPartitionsDefinition(start_date=f"{history_start}-01", end_offset=1)


def month_key(month: str) -> str:
    """Partition key of YYYY-MM."""
    return f"{month}-01"


def range_tags(first_key: str, last_key: str) -> dict[str, str]:
    """Tags of one run over a range of partitions (BackfillPolicy.single_run)."""
    return {"dagster/asset_partition_range_start": first_key, "dagster/asset_partition_range_end": last_key}


def build_sync_all() -> UnresolvedAssetJobDefinition:
    """The one job that refreshes everything: monthly assets by key or range, the others beside them.

    Dagster infers the partitions from the monthly assets and runs the unpartitioned ones without a key.
    """
    return dg.define_asset_job(
        "sync_all",
        selection=dg.AssetSelection.all(),
        description="Every table, in order. With the current month's key: what changed since the last sync.",
    )
