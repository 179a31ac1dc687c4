"""Everything that can go wrong, by name. A fault waits for a request that matches and spoils its answer.

FAULTS is the one list of names; a table-driven test iterates over it. Spoiling is pure: Answer in, Answer out.
"""

from __future__ import annotations

import fnmatch
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from pipeboard_resources.pipedrive.standin.answers import Answer, failure, html, invalid
from pipeboard_resources.pipedrive.standin.collection import ENCODER
from pipeboard_resources.pipedrive.standin.queries import Cursor

CLOUDFLARE_PAGE = (
    "<!DOCTYPE html><html><head><title>Access denied | api.pipedrive.com used Cloudflare to restrict access</title></head>"
    "<body><h1>Error 1015</h1><p>You are being rate limited.</p></body></html>"
)
MAINTENANCE_PAGE = "<html><head><title>503 Service Unavailable</title></head><body>We will be back soon.</body></html>"

PageWanted = int | Literal["last"] | None


class UnknownFaultError(Exception):
    """A fault name that is not in FAULTS."""


@dataclass(slots=True)
class Fault:
    """One fault that lies in wait.

    `path` is a glob on the URL path. `page` is the page of a list (1 = the one asked for without a cursor) or "last";
    `nth` counts the matching requests instead. `times` is how often it strikes, None = for ever.
    """

    name: str
    path: str = "*"
    page: PageWanted = None
    nth: int | None = None
    times: int | None = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0
    struck: int = 0

    def matches(self, path: str, page: int, *, is_last: bool) -> bool:
        """Whether this request is the one. Counts the requests it sees."""
        if self.times is not None and self.struck >= self.times:
            return False
        if not fnmatch.fnmatchcase(path, self.path):
            return False
        if self.page is not None and not (is_last if self.page == "last" else page == self.page):
            return False
        self.seen += 1
        return self.nth is None or self.seen >= self.nth


Spoil = Callable[[Answer, Fault], Answer]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """What a fault does. `family`: limit, status, body, transport, paging, records."""

    family: str
    description: str
    spoil: Spoil


def _instead(answer: Answer, other: Answer, **headers: str) -> Answer:
    """`other`, with the headers of the answer that it takes the place of and what is known of the request."""
    return replace(
        answer,
        status=other.status,
        body=other.body,
        content_type=other.content_type,
        headers={**answer.headers, **headers},
    )


def _answer(status: int, error: str, **more: Any) -> Spoil:
    return lambda answer, fault: _instead(answer, failure(status, error, **more))


def _page(status: int, text: str) -> Spoil:
    return lambda answer, fault: _instead(answer, html(status, text))


def _raw(body: bytes) -> Spoil:
    return lambda answer, fault: replace(answer, body=body)


def _edited(edit: Callable[[dict[str, Any], Fault, Answer], None]) -> Spoil:
    """A fault that changes the decoded JSON of a good answer; others pass as they are."""

    def spoil(answer: Answer, fault: Fault) -> Answer:
        if answer.status != 200:
            return answer
        content = json.loads(answer.body, parse_float=Decimal)
        edit(content, fault, answer)
        return replace(answer, body=ENCODER.encode(content))

    return spoil


def _edited_records(edit: Callable[[dict[str, Any], Fault], None]) -> Spoil:
    """A fault that changes every record of a list."""

    def edit_all(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
        for record in content["data"] if isinstance(content["data"], list) else ():
            edit(record, fault)

    return _edited(edit_all)


def _burst(answer: Answer, fault: Fault) -> Answer:
    spoiled = failure(429, "request over limit", errorCode=429)
    return _instead(answer, spoiled, **{"x-ratelimit-remaining": "0"})


def _daily(answer: Answer, fault: Fault) -> Answer:
    seconds = str(fault.options.get("seconds", 3939))
    return _instead(answer, daily_limit(), **{"retry-after": seconds, "x-daily-ratelimit-token-remaining": "0"})


def daily_limit() -> Answer:
    """The body of a spent daily budget, as two integrators saw it (api.md section 7)."""
    return failure(
        429,
        "daily request budget exceeded",
        errorCode=429,
        error_info="The daily API token budget of this company has been used up.",
    )


def _redirect(answer: Answer, fault: Fault) -> Answer:
    location = fault.options.get("location", "https://elsewhere.invalid/login")
    return _instead(answer, Answer(302, b""), location=location)


def _gzip_garbage(answer: Answer, fault: Fault) -> Answer:
    return replace(answer, headers={**answer.headers, "content-encoding": "gzip"}, body=b"\x1f\x8bthis is not gzip")


def _slow(answer: Answer, fault: Fault) -> Answer:
    return replace(answer, delay_seconds=float(fault.options.get("seconds", 0.3)))


def _stall(answer: Answer, fault: Fault) -> Answer:
    return replace(answer, delay_seconds=float(fault.options.get("seconds", 3600)))


def _truncate(answer: Answer, fault: Fault) -> Answer:
    return replace(answer, body=answer.body[: max(len(answer.body) * 2 // 3, 1)])


def _cut(answer: Answer, fault: Fault) -> Answer:
    return replace(answer, cut_after_bytes=int(fault.options.get("after", len(answer.body) // 2)))


def _reset(answer: Answer, fault: Fault) -> Answer:
    return replace(answer, cut_after_bytes=-1)


def _repeat_cursor(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
    """Send the reader back to where it is: the cursor that it just used, or one that gives the first page again."""
    if "next_cursor" not in (content.get("additional_data") or {}):
        return
    sent = answer.query.get("cursor")
    if sent is None and content["data"]:
        first = content["data"][0]
        sort_by = answer.query.get("sort_by", "id")
        direction = answer.query.get("sort_direction", "asc")
        step = -1 if direction == "asc" else 1
        value = first["id"] + step if sort_by == "id" else first[sort_by]
        sent = Cursor(sort_by, value, direction, first["id"] + step).encode()
    content["additional_data"]["next_cursor"] = sent


def _refuse_cursor(answer: Answer, fault: Fault) -> Answer:
    return _instead(answer, invalid("Provided cursor is invalid"))


def _data(value: Any) -> Spoil:
    def edit(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
        content["data"] = value

    return _edited(edit)


def _without(key: str) -> Spoil:
    def edit(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
        if key == "next_cursor":
            content.get("additional_data", {}).pop("next_cursor", None)
        else:
            content.pop(key, None)

    return _edited(edit)


def _not_successful(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
    content.clear()
    content.update(
        success=False, error="Something went wrong", error_info="Please try again", data=None, additional_data=None
    )


def _duplicates(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
    """The last records of the page before (of this one, on page 1) come again."""
    data = content["data"]
    if isinstance(data, list) and data:
        content["data"] = [*answer.records_before, *data] if answer.records_before else [*data, *data[-3:]]


def _in_the_middle(change: Callable[[Any, Fault], Any]) -> Spoil:
    def edit(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
        data = content["data"]
        if isinstance(data, list) and data:
            data[len(data) // 2] = change(data[len(data) // 2], fault)

    return _edited(edit)


def _malformed(record: Any, fault: Fault) -> Any:
    key = fault.options.get("field", "add_time" if "add_time" in record else "created")
    return {**record, key: fault.options.get("value", {"unexpected": ["object"]})}


def _headless(record: Any, fault: Fault) -> Any:
    return {key: value for key, value in record.items() if key != "id"}


def _extra_key(record: dict[str, Any], fault: Fault) -> None:
    record["brand_new_key"] = {"since": "2026-11", "flags": [1, 2]}


_DATES = ("expected_close_date", "birthday", "due_date", "local_won_date", "lost_time", "won_time")


def _zero_dates(record: dict[str, Any], fault: Fault) -> None:
    """Only where the value is null: the truth stays the same (api.md gotcha 15)."""
    zeros = ("0000-00-00", "-0001-11-30")
    for place, key in enumerate(_DATES):
        if key in record and record[key] is None:
            zero = zeros[(record["id"] + place) % 2]
            record[key] = f"{zero} 00:00:00" if key.endswith("_time") else zero


def _other_spelling(record: dict[str, Any], fault: Fault) -> None:
    """The names that some pages of the documentation use instead (api.md gotcha 19)."""
    if "im" in record:
        record["ims"] = record.pop("im")
    for key in ("emails", "phones", "ims", "participants"):
        for entry in record.get(key) or ():
            if "primary" in entry:
                entry["primary_flag"] = entry.pop("primary")
    for attendee in record.get("attendees") or ():
        attendee["email_address"] = attendee.pop("email")
    for key in ("address", "postal_address", "location"):
        if record.get(key):
            record[key]["formatted_address"] = record[key]["value"]


def _nested_pagination(content: dict[str, Any], fault: Fault, answer: Answer) -> None:
    """v1 answers: the paging keys directly under additional_data become nested under pagination."""
    extra = content.get("additional_data") or {}
    if "more_items_in_collection" in extra:
        content["additional_data"] = {"pagination": extra}


FAULTS: Mapping[str, FaultKind] = {
    "burst_429": FaultKind("limit", "429 of the two-second limit: no Retry-After, wait x-ratelimit-reset", _burst),
    "daily_429": FaultKind("limit", "429 of the daily budget: its own text and a retry-after of about an hour", _daily),
    "html_403": FaultKind("limit", "403 with a Cloudflare page, as after hammering on", _page(403, CLOUDFLARE_PAGE)),
    "status_400": FaultKind(
        "status", "400, a query refused", _answer(400, "Bad request", code="ERR_SCHEMA_VALIDATION_FAILED")
    ),
    "status_401": FaultKind(
        "status",
        "401, the key is no longer valid",
        _answer(401, "unauthorized access", errorCode=401, error_info="Please check developers.pipedrive.com"),
    ),
    "status_402": FaultKind("status", "402, the account is not open", _answer(402, "Company account is not open")),
    "status_403": FaultKind(
        "status", "403 as JSON, no permission", _answer(403, "You do not have permissions to do this.")
    ),
    "status_404": FaultKind("status", "404", _answer(404, "Not found", error_info="Object was not found.")),
    "status_408": FaultKind("status", "408, request timeout", _answer(408, "Request Timeout")),
    "status_410": FaultKind("status", "410, the endpoint is gone", _answer(410, "Gone")),
    "status_500": FaultKind("status", "500 as JSON", _answer(500, "Internal server error", errorCode=500)),
    "status_502": FaultKind("status", "502 as HTML", _page(502, "<html><body>Bad gateway</body></html>")),
    "status_503": FaultKind("status", "503 as HTML, maintenance", _page(503, MAINTENANCE_PAGE)),
    "status_504": FaultKind("status", "504 as HTML", _page(504, "<html><body>Gateway timeout</body></html>")),
    "status_524": FaultKind(
        "status", "524 as HTML, Cloudflare waited in vain", _page(524, "<html><body>524</body></html>")
    ),
    "redirect_302": FaultKind("status", "302 to another host (option location)", _redirect),
    "success_false": FaultKind("body", "200 with success:false", _edited(_not_successful)),
    "html_200": FaultKind("body", "200 with an HTML page", _page(200, "<html><body>Please log in</body></html>")),
    "empty_body": FaultKind("body", "200 with nothing in it", _raw(b"")),
    "null_body": FaultKind("body", "200 with the JSON value null", _raw(b"null")),
    "truncated_json": FaultKind("body", "200 whose JSON stops two thirds through, with a matching length", _truncate),
    "gzip_garbage": FaultKind("body", "200 that says gzip and is not", _gzip_garbage),
    "connection_cut": FaultKind("transport", "connection reset in the middle of the body (option after: bytes)", _cut),
    "connection_reset": FaultKind("transport", "connection reset before any answer", _reset),
    "slow": FaultKind("transport", "the right answer, late (option seconds)", _slow),
    "timeout": FaultKind("transport", "no answer at all for an hour (option seconds)", _stall),
    "repeated_cursor": FaultKind("paging", "next_cursor leads to where the reader already is", _edited(_repeat_cursor)),
    "refused_cursor": FaultKind("paging", "400 for the cursor; requests without one pass", _refuse_cursor),
    "missing_next_cursor": FaultKind(
        "paging", "last page: additional_data without next_cursor", _without("next_cursor")
    ),
    "missing_additional_data": FaultKind("paging", "last page: no additional_data at all", _without("additional_data")),
    "nested_pagination": FaultKind(
        "paging", "v1 paging keys under additional_data.pagination", _edited(_nested_pagination)
    ),
    "data_object": FaultKind("paging", "data is an object instead of a list", _data({"unexpected": "object"})),
    "data_null": FaultKind("paging", "data is null (legal for an empty v1 list only)", _data(None)),
    "data_string": FaultKind("paging", "data is a string", _data("none")),
    "missing_data": FaultKind("paging", "no data key", _without("data")),
    "duplicate_records": FaultKind("records", "records of the page before come again", _edited(_duplicates)),
    "malformed_record": FaultKind(
        "records", "one record has the wrong type in a field (options field, value)", _in_the_middle(_malformed)
    ),
    "record_without_id": FaultKind("records", "one record has no id", _in_the_middle(_headless)),
    "record_not_an_object": FaultKind("records", "one record is a number", _in_the_middle(lambda record, fault: 17)),
    "extra_key": FaultKind("records", "every record has a key that nobody has heard of", _edited_records(_extra_key)),
    "zero_dates": FaultKind(
        "records", "null dates are sent as 0000-00-00 and -0001-11-30", _edited_records(_zero_dates)
    ),
    "other_spelling": FaultKind(
        "records", "ims, primary_flag, email_address, formatted_address", _edited_records(_other_spelling)
    ),
}


class FaultBoard:
    """The faults of one server. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(
        self,
        name: str,
        path: str = "*",
        *,
        page: PageWanted = None,
        nth: int | None = None,
        times: int | None = 1,
        **options: Any,
    ) -> Fault:
        """Set a fault; see Fault for the arguments and FAULTS for the names and their options."""
        if name not in FAULTS:
            raise UnknownFaultError(f"No fault {name!r}. Known: {', '.join(FAULTS)}.")
        fault = Fault(name, path, page, nth, times, options)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Let everything be well again."""
        with self._lock:
            self._faults.clear()

    @property
    def active(self) -> list[Fault]:
        """Faults that can still strike."""
        with self._lock:
            return [f for f in self._faults if f.times is None or f.struck < f.times]

    def spoil(self, answer: Answer, path: str) -> Answer:
        """The answer as the first matching fault leaves it."""
        with self._lock:
            fault = self._striking(answer, path)
        if fault is None:
            return answer
        return replace(FAULTS[fault.name].spoil(answer, fault), fault=fault.name)

    def _striking(self, answer: Answer, path: str) -> Fault | None:
        for fault in self._faults:
            if fault.name == "refused_cursor" and "cursor" not in answer.query:
                continue
            # On an earlier page these would look like a proper end of the list: no client could tell (api.md 3.1).
            if fault.name in {"missing_next_cursor", "missing_additional_data"} and not answer.is_last:
                continue
            if fault.matches(path, answer.page, is_last=answer.is_last):
                fault.struck += 1
                return fault
        return None
