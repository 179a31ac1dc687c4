"""Debian's PgBouncer before the server of a URL: transaction mode, a few connections, each transaction on another one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg

from pipeboard_resources.embedded.processes import free_port, unprivileged_account, wait_until
from tests.fixtures.debian import program
from tests.fixtures.servers import temporary_state_dir

POOL_SIZE = 3

_CONFIGURATION = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {pool_size}
server_round_robin = 1
ignore_startup_parameters = {ignored}
"""


@contextmanager
def pooled(url: str, *, ignored: str = "") -> Iterator[str]:
    """The URL that goes through the pooler, which drops the `ignored` parameters of a connection silently."""
    command, parts, port = program("pgbouncer"), urlsplit(url), free_port()
    with temporary_state_dir() as folder:
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                host=parts.hostname,
                server_port=parts.port,
                port=port,
                folder=folder,
                pool_size=POOL_SIZE,
                ignored=ignored,
            )
        )
        (folder / "users").write_text(f'"{unquote(parts.username or "")}" "{unquote(parts.password or "")}"\n')
        there = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))
        with _running(command, configuration):
            assert wait_until(lambda: _answers(there), seconds=10), (folder / "log").read_text()
            yield there


@contextmanager
def _running(command: str, configuration: Path) -> Iterator[None]:
    account = unprivileged_account()  # as root it refuses to run, as PostgreSQL does
    with (configuration.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [command, configuration], stdout=log, stderr=log, user=account.uid if account else None,
            group=account.gid if account else None, extra_groups=[] if account else None, cwd="/",
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
