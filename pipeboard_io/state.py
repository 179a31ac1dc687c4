"""The state schema as a whole: its name, its migrations. Each table's reads and writes live in a module of their own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from psycopg import sql

from pipeboard_io.connection import Connection, Timeouts, advisory_lock, lock_key, may_idle, scalar, transaction
from pipeboard_io.errors import PrivilegeError, RestoreError, StateVersionError, translated

MIGRATIONS = Path(__file__).parent / "migrations"
# The newest version in migrations/versions; knowing it here spares every process the import of Alembic (0.2 s).
HEAD = "0006"


@dataclass(frozen=True, slots=True)
class State:
    """The schema that holds ledger, watermarks, checkpoints, rejects, tombstones and the dictionary."""

    schema: str = "pipeboard"

    def __post_init__(self) -> None:
        if "%" in self.schema:
            raise ValueError(
                f"the state schema cannot be called {self.schema!r}: a % stands for a parameter in its SQL"
            )

    def name(self, table: str) -> sql.Identifier:
        """A table of the state schema, as an identifier."""
        return sql.Identifier(self.schema, table)

    def compose(self, text: str, **parts: sql.Composable) -> sql.Composed:
        """SQL in which `{load}`, `{watermark}` ... are the state's tables and other names are `parts`."""
        names = {table: self.name(table) for table in _TABLES}
        return sql.SQL(text).format(**{**names, **parts})


_TABLES = (
    "load",
    "load_in_progress",
    "watermark",
    "checkpoint",
    "live_stage",
    "staged_reject",
    "rejected_record",
    "tombstone",
    "custom_field",
    "custom_field_option",
    "declared_comment",
    "touched",
    "view",
    "why_not",
)


def version(connection: Connection, state: State) -> str | None:
    """The version the state schema is at; None where there is none."""
    # Not to_regclass(): behind an advisory lock it may still answer from a cache that knows nothing of another session's
    # migration; the catalogue itself is read with a fresh snapshot.
    is_there = scalar(
        connection,
        """SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = %s AND c.relname = 'schema_version'""",
        [state.schema],
    )
    if not is_there:
        return None
    found = scalar(connection, sql.SQL("SELECT version_num FROM {}").format(state.name("schema_version")))
    return None if found is None else str(found)


def migrate(connection: Connection, state: State, timeouts: Timeouts) -> None:
    """Brings the state schema to this release's version, in one transaction; side by side with others it is done once.

    Raises PrivilegeError when the schema cannot be created, StateVersionError when it is newer than this release.
    """
    with translated(f"Preparing the schema {state.schema}"):
        if version(connection, state) == HEAD:
            return
        with transaction(connection, timeouts):
            advisory_lock(connection, lock_key("migrate", state.schema))
            found = version(connection, state)
            if found is not None and found > HEAD:
                raise StateVersionError(
                    f"the schema {state.schema} is at version {found}, this release knows {HEAD}: upgrade this program"
                )
            create_schema(connection, state.schema)
            connection.execute(_upgrade_script(state, found).encode())


@contextmanager
def vacant(connection: Connection, state: State, timeouts: Timeouts, schemas: Sequence[str]) -> Iterator[None]:
    """These schemas exist and are empty, and nobody migrates the state until the context ends.

    Raises RestoreError when one holds anything, PrivilegeError when one cannot be created.
    """
    with translated("Preparing to restore"):
        for schema in schemas:
            create_schema(connection, schema)
        with transaction(connection, timeouts):
            may_idle(connection)
            advisory_lock(connection, lock_key("migrate", state.schema))
            found = scalar(
                connection,
                """SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (%s) ORDER BY 1 LIMIT 1""",
                [list(schemas)],
            )
            if found:
                raise RestoreError(
                    f"there is {found} already, and a restore overwrites nothing: give it an empty database, or drop the "
                    f"schemas {', '.join(schemas)}"
                )
            yield


def create_schema(connection: Connection, name: str) -> None:
    """Creates a schema that does not exist yet.

    IF NOT EXISTS would ask for the right to create even where nothing is to be created.
    """
    if _has_schema(connection, name):
        return
    if not scalar(connection, "SELECT has_database_privilege(current_database(), 'CREATE')"):
        role, database = scalar(connection, "SELECT current_user"), scalar(connection, "SELECT current_database()")
        raise PrivilegeError(
            f"the role {role} may not create the schema {name}: let an administrator run "
            f'GRANT CREATE ON DATABASE "{database}" TO "{role}"'
        )
    with connection.transaction():
        schema_lock(connection, name)
        if not _has_schema(connection, name):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))


def schema_lock(connection: Connection, name: str) -> None:
    """Waits until nobody else is creating that schema: two loads of new tables may both find that there is none."""
    advisory_lock(connection, lock_key("schema", name))


def _has_schema(connection: Connection, name: str) -> bool:
    return bool(scalar(connection, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", [name]))


def _upgrade_script(state: State, found: str | None) -> str:
    from alembic import command
    from alembic.config import Config

    buffer = StringIO()
    config = Config(attributes={"buffer": buffer, "schema": state.schema})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, f"{found or 'base'}:head", sql=True)
    return buffer.getvalue()
