"""Servers in Redis's place that are none, or not for us: silent, talking rubbish, full, or stopped half-way."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from tests.fixtures.listening import listening

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

    def connect(client: socket.socket) -> None:
        while answer != b"" and (sent := client.recv(65536)):
            client.sendall((answer or b"") * len(_COMMAND.findall(sent)))

    with listening(connect) as port:
        yield SecretStr(f"redis://127.0.0.1:{port}/0")
