"""Servers in Redis's place that are none, or not for us: silent, talking rubbish, full, or stopped half-way."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import SecretStr

_COMMAND = re.compile(rb"\*\d+\r\n\$")
ANSWERS = [
    b"+OK\r\n",
    b":1\r\n",
    b":-7\r\n",
    b"$-1\r\n",
    b"$5\r\nhello\r\n",
    b"$2\r\n\xff\xfe\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*2\r\n:1\r\n:2\r\n",
    b"*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:1\r\n",
    b"-ERR no\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x00\x01\x02",
    b"",
]


@contextmanager
def answering(answer: bytes | None) -> Iterator[SecretStr]:
    """The URL of a server that gives everybody the same answer to everything; b"" hangs up, None keeps silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=[listener, answer], daemon=True)
    thread.start()
    try:
        yield SecretStr(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread, which close alone does not
        listener.close()
        thread.join(timeout=5)


def _serve(listener: socket.socket, answer: bytes | None) -> None:
    silent = []
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            if answer is None:
                silent.append(client)
            else:
                threading.Thread(target=_answer, args=[client, answer], daemon=True).start()
    for client in silent:
        client.close()


def _answer(client: socket.socket, answer: bytes) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, suppress(OSError):
        while answer and (sent := client.recv(65536)):
            client.sendall(answer * len(_COMMAND.findall(sent)))
