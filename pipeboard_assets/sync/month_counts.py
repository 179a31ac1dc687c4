"""How many living rows each month of an entity holds: what a partition's page in the UI shows. No Dagster."""

from collections.abc import Mapping, Sequence
from datetime import UTC

from pipeboard_assets.sync.months import month_end, month_start
from pipeboard_io import Warehouse

# A month is what Pipedrive calls it in UTC; rows without update_time, and all that is older, belong to the first one.
_COUNT = """
SELECT greatest(date_trunc('month', coalesce(update_time, '-infinity'), 'UTC'), %(first)s) AS month, count(*) AS rows
FROM pipedrive.{table} WHERE deleted_at IS NULL AND {window} GROUP BY 1
"""


def count_months(warehouse: Warehouse, entity: str, months: Sequence[str], *, first: str) -> Mapping[str, int]:
    """Rows by month key (YYYY-MM-01), 0 where there is none. `first` is the history's first month.

    `entity` names a table of ours, `months` are in ascending order.
    """
    since, until = month_start(months[0][:7]), month_end(months[-1][:7])
    window = "update_time >= %(since)s AND update_time < %(until)s"
    if months[0] == first:
        window = "(update_time IS NULL OR update_time < %(until)s)"
    rows = warehouse.query(
        _COUNT.format(table=entity, window=window), {"first": month_start(first[:7]), "since": since, "until": until}
    )
    counted = {f"{row['month'].astimezone(UTC):%Y-%m-01}": int(row["rows"]) for row in rows}
    return {month: counted.get(month, 0) for month in months}
