"""The account: its users."""

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.record import Count, Flag, Id, Instant, Json, Record, Text
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging


class User(Record):
    descriptions = {
        "email": "Address that the user logs in with.",
        "lang": "Id of the language of the user.",
        "locale": "Language and region, such as pt_BR.",
        "timezone_name": "Time zone of the user, such as America/Sao_Paulo.",
        "timezone_offset": "Its offset from UTC, as +00:00.",
        "default_currency": "ISO code of the currency that the user starts with.",
        "icon_url": "Address of the picture of the user.",
        "phone": "Phone number of the user.",
        "role_id": "Id of the role in Pipedrive's visibility settings.",
        "activated": "True once the invitation was accepted.",
        "is_admin": "True where the user may change settings of the account.",
        "is_you": "True for the user of the API key.",
        "has_created_company": "True for the user who opened the account.",
        "modified": "When the user last changed.",
        "last_login": "When the user last logged in.",
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
