"""Which paths exist, what each costs and which parameters it takes: api.md sections 0, 3.1 and 7 as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeboard_resources.pipedrive.standin.queries import Parameters

_PAGING = "limit cursor"
_SORTING = "sort_by sort_direction"
_TIMES = "updated_since updated_until"
_LABELS = "include_labels include_option_labels"
_SORTS = ("id", "update_time", "add_time")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DEAL_EXTRAS = _words(
    "next_activity_id last_activity_id first_won_time products_count files_count notes_count followers_count "
    "email_messages_count activities_count done_activities_count undone_activities_count participants_count "
    "last_incoming_mail_time last_outgoing_mail_time smart_bcc_email source_lead_id"
)
ORGANIZATION_EXTRAS = _words(
    "next_activity_id last_activity_id open_deals_count related_open_deals_count closed_deals_count "
    "related_closed_deals_count email_messages_count people_count activities_count done_activities_count "
    "undone_activities_count files_count notes_count followers_count won_deals_count related_won_deals_count "
    "lost_deals_count related_lost_deals_count smart_bcc_email"
)
PERSON_EXTRAS = _words(
    "next_activity_id last_activity_id open_deals_count related_open_deals_count closed_deals_count "
    "related_closed_deals_count participant_open_deals_count participant_closed_deals_count email_messages_count "
    "activities_count done_activities_count undone_activities_count files_count notes_count followers_count "
    "won_deals_count related_won_deals_count lost_deals_count related_lost_deals_count last_incoming_mail_time "
    "last_outgoing_mail_time marketing_status doi_status smart_bcc_email"
)
FIELD_EXTRAS = ("ui_visibility", "important_fields", "required_fields")


def _parameters(
    names: str, *, links: str = "", sorts: tuple[str, ...] = _SORTS, extras: tuple[str, ...] = ()
) -> Parameters:
    every = f"{_PAGING} {names} {links}".split() + (["include_fields"] if extras else [])
    return Parameters(frozenset(every), sorts, _words(links), extras)


_COMMON = f"filter_id ids {_TIMES} {_SORTING}"
_DEAL_LINKS = "owner_id person_id org_id pipeline_id stage_id"

LISTS: Mapping[str, Parameters] = {
    "deals": _parameters(f"{_COMMON} status custom_fields {_LABELS}", links=_DEAL_LINKS, extras=DEAL_EXTRAS),
    "deals/archived": _parameters(f"{_COMMON} status custom_fields", links=_DEAL_LINKS, extras=DEAL_EXTRAS),
    "persons": _parameters(f"{_COMMON} custom_fields {_LABELS}", links="owner_id org_id deal_id", extras=PERSON_EXTRAS),
    "organizations": _parameters(f"{_COMMON} custom_fields {_LABELS}", links="owner_id", extras=ORGANIZATION_EXTRAS),
    "activities": _parameters(
        _COMMON,
        links="owner_id deal_id lead_id person_id org_id done",
        sorts=(*_SORTS, "due_date"),
        extras=("attendees",),
    ),
    "pipelines": _parameters(_SORTING),
    "stages": _parameters(_SORTING, links="pipeline_id", sorts=(*_SORTS, "order_nr")),
}

FIELD_LISTS: Mapping[str, str] = {
    "dealFields": "deals",
    "personFields": "persons",
    "organizationFields": "organizations",
    "productFields": "products",
    "activityFields": "activities",
    "projectFields": "projects",
}


@dataclass(frozen=True, slots=True)
class Route:
    """A path and who answers it. `handler` names a method of StandIn; `endpoint` is what permissions are given for."""

    pattern: re.Pattern[str]
    endpoint: str
    handler: str
    tokens: int


def _route(path: str, endpoint: str, handler: str, tokens: int) -> Route:
    # /api/v1/... works beside /v1/... on company hosts (api.md section 1).
    prefix = "(?:/api)?" if path.startswith("/v1/") else ""
    named = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
    return Route(re.compile(f"{prefix}{named}"), endpoint, handler, tokens)


_LIST_TOKENS = {"pipelines": 5, "stages": 5, "deals/archived": 20}

ROUTES: tuple[Route, ...] = (
    _route("/v1/users", "users", "users", 20),
    _route("/v1/users/me", "users/me", "user_me", 2),
    _route("/v1/users/{id}", "users", "user", 2),
    _route("/v1/activityTypes", "activityTypes", "activity_types", 20),
    _route("/v1/currencies", "currencies", "currencies", 20),
    _route("/v1/filters", "filters", "filters", 20),
    _route("/v1/deals/summary", "deals/summary", "summary", 40),
    _route("/v1/deals/summary/archived", "deals/summary", "summary_archived", 80),
    _route("/v1/deals/{id}/changelog", "deals/changelog", "changelog", 20),
    _route("/v1/deals/{id}/flow", "deals/flow", "flow", 40),
    *(_route(f"/api/v2/{name}", name, "records", _LIST_TOKENS.get(name, 10)) for name in LISTS),
    *(_route(f"/api/v2/{name}/{{id}}", name, "record", 1) for name in LISTS if name != "deals/archived"),
    *(_route(f"/api/v2/{name}", name, "fields", 10) for name in FIELD_LISTS),
    *(_route(f"/api/v2/{name}/{{code}}", name, "field", 1) for name in FIELD_LISTS),
    *(
        _route(f"/v1/{name}", name, "fields_v1", 20)
        for name in ("dealFields", "personFields", "organizationFields", "productFields", "activityFields")
    ),
)


# v1 operations that left the specification in 2026 (api.md section 2).
OUT_OF_SUPPORT = re.compile(
    "(?:/api)?/v1/(activities|deals|organizations|persons|pipelines|stages|products)(/collection|/search|/[0-9]+)?"
)


def find_route(path: str) -> Route | None:
    """The first route whose whole path matches."""
    for route in ROUTES:
        if route.pattern.fullmatch(path):
            return route
    return None
