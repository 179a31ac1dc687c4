"""One place that connects to PostgreSQL and opens transactions with the settings that every statement of ours wants.

Everything is set per transaction (SET LOCAL), so that PgBouncer in transaction mode changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import getpid
from threading import Lock
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from pipeboard_io.errors import connection_error

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_SCHEMES = ("postgresql+psycopg://", "postgresql+psycopg2://", "postgres://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits in seconds; `lock_seconds` is the wait for a lock that somebody's query holds."""

    lock_seconds: float = 30.0
    statement_seconds: float = 60 * 60.0
    connect_seconds: float = 15.0


def libpq_url(url: str) -> str:
    """The URL with the scheme that libpq knows, where it was written for SQLAlchemy."""
    for scheme in _SCHEMES:
        if url.startswith(scheme):
            return "postgresql://" + url.removeprefix(scheme)
    return url


def connector(url: str, timeouts: Timeouts) -> Callable[[], Connection]:
    """A function that opens connections; it keeps the URL to itself, so that no repr shows a password."""
    url = libpq_url(url)

    def connect() -> Connection:
        try:
            connection = psycopg.connect(
                url,
                autocommit=True,
                client_encoding="UTF8",  # what frames are sent in and read from, whatever role, database or PGCLIENTENCODING say
                prepare_threshold=None,  # PgBouncer in transaction mode forgets prepared statements
                fallback_application_name="pipeboard_io",
                connect_timeout=round(timeouts.connect_seconds),
                keepalives_idle=30,
            )
            # Whatever the database's default is: what follows a lock must see what others committed before they let it go.
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            return connection
        except psycopg.Error as error:
            # `from None`: libpq's text may repeat parts of a URL whose password is not percent-encoded.
            raise connection_error(error) from None

    return connect


# What a query may leave behind for the session, undone in one round trip. Not DISCARD ALL, which also drops prepared
# statements that a connection of the caller's own making may count on.
_AS_NEW = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; SELECT pg_advisory_unlock_all()"


class Spare:
    """Connections for short questions: the last one is kept for the next, because opening one takes ten times as long.

    Loads open their own: which backend stages says whether a load is still alive (checkpoints.py).
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._lock = Lock()
        # By process: a fork inherits the connection of its parent, and must neither use nor close it.
        self._kept: dict[int, Connection] = {}

    @contextmanager
    def borrowed(self) -> Iterator[Connection]:
        """A connection that answers and is as if new, nobody else's meanwhile."""
        connection = self._kept_one() or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._keep(connection)

    def close(self) -> None:
        """Close the one that is kept."""
        if (kept := self._take()) is not None:
            kept.close()

    def _kept_one(self) -> Connection | None:
        kept = self._take()
        if kept is not None:
            try:
                kept.execute(_AS_NEW)
            except psycopg.Error:  # the server went away or began anew meanwhile
                kept.close()
                return None
        return kept

    def _take(self) -> Connection | None:
        return self._kept.pop(getpid(), None)

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            surplus = self._take()
            self._kept[getpid()] = connection
        if surplus is not None:
            surplus.close()


@contextmanager
def transaction(connection: Connection, timeouts: Timeouts, *, durable: bool = True) -> Iterator[Connection]:
    """A transaction with our settings: UTC, ISO dates, exact floats, NULLs in arrays, timeouts, no JIT (it compiles wide statements for seconds).

    `durable=False` does not wait for the disk: right for what a crash of the server empties anyway, or what can be read again.
    """
    with connection.transaction():
        settings = {
            "statement_timeout": f"{round(timeouts.statement_seconds * 1000)}",
            "lock_timeout": f"{round(timeouts.lock_seconds * 1000)}",
            "timezone": "UTC",
            "datestyle": "ISO, YMD",
            "jit": "off",
            "array_nulls": "on",
            "extra_float_digits": "1",
        } | ({} if durable else {"synchronous_commit": "off"})
        statements = [
            sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(k), sql.Literal(v)) for k, v in settings.items()
        ]
        connection.execute(sql.SQL("; ").join(statements))
        yield connection


def may_idle(connection: Connection) -> None:
    """Lets this transaction wait for another program's work, however soon the server ends those that say nothing."""
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


def lock_key(*names: str) -> str:
    """The text whose hash is an advisory lock's key."""
    return "\x1f".join(("pipeboard_io", *names))


def advisory_lock(connection: Connection, key: str) -> None:
    """Waits for the transaction-level lock of that name, as long as statement_timeout allows: other loads are patient.

    lock_timeout, which is for other people's queries, applies from the next statement on.
    """
    before = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
    connection.execute("SET LOCAL lock_timeout = 0")
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(before[0] if before else "0")))


def scalar(connection: Connection, query: sql.SQL | sql.Composed | str, parameters: Any = None) -> Any:
    """The first column of the first row, or None."""
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None
