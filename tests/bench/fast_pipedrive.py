"""A Pipedrive on loopback that is never the bottleneck: the stand-in's records again and again under ids of their own,
encoded before anybody asks. Everything but the four large lists is the stand-in itself.

python -m tests.bench.fast_pipedrive --records 100000 [--latency 0.05]: prints its address and serves until stdin closes.
"""

import argparse
import json
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from time import time
from typing import Any

from pipeboard_resources.pipedrive.standin import Company
from pipeboard_resources.pipedrive.standin.answers import Answer
from pipeboard_resources.pipedrive.standin.app import StandIn
from pipeboard_resources.pipedrive.standin.limits import Plan
from pipeboard_resources.pipedrive.standin.server import serve_standin

# Of all records, so many are of each list; what a company of salespeople looks like.
SHARES = {"deals": 0.4, "activities": 0.3, "persons": 0.2, "organizations": 0.1}
SAMPLE_DEALS = 2000
# With the 23 that every made-up company has, deals bear 60.
WIDE_FIELDS = 37
SINCE, UNTIL = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
_ID, _TIME = 987_654_321_987, "9999-09-09T09:09:09Z"


@dataclass(frozen=True, slots=True)
class Unlimited(Plan):
    """So many requests and tokens that no limit is met: limits are measured elsewhere (readers_bench.py)."""

    @property
    def daily_tokens(self) -> int:
        return 10**9

    @property
    def burst_requests(self) -> int:
        return 10**6


class FastList:
    """`rows` records in order of update_time, made from sample records by another id and another time."""

    def __init__(self, sample: Sequence[Mapping[str, Any]], rows: int, *, taken: frozenset[int] = frozenset()) -> None:
        self._parts = [_parts(record) for record in sample]
        free = (number for number in count(1) if number not in taken)
        self._ids = array("q", islice(free, rows))
        span = (UNTIL - SINCE).total_seconds()
        self._seconds = array("q", (int(SINCE.timestamp() + span * row / rows) for row in range(rows)))
        self._order = array("q", range(rows))
        self._keys = array("q", self._seconds)

    def change(self, share: float, now: float) -> int:
        """Every 1/share-th record is changed now; returns how many."""
        step = round(1 / share)
        changed = set(self._order[::step])
        for row in changed:
            self._seconds[row] = int(now)
        self._order = array("q", [row for row in self._order if row not in changed] + sorted(changed))
        self._keys = array("q", (self._seconds[row] for row in self._order))
        return len(changed)

    def page(self, query: Mapping[str, str]) -> bytes:
        """The answer's body."""
        if query.get("sort_by") == "id":  # asked for the highest id only
            return _body([self._record(len(self._ids) - 1)], None)
        first, last = 0, len(self._order)
        if since := query.get("updated_since"):
            first = bisect_left(self._keys, _second(since))
        if until := query.get("updated_until"):
            last = max(first, bisect_left(self._keys, _second(until)))
        limit, done = int(query.get("limit", 100)), int(query.get("cursor", "0"))
        places = range(first, last) if query.get("sort_direction") != "desc" else range(last - 1, first - 1, -1)
        asked = places[done : done + limit]
        is_last = done + limit >= len(places)
        return _body([self._record(self._order[place]) for place in asked], None if is_last else str(done + limit))

    def _record(self, row: int) -> bytes:
        moment = datetime.fromtimestamp(self._seconds[row], UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        return self._parts[row % len(self._parts)] % {b"id": self._ids[row], b"time": moment}


def _parts(record: Mapping[str, Any]) -> bytes:
    text = json.dumps({**record, "id": _ID, "update_time": _TIME}, ensure_ascii=False, separators=(",", ":"))
    return text.encode().replace(b"%", b"%%").replace(str(_ID).encode(), b"%(id)d").replace(_TIME.encode(), b"%(time)s")


def _body(records: list[bytes], cursor: str | None) -> bytes:
    shown = b"null" if cursor is None else b'"%b"' % cursor.encode()
    return b'{"success":true,"data":[%b],"additional_data":{"next_cursor":%b}}' % (b",".join(records), shown)


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


class FastPipedrive(StandIn):
    """The stand-in with four large lists. `/_bench/...` tells and changes what the bench wants."""

    def __init__(self, records: int) -> None:
        company = Company.generate(deals=SAMPLE_DEALS, extra_custom_fields=WIDE_FIELDS)
        company.plan = Unlimited()
        company.set_permission("deals/summary", allowed=False)  # it would count the sample only
        super().__init__(company, clock=time)
        archived = frozenset(record["id"] for record in self._sample("deals/archived"))
        self._lists = {
            f"/api/v2/{name}": FastList(
                list(self._sample(name)), round(records * share), taken=archived if name == "deals" else frozenset()
            )
            for name, share in SHARES.items()
        }
        self._headers = dict(self.limits.headers(self.api_key, company.plan))
        self._asked = {"requests": 0, "tokens": 0}

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        if path.startswith("/_bench/"):
            return self._told(path.removeprefix("/_bench/"), query)
        fast = self._lists.get(path)
        if fast is None:
            found = super().answer(method, path, query, headers, body)
        else:
            found = Answer(200, fast.page(query), headers=self._headers, tokens=10)
        self._asked = {
            "requests": self._asked["requests"] + 1,
            "tokens": self._asked["tokens"] + found.tokens,
        }
        return found

    def _told(self, what: str, query: Mapping[str, str]) -> Answer:
        if what == "change":
            changed = sum(each.change(float(query["share"]), time()) for each in self._lists.values())
            return Answer(200, json.dumps({"changed": changed}).encode())
        if what == "latency":
            self.latency_seconds = float(query["seconds"])
        asked, self._asked = self._asked, {"requests": 0, "tokens": 0}
        return Answer(200, json.dumps(asked).encode())

    def _sample(self, name: str) -> Iterator[dict[str, Any]]:
        query = {"limit": "500", "status": "open,won,lost"} if name.startswith("deals") else {"limit": "500"}
        while True:
            page = json.loads(super().answer("GET", f"/api/v2/{name}", query, {"x-api-token": self.api_key}).body)
            yield from page["data"]
            if (cursor := page["additional_data"]["next_cursor"]) is None:
                return
            query = {**query, "cursor": cursor}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--records", type=int, default=100_000)
    arguments.add_argument("--latency", type=float, default=0.0, help="seconds a request")
    asked = arguments.parse_args()
    standin = FastPipedrive(asked.records)
    standin.latency_seconds = asked.latency
    with serve_standin(standin) as server:
        print(json.dumps({"url": server.url, "key": server.api_key}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
