"""v2 list queries: strict validation of parameters, keyset cursors, and the page that a query selects. Pure.

The API refuses what it does not know or cannot parse, with ERR_SCHEMA_VALIDATION_FAILED (api.md 3.1 and 8).
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeboard_resources.pipedrive.standin.clock import parse_v2_time, v2_time
from pipeboard_resources.pipedrive.standin.collection import SortKey, sort_key

PAGE_ROWS_DEFAULT = 100
PAGE_ROWS_MAX = 500
IDS_MAX = 100
CUSTOM_FIELDS_MAX = 15
STATUSES = ("open", "won", "lost", "deleted")

_INTEGER = re.compile(r"-?\d{1,18}")


class InvalidQueryError(Exception):
    """A parameter that v2 answers with 400."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A keyset position: the sort value and id of the last record sent (the documented cursor decodes to this)."""

    field: str
    value: Any
    direction: str
    id: int

    def encode(self) -> str:
        """Unpadded base64url JSON."""
        text = json.dumps(
            {"field": self.field, "fieldValue": self.value, "sortDirection": self.direction, "id": self.id},
            separators=(",", ":"),
        )
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    @staticmethod
    def decode(text: str) -> Cursor:
        """InvalidQueryError when it is no cursor of ours."""
        try:
            raw = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return Cursor(raw["field"], raw["fieldValue"], raw["sortDirection"], int(raw["id"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidQueryError("Provided cursor is invalid") from error


@dataclass(frozen=True, slots=True)
class Query:
    """A validated v2 list query. `links` are the equality filters (owner_id, stage_id ...)."""

    sort_by: str = "id"
    direction: str = "asc"
    limit: int = PAGE_ROWS_DEFAULT
    cursor: Cursor | None = None
    ids: frozenset[int] | None = None
    links: Mapping[str, Any] | None = None
    statuses: frozenset[str] | None = None
    updated_since: str | None = None
    updated_until: str | None = None
    filter_id: int | None = None
    include_fields: tuple[str, ...] = ()
    custom_fields: tuple[str, ...] | None = None
    with_labels: bool = False
    with_option_labels: bool = False

    @property
    def is_plain(self) -> bool:
        """Records are sent as they are stored, so their cached JSON can be used."""
        return not (
            self.include_fields or self.custom_fields is not None or self.with_labels or self.with_option_labels
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Ids of one page and where the next one starts; None at the end."""

    ids: list[int]
    next: Cursor | None


def integer(name: str, text: str) -> int:
    """A whole number."""
    if not _INTEGER.fullmatch(text):
        raise InvalidQueryError(f"Parameter '{name}' must be an integer, got '{text}'")
    return int(text)


def _positive(name: str, text: str) -> int:
    value = integer(name, text)
    if value < 1:
        raise InvalidQueryError(f"Parameter '{name}' must be greater than 0")
    return value


def _limit(text: str) -> int:
    value = _positive("limit", text)
    if value > PAGE_ROWS_MAX:
        raise InvalidQueryError(f"Parameter 'limit' must not be greater than {PAGE_ROWS_MAX}")
    return value


def _time(name: str, text: str) -> str:
    try:
        return v2_time(parse_v2_time(text))
    except ValueError as error:
        raise InvalidQueryError(f"Parameter '{name}' must be in RFC3339 format, e.g. 2025-01-01T10:20:00Z") from error


def _one_of(name: str, text: str, allowed: Collection[str]) -> str:
    if text not in allowed:
        raise InvalidQueryError(f"Parameter '{name}' must be one of: {', '.join(allowed)}")
    return text


def _each_of(name: str, text: str, allowed: Collection[str]) -> tuple[str, ...]:
    return tuple(_one_of(name, word.strip(), allowed) for word in text.split(","))


def _boolean(name: str, text: str) -> bool:
    return _one_of(name, text, ("true", "false")) == "true"


def _ids(text: str) -> frozenset[int]:
    ids = [_positive("ids", word.strip()) for word in text.split(",")]
    if len(ids) > IDS_MAX:
        raise InvalidQueryError(f"Parameter 'ids' must not hold more than {IDS_MAX} ids")
    return frozenset(ids)


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if len(keys) > CUSTOM_FIELDS_MAX:
        raise InvalidQueryError(f"Parameter 'custom_fields' must not hold more than {CUSTOM_FIELDS_MAX} keys")
    return keys


@dataclass(frozen=True, slots=True)
class Parameters:
    """What one list endpoint accepts."""

    names: frozenset[str]
    sorts: tuple[str, ...]
    links: tuple[str, ...] = ()
    include_fields: tuple[str, ...] = ()

    def parse(self, raw: Mapping[str, str]) -> Query:
        """Validate a query string; InvalidQueryError names the parameter at fault."""
        unknown = sorted(set(raw) - self.names)
        if unknown:
            raise InvalidQueryError(f"Unknown parameter '{unknown[0]}'")
        sort_by = _one_of("sort_by", raw.get("sort_by", "id"), self.sorts)
        direction = _one_of("sort_direction", raw.get("sort_direction", "asc"), ("asc", "desc"))
        return Query(
            sort_by=sort_by,
            direction=direction,
            limit=_limit(raw["limit"]) if "limit" in raw else PAGE_ROWS_DEFAULT,
            cursor=_cursor(raw.get("cursor"), sort_by, direction),
            ids=_ids(raw["ids"]) if "ids" in raw else None,
            links={name: _link(name, raw[name]) for name in self.links if name in raw} or None,
            statuses=frozenset(_each_of("status", raw["status"], STATUSES)) if "status" in raw else None,
            updated_since=_time("updated_since", raw["updated_since"]) if "updated_since" in raw else None,
            updated_until=_time("updated_until", raw["updated_until"]) if "updated_until" in raw else None,
            filter_id=_positive("filter_id", raw["filter_id"]) if "filter_id" in raw else None,
            **self._shape(raw),
        )

    def _shape(self, raw: Mapping[str, str]) -> dict[str, Any]:
        """Parameters that change how a record looks, not which ones are sent."""
        shape: dict[str, Any] = {}
        if raw.get("include_fields"):
            shape["include_fields"] = _each_of("include_fields", raw["include_fields"], self.include_fields)
        if "custom_fields" in raw:
            shape["custom_fields"] = _keys(raw["custom_fields"])
        for name, key in (("include_labels", "with_labels"), ("include_option_labels", "with_option_labels")):
            if name in raw:
                shape[key] = _boolean(name, raw[name])
        return shape


def _link(name: str, text: str) -> Any:
    if name == "done":
        return _boolean(name, text)
    return text if name == "lead_id" else integer(name, text)


def _cursor(text: str | None, sort_by: str, direction: str) -> Cursor | None:
    if text is None:
        return None
    cursor = Cursor.decode(text)
    if (cursor.field, cursor.direction) != (sort_by, direction):
        raise InvalidQueryError("Provided cursor does not match the sort parameters")
    return cursor


def select(query: Query, order: list[SortKey], wanted: Callable[[int], bool], *, nulls_first: bool) -> Selection:
    """The ids of one page: those after the cursor for which `wanted` holds. `order` is ascending; ties go by id."""
    chosen: list[SortKey] = []
    for key in _from_cursor(query, order, nulls_first=nulls_first):
        if wanted(key[2]):
            chosen.append(key)
            if len(chosen) > query.limit:
                break
    ids = [key[2] for key in chosen[: query.limit]]
    if len(chosen) <= query.limit:
        return Selection(ids, None)
    last = chosen[query.limit - 1]
    return Selection(ids, Cursor(query.sort_by, last[1] if last[0] == 1 else None, query.direction, last[2]))


def _from_cursor(query: Query, order: list[SortKey], *, nulls_first: bool) -> Iterator[SortKey]:
    low, high = _bounds(query, order)
    if query.cursor is not None:
        at = sort_key(query.cursor.value, query.cursor.id, nulls_first=nulls_first)
        try:
            low, high = (
                (max(low, bisect_right(order, at)), high)
                if query.direction == "asc"
                else (
                    low,
                    min(high, bisect_left(order, at)),
                )
            )
        except TypeError as error:
            raise InvalidQueryError("Provided cursor is invalid") from error
    places = range(low, high) if query.direction == "asc" else range(high - 1, low - 1, -1)
    return (order[place] for place in places)


def _bounds(query: Query, order: list[SortKey]) -> tuple[int, int]:
    """Sorted by update_time, a time filter is a slice: no need to look at the rest of a long list."""
    low, high = 0, len(order)
    if query.sort_by == "update_time":
        if query.updated_since is not None:
            low = bisect_left(order, (1, query.updated_since, 0))
        if query.updated_until is not None:
            high = bisect_left(order, (1, query.updated_until, 0))
    return low, high
