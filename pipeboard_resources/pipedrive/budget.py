"""The day's API tokens of the company: what is left, and when to stop. Pipedrive's headers are the truth where they come."""

from __future__ import annotations

import threading

import redis

from pipeboard_resources.pipedrive.classify import RateHeaders
from pipeboard_resources.pipedrive.clock import Clock
from pipeboard_resources.pipedrive.endpoint import Request
from pipeboard_resources.pipedrive.errors import TokenBudgetSpent
from pipeboard_resources.shared_redis import SharedRedis

__all__ = ["TokenLedger"]

# When the day starts is not documented, so a count that no header has confirmed for so long is not worth stopping for:
# sending one request too many costs a 429, not sending costs a night.
SECONDS_A_COUNT_IS_TRUSTED = 3600.0
SECONDS_IN_REDIS = 86_400


class TokenLedger:
    """Counts tokens between answers, believes answers, stops before the reserve. Thread-safe.

    The first request always goes out: whatever Redis remembers may be yesterday's, and the answer tells today's figure.
    """

    def __init__(self, account: str, reserve_percent: float, *, shared: SharedRedis | None, clock: Clock) -> None:
        self._key = f"pipeboard:tokens:{account}"
        self._reserve_share = reserve_percent / 100
        self._shared = shared
        self._clock = clock
        self._lock = threading.Lock()
        self._left: int | None = None
        self._seen_at = float("-inf")
        self._in_flight = 0
        self._has_asked = False
        self._refusal: TokenBudgetSpent | None = None
        self.limit: int | None = None

    @property
    def tokens_left(self) -> int | None:
        """Tokens left today, the reserve included; None before anything told."""
        return self._left

    @property
    def reserve(self) -> int:
        """Tokens that are left alone for the account's other integrations; 0 while the limit is unknown."""
        return int((self.limit or 0) * self._reserve_share)

    def admit(self, request: Request) -> None:
        """Set the request's tokens aside. Raises TokenBudgetSpent where that would touch the reserve."""
        with self._lock:
            self._raise_known_refusal(request)
            left = self._left_now()
            is_first, self._has_asked = not self._has_asked, True
            needed = request.tokens + self._in_flight
            if not is_first and left is not None and left - needed < self.reserve:
                raise self._reserve_reached(request, left)
            self._in_flight += request.tokens

    def settle(self, request: Request, rates: RateHeaders | None, *, is_charged: bool) -> None:
        """The request is over. `rates` are its answer's (None: no answer); without headers our own count goes on."""
        with self._lock:
            self._in_flight = max(0, self._in_flight - request.tokens)
            if rates is not None and rates.daily_limit is not None:
                self.limit = rates.daily_limit
            if rates is not None and rates.daily_remaining is not None:
                self._left, self._seen_at = rates.daily_remaining, self._clock.now()
                self._publish()
            elif is_charged and self._left is not None:
                self._left = max(0, self._left - request.tokens)
                self._charge_shared(request.tokens)

    def refuse(self, refusal: TokenBudgetSpent) -> None:
        """Pipedrive said that the day is over: nothing more is sent by this process until it resets."""
        with self._lock:
            self._refusal, self._left, self._seen_at = refusal, 0, self._clock.now()
            self._publish()

    def _raise_known_refusal(self, request: Request) -> None:
        refusal = self._refusal
        if refusal is None:
            return
        if refusal.resets_at is not None and self._clock.now() >= refusal.resets_at.timestamp():
            self._refusal, self._left = None, None
            return
        raise TokenBudgetSpent(request.endpoint, refusal.seen, page=request.page, resets_at=refusal.resets_at)

    def _left_now(self) -> int | None:
        """Our figure while it is fresh, else what other runs wrote, else nothing."""
        if self._clock.now() - self._seen_at < SECONDS_A_COUNT_IS_TRUSTED:
            return self._left
        self._left = self._read_shared()
        return self._left

    def _reserve_reached(self, request: Request, left: int) -> TokenBudgetSpent:
        seen = (
            f"nothing was sent because {left} of {self.limit} tokens are left today and {self.reserve} of them are "
            f"reserved for other programs ({self._reserve_share:.0%})"
        )
        return TokenBudgetSpent(request.endpoint, seen, page=request.page, is_reserve=True)

    def _publish(self) -> None:
        if self._shared is None:
            return
        facts: dict[
            bytes | bytearray | memoryview | str | int | float, bytes | bytearray | memoryview | str | int | float
        ]
        facts = {"left": self._left or 0, "limit": self.limit or 0, "seen_at": self._seen_at}

        def write(server: redis.Redis) -> None:
            with server.pipeline(transaction=False) as batch:
                batch.hset(self._key, mapping=facts)
                batch.expire(self._key, SECONDS_IN_REDIS)
                batch.execute()

        self._shared.attempt(write, None)

    def _charge_shared(self, tokens: int) -> None:
        """For the others to see. An entry that went meanwhile stays away: a charge alone would read as a debt."""
        if self._shared is not None:
            self._shared.attempt(
                lambda server: server.hexists(self._key, "left") and server.hincrby(self._key, "left", -tokens), None
            )

    def _read_shared(self) -> int | None:
        published = None if self._shared is None else self._shared.attempt(self._published, None)
        if published is None:
            return None
        seen_at, left, limit = published
        if not abs(self._clock.now() - seen_at) < SECONDS_A_COUNT_IS_TRUSTED:
            return None
        self._seen_at, self.limit = seen_at, limit or self.limit
        return left

    def _published(self, server: redis.Redis) -> tuple[float, int, int] | None:
        seen_at, left, limit = server.hmget(self._key, "seen_at", "left", "limit")
        return None if seen_at is None or left is None else (float(seen_at), int(left), int(limit or 0))
