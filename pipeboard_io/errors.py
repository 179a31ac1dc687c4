"""What can go wrong between frames and PostgreSQL, and how psycopg's errors are told in our words.

WarehouseError
├── DatabaseUrlError              the URL cannot be read
├── DatabaseUnavailableError      unreachable, or the connection broke        (worth a retry)
├── AuthenticationError           wrong password, unknown role, refused by pg_hba
├── DatabaseMissingError          the server is there, the database is not
├── PrivilegeError                a right is missing
├── ResourceError                 disk full, out of memory, too many connections (worth a retry later)
├── StateVersionError             the state schema is newer than this code
├── ArchiveError                  a backup cannot be written, or is not whole
├── DumpError                     pg_dump or pg_restore gave up
├── RestoreError                  a backup may not be restored here, or what was restored is not what was saved
└── LoadError                     one table could not be loaded; nothing of it was published
    ├── FrameError                a frame does not fit the declared table
    ├── SchemaDriftError          the table in the database cannot be made to fit
    ├── TableBlockedError         somebody's query holds a lock for too long    (worth a retry)
    ├── StatementTimeoutError     a statement ran for too long
    ├── ResumeError               staged rows and checkpoint do not belong together, or are in use (worth a retry)
    ├── ConstraintError           the table refuses a row
    ├── KilledError               its process was killed; only the ledger says so
    └── MassDeleteError           a reconciliation would delete too much
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg


class WarehouseError(Exception):
    """Root of everything this package raises on purpose."""


class DatabaseUrlError(WarehouseError):
    """The database URL cannot be read; its text is never repeated, for it may hold a password."""


class DatabaseUnavailableError(WarehouseError):
    """No answer from the server, or a connection that broke. The outcome of a commit in flight is unknown; repeat the load."""


class AuthenticationError(WarehouseError):
    """The server refuses the role or its password."""


class DatabaseMissingError(WarehouseError):
    """The server answers, the database named in the URL does not exist."""


class PrivilegeError(WarehouseError):
    """The role lacks a right that the statement needs."""


class ResourceError(WarehouseError):
    """The server has no room: disk, memory or connections."""


class StateVersionError(WarehouseError):
    """The state schema was migrated by a newer release than this one."""


class ArchiveError(WarehouseError):
    """A backup file cannot be written or read, or is not what was written."""


class DumpError(WarehouseError):
    """pg_dump or pg_restore gave up; the message ends with what it said last."""


class RestoreError(WarehouseError):
    """The target holds something already, or what was restored is not what was saved."""


class LoadError(WarehouseError):
    """One table could not be loaded; readers still see it as it was before."""


class FrameError(LoadError):
    """A frame does not fit the declared table; `column` is the one at fault, if one is."""

    def __init__(self, message: str, *, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


class SchemaDriftError(LoadError):
    """The table in the database cannot be made to fit the declaration by additive changes."""


class TableBlockedError(LoadError):
    """A lock was not granted within lock_timeout; `blockers` are the sessions in the way, where visible."""

    def __init__(self, message: str, *, blockers: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.blockers = tuple(blockers)


class StatementTimeoutError(LoadError):
    """A statement ran longer than statement_timeout."""


class ResumeError(LoadError):
    """The staged rows of an interrupted load are in use elsewhere, or are no longer there; `resume_key` says which."""

    def __init__(self, message: str, *, resume_key: str) -> None:
        super().__init__(message)
        self.resume_key = resume_key


class ConstraintError(LoadError):
    """A constraint of the table refuses a row; `constraint` is its name, where PostgreSQL tells it."""

    def __init__(self, message: str, *, constraint: str | None = None) -> None:
        super().__init__(message)
        self.constraint = constraint


class KilledError(LoadError):
    """The process of a load was killed: what the ledger says of it, since nobody is left to raise this."""


class MassDeleteError(LoadError):
    """A reconciliation would delete more than allowed: `count` of `living` rows; `ids` holds up to ten of their keys."""

    def __init__(self, message: str, *, count: int, living: int, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.count = count
        self.living = living
        self.ids = tuple(ids)


# ResumeError: behind a lost connection the server may take its old session for a living load for a while.
RETRIABLE = (DatabaseUnavailableError, ResourceError, TableBlockedError, ResumeError)

POOLED = (
    "a pooler such as PgBouncer stands there and keeps settings of this connection from the server: give the address of "
    "the server itself"
)
# libpq reports failures to connect as text only (no SQLSTATE reaches the client before 3.2's connection object does).
_CONNECT_PATTERNS: tuple[tuple[re.Pattern[str], type[WarehouseError], str], ...] = (
    (re.compile("unsupported startup parameter"), DatabaseUrlError, POOLED),
    (
        re.compile(r"connection option|invalid (integer|port|sslmode|URI)", re.IGNORECASE),
        DatabaseUrlError,
        "the database URL has a part that cannot be read; it looks like postgresql://user:password@host:5432/name",
    ),
    (
        re.compile(r"password authentication failed|no password supplied|28P01", re.IGNORECASE),
        AuthenticationError,
        "the server refuses the password of the database URL: check user and password, and percent-encode special characters",
    ),
    (
        re.compile(r'role ".*" does not exist|pg_hba|authentication', re.IGNORECASE),
        AuthenticationError,
        "the server does not let this role in: check the user of the database URL and the server's pg_hba.conf",
    ),
    (
        re.compile(r'database ".*" does not exist', re.IGNORECASE),
        DatabaseMissingError,
        "the server has no database of the name in the database URL: create it or correct the name",
    ),
    (
        re.compile(r"permission denied for database", re.IGNORECASE),
        PrivilegeError,
        "the role may not connect to this database: GRANT CONNECT on it",
    ),
    (
        re.compile(r"too many (clients|connections)|remaining connection slots", re.IGNORECASE),
        ResourceError,
        "the server has no free connection: raise max_connections or close other clients",
    ),
    (
        re.compile(r"starting up|shutting down|recovery", re.IGNORECASE),
        DatabaseUnavailableError,
        "the server is starting or stopping: try again in a moment",
    ),
    (
        re.compile(r"SSL|TLS|certificate", re.IGNORECASE),
        DatabaseUnavailableError,
        "no TLS connection could be agreed: check sslmode and the certificates named in the database URL",
    ),
    (
        re.compile(r"translate host name|resolve|Name or service|No address", re.IGNORECASE),
        DatabaseUnavailableError,
        "the host of the database URL is not known: check its spelling (an @ in the password is written %40)",
    ),
)
_UNREACHABLE = "no server answers at the host and port of the database URL: check that it runs and is reachable"


def connection_error(error: psycopg.Error) -> WarehouseError:
    """Why a connection could not be made, in one sentence that repeats nothing of the URL."""
    if isinstance(error, psycopg.ProgrammingError):
        return DatabaseUrlError(
            "Cannot connect to PostgreSQL: the database URL cannot be read; it looks like postgresql://user:password@host:5432/name, "
            "with special characters of user and password percent-encoded"
        )
    text = str(error)
    for pattern, kind, sentence in _CONNECT_PATTERNS:
        if pattern.search(text):
            return kind(f"Cannot connect to PostgreSQL: {sentence}.")
    return DatabaseUnavailableError(f"Cannot connect to PostgreSQL: {_UNREACHABLE}.")


# Where PostgreSQL finds an index entry too large; its messages may be in any language.
_INDEX_FUNCTIONS = ("_bt_check_third_page", "index_form_tuple", "index_form_tuple_context")


@contextmanager
def translated(attempt: str) -> Iterator[None]:
    """Raises psycopg's errors as ours; `attempt` says what was tried, as in "Publishing pipedrive.deals"."""
    try:
        yield
    except psycopg.Error as error:
        raise statement_error(error, attempt) from without_values(error)


def without_values(error: psycopg.Error) -> psycopg.Error:
    """The same error, told without what it and those before it quote of rows: tracebacks, events and logs show them all."""
    error.args = (_seen(error),)
    if isinstance(error.__context__, psycopg.Error):
        without_values(error.__context__)
    return error


def _seen(error: psycopg.Error) -> str:
    """What the server said, without DETAIL and CONTEXT; of a bad value no more than what is bad about it."""
    if isinstance(error, psycopg.DataError) and error.sqlstate is not None:
        return type(error).__name__
    return error.diag.message_primary or (str(error) if error.sqlstate is None else type(error).__name__)


def statement_error(error: psycopg.Error, attempt: str) -> WarehouseError:
    """Our error for one of psycopg's, with what to do about it."""
    seen = _seen(error)
    match error:
        case pg.InsufficientPrivilege():
            return PrivilegeError(f"{attempt} failed: {seen}. Grant the role that right, or let it own the schema.")
        case pg.DiskFull() | pg.OutOfMemory() | pg.TooManyConnections() | pg.ConfigurationLimitExceeded():
            return ResourceError(f"{attempt} failed: {seen}. Make room on the database server and run again.")
        case pg.LockNotAvailable() | pg.DeadlockDetected():
            return TableBlockedError(f"{attempt} failed: {seen}. Another session holds the table; run again.")
        case pg.QueryCanceled():
            return StatementTimeoutError(
                f"{attempt} failed: {seen}. Raise statement_timeout_seconds, or see what kept the server busy."
            )
        case pg.IntegrityError():
            return ConstraintError(
                f"{attempt} failed: {seen}. Drop or relax the constraint, which the source does not know.",
                constraint=error.diag.constraint_name,
            )
        case pg.ProgramLimitExceeded() if error.diag.source_function in _INDEX_FUNCTIONS:
            return SchemaDriftError(
                f"{attempt} failed: {seen}. An index takes keys of up to 2,704 bytes: shorten the values, or drop the index."
            )
        case pg.ProgramLimitExceeded():
            return SchemaDriftError(
                f"{attempt} failed: {seen}. PostgreSQL keeps a row in one 8 kB page: lower the column budget, "
                "so that more fields live in the jsonb column."
            )
        case psycopg.ProgrammingError() | psycopg.DataError() | psycopg.NotSupportedError() if error.sqlstate is None:
            return LoadError(f"{attempt} failed: {error}.")
        case _ if error.sqlstate is None or error.sqlstate[:2] in ("08", "57"):
            return DatabaseUnavailableError(
                f"{attempt} failed: the connection to PostgreSQL broke ({seen}). Run again."
            )
        case _:
            return LoadError(f"{attempt} failed: {seen} (SQLSTATE {error.sqlstate}).")
