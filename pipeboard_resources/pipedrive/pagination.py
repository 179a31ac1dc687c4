"""Which records an answer holds and how the list goes on: pure, (body, endpoint) -> records and next cursor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging

__all__ = ["EnvelopeError", "ListSlice", "cursor_params", "list_slice", "single_object"]


class EnvelopeError(ValueError):
    """The body is JSON but not the envelope of a list; the message says what is wrong with it."""


_MISSING = object()


@dataclass(frozen=True, slots=True)
class ListSlice:
    """The records of one page and the cursor of the next, None at the end of the list."""

    records: list[dict[str, Any]]
    cursor: str | None


def list_slice(body: object, endpoint: Endpoint, *, start: int = 0) -> ListSlice:
    """Read the envelope of a list strictly where a slip would lose records, leniently where the docs disagree.

    `start` is the offset that was asked for (OFFSET lists). Raises EnvelopeError.
    """
    envelope = _envelope(body)
    _require_success(envelope)
    more = _additional_data(envelope)
    data = envelope.get("data", _MISSING)
    # v1 writes an empty list as null. Anywhere but on a first and only page that would be a page lost in silence.
    is_v1_empty = data is None and endpoint.paging is not Paging.CURSOR and start == 0
    records = [] if is_v1_empty else _records(data)
    cursor = _CURSORS[endpoint.paging](more, len(records), start)
    if is_v1_empty and cursor is not None:
        raise EnvelopeError("data is null, but there is more of the list")
    if not records and cursor is None and start == 0 and endpoint.is_never_empty:
        raise EnvelopeError("an empty list, where there is always something")
    return ListSlice(records, cursor)


def single_object(body: object) -> dict[str, Any]:
    """The `data` of an answer about one object. Raises EnvelopeError."""
    envelope = _envelope(body)
    _require_success(envelope)
    data = envelope.get("data")
    if not isinstance(data, dict):
        raise EnvelopeError(f"data is {_kind(data)}, not an object")
    return data


def cursor_params(endpoint: Endpoint, cursor: str | None) -> dict[str, str]:
    """The query parameters that ask for the page at `cursor` (None: the first)."""
    if cursor is None or endpoint.paging is Paging.NONE:
        return {}
    return {"cursor" if endpoint.paging is Paging.CURSOR else "start": cursor}


def _envelope(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise EnvelopeError(f"the body is {_kind(body)}, not an object")
    return body


def _require_success(envelope: Mapping[str, Any]) -> None:
    if envelope.get("success") is not True:
        raise EnvelopeError(f"success is {_kind(envelope.get('success'))}, not true")


def _additional_data(envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Both nestings of paging facts in one mapping; a missing `additional_data` is an empty one (airbyte meets them)."""
    outer = envelope.get("additional_data")
    if outer is None:
        return {}
    if not isinstance(outer, dict):
        raise EnvelopeError(f"additional_data is {_kind(outer)}, not an object")
    inner = outer.get("pagination")
    if inner is None:
        return outer
    if not isinstance(inner, dict):
        raise EnvelopeError(f"pagination is {_kind(inner)}, not an object")
    return {**outer, **inner}


def _records(data: object) -> list[dict[str, Any]]:
    if not isinstance(data, list):
        raise EnvelopeError(f"data is {_kind(data)}, not a list")
    for record in data:
        if not isinstance(record, dict):
            raise EnvelopeError(f"a record is {_kind(record)}, not an object")
    return data


def _next_cursor(more: Mapping[str, Any], count: int, start: int) -> str | None:
    cursor = more.get("next_cursor")
    if cursor is None:
        if more.get("more_items_in_collection"):
            raise EnvelopeError("more_items_in_collection is true, but there is no next_cursor")
        return None
    if not isinstance(cursor, str) or not cursor:
        raise EnvelopeError(f"next_cursor is {_kind(cursor)}, not a text")
    return cursor


def _next_start(more: Mapping[str, Any], count: int, start: int) -> str | None:
    has_more = more.get("more_items_in_collection")
    if has_more not in (True, False):  # also 0 and 1: v1 mixes both spellings of a flag
        raise EnvelopeError("no more_items_in_collection, so the end of the list is unknown")
    if not has_more:
        return None
    limit = more.get("limit")
    step = (
        max(count, limit) if isinstance(limit, int) else count
    )  # a page may be short of rows that the user may not see
    next_start = more.get("next_start", start + step)
    if not isinstance(next_start, int) or isinstance(next_start, bool):
        raise EnvelopeError(f"next_start is {_kind(next_start)}, not a number")
    if next_start > start + step:
        raise EnvelopeError(f"next_start {next_start} leaves out records after {start + step}")
    return str(next_start)


def _no_next(more: Mapping[str, Any], count: int, start: int) -> str | None:
    if more.get("next_cursor") is not None or more.get("more_items_in_collection"):
        raise EnvelopeError("a list that comes in one piece says that there is more of it")
    return None


_CURSORS = {Paging.CURSOR: _next_cursor, Paging.OFFSET: _next_start, Paging.NONE: _no_next}


def _kind(value: object) -> str:
    """What a value is in the words of JSON, without showing it: it may be personal data."""
    if value is None or value is _MISSING:
        return "null or missing"
    if isinstance(value, bool):
        return str(value).lower()
    kinds: dict[type[Any], str] = {dict: "an object", list: "a list", str: "a text"}
    return kinds.get(type(value), "a number")
