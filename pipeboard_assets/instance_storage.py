"""Where Dagster keeps runs and events: PostgreSQL, in the schema `dagster` of the database that holds the tables.

`dagster.yaml` names the class, so every process of Dagster finds the same place, the embedded server included, without
an environment variable. SQLite would need no server, but commits every event with several fsyncs: the first sync marks
four tables times 80 months, which took 45 s there and takes 1 s here.
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from urllib.parse import quote

from dagster._serdes import ConfigurableClassData
from dagster_postgres.storage import DagsterPostgresStorage

from pipeboard_io.connection import Connection, Timeouts, connector, lock_key, scalar
from pipeboard_io.errors import POOLED, DatabaseUrlError, PrivilegeError, translated
from pipeboard_io.state import create_schema
from pipeboard_resources.dagster_resources import open_database_url
from pipeboard_resources.settings import Settings

SCHEMA = "dagster"

_STATEMENT_MILLISECONDS = 60_000

_WHOSE_TABLES = """
SELECT c.relowner::regrole::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r'
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')) LIMIT 1
"""

# The newest half second of run history may be lost when the database server dies; the tables' own loads never are.
_OPTIONS = f"-csearch_path={SCHEMA} -csynchronous_commit=off"


class InstanceStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage at DATABASE_URL, or in the embedded server, which is held while the process lives."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        held = ExitStack()
        atexit.register(held.close)
        url = held.enter_context(open_database_url(Settings()))
        # Dagster writes the materializations of a range in one statement where it may.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
        with _alone(url):
            storage = cls(storage_url(url), inst_data=inst_data)
        # Dagster opens a connection per statement unless told it serves people: 8 ms each, 866 of them in a first sync.
        for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
            part.optimize_for_webserver(statement_timeout=_STATEMENT_MILLISECONDS, pool_recycle=3600, max_overflow=10)
        log = storage.event_log_storage
        log.has_table = _remembering(log.has_table)  # type: ignore[attr-defined]  # PostgreSQL's has it
        return storage


def _remembering(has_table: Callable[[str], bool]) -> Callable[[str], bool]:
    """The same answer, asked until it is yes: Dagster asks before almost every event, 142 times in a sync without news."""
    there: set[str] = set()

    def remembered(name: str) -> bool:
        if name not in there and has_table(name):
            there.add(name)
        return name in there

    return remembered


def storage_url(database_url: str) -> str:
    """The database as Dagster must be told of it: psycopg2 by name, because SQLAlchemy 2.1 takes a bare scheme for
    psycopg 3, which its `NOTIFY run_events, :param` fails on (dagster#33958). Raises DatabaseUrlError."""
    _, is_url, rest = database_url.partition("://")
    if not is_url:
        raise DatabaseUrlError("the database URL is none: it looks like postgresql://user:password@host:5432/name")
    joint = "&" if "?" in rest else "?"
    return f"postgresql+psycopg2://{rest}{joint}options={quote(_OPTIONS)}"


def connect(database_url: str) -> Connection:
    """A connection such as Dagster's. Raises WarehouseError, also where a pooler keeps its settings from the server.

    Without them Dagster would make its tables in whatever schema comes first.
    """
    connection = connector(storage_url(database_url), Timeouts())()
    if scalar(connection, "SHOW search_path") != SCHEMA:
        connection.close()
        raise DatabaseUrlError(f"Cannot connect to PostgreSQL for Dagster: {POOLED}.")
    if (owner := scalar(connection, _WHOSE_TABLES, [SCHEMA])) is not None:
        connection.close()
        raise PrivilegeError(
            f"Dagster's tables in the schema {SCHEMA} belong to {owner}, and the role in DATABASE_URL may not use them: in "
            f"Kubernetes start syncs in Dagster's UI, elsewhere let an administrator run REASSIGN OWNED BY {owner} TO it"
        )
    return connection


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """The schema is there, and nobody else makes Dagster's tables in it meanwhile: several of its processes start side by
    side, and the one that comes second must not meet half of them. Raises WarehouseError."""
    with connect(url) as connection:
        with translated(f"Creating the schema {SCHEMA}"):
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [lock_key("schema", SCHEMA)])
            create_schema(connection, SCHEMA)
        yield
