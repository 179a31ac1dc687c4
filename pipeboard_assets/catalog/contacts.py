"""Whom deals are made with: organizations and the persons in them."""

from pydantic import AliasChoices, Field

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.record import (
    Address,
    Count,
    Date,
    Emails,
    Flag,
    Id,
    Ids,
    Instant,
    Json,
    Number,
    Phones,
    Record,
    Text,
)
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging, field_metadata


class Organization(Record):
    descriptions = {
        "address": "As somebody wrote it; its parts stand beside it.",
        "website": "Address of the website.",
        "linkedin": "Address of the LinkedIn page.",
        "industry": "Option id; the label is in Pipedrive's organization fields.",
        "annual_revenue": "Revenue in a year.",
        "employee_count": "Number of employees.",
    }
    name: Text = None
    owner_id: Id = None
    address: Address = None
    website: Text = None
    linkedin: Text = None
    industry: Id = None
    annual_revenue: Number = None
    employee_count: Count = None
    label_ids: Ids = None
    picture_id: Id = None
    visible_to: Count = None
    is_deleted: Flag = None
    add_time: Instant = None
    update_time: Instant = None


class Person(Record):
    descriptions = {
        "name": "First and last name.",
        "first_name": "First name.",
        "last_name": "Last name.",
        "im": "Names in messengers: value, primary, label.",
        "postal_address": "As somebody wrote it; its parts stand beside it.",
        "notes": "Remarks from synced contacts.",
        "birthday": "Date of birth.",
        "job_title": "Position in the organization.",
        "email": "The primary e-mail address.",
        "phone": "The primary phone number.",
        "emails": "All e-mail addresses: value, primary, label.",
        "phones": "All phone numbers: value, primary, label.",
    }
    name: Text = None
    first_name: Text = None
    last_name: Text = None
    owner_id: Id = None
    org_id: Id = None
    emails: Emails = None
    phones: Phones = None
    # The specification says `im`, the migration guide `ims` (gotcha 19).
    im: Json = Field(None, validation_alias=AliasChoices("im", "ims"))
    postal_address: Address = None
    notes: Text = None
    birthday: Date = None
    job_title: Text = None
    label_ids: Ids = None
    picture_id: Id = None
    visible_to: Count = None
    is_deleted: Flag = None
    add_time: Instant = None
    update_time: Instant = None


ORGANIZATIONS = Entity(
    name="organizations",
    record=Organization,
    lists=(Endpoint("organizations", "/api/v2/organizations", Paging.CURSOR, tokens=10, is_filterable_by_time=True),),
    fields=field_metadata("organization"),
    group="crm_contacts",
    description="Companies, with address and custom fields.",
    indexes=("owner_id", "update_time", "add_time", "name"),
    references={"owner_id": "users"},
    deleted_when={"is_deleted": True},
    required=("name",),
)

PERSONS = Entity(
    name="persons",
    record=Person,
    lists=(Endpoint("persons", "/api/v2/persons", Paging.CURSOR, tokens=10, is_filterable_by_time=True),),
    fields=field_metadata("person"),
    group="crm_contacts",
    description="People, with e-mails, phones and custom fields.",
    indexes=("owner_id", "org_id", "update_time", "add_time", "name"),
    references={"owner_id": "users", "org_id": "organizations"},
    deleted_when={"is_deleted": True},
    required=("name",),
)
