"""The burst limit: so many requests per rolling two seconds and key, learned from the answers, shared through Redis."""

from __future__ import annotations

import logging
import threading

import redis
from pyrate_limiter import AbstractBucket, InMemoryBucket, Rate, RateItem, RedisBucket

from pipeboard_resources.pipedrive.classify import RateHeaders
from pipeboard_resources.pipedrive.clock import Clock
from pipeboard_resources.shared_redis import SharedRedis

__all__ = ["BurstLimiter"]

logger = logging.getLogger(__name__)
SMALLEST_PLAN_LIMIT = 20  # Lite; assumed until the first answer says otherwise
# Pipedrive counts when a request arrives, we when it leaves: a first request that also opens its TLS connection arrives
# later than its successors do, so the window here is longer by what that may take.
WINDOW_MILLISECONDS = 2000 + 250
SWEEP_EVERY = 64  # entries that left the window are swept out of Redis after so many requests
SECONDS_IN_REDIS = 3600


class BurstLimiter:
    """Lets a request go when the window has room for it. Thread-safe.

    pyrate-limiter keeps the window (in memory or in Redis); its Limiter class is not used, because that sleeps by
    itself, cannot be cancelled, knows no other clock, and starts a thread per bucket.
    """

    def __init__(self, account: str, *, shared: SharedRedis | None, clock: Clock) -> None:
        self._key = f"pipeboard:burst:{account}"
        self._pace_key = f"pipeboard:pace:{account}"  # what answers told: the plan's limit, a pause
        self._shared = shared
        self._clock = clock
        self._lock = threading.Lock()
        self._own = InMemoryBucket([Rate(SMALLEST_PLAN_LIMIT, WINDOW_MILLISECONDS)])
        self._common: RedisBucket | None = None
        self._held_until = 0.0
        self._shared_count = 0
        self._is_told = False
        self.limit = SMALLEST_PLAN_LIMIT
        self.remaining: int | None = None

    def acquire(self, cancel: threading.Event | None = None) -> float:
        """Wait for room and take it; seconds waited. Returns at once when `cancel` is set."""
        started = self._clock.monotonic()
        while cancel is None or not cancel.is_set():
            seconds = self._hold_left() or self._take()
            if seconds <= 0:
                break
            self._clock.wait(seconds, cancel)
        return self._clock.monotonic() - started

    def hold(self, seconds: float) -> None:
        """The server asked for a pause: nobody with this key sends anything for `seconds`."""
        until = self._clock.now() + seconds
        with self._lock:
            self._held_until = max(self._held_until, until)
        if self._shared is not None:
            self._shared.attempt(lambda server: self._extend_hold(server, until), None)

    def observe(self, rates: RateHeaders) -> None:
        """Learn the plan's limit, and whether others use the same key: their requests fill our window, too."""
        if rates.burst_limit and (rates.burst_limit != self.limit or not self._is_told):
            self._is_told = True
            self._set_limit(rates.burst_limit)
            if self._shared is not None:
                self._shared.attempt(lambda server: self._publish(server, "limit", str(self.limit)), None)
        self.remaining = rates.burst_remaining
        if rates.burst_remaining is not None and rates.burst_remaining <= self.limit // 4:
            self._make_room_for_others(self.limit - rates.burst_remaining)

    def _set_limit(self, limit: int) -> None:
        with self._lock:
            if limit == self.limit:
                return
            self.limit = limit
            self._own.rates = [Rate(limit, WINDOW_MILLISECONDS)]
            if self._common is not None:
                self._common.rates = [Rate(limit, WINDOW_MILLISECONDS)]
        logger.info("Pipedrive allows %d requests per two seconds", limit)

    def _hold_left(self) -> float:
        own = self._held_until - self._clock.now()
        if self._shared is None:
            return max(0.0, own)
        return max(0.0, own, self._shared.attempt(self._read_pace, 0.0))

    def _read_pace(self, server: redis.Redis) -> float:
        """Seconds left of a pause that any run was asked for.

        Its limit counts, too, until an answer tells this run: who assumed less would find no room beside who knows more.
        """
        held_until, limit = server.hmget(self._pace_key, "held_until", "limit")
        if limit is not None and not self._is_told:
            self._set_limit(max(SMALLEST_PLAN_LIMIT, int(limit)))
        left = float(held_until or 0) - self._clock.now()
        if not left < SECONDS_IN_REDIS:
            raise ValueError("nobody is told to wait for so long")
        return left

    def _extend_hold(self, server: redis.Redis, until: float) -> None:
        if until - self._clock.now() > self._read_pace(server):
            self._publish(server, "held_until", str(until))

    def _publish(self, server: redis.Redis, field: str, value: str) -> None:
        with server.pipeline(transaction=False) as batch:
            batch.hset(self._pace_key, field, value)
            batch.expire(self._pace_key, SECONDS_IN_REDIS)
            batch.execute()

    def _take(self) -> float:
        """Seconds until there is room; 0 means that a place was taken.

        This process also counts by itself: it stays within the limit while Redis comes and goes, and learns of others.
        """
        if self._shared is not None:
            seconds = self._shared.attempt(self._take_shared, 0.0)
            if seconds > 0:
                return seconds
        with self._lock:
            now = self._own_now()
            self._own.leak(now)
            return _put(self._own, now)

    def _take_shared(self, server: redis.Redis) -> float:
        with self._lock:
            now = int(self._clock.now() * 1000)
            bucket, self._common = self._common or self._join(server), None  # forgotten, should this call fail
            seconds = _put(bucket, now)
            if self._shared_count % SWEEP_EVERY == 0:
                bucket.leak(now)
                server.expire(self._key, SECONDS_IN_REDIS)
                server.expire(self._pace_key, SECONDS_IN_REDIS)
            self._shared_count += 1
            self._common = bucket
        return seconds

    def _join(self, server: redis.Redis) -> RedisBucket:
        bucket = RedisBucket.init([Rate(self.limit, WINDOW_MILLISECONDS)], server, self._key)
        assert isinstance(bucket, RedisBucket)
        return bucket

    def _make_room_for_others(self, used: int) -> None:
        """`used` of the window are gone by the server's count; what is not ours is somebody else's."""
        with self._lock:
            now = self._own_now()
            self._own.leak(now)
            strangers = used - self._own.count()
            if strangers > 0:
                self._own.put(RateItem("others", now, weight=strangers))

    def _own_now(self) -> int:
        return int(self._clock.monotonic() * 1000)


def _put(bucket: AbstractBucket, now: int) -> float:
    """Take one place at `now` (milliseconds): 0.0, or the seconds after which it is worth asking again."""
    item = RateItem("request", now)
    if bucket.put(item):
        return 0.0
    wait = bucket.waiting(item)
    if not isinstance(wait, int):
        raise TypeError("a wait that is no number")
    return min(max(1, wait), WINDOW_MILLISECONDS) / 1000  # an entry of a clock that runs ahead would ask for more
