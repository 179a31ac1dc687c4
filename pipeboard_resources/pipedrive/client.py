"""Reads Pipedrive: a list completely or not at all. Knows nothing of entities, tables or Dagster."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, TypeVar

from pydantic import SecretStr

from pipeboard_resources.cache import CacheKey, CacheUsage, ResponseCache
from pipeboard_resources.pipedrive import errors
from pipeboard_resources.pipedrive.classify import answered_at, error_for
from pipeboard_resources.pipedrive.clock import Clock, SystemClock
from pipeboard_resources.pipedrive.decode import BodyNotJsonError, decode_json
from pipeboard_resources.pipedrive.endpoint import CURRENT_USER, Endpoint, Page, Paging, Request
from pipeboard_resources.pipedrive.limits import Limits, PlanLimits
from pipeboard_resources.pipedrive.pagination import EnvelopeError, cursor_params, list_slice, single_object
from pipeboard_resources.pipedrive.ranges import Progress, RangePlan
from pipeboard_resources.pipedrive.retry import Retries, RetryPolicy
from pipeboard_resources.pipedrive.side_by_side import RangePage, read_ranges
from pipeboard_resources.pipedrive.transport import Answer, Transport
from pipeboard_resources.pipedrive.usage import RequestFact, Usage, UsageMeter
from pipeboard_resources.pipedrive.walk import ListWalk
from pipeboard_resources.shared_redis import SharedRedis

__all__ = ["ClientOptions", "PipedriveClient"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A window that ended so long ago is settled: clocks that differ, and changes that show late, are behind it.
SETTLED_AFTER_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Everything about a client but its key. `account` names the limits and cache entries that runs share in Redis;
    empty: a fingerprint of base URL and key, from which neither can be had back."""

    base_url: str = "https://api.pipedrive.com"
    page_size: int = 500
    readers: int = 4
    timeout_seconds: float = 60.0
    token_reserve_percent: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    account: str = ""


class PipedriveClient:
    """One key's view of one account. Thread-safe; opens connections with the first request.

    `shared` is Redis (None: limits are this process's own), `cache` keeps field metadata and small lists between runs,
    `on_request` is told every request that was sent, from the thread that sent it.
    """

    def __init__(
        self,
        api_key: SecretStr,
        options: ClientOptions | None = None,
        *,
        shared: SharedRedis | None = None,
        cache: ResponseCache | None = None,
        clock: Clock | None = None,
        on_request: Callable[[RequestFact], None] | None = None,
    ) -> None:
        self.options = options or ClientOptions()
        self._clock = clock or SystemClock()
        self._transport = Transport(
            self.options.base_url, api_key, timeout_seconds=self.options.timeout_seconds, clock=self._clock
        )
        self.account = self.options.account or _fingerprint(self._transport.base_url, api_key)
        self._limits = Limits(
            self._transport.base_url,
            self.account,
            self.options.token_reserve_percent,
            shared=shared,
            clock=self._clock,
        )
        self._cache = cache
        self._on_request = on_request
        self._user: list[dict[str, Any]] = []
        self._meter = UsageMeter()

    def __repr__(self) -> str:
        return f"PipedriveClient({self.options.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a scoped client closes those of its parent."""
        self._transport.close()

    def scoped(self, *, on_request: Callable[[RequestFact], None] | None = None) -> PipedriveClient:
        """The same connections, limits and cache with a `usage` of its own, for the figures of one asset."""
        twin = copy.copy(self)
        twin._on_request = on_request or self._on_request
        twin._meter = UsageMeter()
        return twin

    @property
    def usage(self) -> Usage:
        """What this client has spent so far."""
        return self._meter.read()

    @property
    def tokens_left(self) -> int | None:
        """Tokens left today, the reserve included, as last told; None before the first answer that tells."""
        return self._limits.ledger.tokens_left

    @property
    def plan(self) -> PlanLimits:
        """What the account's plan allows, as far as answers have told."""
        return self._limits.plan

    @property
    def cache_usage(self) -> CacheUsage:
        """Hits and misses of the cache that this client shares with its scoped ones; zeros without a cache."""
        return CacheUsage() if self._cache is None else self._cache.usage

    @property
    def breaker_openings(self) -> int:
        """How often the circuit opened in this process."""
        return self._limits.breaker.openings

    def pages(
        self,
        endpoint: Endpoint,
        *,
        params: Mapping[str, str] | None = None,
        cursor: str | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Page]:
        """Every page of a list, from `cursor` on: an end without an exception means that the list is complete.

        A cached endpoint comes as one page. Raises the tree of errors.py.
        """
        if self._cache is not None and endpoint.cache_group is not None and cursor is None:
            return self._cached_pages(self._cache, endpoint, {**endpoint.params, **(params or {})})
        return self._sent_pages(endpoint, params, cursor, cancel)

    def pages_by_time(
        self,
        endpoint: Endpoint,
        *,
        lower: datetime | None = None,
        upper: datetime | None = None,
        progress: Progress | None = None,
    ) -> Iterator[RangePage]:
        """Every record with lower <= update_time < upper, read side by side: in no order, some of them more than once.

        Without `lower` records that have no update_time come too, and some beyond `upper`. An end without an exception means complete; after
        an interruption pass the `progress` of the last page that was kept: only pages under way are asked for again.
        Raises the tree of errors.py.
        """
        until = None if upper is None else int(upper.timestamp())
        plan = RangePlan(
            endpoint,
            page_size=min(self.options.page_size, endpoint.page_limit),
            lower=None if lower is None else int(lower.timestamp()),
            upper=until,
            is_settled=until is not None and until < self._clock.now() - SETTLED_AFTER_SECONDS,
            readers=self.options.readers,
            progress=progress,
        )
        return read_ranges(
            plan,
            lambda task, cancel: self.page(
                endpoint, params=task.params, cursor=task.cursor, number=task.number, cancel=cancel
            ),
            readers=self.options.readers,
        )

    def page(
        self,
        endpoint: Endpoint,
        *,
        params: Mapping[str, str] | None = None,
        cursor: str | None = None,
        number: int = 1,
        cancel: threading.Event | None = None,
    ) -> Page:
        """One page of a list, never from the cache. `number` is for the messages only."""
        size = str(min(self.options.page_size, endpoint.page_limit))
        limit = {} if endpoint.paging is Paging.NONE else {"limit": size}
        query = {**limit, **endpoint.params, **(params or {}), **cursor_params(endpoint, cursor)}
        start = int(cursor or 0) if endpoint.paging is Paging.OFFSET else 0
        request = Request(endpoint.name, endpoint.path, query, endpoint.tokens, number, has_cursor=cursor is not None)
        answer, sliced = self._fetch(request, lambda body: list_slice(body, endpoint, start=start), cancel)
        return Page(sliced.records, sliced.cursor, number, len(answer.body), answered_at(answer.headers))

    def get(self, path: str, *, params: Mapping[str, str] | None = None, tokens: int = 2) -> dict[str, Any]:
        """The one object at `path`, for example /v1/users/me. `tokens` is what the call costs."""
        return self._fetch(Request(path, path, dict(params or {}), tokens), single_object, None)[1]

    def current_user(self) -> dict[str, Any]:
        """The key's user as /v1/users/me tells; asked once, for scoped clients too."""
        if not self._user:
            self._user.append(self.get(CURRENT_USER.path, tokens=CURRENT_USER.tokens))
        return self._user[0]

    def forget(self, endpoint: Endpoint) -> None:
        """Drop what the cache holds of the endpoint's group, so that the next read asks Pipedrive."""
        if self._cache is not None and endpoint.cache_group is not None:
            self._cache.forget(self.account, group=endpoint.cache_group)

    def probe(self, endpoint: Endpoint) -> Page:
        """Read one record of a list (a whole list where it comes in one piece), to see whether the key may."""
        params = {} if endpoint.paging is Paging.NONE else {"limit": "1"}
        return self.page(endpoint, params=params)

    def _sent_pages(
        self,
        endpoint: Endpoint,
        params: Mapping[str, str] | None,
        cursor: str | None,
        cancel: threading.Event | None,
    ) -> Iterator[Page]:
        walk = ListWalk(endpoint, cursor)
        while not walk.is_complete:
            page = self.page(endpoint, params=params, cursor=walk.cursor, number=walk.number, cancel=cancel)
            walk.advance(page)
            yield page

    def _cached_pages(self, cache: ResponseCache, endpoint: Endpoint, params: Mapping[str, str]) -> Iterator[Page]:
        """Only a list that ended properly is stored, whole."""
        key = CacheKey(endpoint.cache_group or "", self.account, endpoint.path, tuple(sorted(params.items())))
        records = cache.read(key)
        if records is not None:
            yield Page(records, None, 1, 0)
            return
        records = []
        for page in self._sent_pages(endpoint, params, None, None):
            records.extend(page.records)
            yield page
        cache.write(key, records)

    def _fetch(
        self, request: Request, parse: Callable[[object], T], cancel: threading.Event | None
    ) -> tuple[Answer, T]:
        """The answer and what `parse` makes of its JSON, after as many tries as the policy allows."""
        retries = Retries(self.options.retry, self._clock, hold=self._limits.limiter.hold, cancel=cancel)

        def attempt() -> tuple[Answer, T]:
            answer = self._send(request, retries.attempt, cancel)
            return answer, _parsed(answer.body, parse, request)

        return retries.run(attempt)

    def _send(self, request: Request, attempt: int, cancel: threading.Event | None) -> Answer:
        """One request: the limits are asked before and told after. Raises unless the answer is a 200."""
        permit = self._limits.admit(request, patience_seconds=self.options.timeout_seconds, cancel=cancel)
        started = self._clock.monotonic()
        answer: Answer | None = None
        error: errors.PipedriveError | None = None
        try:
            answer = self._transport.get(request, cancel=cancel)
            error = error_for(answer, request, now=self._clock.now())
        except errors.PipedriveError as failure:
            error = failure
        finally:
            tokens = self._limits.record(request, permit, answer, error)
        fact = RequestFact(
            endpoint=request.endpoint,
            page=request.page,
            status=None if answer is None else answer.status,
            seconds=self._clock.monotonic() - started,
            tokens=tokens,
            attempt=attempt,
            bytes=0 if answer is None else len(answer.body),
        )
        self._account(fact, permit.waited_seconds, error)
        if error is not None:
            raise error
        assert answer is not None
        return answer

    def _account(self, fact: RequestFact, waited_seconds: float, error: errors.PipedriveError | None) -> None:
        self._meter.add(
            requests=1,
            tokens=fact.tokens,
            retries=int(fact.attempt > 1),
            burst_refusals=int(isinstance(error, errors.RateLimitedError)),
            daily_refusals=int(isinstance(error, errors.TokenBudgetSpent)),
            bytes=fact.bytes,
            seconds_requesting=fact.seconds,
            seconds_waiting=waited_seconds,
        )
        logger.debug("Pipedrive answered %s page %d: %s in %.3f s", fact.endpoint, fact.page, fact.status, fact.seconds)
        if self._on_request is not None:
            self._on_request(fact)


def _parsed(body: bytes, parse: Callable[[object], T], request: Request) -> T:
    """What the body of a 200 means. Raises MalformedPageError, UnsuccessfulPageError."""
    try:
        value = decode_json(body)
    except BodyNotJsonError as error:
        raise errors.MalformedPageError(request.endpoint, str(error), page=request.page, status=200) from None
    try:
        return parse(value)
    except EnvelopeError as error:
        failure = value if isinstance(value, dict) and value.get("success") is False else {}
        kind = errors.UnsuccessfulPageError if failure else errors.MalformedPageError
        said = f'; it says "{str(failure["error"])[:200]}"' if failure.get("error") else ""
        raise kind(request.endpoint, f"{error}{said}", page=request.page, status=200) from None


def _fingerprint(base_url: str, key: SecretStr) -> str:
    """A name for (base URL, key) that says nothing about either: 64 bits cannot be turned back into a 160-bit key."""
    digest = hashlib.blake2s(key.get_secret_value().encode(), key=b"pipeboard account", digest_size=32).digest()
    return hashlib.blake2s(base_url.encode() + digest, digest_size=8).hexdigest()
