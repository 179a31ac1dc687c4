"""The API without a socket: method, path, query and headers in, Answer out.

Order of judgement: key, limits, path, permission, parameters, data, fault. Everything that api.md calls unverified is
decided here or in Company behind a named switch.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import format_datetime
from typing import Any

from pipeboard_resources.pipedrive.standin import control
from pipeboard_resources.pipedrive.standin.answers import Answer, failure, html, invalid, not_found, success
from pipeboard_resources.pipedrive.standin.collection import ENCODER, sort_key
from pipeboard_resources.pipedrive.standin.company import Company
from pipeboard_resources.pipedrive.standin.endpoints import (
    FIELD_EXTRAS,
    FIELD_LISTS,
    LISTS,
    OUT_OF_SUPPORT,
    Route,
    find_route,
)
from pipeboard_resources.pipedrive.standin.extras import dressed
from pipeboard_resources.pipedrive.standin.faults import CLOUDFLARE_PAGE, FaultBoard, daily_limit
from pipeboard_resources.pipedrive.standin.generate import RESTRICTED_USER_ID, USER_IDS
from pipeboard_resources.pipedrive.standin.limits import Limits
from pipeboard_resources.pipedrive.standin.queries import (
    InvalidQueryError,
    Parameters,
    Query,
    integer,
    select,
)
from pipeboard_resources.pipedrive.standin.reports import (
    changelog,
    changelog_cursor,
    changelog_start,
    currencies,
    flow,
    summary,
)
from pipeboard_resources.pipedrive.standin.shapes import Record

DEMO_API_KEY = hashlib.sha1(b"pipeboard stand-in demo key", usedforsecurity=False).hexdigest()

_SHAPE_PARAMETERS = frozenset({"include_fields", "custom_fields", "include_labels", "include_option_labels"})
_LOG_LINES_MAX = 200_000  # a soak of an hour stays small
_NO_ROUTE = Route(re.compile("(?!)"), "", "", 0)  # matches no path

BeforePage = Callable[[Company, str, int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the request log. `at` is UNIX seconds on the server's clock."""

    method: str
    path: str
    query: Mapping[str, str]
    status: int
    tokens: int
    at: float
    endpoint: str = ""
    page: int = 1
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who an API key belongs to. A restricted user sees only shared records and his own; nobody tells him."""

    key: str
    user_id: int
    sees_all: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through the handlers."""

    caller: Caller
    route: Route
    path: str
    query: Mapping[str, str]
    params: Mapping[str, str]


def derived_key(api_key: str, user: str) -> str:
    """The API key of another user of the same company."""
    return hashlib.sha1(f"{api_key}/{user}".encode(), usedforsecurity=False).hexdigest()


class StandIn:
    """A Pipedrive that answers from a Company. Safe to call from several threads.

    Keys: `api_key` is a global admin's, `restricted_key` sees fewer rows, `denied_key` is an admin's whose permission
    for activities is missing.
    """

    def __init__(self, company: Company, *, api_key: str = DEMO_API_KEY, clock: Callable[[], float]) -> None:
        self.company = company
        self.api_key = api_key
        self.restricted_key = derived_key(api_key, "restricted")
        self.denied_key = derived_key(api_key, "denied")
        self.callers = {
            key: Caller(key, user_id, sees_all)
            for key, user_id, sees_all in (
                (self.api_key, USER_IDS[0], True),
                (self.restricted_key, RESTRICTED_USER_ID, False),
                (self.denied_key, USER_IDS[1], True),
            )
        }
        company.set_permission("activities", allowed=False, user_id=USER_IDS[1])
        self.limits = Limits(clock)
        self.faults = FaultBoard()
        self.requests: list[Request] = []
        self.before_page: BeforePage | None = None
        self.latency_seconds = 0.0
        self._pages: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- the way in

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Answer one request. `headers` have lower-case names."""
        if path.startswith("/_standin/"):
            return control.answer(self, method, path.removeprefix("/_standin/"), body)
        shown = {name: value for name, value in query.items() if name != "api_token"}
        key = headers.get("x-api-token") or query.get("api_token", "")
        route = find_route(path)
        call = Call(self.callers.get(key) or Caller("", 0), route or _NO_ROUTE, path, shown, {})
        judged = self._judged(method, call)
        # The server's clock is the company's, which tests let run.
        told = {"date": format_datetime(self.company.now(), usegmt=True), **judged.headers}
        answer = self.faults.spoil(replace(judged, query=shown, headers=told), path)
        self._log(call, method, answer)
        return answer

    def reset_log(self) -> None:
        """Forget the requests made so far; tokens stay spent."""
        with self._lock:
            self.requests.clear()

    @property
    def tokens_spent(self) -> int:
        """Tokens that the requests in the log cost."""
        return sum(request.tokens for request in self.requests)

    def _log(self, call: Call, method: str, answer: Answer) -> None:
        now = self.limits.clock()
        line = Request(
            method, call.path, call.query, answer.status, answer.tokens, now, answer.endpoint, answer.page, answer.fault
        )
        with self._lock:
            self.requests.append(line)
            if len(self.requests) > _LOG_LINES_MAX:
                del self.requests[: _LOG_LINES_MAX // 2]

    def _judged(self, method: str, call: Call) -> Answer:
        """Key, limits, path and permission, in this order."""
        if not call.caller.key:
            unauthorized = failure(
                401, "unauthorized access", errorCode=401, error_info="Please check developers.pipedrive.com"
            )
            return replace(unauthorized, headers={"x-401-by-gw": "true"})
        with self.company.lock:
            refused = self._limited(call)
            answer = refused or replace(self._routed(method, call), tokens=call.route.tokens)
            headers = {**self.limits.headers(call.caller.key, self.company.plan), **answer.headers}
        return replace(answer, headers=headers)

    def _limited(self, call: Call) -> Answer | None:
        verdict = self.limits.admit(call.caller.key, call.route.tokens, self.company.plan)
        if verdict == "banned":
            return html(403, CLOUDFLARE_PAGE)
        if verdict == "burst":
            return failure(429, "request over limit", errorCode=429)
        if verdict == "daily":
            return replace(daily_limit(), headers={"retry-after": str(self.limits.seconds_to_reset())})
        return None

    def _routed(self, method: str, call: Call) -> Answer:
        match = call.route.pattern.fullmatch(call.path)
        if match is None and OUT_OF_SUPPORT.fullmatch(call.path):
            return failure(self.company.out_of_support_status, "This endpoint is out of support", data=None)
        if match is None:
            return not_found("Endpoint")
        if method != "GET":
            return failure(405, "Method not allowed", errorCode=405)
        for user_id in (None, call.caller.user_id):
            if (call.route.endpoint, user_id) in self.company.forbidden:
                return failure(
                    403, "You do not have permissions to do this.", error_info="", data=None, additional_data=None
                )
        handler = getattr(self, f"_{call.route.handler}")
        try:
            answer: Answer = handler(replace(call, params=match.groupdict()))
        except InvalidQueryError as error:
            answer = invalid(str(error))
        return replace(answer, endpoint=call.route.endpoint)

    # ---------------------------------------------------------------- v2 lists

    def _records(self, call: Call) -> Answer:
        query = LISTS[call.route.endpoint].parse(call.query)
        page = self._entered(call)
        entity = call.route.endpoint.partition("/")[0]
        wanted = self._wanted(call, entity, query)
        if wanted is None:
            return not_found("Filter")
        nulls_first = self.company.nulls_first
        collection = self.company.collection(entity)
        order = self._order(entity, query)
        selection = select(query, order, wanted, nulls_first=nulls_first)
        show = collection.encoded if query.is_plain else _encoded_by(dressed(self.company, entity, query))
        records = b",".join([show(number) for number in selection.ids])
        cursor = None if selection.next is None else selection.next.encode()
        self._remember_page(call, cursor, page)
        return Answer(
            200,
            b'{"success":true,"data":[%b],"additional_data":%b}' % (records, ENCODER.encode({"next_cursor": cursor})),
            page=page,
            is_last=cursor is None,
            records_before=self._record_before(entity, query),
        )

    def _order(self, entity: str, query: Query) -> list[Any]:
        collection, nulls_first = self.company.collection(entity), self.company.nulls_first
        if query.ids is None:
            return collection.order(query.sort_by, nulls_first=nulls_first)
        known = [collection.records[number] for number in query.ids if number in collection.records]
        return sorted(sort_key(r[query.sort_by], r["id"], nulls_first=nulls_first) for r in known)

    def _record_before(self, entity: str, query: Query) -> list[Record]:
        if query.cursor is None or query.cursor.id not in self.company.collection(entity).records:
            return []
        return [self.company.collection(entity).shown(query.cursor.id)]

    def _entered(self, call: Call) -> int:
        """The number of the page that is about to be read, after the hook had its chance to change things."""
        cursor = call.query.get("cursor")
        page = 1 if cursor is None else self._pages.get((_scan(call), cursor), 2)
        if self.before_page is not None:
            self.before_page(self.company, call.route.endpoint, page)
        return page

    def _remember_page(self, call: Call, cursor: str | None, page: int) -> None:
        if cursor is not None:
            self._pages[_scan(call), cursor] = page + 1

    def _wanted(self, call: Call, entity: str, query: Query) -> Callable[[int], bool] | None:
        """Whether a record belongs on the list that was asked for; None when the filter does not exist."""
        company, records = self.company, self.company.collection(entity).records
        tests: list[Callable[[Record], bool]] = []
        if not call.caller.sees_all:
            tests.append(lambda record: self._may_see(call.caller, entity, record))
        if entity == "deals":
            is_archived = call.route.endpoint == "deals/archived"
            tests.append(lambda record: record["is_archived"] is is_archived)
        if query.filter_id is not None:
            if query.filter_id not in _FILTERS:
                return None
            tests.append(_FILTERS[query.filter_id][2])
        else:
            tests += self._quick_filters(entity, query)
        # A filter beats all quick filters, status included (api.md 3.1).
        statuses = query.statuses if query.filter_id is None else None

        def wanted(number: int) -> bool:
            if (entity, number) in company.gone:
                if statuses is None or "deleted" not in statuses or not company.is_recently_deleted(entity, number):
                    return False
            elif statuses is not None and records[number]["status"] not in statuses:
                return False
            return all(test(records[number]) for test in tests)

        return wanted

    def _quick_filters(self, entity: str, query: Query) -> list[Callable[[Record], bool]]:
        tests: list[Callable[[Record], bool]] = []
        links = dict(query.links or {})
        if entity == "persons" and "deal_id" in links:
            deal = self.company.collection("deals").records.get(links.pop("deal_id"), {})
            tests.append(lambda record: record["id"] == deal.get("person_id"))
        if links:
            tests.append(lambda record: all(record[name] == value for name, value in links.items()))
        since, until = query.updated_since, query.updated_until
        if since is not None:
            tests.append(lambda record: record["update_time"] is not None and record["update_time"] >= since)
        if until is not None:
            tests.append(lambda record: record["update_time"] is not None and record["update_time"] < until)
        return tests

    def _may_see(self, caller: Caller, entity: str, record: Record) -> bool:
        if caller.sees_all or entity not in {"deals", "persons", "organizations", "activities"}:
            return True
        if record["owner_id"] == caller.user_id:
            return True
        if entity != "activities":
            return bool(record["visible_to"] == 7)
        deal = self.company.collection("deals").records.get(record["deal_id"] or 0)
        return deal is not None and self._may_see(caller, "deals", deal)

    # ---------------------------------------------------------------- v2 one record, fields

    def _record(self, call: Call) -> Answer:
        entity = call.route.endpoint
        accepted = LISTS[entity]
        shape = Parameters(accepted.names & _SHAPE_PARAMETERS, accepted.sorts, (), accepted.include_fields)
        query = shape.parse(call.query)
        number = integer("id", call.params["id"])
        record = self.company.collection(entity).records.get(number)
        if record is None or not self._is_readable(entity, number) or not self._may_see(call.caller, entity, record):
            return not_found(entity.capitalize().rstrip("s"))
        if entity in {"pipelines", "stages"}:
            return success(self.company.collection(entity).shown(number))
        return success(dressed(self.company, entity, query)(number))

    def _is_readable(self, entity: str, number: int) -> bool:
        """By id, a deleted record stays readable until it is purged (api.md section 6); a merged one is not."""
        return self.company.is_listed(entity, number) or self.company.is_recently_deleted(entity, number)

    def _fields(self, call: Call) -> Answer:
        query = Parameters(frozenset({"include_fields", "limit", "cursor"}), ("id",), (), FIELD_EXTRAS).parse(
            call.query
        )
        page = self._entered(call)
        fields = self.company.fields(FIELD_LISTS[call.route.endpoint])
        order = [(1, place, place) for place in range(1, len(fields) + 1)]
        selection = select(query, order, lambda place: True, nulls_first=True)
        cursor = None if selection.next is None else selection.next.encode()
        self._remember_page(call, cursor, page)
        data = [fields[place - 1].v2() | _field_extras(query) for place in selection.ids]
        answer = success(data, additional_data={"next_cursor": cursor})
        return replace(answer, page=page, is_last=cursor is None)

    def _field(self, call: Call) -> Answer:
        for field in self.company.fields(FIELD_LISTS[call.route.endpoint]):
            if field.code == call.params["code"]:
                return success(field.v2())
        return not_found("Field")

    # ---------------------------------------------------------------- v1

    def _users(self, call: Call) -> Answer:
        self._entered(call)
        users = [self._shown_user(call, number) for number in self.company.ids("users")]
        # v1 says null for an empty list (api.md gotcha 8).
        return success(users or None, additional_data={"company_id": self.company.company_id})

    def _user(self, call: Call) -> Answer:
        number = integer("id", call.params["id"])
        if number not in self.company.collection("users").records:
            return not_found("User")
        return success(self._shown_user(call, number))

    def _user_me(self, call: Call) -> Answer:
        company = self.company
        return success(
            self._shown_user(call, call.caller.user_id)
            | {
                "company_id": company.company_id,
                "company_name": company.name,
                "company_domain": company.domain,
                "company_country": "BR",
                "company_industry": "Serviços",
                "language": {"language_code": "pt", "country_code": "BR"},
            }
        )

    def _shown_user(self, call: Call, number: int) -> Record:
        return self.company.collection("users").shown(number) | {"is_you": number == call.caller.user_id}

    def _activity_types(self, call: Call) -> Answer:
        self._entered(call)
        types = self.company.collection("activity_types")
        return success([types.shown(number) for number in self.company.ids("activity_types")] or None)

    def _currencies(self, call: Call) -> Answer:
        term = call.query.get("term", "").lower()
        return success([row for row in currencies() if term in f"{row['code']} {row['name']}".lower()])

    def _filters(self, call: Call) -> Answer:
        return success(
            [
                {
                    "id": number,
                    "name": name,
                    "active_flag": True,
                    "type": kind,
                    "user_id": USER_IDS[0],
                    "add_time": "2024-01-02 10:00:00",
                    "update_time": None,
                    "visible_to": "7",
                }
                for number, (kind, name, _) in _FILTERS.items()
                if call.query.get("type", kind) == kind
            ]
        )

    def _fields_v1(self, call: Call) -> Answer:
        fields = self.company.fields(FIELD_LISTS[call.route.endpoint])
        return _offset_page(call, [field.v1(number) for number, field in enumerate(fields, start=1)], is_nested=True)

    def _summary(self, call: Call, *, is_archived: bool = False) -> Answer:
        links = {
            ("owner_id" if name == "user_id" else name): integer(name, call.query[name])
            for name in ("user_id", "pipeline_id", "stage_id")
            if name in call.query
        }
        query = Query(links=links, filter_id=int(call.query["filter_id"]) if "filter_id" in call.query else None)
        if "status" in call.query:
            query = replace(query, statuses=frozenset({call.query["status"]}))
        endpoint = replace(call.route, endpoint="deals/archived" if is_archived else "deals")
        wanted = self._wanted(replace(call, route=endpoint), "deals", query)
        if wanted is None:
            return not_found("Filter")
        deals = self.company.collection("deals").records
        return success(summary([deals[number] for number in deals if wanted(number)]))

    def _summary_archived(self, call: Call) -> Answer:
        return self._summary(call, is_archived=True)

    def _changelog(self, call: Call) -> Answer:
        number = integer("id", call.params["id"])
        if number not in self.company.collection("deals").records:
            return not_found("Deal")
        lines = changelog(self.company, number)
        start = changelog_start(call.query.get("cursor"))
        following = start + min(integer("limit", call.query.get("limit", "100")), 500)
        cursor = changelog_cursor(following) if following < len(lines) else None
        return replace(success(lines[start:following], additional_data={"next_cursor": cursor}), is_last=cursor is None)

    def _flow(self, call: Call) -> Answer:
        number = integer("id", call.params["id"])
        if number not in self.company.collection("deals").records:
            return not_found("Deal")
        wanted = call.query.get("items", "dealChange,activity").split(",")
        items = [item for item in flow(self.company, number) if item["object"] in wanted]
        return _offset_page(call, items, is_nested=False, related_objects={})


_FILTERS: Mapping[int, tuple[str, str, Callable[[Record], bool]]] = {
    1: ("deals", "Negócios abertos", lambda record: record["status"] == "open"),
    2: ("people", "Pessoas com organização", lambda record: record["org_id"] is not None),
    3: ("org", "Organizações com endereço", lambda record: record["address"] is not None),
    4: ("activity", "Atividades a fazer", lambda record: not record["done"]),
}


def _scan(call: Call) -> str:
    """What makes two requests pages of the same list: path and parameters other than the cursor."""
    rest = sorted((name, value) for name, value in call.query.items() if name != "cursor")
    return f"{call.path}?{rest}"


def _encoded_by(show: Callable[[int], Record]) -> Callable[[int], bytes]:
    return lambda number: ENCODER.encode(show(number))


def _field_extras(query: Query) -> Record:
    extras: Record = {
        "ui_visibility": {"add_visible_flag": True, "details_visible_flag": True},
        "important_fields": {"enabled": False, "stage_ids": []},
        "required_fields": {"enabled": False},
    }
    return {name: extras[name] for name in query.include_fields}


def _offset_page(call: Call, items: list[Record], *, is_nested: bool, **more: Any) -> Answer:
    """A v1 page by start and limit. `is_nested` puts the paging keys under `pagination`, as recordings show."""
    start = integer("start", call.query.get("start", "0"))
    limit = min(max(integer("limit", call.query.get("limit", "100")), 1), 500)
    has_more = start + limit < len(items)
    paging: Record = {"start": start, "limit": limit, "more_items_in_collection": has_more}
    if has_more:
        paging["next_start"] = start + limit
    answer = success(
        items[start : start + limit], additional_data={"pagination": paging} if is_nested else paging, **more
    )
    return replace(answer, page=start // limit + 1, is_last=not has_more)
