"""The stand-in behind a socket: an ASGI adapter under uvicorn, in a thread (`serve`) or in front (`run`).

Only what needs a socket lives here: latency, stalls, and connections cut in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import parse_qsl

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeboard_resources.pipedrive.standin.answers import Answer
from pipeboard_resources.pipedrive.standin.app import DEMO_API_KEY, BeforePage, Request, StandIn
from pipeboard_resources.pipedrive.standin.company import Company
from pipeboard_resources.pipedrive.standin.faults import FaultBoard
from pipeboard_resources.pipedrive.standin.limits import Limits

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPBACK = "127.0.0.1"


class PortInUseError(OSError):
    """The port is taken."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which also tells the app the transport of each client, so that it can be cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.config.loaded_app.transports[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self.config.loaded_app.transports.pop(self.client, None)
        super().connection_lost(exc)


class _Adapter:
    """ASGI in front of StandIn.answer."""

    def __init__(self, standin: StandIn) -> None:
        self.standin = standin
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        path = scope["path"]
        is_control = path.startswith("/_standin/")
        if self.standin.latency_seconds > 0 and not is_control:
            await asyncio.sleep(self.standin.latency_seconds)
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = await self._answered(scope["method"], path, query, headers, body)
        if answer.delay_seconds and await _left_within(receive, answer.delay_seconds):
            return
        await self._send(answer, scope, receive, send)

    async def _answered(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        # A hook is somebody else's code and may take its time; without one an answer takes milliseconds.
        if self.standin.before_page is not None:
            return await asyncio.to_thread(self.standin.answer, method, path, query, headers, body)
        return self.standin.answer(method, path, query, headers, body)

    async def _send(self, answer: Answer, scope: Message, receive: Receive, send: Send) -> None:
        if answer.cut_after_bytes == -1:
            await self._cut(scope, receive)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": _raw_headers(answer)})
        if answer.cut_after_bytes is None:
            await send({"type": "http.response.body", "body": answer.body})
            return
        await send({"type": "http.response.body", "body": answer.body[: answer.cut_after_bytes], "more_body": True})
        await self._cut(scope, receive)

    async def _cut(self, scope: Message, receive: Receive) -> None:
        """Send what is written, then reset the connection: a RST, not a clean end."""
        transport = self.transports[scope["client"]]
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(0.001)
        linger_zero = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        transport.abort()
        await receive()


async def _read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _left_within(receive: Receive, seconds: float) -> bool:
    """Whether the client goes away before the delay is over."""
    try:
        await asyncio.wait_for(receive(), seconds)
    except TimeoutError:
        return False
    return True


def _raw_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-type": answer.content_type,
        "content-length": str(len(answer.body)),
        **answer.headers,
    }
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class _Uvicorn(uvicorn.Server):
    """uvicorn that says when it listens and does not touch signals (the caller has them)."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """A served company. Edit `company`, set `faults`, read `requests`; everything may be done while it serves."""

    def __init__(self, standin: StandIn, host: str, port: int) -> None:
        self.standin = standin
        self.port = port
        self.url = f"http://{host}:{port}"

    @property
    def company(self) -> Company:
        """The company that is served."""
        return self.standin.company

    @property
    def api_key(self) -> str:
        """A global admin's key."""
        return self.standin.api_key

    @property
    def restricted_key(self) -> str:
        """The key of a user who silently sees fewer rows."""
        return self.standin.restricted_key

    @property
    def denied_key(self) -> str:
        """The key of an admin who gets 403 for activities."""
        return self.standin.denied_key

    @property
    def faults(self) -> FaultBoard:
        """Where faults are set: `server.faults.add("status_500", "/api/v2/deals", page=2)`."""
        return self.standin.faults

    @property
    def limits(self) -> Limits:
        """The burst limit and the daily ledger."""
        return self.standin.limits

    @property
    def requests(self) -> list[Request]:
        """The request log, oldest first."""
        return self.standin.requests

    @property
    def tokens_spent(self) -> int:
        """Tokens that the requests in the log cost."""
        return self.standin.tokens_spent

    def reset_log(self) -> None:
        """Forget the requests made so far."""
        self.standin.reset_log()

    @property
    def latency_seconds(self) -> float:
        """How long each API request waits before it is answered."""
        return self.standin.latency_seconds

    @latency_seconds.setter
    def latency_seconds(self, seconds: float) -> None:
        self.standin.latency_seconds = seconds

    @property
    def before_page(self) -> BeforePage | None:
        """Called with company, endpoint and page number before each list page is read; may edit the company."""
        return self.standin.before_page

    @before_page.setter
    def before_page(self, hook: BeforePage | None) -> None:
        self.standin.before_page = hook

    def reset(self) -> None:
        """Back to peace: no faults, hook, latency, log, spent tokens or bans; the company stays as it is."""
        self.faults.clear()
        self.before_page = None
        self.latency_seconds = 0.0
        self.reset_log()
        self.limits.reset()


def _listening_socket(host: str, port: int) -> socket.socket:
    """A bound, listening socket; PortInUseError with a sentence when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"The stand-in could not listen on {host}:{port}: {error.strerror}. Choose another --port, or 0 for any free one."
        ) from error
    return listener


def _uvicorn(standin: StandIn) -> _Uvicorn:
    config = uvicorn.Config(
        cast(Any, _Adapter(standin)),
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=60,
    )
    return _Uvicorn(config)


@contextlib.contextmanager
def serve(
    company: Company,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    api_key: str = DEMO_API_KEY,
    clock: Callable[[], float] = time.time,
) -> Iterator[Server]:
    """Serve a company from a thread until the block ends.

    `clock` gives UNIX seconds to the limits. PortInUseError when the port is taken.
    """
    with serve_standin(StandIn(company, api_key=api_key, clock=clock), host=host, port=port) as server:
        yield server


@contextlib.contextmanager
def serve_standin(standin: StandIn, *, host: str = LOOPBACK, port: int = 0) -> Iterator[Server]:
    """The same for a stand-in that is there already."""
    listener = _listening_socket(host, port)
    server = _uvicorn(standin)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="standin", daemon=True)
    thread.start()
    try:
        server.listening.wait(timeout=10)
        yield Server(standin, host, listener.getsockname()[1])
    finally:
        # force_exit: do not wait for stalled answers or idle connections.
        server.should_exit = server.force_exit = True
        thread.join(timeout=10)
        listener.close()


def _set_at_end_of_input(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


def run(
    *,
    host: str = LOOPBACK,
    port: int = 8090,
    deals: int = 2000,
    seed: object = 7,
    api_key: str = DEMO_API_KEY,
    extra_custom_fields: int = 0,
    latency_seconds: float = 0,
    now: datetime | None = None,
    until_stdin_closes: bool = False,
) -> int:
    """Generate a company and serve it until SIGINT or SIGTERM. Prints one line with URL and key; returns the exit code.

    With `now` the company's clock stands still there, so that the same arguments give the same answers for ever. With
    `until_stdin_closes` it also ends with whoever holds the other end of a pipe, even one who was killed.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    if until_stdin_closes:
        threading.Thread(target=_set_at_end_of_input, args=(stopped,), daemon=True).start()
    company = Company.generate(deals=deals, seed=seed, extra_custom_fields=extra_custom_fields, now=now)
    try:
        with serve(company, host=host, port=port, api_key=api_key) as server:
            server.latency_seconds = latency_seconds
            print(f"Pipedrive stand-in with {deals} deals at {server.url}, API key {server.api_key}", flush=True)
            stopped.wait()
    except PortInUseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
