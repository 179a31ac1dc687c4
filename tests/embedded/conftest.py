"""Other processes that use the same server, and what a test asks of the machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeboard_resources.embedded.processes import can_enter, unprivileged_account

PROJECT = Path(__file__).resolve().parents[2]


class User:
    """Another process that uses the server of a folder; leaves when told to, or is killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    @property
    def server(self) -> dict[str, Any]:
        """What it sees: url, source, pid, port, or error. Waits until it knows."""
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def leave(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture
def start_user() -> Iterator[Callable[..., User]]:
    """`start_user(folder, kind="postgres", account=None)`; those still there at the end of the test leave."""
    with ExitStack() as stack:

        def start(folder: Path, *, kind: str = "postgres", account: str | None = None) -> User:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.embedded.user", kind, str(folder), *([account] if account else [])],
                env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            user = User(process)
            stack.callback(user.leave)
            return user

        yield start


@pytest.fixture
def ordinary_account() -> str:
    """An account without rights that this test may start programs as."""
    if os.geteuid() != 0:
        pytest.skip("only root may start programs as another account")
    if not can_enter(Path(psycopg.__file__).parent, unprivileged_account()):
        pytest.skip(f"no other account can enter {sys.prefix}")
    return "nobody"


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("about servers that root starts")


def answer(url: str, query: str = "SELECT 1") -> Any:
    """The first value of a query's first row."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def run_sql(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())
