"""The only module that touches httpx: one GET in, one whole answer out, or NoAnswerError. No retry, no meaning."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import httpx
import stamina
from pydantic import SecretStr

from pipeboard_resources.pipedrive.clock import Clock
from pipeboard_resources.pipedrive.endpoint import Request
from pipeboard_resources.pipedrive.errors import BadRequestError, MalformedPageError, NoAnswerError, PipedriveError
from pipeboard_resources.pipedrive.key import KEY_PLACE, is_sendable

__all__ = ["Answer", "Transport"]

KEY_HEADER = "x-api-token"
KEY_REPLACED = b"[API key]"
CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end. Header names are in lower case; `body` is decompressed, and people's data.

    Where a server or a proxy echoes the key, it is replaced: errors quote both.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class _KeyHeader(httpx.Auth):
    """Adds the key when a request leaves, so that neither the client nor its repr ever holds it as a header."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[KEY_HEADER] = self._key.get_secret_value()
        yield request


class _TooSlowError(Exception):
    """The body was not complete in time, or nobody waits for it any more."""


class Transport:
    """A pool of connections to one origin, used from several threads; HTTP/2 where TLS negotiates it."""

    def __init__(self, base_url: str, key: SecretStr, *, timeout_seconds: float, clock: Clock) -> None:
        _require_sendable(key)
        _quiet_libraries()
        self._key = key
        self.base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._http = httpx.Client(
            http2=True,
            auth=_KeyHeader(key),
            headers={"user-agent": "pipeboard", "accept": "application/json"},
            timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16),
            follow_redirects=False,
            verify=not self.base_url.startswith("http://"),  # plain HTTP has no certificates: 20 ms not spent on them
            trust_env=not _is_loopback(self.base_url),  # proxies of the environment never apply to this machine
        )

    def get(self, request: Request, *, cancel: threading.Event | None = None) -> Answer:
        """Send one GET and read its answer within the timeout, however slowly it drips.

        Raises NoAnswerError, MalformedPageError (a body that does not decompress), BadRequestError.
        """
        try:
            with self._http.stream("GET", self.base_url + request.path, params=dict(request.params)) as response:
                headers = {
                    name.lower(): self._without_key(value.encode()).decode() for name, value in response.headers.items()
                }
                return Answer(response.status_code, headers, self._without_key(self._read(response, cancel)))
        except (httpx.TransportError, httpx.InvalidURL, httpx.DecodingError, _TooSlowError) as seen:
            error = self._error_for(seen, request)
        # Not inside the handler: the frames of `seen` hold the key, and some programs log a context with its locals.
        raise error

    def close(self) -> None:
        """Close the pool."""
        self._http.close()

    def _error_for(self, seen: Exception, request: Request) -> PipedriveError:
        endpoint, page = request.endpoint, request.page
        if isinstance(seen, httpx.TimeoutException | _TooSlowError):
            name = type(seen).__name__.strip("_")
            return NoAnswerError(endpoint, f"{name} after {self._timeout_seconds:g} s", page=page)
        if isinstance(seen, httpx.DecodingError):
            broken = "a compressed body that does not decompress"
            return MalformedPageError(endpoint, broken, page=page, status=200)
        if isinstance(seen, httpx.UnsupportedProtocol | httpx.InvalidURL):
            return BadRequestError(endpoint, str(seen), page=page, advice="Check PIPEDRIVE_BASE_URL.")
        return NoAnswerError(endpoint, f"{type(seen).__name__}: {str(seen).rstrip('.')}", page=page)

    def _without_key(self, answered: bytes) -> bytes:
        plain = self._key.get_secret_value()
        for spelling in (plain, quote(plain), quote(plain, safe="")):
            answered = answered.replace(spelling.encode(), KEY_REPLACED)
        return answered

    def _read(self, response: httpx.Response, cancel: threading.Event | None) -> bytes:
        """httpx's timeout starts anew with every byte; a body that drips would never end without a deadline."""
        deadline = self._clock.monotonic() + self._timeout_seconds
        chunks = []
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            if self._clock.monotonic() > deadline or (cancel is not None and cancel.is_set()):
                raise _TooSlowError
        return b"".join(chunks)


def _require_sendable(key: SecretStr) -> None:
    """Refuse it before anything quotes it."""
    if not is_sendable(key.get_secret_value()):
        raise BadRequestError(
            "the account",
            "PIPEDRIVE_API_KEY is empty or holds spaces, quotes or line breaks that no key has",
            advice=f"Copy the key again from Pipedrive: {KEY_PLACE}.",
        )


def _quiet_libraries() -> None:
    """hpack writes every header with its value at DEBUG, the key included, and httpcore those of the answer, where it may be
    echoed; stamina repeats what the client logs."""
    for name in ("hpack.hpack", "hpack.table"):
        logging.getLogger(name).addFilter(_is_no_detail)  # a level could be set back by the next configuration
    for name in ("httpcore.http11", "httpcore.http2"):
        logging.getLogger(name).addFilter(_shows_no_headers)
    stamina.instrumentation.set_on_retry_hooks([])


def _is_no_detail(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def _shows_no_headers(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("receive_response_headers.complete")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
