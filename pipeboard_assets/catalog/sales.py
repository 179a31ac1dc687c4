"""Deals: what is sold, to whom, where it stands."""

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.record import Count, Date, Flag, Id, Ids, Instant, Number, Record, Text
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging, field_metadata

# Deleted deals stay visible for 30 days, so that every incremental read learns of them (pipedrive-api.md section 6).
_ALL_STATUSES = {"status": "open,won,lost,deleted"}


class Deal(Record):
    descriptions = {
        "title": "What the deal is called.",
        "status": "open, won, lost or deleted.",
        "currency": "ISO code.",
        "probability": "Chance to win it, in percent, where somebody gave one; else that of its stage counts.",
        "lost_reason": "Why it was lost.",
        "origin": "How it came in: ManuallyCreated, API, Import ...",
        "origin_id": "Id at its origin.",
        "channel": "Id of the marketing channel.",
        "channel_id": "Id within the marketing channel.",
        "archive_time": "When it was archived; NULL: it is not.",
        "stage_change_time": "When it last moved to another stage; NULL: never.",
        "close_time": "When it was won or lost; NULL while open.",
        "won_time": "When it was won.",
        "lost_time": "When it was lost.",
        "local_won_date": "Date of winning in the time zone of the account.",
        "local_lost_date": "Date of losing in the time zone of the account.",
        "expected_close_date": "When it is expected to close.",
        "value": "In `currency`; Pipedrive converts nothing.",
        "acv": "Annual contract value; plan dependent.",
        "arr": "Annual recurring revenue; plan dependent.",
        "mrr": "Monthly recurring revenue; plan dependent.",
        "is_archived": "Archived deals are alive: hidden from Pipedrive's lists, not deleted.",
        "local_close_date": "Date of closing in the time zone of the account.",
    }
    title: Text = None
    status: Text = None
    value: Number = None
    currency: Text = None
    creator_user_id: Id = None
    owner_id: Id = None
    person_id: Id = None
    org_id: Id = None
    pipeline_id: Id = None
    stage_id: Id = None
    probability: Number = None
    lost_reason: Text = None
    label_ids: Ids = None
    origin: Text = None
    origin_id: Text = None
    channel: Id = None
    channel_id: Text = None
    acv: Number = None
    arr: Number = None
    mrr: Number = None
    visible_to: Count = None
    is_deleted: Flag = None
    is_archived: Flag = None
    archive_time: Instant = None
    add_time: Instant = None
    update_time: Instant = None
    stage_change_time: Instant = None
    close_time: Instant = None
    won_time: Instant = None
    lost_time: Instant = None
    local_won_date: Date = None
    local_lost_date: Date = None
    local_close_date: Date = None
    expected_close_date: Date = None


DEALS = Entity(
    name="deals",
    record=Deal,
    lists=(
        Endpoint("deals", "/api/v2/deals", Paging.CURSOR, tokens=10, params=_ALL_STATUSES, is_filterable_by_time=True),
        Endpoint(
            "deals/archived",
            "/api/v2/deals/archived",
            Paging.CURSOR,
            tokens=20,
            params=_ALL_STATUSES,
            is_filterable_by_time=True,
        ),
    ),
    fields=field_metadata("deal"),
    second_list_when="is_archived",
    has_summary=True,
    group="crm_sales",
    description="Deals: open, won, lost and archived ones; deleted ones carry `deleted_at`.",
    indexes=("owner_id", "pipeline_id", "person_id", "org_id", "stage_id", "status", "update_time"),
    references={
        "owner_id": "users",
        "creator_user_id": "users",
        "pipeline_id": "pipelines",
        "stage_id": "stages",
        "org_id": "organizations",
        "person_id": "persons",
    },
    deleted_when={"is_deleted": True, "status": "deleted"},
    required=("title", "status", "pipeline_id", "stage_id"),
)
