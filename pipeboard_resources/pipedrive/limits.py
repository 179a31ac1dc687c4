"""The three things that may keep a request from leaving, asked and told together: circuit, day's tokens, burst."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from pipeboard_resources.pipedrive import errors
from pipeboard_resources.pipedrive.breaker import Breaker
from pipeboard_resources.pipedrive.budget import TokenLedger
from pipeboard_resources.pipedrive.classify import rate_headers
from pipeboard_resources.pipedrive.clock import Clock
from pipeboard_resources.pipedrive.endpoint import Request
from pipeboard_resources.pipedrive.limiter import BurstLimiter
from pipeboard_resources.pipedrive.transport import Answer
from pipeboard_resources.shared_redis import SharedRedis

__all__ = ["Limits", "Permit", "PlanLimits"]


@dataclass(frozen=True, slots=True)
class Permit:
    """A request may leave; `is_trial` marks the one that tries a circuit that was open. How a request ends tells nothing
    of the server once `cancel` is set."""

    waited_seconds: float
    is_trial: bool
    cancel: threading.Event | None = None

    @property
    def is_cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What the plan allows as far as answers told: requests per two seconds, tokens per day (None: not told yet)."""

    requests_per_two_seconds: int
    requests_left: int | None
    tokens_per_day: int | None
    tokens_left: int | None
    tokens_reserved: int


class Limits:
    """Circuit, ledger and limiter of one account. Thread-safe; the clients of one account share it."""

    def __init__(
        self, base_url: str, account: str, reserve_percent: float, *, shared: SharedRedis | None, clock: Clock
    ) -> None:
        self._clock = clock
        self._blocked: errors.BlockedError | None = None
        self.breaker = Breaker(base_url, shared=shared, clock=clock)
        self.ledger = TokenLedger(account, reserve_percent, shared=shared, clock=clock)
        self.limiter = BurstLimiter(account, shared=shared, clock=clock)

    @property
    def plan(self) -> PlanLimits:
        """What is known about the plan."""
        ledger = self.ledger
        return PlanLimits(self.limiter.limit, self.limiter.remaining, ledger.limit, ledger.tokens_left, ledger.reserve)

    def admit(self, request: Request, *, patience_seconds: float, cancel: threading.Event | None) -> Permit:
        """Wait until the request may leave. Raises CircuitOpenError, TokenBudgetSpent, BlockedError, and
        NoAnswerError when `cancel` is set meanwhile: nothing is sent."""
        if self._blocked is not None:
            raise errors.BlockedError(request.endpoint, self._blocked.seen, page=request.page, status=403)
        self.ledger.admit(request)
        try:
            is_trial = self.breaker.admit(request, patience_seconds=patience_seconds)
        except errors.CircuitOpenError:
            self.ledger.settle(request, None, is_charged=False)
            raise
        permit = Permit(self.limiter.acquire(cancel), is_trial, cancel)
        if permit.is_cancelled:
            self.record(request, permit, None, None)
            raise errors.NoAnswerError(request.endpoint, "cancelled before it was sent", page=request.page)
        return permit

    def record(
        self, request: Request, permit: Permit, answer: Answer | None, error: errors.PipedriveError | None
    ) -> int:
        """Learn from how the request ended; the tokens it was charged (refused requests cost nothing)."""
        is_charged = answer is not None and answer.status != 429
        rates = None if answer is None else rate_headers(answer.headers, now=self._clock.now())
        self.ledger.settle(request, rates, is_charged=is_charged)
        if rates is not None:
            self.limiter.observe(rates)
        if isinstance(error, errors.TokenBudgetSpent):
            self.ledger.refuse(error)
        if isinstance(error, errors.BlockedError):
            self._blocked = error
        if answer is None and permit.is_cancelled:
            self.breaker.give_back(is_trial=permit.is_trial)
        else:
            is_fault = answer is None or isinstance(error, errors.ServerError)
            self.breaker.record(is_fault=is_fault, is_trial=permit.is_trial)
        return request.tokens if is_charged else 0
