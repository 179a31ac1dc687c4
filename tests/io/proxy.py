"""A PostgreSQL proxy that breaks a connection behind the n-th statement: the server ran it, the client never hears of it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from tests.fixtures.listening import listening

# Frontend messages that end a request: Query, Sync, CopyDone, CopyFail.
_REQUEST_ENDS = b"QScf"


class Proxy:
    """Counts requests over all its connections; breaks the one that sends number `break_at` (0: none), and later ones go on."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._lock = threading.Lock()
        self.requests = 0
        self.break_at = 0

    def reset(self, *, break_at: int = 0) -> None:
        with self._lock:
            self.requests, self.break_at = 0, break_at

    def connect(self, client: socket.socket) -> None:
        with socket.create_connection(self._upstream) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            is_broken = threading.Event()
            answers = threading.Thread(target=self._answers, args=[server, client, is_broken], daemon=True)
            answers.start()
            with suppress(OSError):
                self._requests(client, server, is_broken)
            # The server gets to finish what it was sent and ends its session; only then does the client hear of the end.
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            answers.join(timeout=10)

    def _requests(self, client: socket.socket, server: socket.socket, is_broken: threading.Event) -> None:
        _forward_startup(client, server)
        while message := _message(client):
            if message[:1] in _REQUEST_ENDS and self._is_last():
                is_broken.set()
                server.sendall(message)
                return
            server.sendall(message)

    def _is_last(self) -> bool:
        with self._lock:
            self.requests += 1
            return self.requests == self.break_at

    def _answers(self, server: socket.socket, client: socket.socket, is_broken: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not is_broken.is_set():
                    client.sendall(data)


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (more := source.recv(count - len(data))):
            return b""
        data += more
    return data


def _message(source: socket.socket) -> bytes:
    head = _exactly(source, 5)
    return head + _exactly(source, int.from_bytes(head[1:], "big") - 4) if head else b""


def _forward_startup(client: socket.socket, server: socket.socket) -> None:
    """The messages before the first typed one: requests for encryption are declined, the startup packet passes."""
    while True:
        size = _exactly(client, 4)
        packet = size + _exactly(client, int.from_bytes(size, "big") - 4)
        if int.from_bytes(packet[4:8], "big") in (80877103, 80877104):
            client.sendall(b"N")
            continue
        server.sendall(packet)
        return


@contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the server of the URL, and the URL that goes through it."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5432)
    with listening(proxy.connect) as port:
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
        yield proxy, urlunsplit(parts._replace(netloc=netloc))
