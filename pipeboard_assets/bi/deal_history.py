"""What deals said before: `pipedrive.deal_change`, filled by every load of deals from the rows that it changes.

No API token is spent for it: a sync knows both versions of a row. What happened between two syncs is seen as one change.
`pipedrive.deal_stage_history` is a view of it (`marts/deal_stage_history.sql`).
"""

from collections.abc import Mapping

from pipeboard_io import Trace

DEAL_CHANGE = Trace(
    schema="pipedrive",
    name="deal_change",
    key="deal_id",
    # Pipedrive says when the stage changed; for the rest, when the deal was last updated, which is then or later.
    columns={
        "stage_id": "stage_change_time",
        "stage_change_time": "stage_change_time",
        "pipeline_id": "update_time",
        "status": "update_time",
        "value": "update_time",
        "currency": "update_time",
        "owner_id": "update_time",
        "expected_close_date": "update_time",
    },
    comment="What changed about a deal between two syncs: one row for every column that says something else.",
)

TRACES: Mapping[str, Trace] = {"deals": DEAL_CHANGE}
