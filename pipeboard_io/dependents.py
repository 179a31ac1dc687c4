"""Views that stand on a table or view: taken down and put up again as they were, when what they stand on must change.

PostgreSQL refuses to change the type of a column that a view uses. Definition, owner, privileges, options, defaults and
comments are read first; whatever could not be put up again exactly (a materialized view, triggers, rules, column
privileges, another role's view) is refused before anything is dropped. All of it happens in the caller's transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pipeboard_io.connection import Connection, scalar
from pipeboard_io.errors import SchemaDriftError

_DEPENDENTS = """
WITH RECURSIVE dependent(oid, depth) AS (
    SELECT %(oid)s::oid, 0
    UNION
    SELECT r.ev_class, dependent.depth + 1
    FROM dependent
    JOIN pg_catalog.pg_class relation ON relation.oid = dependent.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_rewrite'::regclass
        AND (d.refclassid, d.refobjid) IN (('pg_class'::regclass, relation.oid), ('pg_type'::regclass, relation.reltype))
    JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class <> dependent.oid
)
SELECT c.oid, n.nspname, c.relname,
       c.relkind = 'v'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.rulename <> '_RETURN')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL),
       pg_has_role(c.relowner, 'MEMBER'),
       pg_get_viewdef(c.oid), pg_get_userbyid(c.relowner), c.reloptions, obj_description(c.oid, 'pg_class')
FROM (SELECT oid, max(depth) AS depth FROM dependent WHERE depth > 0 GROUP BY oid) found
JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY found.depth, c.oid
"""
_READS_ROWS = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = %s AND d.refobjid = c.reltype
    WHERE d.refclassid = 'pg_type'::regclass AND d.classid = 'pg_rewrite'::regclass)
"""
_PRIVILEGES = """
SELECT a.privilege_type, coalesce(r.rolname, ''), a.is_grantable
FROM pg_catalog.pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE c.oid = %s AND a.grantee <> c.relowner
"""
_COLUMN_DEFAULTS = """
SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = %s ORDER BY a.attnum
"""
_COLUMN_COMMENTS = """
SELECT a.attname, d.description FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_description d ON d.objoid = a.attrelid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum
WHERE a.attrelid = %s ORDER BY a.attnum
"""


@dataclass(frozen=True, slots=True)
class Dependent:
    """One view: what drops it, and the statements that make it as it is now."""

    name: sql.Identifier
    creation: tuple[sql.Composed, ...]


def read(connection: Connection, oid: int) -> list[Dependent]:
    """The views on a relation, the ones nearest to it first; raises SchemaDriftError where one could not be made again."""
    found = []
    for number, schema, name, is_plain, is_ours, definition, owner, options, comment in connection.execute(
        _DEPENDENTS, {"oid": oid}
    ).fetchall():
        if not is_plain:
            raise SchemaDriftError(
                f"{schema}.{name} stands in the way and is more than a plain view (materialized, or with triggers, rules or "
                "column privileges): drop it, run again and create it anew"
            )
        if not is_ours:
            raise SchemaDriftError(
                f"{schema}.{name} stands in the way and belongs to {owner}: drop it, run again and create it anew, or "
                f"GRANT {owner} to the role that loads"
            )
        view = sql.Identifier(schema, name)
        found.append(Dependent(view, (*_definition(view, definition, options), *_ownership(view, owner), *privileges(connection, number, view), *_defaults(connection, number, view), *_comments(connection, number, view, comment))))  # fmt: skip
    return found


def read_rows(connection: Connection, oid: int) -> bool:
    """Whether a view has the relation's rows as values (NULL::t). PostgreSQL 14 lets their columns change below it, and the
    view goes on to read them by the old type: texts as numbers."""
    return bool(scalar(connection, _READS_ROWS, [oid]))


def take_down(connection: Connection, dependents: Sequence[Dependent]) -> None:
    """Drops the views, the farthest first; one that something else depends on is PostgreSQL's error."""
    for dependent in reversed(dependents):
        connection.execute(sql.SQL("DROP VIEW {}").format(dependent.name))


def put_up(connection: Connection, dependents: Sequence[Dependent]) -> None:
    """Makes the views again as they were."""
    for dependent in dependents:
        for statement in dependent.creation:
            # As bytes: a % in a definition is not a parameter.
            connection.execute(statement.as_bytes(connection))


def privileges(connection: Connection, oid: int, view: sql.Identifier) -> list[sql.Composed]:
    """The GRANTs that others hold on a relation, as statements for `view`."""
    return [
        sql.SQL("GRANT {} ON {} TO {}{}").format(
            sql.SQL(privilege),
            view,
            sql.Identifier(role) if role else sql.SQL("PUBLIC"),
            sql.SQL(" WITH GRANT OPTION" if is_grantable else ""),
        )
        for privilege, role, is_grantable in connection.execute(_PRIVILEGES, [oid]).fetchall()
    ]


def _definition(view: sql.Identifier, definition: str, options: Sequence[str] | None) -> list[sql.Composed]:
    chosen = sql.SQL(" WITH ({})").format(sql.SQL(", ").join(map(sql.SQL, options))) if options else sql.SQL("")
    return [sql.SQL("CREATE VIEW {}{} AS {}").format(view, chosen, sql.SQL(definition))]


def _ownership(view: sql.Identifier, owner: str) -> list[sql.Composed]:
    return [sql.SQL("ALTER VIEW {} OWNER TO {}").format(view, sql.Identifier(owner))]


def _defaults(connection: Connection, oid: int, view: sql.Identifier) -> list[sql.Composed]:
    return [
        sql.SQL("ALTER VIEW {} ALTER COLUMN {} SET DEFAULT {}").format(view, sql.Identifier(name), sql.SQL(default))
        for name, default in connection.execute(_COLUMN_DEFAULTS, [oid]).fetchall()
    ]


def _comments(connection: Connection, oid: int, view: sql.Identifier, comment: str | None) -> list[sql.Composed]:
    statements = [] if comment is None else [sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(comment))]
    for name, words in connection.execute(_COLUMN_COMMENTS, [oid]).fetchall():
        column = sql.SQL("{}.{}").format(view, sql.Identifier(name))
        statements.append(sql.SQL("COMMENT ON COLUMN {} IS {}").format(column, sql.Literal(words)))
    return statements
