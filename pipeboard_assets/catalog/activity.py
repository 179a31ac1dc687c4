"""What people do for deals: activities and their types. Activities carry no custom fields in v2 (pipedrive-api.md 4.8)."""

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.record import Address, Clock, Count, Date, Flag, Id, Instant, Json, Record, Text
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging


class ActivityType(Record):
    descriptions = {
        "key_string": "What `activities.type` holds.",
        "icon_key": "Name of its icon.",
        "color": "Its colour in hexadecimal.",
    }
    name: Text = None
    key_string: Text = None
    icon_key: Text = None
    color: Text = None
    order_nr: Count = None
    active_flag: Flag = None
    is_custom_flag: Flag = None
    add_time: Instant = None
    update_time: Instant = None


class Activity(Record):
    descriptions = {
        "subject": "What is to be done.",
        "lead_id": "Its lead: an id of Pipedrive's, in letters.",
        "project_id": "Its project: an id of Pipedrive's.",
        "due_date": "The day on which it is due, in UTC where it has a time.",
        "busy": "True where it blocks the time in the calendar.",
        "done": "True once it is done.",
        "marked_as_done_time": "When it was marked as done.",
        "location": "Where it takes place; its parts stand beside it.",
        "participants": "Persons who take part: person_id, primary.",
        "attendees": "Who is invited: e-mail, name, status.",
        "conference_meeting_client": "Id of the program for the video call.",
        "conference_meeting_url": "Address of the video call.",
        "conference_meeting_id": "Id of the video call.",
        "public_description": "What the invited are shown.",
        "priority": "Option id of the priority.",
        "outcome": "Option id of the outcome.",
        "private": "True where only its owner sees it.",
        "type": "Key of the activity type: activity_types.key_string.",
        "due_time": "In UTC; empty for the whole day.",
        "duration": "Hours and minutes, HH:MM.",
        "person_id": "The primary participant.",
        "note": "HTML, as written.",
    }
    subject: Text = None
    type: Text = None
    owner_id: Id = None
    creator_user_id: Id = None
    deal_id: Id = None
    lead_id: Text = None
    person_id: Id = None
    org_id: Id = None
    project_id: Id = None
    due_date: Date = None
    due_time: Clock = None
    duration: Text = None
    busy: Flag = None
    done: Flag = None
    marked_as_done_time: Instant = None
    location: Address = None
    participants: Json = None
    attendees: Json = None
    conference_meeting_client: Text = None
    conference_meeting_url: Text = None
    conference_meeting_id: Text = None
    public_description: Text = None
    note: Text = None
    priority: Id = None
    outcome: Id = None
    private: Flag = None
    is_deleted: Flag = None
    add_time: Instant = None
    update_time: Instant = None


ACTIVITY_TYPES = Entity(
    name="activity_types",
    record=ActivityType,
    lists=(
        Endpoint(
            "activityTypes", "/v1/activityTypes", Paging.NONE, tokens=20, cache_group="lists", is_never_empty=True
        ),
    ),
    group="crm_reference",
    description="Kinds of activity: call, meeting, task and the account's own.",
    indexes=("key_string", "name"),
    required=("name", "key_string"),
)

ACTIVITIES = Entity(
    name="activities",
    record=Activity,
    lists=(Endpoint("activities", "/api/v2/activities", Paging.CURSOR, tokens=10, is_filterable_by_time=True),),
    group="crm_sales",
    description="Calls, meetings, tasks: planned and done.",
    indexes=(
        "owner_id",
        "deal_id",
        "person_id",
        "org_id",
        "project_id",
        "type",
        "done",
        "due_date",
        "update_time",
        "add_time",
    ),
    references={
        "owner_id": "users",
        "creator_user_id": "users",
        "deal_id": "deals",
        "person_id": "persons",
        "org_id": "organizations",
    },
    also_after=("activity_types",),  # by `type` = key_string
    deleted_when={"is_deleted": True},
    required=("subject", "type"),
)
