"""Keeps complete lists of slow-moving things in Redis between runs. Absence, age or rubbish is a miss, never an error."""

from __future__ import annotations

import hashlib
import logging
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import msgspec
import redis

from pipeboard_resources.pipedrive.clock import Clock, SystemClock
from pipeboard_resources.shared_redis import SharedRedis

__all__ = ["CacheKey", "CacheUsage", "ResponseCache"]

logger = logging.getLogger(__name__)

PREFIX = "pipeboard:cache:1:"  # the number changes with the layout of an entry
BROKEN = (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, ArithmeticError, RecursionError)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What an answer depends on. `account` tells keys apart without being one; `params` is sorted."""

    group: str
    account: str
    path: str
    params: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The key in Redis: readable up to the path, so that `redis-cli --scan` helps."""
        digest = hashlib.blake2s(repr(self.params).encode(), digest_size=8).hexdigest()
        return f"{PREFIX}{self.account}:{self.group}:{self.path}:{digest}"


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """Counts since the start of the run. An error (Redis in trouble, a broken entry) is counted as a miss, too."""

    hits: int = 0
    misses: int = 0
    errors: int = 0


class _Entry(msgspec.Struct, array_like=True):
    """What lies in Redis, compressed. It names its own key and end, so that a Redis that lost a TTL, or a TTL of before, cannot serve it."""

    key: str
    expires_at: float
    records: list[dict[str, Any]]


_DECODER = msgspec.json.Decoder(_Entry, float_hook=Decimal)


class ResponseCache:
    """Complete lists by CacheKey. `ttl_seconds` is by cache group; a group without one, or with 0, is not cached."""

    def __init__(self, shared: SharedRedis, ttl_seconds: Mapping[str, float], *, clock: Clock | None = None) -> None:
        self._shared = shared
        self._ttl_seconds = dict(ttl_seconds)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._usage = CacheUsage()
        self._has_warned = False

    @property
    def usage(self) -> CacheUsage:
        """Hits, misses and errors so far."""
        return self._usage

    def read(self, key: CacheKey) -> list[dict[str, Any]] | None:
        """The list stored under `key`, or None. Decimals are exact, as they came."""
        if self._ttl_seconds.get(key.group, 0) <= 0:
            return None
        before = self._shared.errors
        records = self._shared.attempt(lambda server: self._load(server, key), None)
        self._count(
            hits=int(records is not None), misses=int(records is None), errors=int(self._shared.errors > before)
        )
        return records

    def write(self, key: CacheKey, records: list[dict[str, Any]]) -> None:
        """Store a complete list until its group's TTL is over."""
        ttl = self._ttl_seconds.get(key.group, 0)
        if ttl <= 0:
            return
        entry = _Entry(key.text, self._clock.now() + ttl, records)
        packed = zlib.compress(_ENCODER.encode(entry), level=1)
        milliseconds = max(1, int(ttl * 1000))
        if self._shared.attempt(lambda server: bool(server.set(key.text, packed, px=milliseconds)), None) is None:
            self._count(errors=1)

    def forget(self, account: str, *, group: str | None = None) -> None:
        """Drop what is stored for an account, or one group of it: `--full`, a retry, an unknown field or option."""
        pattern = f"{PREFIX}{account}:{group or '*'}:*"

        def delete(server: redis.Redis) -> bool:
            names = list(server.scan_iter(match=pattern, count=500))
            if names:
                server.delete(*names)
            return True

        if self._shared.attempt(delete, None) is None:
            self._count(errors=1)

    def _load(self, server: redis.Redis, key: CacheKey) -> list[dict[str, Any]] | None:
        packed = server.get(key.text)
        if packed is None:
            return None
        if not isinstance(packed, bytes):
            raise TypeError("a cache entry is not bytes")
        try:
            entry = _DECODER.decode(zlib.decompress(packed))
        except BROKEN:  # somebody else's bytes, or an older layout: make room for a good one
            server.delete(key.text)
            self._tell_broken()
            return None
        now = self._clock.now()
        is_fresh = entry.key == key.text and now < entry.expires_at <= now + self._ttl_seconds[key.group]
        return entry.records if is_fresh else None

    def _tell_broken(self) -> None:
        self._count(errors=1)
        with self._lock:
            is_first, self._has_warned = not self._has_warned, True
        if is_first:
            logger.warning("An entry of the cache in Redis is unreadable; it was dropped and Pipedrive is asked again")

    def _count(self, *, hits: int = 0, misses: int = 0, errors: int = 0) -> None:
        with self._lock:
            seen = self._usage
            self._usage = replace(seen, hits=seen.hits + hits, misses=seen.misses + misses, errors=seen.errors + errors)
