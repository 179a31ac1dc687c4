"""A PostgreSQL proxy that breaks a connection behind the n-th statement: the server ran it, the client never hears of it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

# Frontend messages that end a request: Query, Sync, CopyDone, CopyFail.
_REQUEST_ENDS = b"QScf"


class Proxy:
    """Counts requests over all its connections; breaks the one that sends number `break_at` (0: none), and later ones go on."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.requests = 0
        self.break_at = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def reset(self, *, break_at: int = 0) -> None:
        with self._lock:
            self.requests, self.break_at = 0, break_at

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._connect, args=[client], daemon=True)
                thread.start()
                self._threads.append(thread)

    def close(self) -> None:
        # shutdown wakes the accepting thread, which close alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server:
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            is_broken = threading.Event()
            answers = threading.Thread(target=self._answers, args=[server, client, is_broken], daemon=True)
            answers.start()
            with suppress(OSError):
                self._requests(client, server, is_broken)
            # The server gets to finish what it was sent, then its end closes as well.
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            answers.join(timeout=10)

    def _requests(self, client: socket.socket, server: socket.socket, is_broken: threading.Event) -> None:
        _forward_startup(client, server)
        while message := _message(client):
            if message[:1] in _REQUEST_ENDS and self._is_last():
                is_broken.set()
                server.sendall(message)
                client.shutdown(socket.SHUT_RDWR)
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
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        yield proxy, urlunsplit(parts._replace(netloc=netloc))
    finally:
        proxy.close()
        thread.join(timeout=5)
