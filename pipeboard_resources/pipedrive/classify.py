"""An HTTP answer -> the error that it means, or None when it is a 200 worth decoding. Pure, one table."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from pipeboard_resources.pipedrive import errors
from pipeboard_resources.pipedrive.clock import at
from pipeboard_resources.pipedrive.endpoint import Request
from pipeboard_resources.pipedrive.transport import Answer

__all__ = ["RateHeaders", "error_for", "rate_headers"]

HEALING_STATUSES = frozenset({408, 500, 502, 503, 504, 520, 521, 522, 523, 524})
BURST_WINDOW_SECONDS = 2.0
# A burst is over after two seconds, so whoever is told to wait for minutes has met the daily limit (3939 s were seen).
LONGEST_BURST_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """The limits as an answer tells them; None where it does not. `burst_reset_seconds` is relative."""

    burst_limit: int | None
    burst_remaining: int | None
    burst_reset_seconds: float | None
    daily_limit: int | None
    daily_remaining: int | None
    retry_after_seconds: float | None


def rate_headers(headers: Mapping[str, str], *, now: float) -> RateHeaders:
    """Read the rate headers; one that is not a number counts as absent. `now` is needed for Retry-After dates."""
    return RateHeaders(
        burst_limit=_whole(headers.get("x-ratelimit-limit")),
        burst_remaining=_whole(headers.get("x-ratelimit-remaining")),
        burst_reset_seconds=_seconds(headers.get("x-ratelimit-reset"), now),
        daily_limit=_whole(headers.get("x-daily-ratelimit-token-limit")),
        daily_remaining=_whole(headers.get("x-daily-ratelimit-token-remaining")),
        retry_after_seconds=_seconds(headers.get("retry-after"), now),
    )


def answered_at(headers: Mapping[str, str]) -> int | None:
    """The server's clock when it answered, in seconds since 1970; None where it does not tell."""
    try:
        return int(email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp())
    except ValueError:
        return None


def error_for(answer: Answer, request: Request, *, now: float) -> errors.PipedriveError | None:
    """The error of the tree that `answer` means, None for 200. `now` is the wall clock, for the instants it carries."""
    status = answer.status
    if status == 200:
        return None
    seen = _said(answer)
    if status == 429:
        return _too_many(answer, request, now)
    if status in HEALING_STATUSES:
        error = errors.ServerError(request.endpoint, seen, page=request.page, status=status)
        error.retry_after_seconds = rate_headers(answer.headers, now=now).retry_after_seconds
        return error
    if status == 403:
        return _forbidden(answer, request, seen)
    if status in (400, 422):
        refused = errors.CursorRefusedError if request.has_cursor and status == 400 else errors.BadRequestError
        return refused(request.endpoint, seen, page=request.page, status=status)
    if 300 <= status < 400:
        return errors.UnexpectedRedirectError(request.endpoint, _redirect(answer), page=request.page, status=status)
    kind = _BY_STATUS.get(status, errors.UnexpectedStatusError)
    return kind(request.endpoint, seen, page=request.page, status=status)


_BY_STATUS: dict[int, type[errors.FatalPipedriveError]] = {
    401: errors.UnauthorizedError,
    402: errors.PaymentRequiredError,
    404: errors.NotFoundError,
    410: errors.GoneError,
}


def _too_many(answer: Answer, request: Request, now: float) -> errors.PipedriveError:
    rates = rate_headers(answer.headers, now=now)
    said = _said(answer)
    wait = rates.retry_after_seconds
    is_daily = rates.daily_remaining == 0 or "daily" in said.lower() or (wait or 0) > LONGEST_BURST_WAIT_SECONDS
    if is_daily:
        resets_at = None if wait is None else at(now + wait)
        return errors.TokenBudgetSpent(request.endpoint, said, page=request.page, resets_at=resets_at)
    error = errors.RateLimitedError(request.endpoint, said, page=request.page, status=429)
    error.retry_after_seconds = wait or rates.burst_reset_seconds or BURST_WINDOW_SECONDS
    return error


def _forbidden(answer: Answer, request: Request, seen: str) -> errors.FatalPipedriveError:
    if _is_html(answer):
        return errors.BlockedError(request.endpoint, "an HTML page of the firewall", page=request.page, status=403)
    said = _envelope(answer)
    permission = "the API scope of this endpoint" if "scope" in str(said.get("error", "")).lower() else ""
    return errors.ForbiddenError(request.endpoint, seen, page=request.page, permission=permission)


def _redirect(answer: Answer) -> str:
    """Where to, without its query: that may carry somebody's secret."""
    return f"a redirect to {answer.headers.get('location', 'nowhere').partition('?')[0][:200]}"


def _said(answer: Answer) -> str:
    """What Pipedrive says in the error's body, cut short; never the data."""
    if _is_html(answer):
        return f"an HTML page of {len(answer.body)} bytes"
    envelope = _envelope(answer)
    words = [str(envelope[key])[:200] for key in ("error", "error_info", "code") if envelope.get(key)]
    return f'it says "{"; ".join(words)}"' if words else f"{len(answer.body)} bytes that say nothing"


def _is_html(answer: Answer) -> bool:
    return "html" in answer.headers.get("content-type", "").lower() or answer.body[:64].lstrip().startswith(b"<")


def _envelope(answer: Answer) -> dict[str, object]:
    try:
        body = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):  # an error's body may be anything; its status has said enough
        return {}
    return body if isinstance(body, dict) else {}


def _whole(text: str | None) -> int | None:
    seconds = _number(text)
    return None if seconds is None or seconds < 0 else int(seconds)


def _seconds(text: str | None, now: float) -> float | None:
    """Seconds from now: relative as a number, or an HTTP date; values beyond ten days are epoch seconds."""
    number = _number(text)
    if number is not None:
        return max(0.0, number - now if number > 864_000 else number)
    if not text:
        return None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
