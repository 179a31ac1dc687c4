"""When a request is tried again, and after how long; stamina owns the attempts and the exponential waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from pipeboard_resources.pipedrive.clock import Clock
from pipeboard_resources.pipedrive.errors import MalformedPageError, RetriablePipedriveError

__all__ = ["Retries", "RetryPolicy"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of trying again: tries of one request (the first included) and seconds with all of them.

    A well-formed lie costs tokens each time, so malformed pages get `malformed_attempts` tries only.
    """

    attempts: int = 6
    total_seconds: float = 120.0
    malformed_attempts: int = 3
    wait_initial_seconds: float = 0.5
    wait_max_seconds: float = 8.0
    wait_jitter_seconds: float = 1.0


class Retries:
    """The life of one request: hand it to `run`. Not shared between requests.

    A wait that the server asked for goes to `hold`, which stops every reader of this key, because the others would only
    be refused too; the exponential waits are this request's own.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        *,
        hold: Callable[[float], None],
        cancel: threading.Event | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._hold = hold
        self._cancel = cancel
        self._deadline = clock.monotonic() + policy.total_seconds
        self._malformed = 0
        self.attempt = 0

    def run(self, request: Callable[[], T]) -> T:
        """Call `request` until it succeeds or its error is final; that error is raised, with `attempts` filled in."""
        policy = self._policy
        tries = policy.attempts if policy.total_seconds > 0 else 1
        for attempt in stamina.retry_context(
            on=self.backoff,
            attempts=tries,
            timeout=policy.total_seconds or None,
            wait_initial=policy.wait_initial_seconds,
            wait_max=policy.wait_max_seconds,
            wait_jitter=policy.wait_jitter_seconds,
        ):
            with attempt:
                self.attempt = attempt.num
                return request()
        raise AssertionError("stamina ends with a result or an error")

    def backoff(self, error: Exception) -> bool | float:
        """stamina's question: False to give up, True for the next exponential wait, 0.0 to go on after the hold."""
        if not isinstance(error, RetriablePipedriveError):
            return False
        error.attempts = self.attempt
        if self._is_hopeless(error):
            return False
        logger.warning("Pipedrive request fails, attempt %d of %d: %s", self.attempt, self._policy.attempts, error)
        if error.retry_after_seconds is None:
            return True
        self._hold(error.retry_after_seconds)
        return 0.0

    def _is_hopeless(self, error: RetriablePipedriveError) -> bool:
        if self._cancel is not None and self._cancel.is_set():
            return True
        if self.attempt >= self._policy.attempts:
            return True
        if isinstance(error, MalformedPageError):
            self._malformed += 1
            if self._malformed >= self._policy.malformed_attempts:
                return True
        return self._clock.monotonic() + (error.retry_after_seconds or 0.0) > self._deadline
