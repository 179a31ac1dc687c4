"""Stops asking a server that is down: closed, open, half-open, shared by all runs through Redis, healing by itself."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pybreaker
import redis
from redis.client import Pipeline

from pipeboard_resources.pipedrive.clock import Clock, at
from pipeboard_resources.pipedrive.endpoint import Request
from pipeboard_resources.pipedrive.errors import CircuitOpenError
from pipeboard_resources.shared_redis import SharedRedis

__all__ = ["Breaker"]

logger = logging.getLogger(__name__)
FAULTS_TO_OPEN = 10  # more than the tries of one request, so that one bad page alone does not stop the others
OPEN_SECONDS = 30.0
SECONDS_IN_REDIS = 600


class _ServerFault(Exception):
    """What pybreaker is shown for a server fault."""


class _Storage(pybreaker.CircuitBreakerStorage):
    """pybreaker's memory: one Redis hash, or this process where Redis is missing.

    Its own Redis storage writes a stack trace per failed command, keeps its keys for ever and decodes blindly.
    """

    def __init__(self, name: str, *, shared: SharedRedis | None, clock: Clock) -> None:
        super().__init__("pipeboard")
        self._key = f"pipeboard:breaker:{name}"
        self._shared = shared
        self._clock = clock
        self._own: dict[str, str] = {}

    @property
    def state(self) -> str:
        state = self.read().get("state", pybreaker.STATE_CLOSED)
        known = (pybreaker.STATE_OPEN, pybreaker.STATE_HALF_OPEN)
        return state if state in known else pybreaker.STATE_CLOSED

    @state.setter
    def state(self, state: str) -> None:
        self._write("state", state)

    def increment_counter(self) -> None:
        self._add("faults")

    def reset_counter(self) -> None:
        self._write("faults", "0")

    def increment_success_counter(self) -> None:
        self._add("successes")

    def reset_success_counter(self) -> None:
        self._write("successes", "0")

    @property
    def counter(self) -> int:
        return int(_number(self.read(), "faults"))

    @property
    def success_counter(self) -> int:
        return int(_number(self.read(), "successes"))

    @property
    def opened_at(self) -> datetime | None:
        """pybreaker compares this with the machine's clock, so our clock's distance is counted back from that."""
        return datetime.now(UTC) - timedelta(seconds=min(self.seconds_since_opened, 1e9))

    @opened_at.setter
    def opened_at(self, moment: datetime) -> None:
        self._write("opened_at", str(self._clock.now()))

    @property
    def seconds_since_opened(self) -> float:
        """Distance rather than difference: another machine's clock may run a little ahead, and rubbish far."""
        return abs(self._clock.now() - _number(self.read(), "opened_at"))

    def read(self) -> Mapping[str, str]:
        """All fields."""
        if self._shared is None:
            return self._own
        return self._shared.attempt(
            lambda server: {_text(name): _text(value) for name, value in server.hgetall(self._key).items()},
            self._own,
        )

    def _write(self, field: str, value: str) -> None:
        self._own[field] = value
        self._share(lambda batch: batch.hset(self._key, field, value))

    def _add(self, field: str) -> None:
        self._own[field] = str(int(_number(self._own, field)) + 1)
        self._share(lambda batch: batch.hincrby(self._key, field, 1))

    def _share(self, change: Callable[[Pipeline], object]) -> None:
        if self._shared is None:
            return

        def write(server: redis.Redis) -> None:
            with server.pipeline(transaction=False) as batch:
                change(batch)
                batch.expire(self._key, SECONDS_IN_REDIS)
                batch.execute()

        self._shared.attempt(write, None)


class Breaker:
    """One circuit per base URL. Only server faults count; thread-safe.

    pybreaker decides; it is told outcomes afterwards instead of making the call, because it holds its lock through a
    call, and four readers would stand in line.
    """

    def __init__(self, base_url: str, *, shared: SharedRedis | None, clock: Clock) -> None:
        name = hashlib.blake2s(base_url.encode(), digest_size=8).hexdigest()
        self._clock = clock
        self._storage = _Storage(name, shared=shared, clock=clock)
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=FAULTS_TO_OPEN,
            reset_timeout=OPEN_SECONDS,
            state_storage=self._storage,
            throw_new_error_on_trip=False,
        )
        self._trial = threading.Lock()
        self.openings = 0
        """How often this process saw the circuit open because of a fault of its own."""

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return self._storage.state

    def admit(self, request: Request, *, patience_seconds: float) -> bool:
        """Whether this request is the trial of a circuit that was open. Raises CircuitOpenError while it is open.

        One trial at a time: the others wait up to `patience_seconds` for how it ends.
        """
        if self._is_closed(request):
            return False
        if not self._trial.acquire(timeout=patience_seconds):
            raise self._open_error(request)
        try:
            is_trial = not self._is_closed(request)
        except CircuitOpenError:
            self._trial.release()
            raise
        if not is_trial:
            self._trial.release()
        return is_trial

    def record(self, *, is_fault: bool, is_trial: bool) -> None:
        """How a request ended. A refusal (4xx, 429) is no fault: the server is well."""
        try:
            if is_fault or is_trial or self._storage.counter or self.state != pybreaker.STATE_CLOSED:
                self._tell(is_fault)
        finally:
            self.give_back(is_trial=is_trial)

    def give_back(self, *, is_trial: bool) -> None:
        """The request was cancelled, so it tells nothing; if it was the trial, another one may be it."""
        if is_trial:
            self._trial.release()

    def _tell(self, is_fault: bool) -> None:
        before = self.state
        try:
            self._circuit.call(_fail if is_fault else _succeed)
        except _ServerFault:
            if before != self.state:
                self.openings += 1
                logger.warning("Pipedrive failed %d times in a row: no requests for %g s", FAULTS_TO_OPEN, OPEN_SECONDS)
        except pybreaker.CircuitBreakerError:
            logger.debug("The circuit had opened while this request was under way")

    def _is_closed(self, request: Request) -> bool:
        state = self.state
        if state == pybreaker.STATE_OPEN and self._storage.seconds_since_opened < OPEN_SECONDS:
            raise self._open_error(request)
        return state == pybreaker.STATE_CLOSED

    def _open_error(self, request: Request) -> CircuitOpenError:
        seconds_left = max(0.0, OPEN_SECONDS - self._storage.seconds_since_opened)
        return CircuitOpenError(request.endpoint, page=request.page, retry_at=at(self._clock.now() + seconds_left))


def _succeed() -> None:
    """A request that went well, for pybreaker."""


def _fail() -> None:
    raise _ServerFault


def _text(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else raw.decode()


def _number(fields: Mapping[str, str], name: str) -> float:
    try:
        number = float(fields.get(name, "0"))
    except ValueError:  # not ours: as if it were not there
        return 0.0
    return number if math.isfinite(number) else 0.0
