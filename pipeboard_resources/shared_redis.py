"""Redis that may be absent, slow, full or mad: every call has a default, every trouble is one warning and a pause."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeboard_resources.pipedrive.clock import Clock, SystemClock

__all__ = ["SharedRedis"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
RUBBISH = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)  # what reading an answer then raises
TROUBLE = (redis.RedisError, OSError, *RUBBISH)


class SharedRedis:
    """One Redis for what concurrent runs share. Connects with the first call; thread-safe.

    A call takes at most `timeout_seconds` to connect and as long to answer. After a trouble nothing is asked for
    `pause_seconds`, so that a dead Redis costs a run one timeout and not one per request. `errors` counts troubles.
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        timeout_seconds: float = 0.25,
        pause_seconds: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self._redis = redis.Redis.from_url(
            url.get_secret_value(),
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # redis-py 8 would try again with waits of its own
            protocol=2,
            driver_info=None,  # no CLIENT SETINFO: one round trip less a connection
        )
        self._clock = clock or SystemClock()
        self._pause_seconds = pause_seconds
        self._asleep_until = float("-inf")
        self._has_warned = False
        self._lock = threading.Lock()
        self.errors = 0

    def __repr__(self) -> str:
        return "SharedRedis()"

    def attempt(self, call: Callable[[redis.Redis], T], default: T) -> T:
        """What `call` returns, or `default` when Redis is in trouble. `call` also parses, so rubbish counts as trouble."""
        if self._clock.monotonic() < self._asleep_until:
            return default
        try:
            return call(self._redis)
        except TROUBLE as trouble:
            self._pause(trouble)
            return default

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _pause(self, trouble: Exception) -> None:
        with self._lock:
            self.errors += 1
            self._asleep_until = self._clock.monotonic() + self._pause_seconds
            is_first, self._has_warned = not self._has_warned, True
        if is_first:
            logger.warning(
                "Redis is not usable (%s); this run goes on without shared limits and cache", type(trouble).__name__
            )
