"""An HTTP proxy that sends answers in another framing and cuts connections after some bytes, in either direction."""

from __future__ import annotations

import gzip
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.fixtures.listening import listening

FRAMINGS = ("length", "chunked", "gzip", "gzip chunked", "until closed", "gzip until closed")


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it is: the share of exchanges that are cut, and how bodies are framed. `seed` decides where."""

    seed: int
    share_cut: float
    framing: str


class CuttingProxy:
    """Counts the exchanges (a request and its answer) over all connections, and those that it cut."""

    def __init__(self, host: str, port: int, weather: Weather) -> None:
        self._upstream = (host, port)
        self._weather = weather
        self._luck = random.Random(weather.seed)
        self._lock = threading.Lock()
        self.exchanges = 0
        self.cuts = 0

    def connect(self, client: socket.socket) -> None:
        with socket.create_connection(self._upstream) as server:
            while (request := _head(client)) and self._exchange(client, server, request):
                pass

    def _exchange(self, client: socket.socket, server: socket.socket, request: bytes) -> bool:
        """Whether the connection lives on."""
        with self._lock:
            self.exchanges += 1
            is_cut = self._luck.random() < self._weather.share_cut
            self.cuts += is_cut
            is_request, place, is_reset = self._luck.random() < 0.2, self._luck.random(), self._luck.random() < 0.5
            is_early = self._luck.random() < 0.4  # somewhere in the head, which is short beside the body
        if is_cut and is_request:
            server.sendall(request[: int(place * len(request))])
        else:
            server.sendall(request)
            head, body = _answer(server, self._weather.framing)
            whole = head + body
            client.sendall(whole[: int(place * len(head if is_early else whole))] if is_cut else whole)
        if is_cut and is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not is_cut and "until closed" not in self._weather.framing


def _head(source: socket.socket) -> bytes:
    """Up to and with the empty line; b"" when the other side has closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (byte := source.recv(1)):
            return b""
        head += byte
    return head


def _answer(server: socket.socket, framing: str) -> tuple[bytes, bytes]:
    lines = _head(server).removesuffix(b"\r\n\r\n").split(b"\r\n")
    (length,) = (int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length"))
    body = b""
    while len(body) < length:
        body += server.recv(length - len(body))
    lines = [line for line in lines if not line.lower().startswith(b"content-length")]
    if "gzip" in framing:
        lines.append(b"content-encoding: gzip")
        body = gzip.compress(body)
    if "chunked" in framing:
        lines.append(b"transfer-encoding: chunked")
        parts = [body[at : at + 700] for at in range(0, len(body), 700)] + [b""]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    elif "until closed" in framing:
        lines.append(b"connection: close")
    else:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n", body


@contextmanager
def cutting(url: str, weather: Weather) -> Iterator[tuple[CuttingProxy, str]]:
    """A proxy before the server at the URL, and the URL that goes through it."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    proxy = CuttingProxy(parts.hostname, parts.port, weather)
    with listening(proxy.connect) as port:
        yield proxy, f"http://127.0.0.1:{port}"
