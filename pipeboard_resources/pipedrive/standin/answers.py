"""Answer, the stand-in's idea of an HTTP response before any socket is involved, and the envelopes of api.md 3 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeboard_resources.pipedrive.standin.collection import ENCODER

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and what the socket does with them. The rest says which page of a list it is, for the faults.

    `cut_after_bytes`: reset the connection after so many bytes of the body; -1 = before anything is sent.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    cut_after_bytes: int | None = None
    endpoint: str = ""
    page: int = 1
    is_last: bool = True
    query: Mapping[str, str] = field(default_factory=dict)
    records_before: Sequence[Any] = ()
    fault: str | None = None
    tokens: int = 0


def success(data: Any, **more: Any) -> Answer:
    """A good answer with `data` in the usual envelope."""
    return Answer(200, ENCODER.encode({"success": True, "data": data, **more}))


def failure(status: int, error: str, **more: Any) -> Answer:
    """The general error envelope; `code` and `errorCode` come in `more`, as the layer that speaks has it."""
    return Answer(status, ENCODER.encode({"success": False, "error": error, **more}))


def invalid(error: str) -> Answer:
    """v2's answer to a query it does not accept."""
    return failure(
        400,
        error,
        code="ERR_SCHEMA_VALIDATION_FAILED",
        error_info="Please check developers.pipedrive.com for more information about Pipedrive API.",
        data=None,
        additional_data=None,
    )


def not_found(what: str) -> Answer:
    """404 for an unknown id or path."""
    return failure(404, f"{what} not found", error_info="Object was not found.", data=None, additional_data=None)


def html(status: int, text: str) -> Answer:
    """A page from something in front of the API."""
    return Answer(status, text.encode(), content_type="text/html; charset=UTF-8")
