"""SQL functions that follow their declaration: made again where their body differs, else left alone."""

from dataclasses import dataclass

from psycopg import sql

from pipeboard_io.connection import Connection, Timeouts, advisory_lock, lock_key, transaction


@dataclass(frozen=True, slots=True)
class Function:
    """A function that only reads. `arguments` and `returns` as in CREATE FUNCTION; `body` is one SELECT."""

    schema: str
    name: str
    arguments: str
    returns: str
    body: str
    comment: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def define(connection: Connection, timeouts: Timeouts, function: Function) -> bool:
    """Makes the function what it is declared to be; whether anything was to be done."""
    found = connection.execute(
        """SELECT p.prosrc = %s FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname = %s AND p.proname = %s AND pg_get_function_arguments(p.oid) = %s""",
        [function.body, function.schema, function.name, function.arguments],
    ).fetchone()
    if found == (True,):
        return False
    name = sql.Identifier(function.schema, function.name)
    statement = sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE sql STABLE AS {body};"
        "COMMENT ON FUNCTION {name}({arguments}) IS {comment}"
    ).format(
        name=name,
        arguments=sql.SQL(function.arguments),
        returns=sql.SQL(function.returns),
        body=sql.Literal(function.body),
        comment=sql.Literal(function.comment),
    )
    with transaction(connection, timeouts):
        advisory_lock(connection, lock_key("function", function.schema, function.name))
        connection.execute(statement.as_bytes(connection))
    return True
