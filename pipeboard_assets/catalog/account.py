"""The account: its users."""

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.record import Count, Flag, Id, Instant, Json, Record, Text
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging


class User(Record):
    descriptions = {
        "active_flag": "False once deactivated; the row stays, because records still name the user.",
        "created": "When the user was added.",
        "access": "Apps and permission sets of the user.",
    }
    name: Text = None
    email: Text = None
    lang: Count = None
    locale: Text = None
    timezone_name: Text = None
    timezone_offset: Text = None
    default_currency: Text = None
    icon_url: Text = None
    phone: Text = None
    role_id: Id = None
    active_flag: Flag = None
    activated: Flag = None
    is_deleted: Flag = None
    is_admin: Flag = None
    is_you: Flag = None
    has_created_company: Flag = None
    created: Instant = None
    modified: Instant = None
    last_login: Instant = None
    access: Json = None


USERS = Entity(
    name="users",
    record=User,
    lists=(Endpoint("users", "/v1/users", Paging.NONE, tokens=20, cache_group="lists", is_never_empty=True),),
    group="crm_reference",
    description="People who use the Pipedrive account, deactivated ones included: owners and creators of records.",
    indexes=("email", "name"),
    required=("name",),
)
