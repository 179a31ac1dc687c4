"""The two limits of api.md section 7: a burst limit per token over two rolling seconds, and a daily token ledger.

Time is injected as UNIX seconds, so that a test can let a day pass.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

_FACTORS = {"Lite": 1, "Growth": 2, "Premium": 5, "Ultimate": 7}
_BURSTS = {"Lite": 20, "Growth": 40, "Premium": 100, "Ultimate": 120}
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Plan:
    """A Pipedrive plan; the account's daily budget is 30,000 x factor x seats + top-up tokens."""

    name: str = "Ultimate"
    seats: int = 8
    top_up: int = 0

    def __post_init__(self) -> None:
        if self.name not in _FACTORS:
            raise ValueError(f"Unknown plan {self.name!r}. Known: {', '.join(_FACTORS)}.")

    @property
    def daily_tokens(self) -> int:
        """Tokens per day for the whole company."""
        return 30_000 * _FACTORS[self.name] * self.seats + self.top_up

    @property
    def burst_requests(self) -> int:
        """Requests per two seconds and API token."""
        return _BURSTS[self.name]


Verdict = Literal["ok", "burst", "daily", "banned"]


@dataclass(slots=True)
class Limits:
    """Counts requests and tokens. `admit` says what becomes of a request; the rest feeds the headers.

    A token that is refused `hammering` times within ten seconds is banned for `ban_seconds` (the HTML 403).
    """

    clock: Callable[[], float]
    window_seconds: float = 2.0
    hammering: int = 25
    ban_seconds: float = 60.0
    spent: int = 0
    _day: int = -1
    _recent: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _refused: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _banned_until: dict[str, float] = field(default_factory=dict)

    def admit(self, token: str, cost: int, plan: Plan) -> Verdict:
        """Let a request pass and charge it, or say which limit it met; refused requests cost nothing."""
        now = self.clock()
        self._turn_day(now)
        if now < self._banned_until.get(token, now):
            return "banned"
        recent = _since(self._recent[token], now - self.window_seconds)
        if len(recent) >= plan.burst_requests:
            return self._refuse(token, now, "burst")
        recent.append(now)
        if self.spent >= plan.daily_tokens:
            return self._refuse(token, now, "daily")
        self.spent += cost
        return "ok"

    def headers(self, token: str, plan: Plan) -> dict[str, str]:
        """The five headers that every answer bears."""
        now = self.clock()
        used = len(_since(self._recent[token], now - self.window_seconds))
        return {
            "x-ratelimit-limit": str(plan.burst_requests),
            "x-ratelimit-remaining": str(max(plan.burst_requests - used, 0)),
            "x-ratelimit-reset": str(max(round(self.window_seconds), 1)),
            "x-daily-ratelimit-token-limit": str(plan.daily_tokens),
            "x-daily-ratelimit-token-remaining": str(self.left(plan)),
        }

    def left(self, plan: Plan) -> int:
        """Tokens left today."""
        self._turn_day(self.clock())
        return max(plan.daily_tokens - self.spent, 0)

    def reset(self) -> None:
        """Forget everything: spent tokens, recent requests, bans."""
        self.spent = 0
        for counter in (self._recent, self._refused, self._banned_until):
            counter.clear()

    def seconds_to_reset(self) -> int:
        """Whole seconds until the budget is new: midnight UTC (the real server's zone is not published)."""
        return _DAY_SECONDS - int(self.clock()) % _DAY_SECONDS

    def _turn_day(self, now: float) -> None:
        day = int(now) // _DAY_SECONDS
        if day != self._day:
            self._day, self.spent = day, 0

    def _refuse(self, token: str, now: float, verdict: Verdict) -> Verdict:
        refused = _since(self._refused[token], now - 10)
        refused.append(now)
        if len(refused) >= self.hammering:
            self._banned_until[token] = now + self.ban_seconds
        return verdict


def _since(times: deque[float], oldest: float) -> deque[float]:
    while times and times[0] <= oldest:
        times.popleft()
    return times
