"""What the client must know of a list before it reads it, and what it hands back; which lists exist is the catalogue's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

__all__ = [
    "CURRENT_USER",
    "DEAL_SUMMARY",
    "CacheGroup",
    "Endpoint",
    "Forecast",
    "Page",
    "Paging",
    "Request",
    "field_metadata",
    "forecast",
    "forecast_by_time",
]

CacheGroup = Literal["fields", "lists"]
NO_PARAMS: Mapping[str, str] = MappingProxyType({})


class Paging(StrEnum):
    """How a list is cut into pages: v2 `cursor`, v1 `start`/`limit`, or all at once."""

    CURSOR = "cursor"
    OFFSET = "offset"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A list of Pipedrive.

    `tokens` is the price of one page. `page_limit` caps the page size where Pipedrive does (files 100, call logs 50).
    `is_filterable_by_time` says that it takes updated_since, updated_until and sort_by=update_time. `is_never_empty`
    marks lists that always hold something (users, stages, fields), so that an empty answer is an error and not a fact.
    """

    name: str
    path: str
    paging: Paging = Paging.CURSOR
    tokens: int = 10
    params: Mapping[str, str] = field(default_factory=lambda: NO_PARAMS)
    is_filterable_by_time: bool = False
    cache_group: CacheGroup | None = None
    page_limit: int = 500
    is_never_empty: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One GET: where to, what it costs, and how messages call it (`endpoint`, `page` from 1)."""

    endpoint: str
    path: str
    params: Mapping[str, str]
    tokens: int
    page: int = 1
    has_cursor: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a list. `cursor` gets the next page (None: this was the last). `bytes` is the size of the JSON,
    `answered_at` the server's own time in seconds since 1970, where it tells."""

    records: list[dict[str, Any]]
    cursor: str | None
    number: int
    bytes: int
    answered_at: int | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a read will cost before it starts."""

    requests: int
    tokens: int

    def __add__(self, other: Forecast) -> Forecast:
        return Forecast(self.requests + other.requests, self.tokens + other.tokens)


def forecast(endpoint: Endpoint, records: int, *, page_size: int = 500) -> Forecast:
    """Requests and tokens that reading `records` records takes; an empty list still costs one request."""
    size = min(page_size, endpoint.page_limit)
    pages = 1 if endpoint.paging is Paging.NONE else max(1, -(-records // size))
    return Forecast(pages, pages * endpoint.tokens)


def forecast_by_time(endpoint: Endpoint, records: int, *, page_size: int = 500) -> Forecast:
    """The same for a list that is read side by side (ranges.py): the last look, and a part of a page for each cut."""
    pages = forecast(endpoint, records, page_size=page_size).requests
    if pages > 1:
        pages += 1 + min(pages // 5, 8)
    return Forecast(pages, pages * endpoint.tokens)


def field_metadata(entity: str) -> Endpoint:
    """The v2 field list of deal, person, organization, product, activity or project (half the price of v1's)."""
    return Endpoint(f"{entity}_fields", f"/api/v2/{entity}Fields", tokens=10, cache_group="fields", is_never_empty=True)


CURRENT_USER = Endpoint("users_me", "/v1/users/me", Paging.NONE, tokens=2)
DEAL_SUMMARY = Endpoint("deal_summary", "/v1/deals/summary", Paging.NONE, tokens=40)
