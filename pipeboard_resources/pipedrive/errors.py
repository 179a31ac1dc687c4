"""Everything that can go wrong with Pipedrive, one tree; each message says what was attempted, what was seen, what to do.

PipedriveError
├── RetriablePipedriveError        may heal by itself: retried, then raised
│   ├── NoAnswerError              timeout, reset, refused connection, body cut short
│   ├── ServerError                408, 500, 502, 503, 504, 520-524
│   ├── RateLimitedError           429, burst (rolling two seconds)
│   └── MalformedPageError         200, but no well-formed page: three tries, because a truncated body heals
│       └── UnsuccessfulPageError  200 with success: false
├── FatalPipedriveError            never retried
│   ├── BadRequestError            400, 422, a request that cannot be sent
│   │   └── CursorRefusedError     400 on a cursor: its window must be read again from the start
│   ├── UnauthorizedError          401
│   ├── PaymentRequiredError       402
│   ├── ForbiddenError             403, names the permission
│   ├── BlockedError               403 with HTML: Cloudflare, after hammering; the client sends nothing more
│   ├── NotFoundError · GoneError  404 · 410
│   ├── UnexpectedRedirectError    3xx: never followed, the key would travel along
│   ├── UnexpectedStatusError      any other status
│   ├── RepeatedCursorError        a list that goes round in circles
│   ├── EndlessListError           a list that offers empty page after empty page
│   ├── UnsortedPageError          a list that is not in the order that was asked for
│   └── CircuitOpenError           too many server faults lately: nothing was sent
├── SkippableRecordError           one record is bad, the page is good (raised by whoever validates records)
└── TokenBudgetSpent               not a fault: the day's API tokens are used up, stop and come back
"""

from __future__ import annotations

from datetime import datetime

from pipeboard_resources.pipedrive.key import KEY_PLACE

__all__ = [
    "BadRequestError",
    "BlockedError",
    "CircuitOpenError",
    "CursorRefusedError",
    "EndlessListError",
    "FatalPipedriveError",
    "ForbiddenError",
    "GoneError",
    "MalformedPageError",
    "NoAnswerError",
    "NotFoundError",
    "PaymentRequiredError",
    "PipedriveError",
    "RateLimitedError",
    "RepeatedCursorError",
    "RetriablePipedriveError",
    "ServerError",
    "SkippableRecordError",
    "TokenBudgetSpent",
    "UnauthorizedError",
    "UnexpectedRedirectError",
    "UnexpectedStatusError",
    "UnsortedPageError",
    "UnsuccessfulPageError",
]


class PipedriveError(Exception):
    """Base of the tree.

    `endpoint` is the name of the list (or the path of a single read), `page` its page counted from 1, `status` the HTTP
    status or None when there was no answer. `seen` and `advice` are the parts of the message.
    """

    default_advice = "Run it again; if it comes back, report it with this message."

    def __init__(
        self, endpoint: str, seen: str, *, page: int = 1, status: int | None = None, advice: str | None = None
    ) -> None:
        self.endpoint = endpoint
        self.page = page
        self.status = status
        self.seen = seen
        self.advice = advice or self.default_advice
        answer = "no answer" if status is None else f"HTTP {status}"
        super().__init__(f"Reading page {page} of {endpoint} from Pipedrive: {answer}, {seen}. {self.advice}")


class RetriablePipedriveError(PipedriveError):
    """May heal by itself. `retry_after_seconds` is what the server asked for, None when it did not say."""

    retry_after_seconds: float | None = None
    attempts: int = 1


class NoAnswerError(RetriablePipedriveError):
    """Timeout, reset, refused connection, or a body that ended early."""

    default_advice = "Check the network and PIPEDRIVE_BASE_URL, then run it again."


class ServerError(RetriablePipedriveError):
    """Pipedrive failed (408, 5xx)."""

    default_advice = "Pipedrive has trouble (status.pipedrive.com); run it again later."


class RateLimitedError(RetriablePipedriveError):
    """429 of the burst limit: too many requests in two seconds."""

    default_advice = "Something else uses the same key; run it again in a minute, or give Pipeboard its own key."


class MalformedPageError(RetriablePipedriveError):
    """An answer of status 200 that is not a well-formed page: HTML, cut JSON, `data` that is not a list."""

    default_advice = "Nothing of this page was used; run it again, and report it with this message if it stays."


class UnsuccessfulPageError(MalformedPageError):
    """Status 200, but the body says `success: false`."""


class FatalPipedriveError(PipedriveError):
    """Does not heal by trying again."""


class BadRequestError(FatalPipedriveError):
    """Pipedrive refused the request itself (400, 422)."""

    default_advice = "The request is wrong for this account; report it with this message."


class CursorRefusedError(BadRequestError):
    """400 on a request that carried a cursor: it expired, or its filter changed."""

    default_advice = "The window has to be read again from its start."


class UnauthorizedError(FatalPipedriveError):
    """401: the key is wrong, or was replaced."""

    default_advice = f"Check PIPEDRIVE_API_KEY: Pipedrive shows the key under {KEY_PLACE}."


class PaymentRequiredError(FatalPipedriveError):
    """402: the company's account is not open."""

    default_advice = "The Pipedrive account is closed or unpaid: open Settings > Billing in Pipedrive."


class ForbiddenError(FatalPipedriveError):
    """403: the key's user may not see this. `permission` is what Pipedrive said is missing."""

    def __init__(
        self, endpoint: str, seen: str, *, page: int = 1, status: int | None = 403, permission: str = ""
    ) -> None:
        self.permission = permission or f"read access to {endpoint}"
        advice = f"Give the key's user {self.permission} in Pipedrive (Settings > Manage users), or use an admin's key."
        super().__init__(endpoint, seen, page=page, status=status, advice=advice)


class BlockedError(FatalPipedriveError):
    """403 with an HTML page: the firewall in front of Pipedrive has shut this machine or key out for a while."""

    default_advice = "Stop every program that uses this key, wait some minutes, then run it again."


class NotFoundError(FatalPipedriveError):
    """404."""

    default_advice = "Check PIPEDRIVE_BASE_URL: it must be the origin only, such as https://company.pipedrive.com."


class GoneError(FatalPipedriveError):
    """410: this endpoint was switched off."""

    default_advice = "Pipedrive has removed this endpoint: update Pipeboard."


class UnexpectedRedirectError(FatalPipedriveError):
    """3xx. Following it would hand the key to whatever it points to."""

    default_advice = "Set PIPEDRIVE_BASE_URL to the final address; redirects are not followed, to protect the key."


class UnexpectedStatusError(FatalPipedriveError):
    """A status that a read of Pipedrive never has."""

    default_advice = "Check PIPEDRIVE_BASE_URL and any proxy in between."


class RepeatedCursorError(FatalPipedriveError):
    """A page offered a cursor that this list had already been read from."""

    default_advice = "The list goes round in circles, so it cannot be complete; run it again later."


class EndlessListError(FatalPipedriveError):
    """Page after page without a record, each offering another one."""

    default_advice = "The list does not end, so it cannot be complete; run it again later."


class UnsortedPageError(FatalPipedriveError):
    """Records out of the order that was asked for: where a range of them ends cannot be told."""

    default_advice = "The list cannot be proved complete; set PIPEBOARD_READERS to 1 and report it with this message."


class CircuitOpenError(FatalPipedriveError):
    """Nothing was sent, because Pipedrive failed too often lately. `retry_at` says when the next try is let through."""

    def __init__(self, endpoint: str, *, page: int = 1, retry_at: datetime) -> None:
        self.retry_at = retry_at
        when = retry_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        super().__init__(
            endpoint,
            "the request was not sent because Pipedrive failed too many times in a row",
            page=page,
            advice=f"It tries again at {when}; until then every read fails at once. See status.pipedrive.com.",
        )


class SkippableRecordError(PipedriveError):
    """One record cannot be used, the rest of its page can. `record_id` is the id as sent."""

    def __init__(self, endpoint: str, seen: str, *, record_id: object, page: int = 1) -> None:
        self.record_id = record_id
        super().__init__(
            endpoint, seen, page=page, status=200, advice="The record is kept in pipeboard.rejected_record."
        )


class TokenBudgetSpent(PipedriveError):
    """The day's API tokens are used up, or all but the reserve. `resets_at` is None when Pipedrive did not say.

    `is_reserve` tells a stop of our own (the reserve was reached, nothing was sent) from a 429 of Pipedrive.
    """

    def __init__(
        self,
        endpoint: str,
        seen: str,
        *,
        page: int = 1,
        resets_at: datetime | None = None,
        is_reserve: bool = False,
    ) -> None:
        self.resets_at = resets_at
        self.is_reserve = is_reserve
        when = "after midnight of Pipedrive's server" if resets_at is None else f"at {resets_at:%Y-%m-%dT%H:%M:%SZ}"
        super().__init__(
            endpoint,
            seen,
            page=page,
            status=None if is_reserve else 429,
            advice=f"Nothing of this list was published; run it again {when}, or lower PIPEBOARD_TOKEN_RESERVE_PERCENT."
            if is_reserve
            else f"Nothing of this list was published; run it again {when}, when the budget is full again.",
        )
