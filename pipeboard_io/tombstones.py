"""Rows that are gone at the source: marked or removed, noted with the reason, taken back when they return; guarded."""

from collections.abc import Mapping

from psycopg import sql

from pipeboard_io.connection import Connection, scalar
from pipeboard_io.errors import LoadError, MassDeleteError
from pipeboard_io.load import REASON, Reconcile
from pipeboard_io.publishing import RESTORED, Target, written_meanwhile
from pipeboard_io.rejects import NO_KEY, key_text

_SHOWN = 10


def note(connection: Connection, target: Target, kinds: Mapping[str, int], *, was_empty: bool) -> None:
    """Files tombstones for staged rows that say deleted, and closes those of rows that came back."""
    if target.stage.has_deleted:
        _file(connection, target, was_empty=was_empty)
    if kinds.get(RESTORED):
        _close(connection, target)


def _file(connection: Connection, target: Target, *, was_empty: bool) -> None:
    changed = target.compose("JOIN {changes} k ON s.ctid = k.__place__ AND k.__kind__ IN ('n', 'd')")
    connection.execute(
        target.compose(
            """INSERT INTO {tombstone} (entity, id, noticed_at, reason, load_id)
               SELECT {entity}, {key}, {at}, coalesce(s.{reason}, 'deleted'), {load_id} FROM {stage} s {changed}
               WHERE s.deleted_at IS NOT NULL ON CONFLICT DO NOTHING""",
            key=key_text(target.table, "s"),
            reason=sql.Identifier(REASON),
            changed=sql.SQL("") if was_empty else changed,
            **_literals(target),
        )
    )


def _close(connection: Connection, target: Target) -> None:
    connection.execute(
        target.compose(
            """UPDATE {tombstone} d SET restored_at = {at} FROM {changes} k
               WHERE d.entity = {entity} AND d.id = {key} AND d.restored_at IS NULL AND k.__kind__ = 'r'""",
            key=key_text(target.table, "k"),
            **_literals(target),
        )
    )


def _literals(target: Target) -> dict[str, sql.Composable]:
    return {
        "at": sql.Literal(target.published_at),
        "entity": sql.Literal(target.table.entity),
        "load_id": sql.Literal(target.stage.load_id),
        "stage_name": sql.Literal(target.stage.name),
    }


def living(connection: Connection, target: Target) -> int:
    """Rows in the table that are not deleted."""
    alive = sql.SQL("WHERE deleted_at IS NULL" if target.table.lifecycle else "")
    return int(scalar(connection, target.compose("SELECT count(*) FROM {target} {alive}", alive=alive)))


def delete_vanished(connection: Connection, target: Target, reconcile: Reconcile, *, living_before: int) -> int:
    """Deletes the living rows that a complete load did not bring; returns how many.

    Not counted as vanished: rows that another load wrote while this one was reading, and records that were rejected.
    Raises MassDeleteError beyond the limits; the caller's transaction is then rolled back.
    """
    statement = _marking(target, reconcile.reason) if target.table.lifecycle else _removal(target)
    row = connection.execute(statement).fetchone()
    count, ids = row if row else (0, [])
    if count:
        _require_keys(connection, target)
    _guard(target, reconcile, count=int(count), living_before=living_before, ids=ids)
    return int(count)


def _require_keys(connection: Connection, target: Target) -> None:
    keyless = scalar(
        connection,
        target.compose(
            "SELECT count(*) FROM {staged_reject} WHERE stage = {stage_name} AND column_name IS NULL AND starts_with(record_key, {prefix})",
            prefix=sql.Literal(NO_KEY),
            **_literals(target),
        ),
    )
    if keyless:
        raise LoadError(
            f"reconciling {target.table}: {keyless} records came without a key, so nobody can tell which rows are gone. Nothing "
            "was changed; run it again when the source sends them whole"
        )


def _guard(target: Target, reconcile: Reconcile, *, count: int, living_before: int, ids: list[str]) -> None:
    share = 100 * count / max(1, living_before)
    if reconcile.force or count <= reconcile.spare_rows or share <= reconcile.max_share_percent:
        return
    raise MassDeleteError(
        f"reconciling {target.table} would delete {count} of {living_before} rows ({share:.1f} %, allowed "
        f"{reconcile.max_share_percent:g} %), among them {', '.join(ids)}: nothing was changed. See whether the source still "
        "shows everything; if these rows are really gone, allow the mass delete",
        count=count,
        living=living_before,
        ids=ids,
    )


def _vanished(target: Target) -> sql.Composed:
    within = sql.SQL("t.{key} IN (SELECT {key} FROM pg_temp.scope) AND ").format(
        key=sql.Identifier(target.table.primary_key[0])
    )
    return target.compose(
        """{within} NOT EXISTS (SELECT FROM {stage} s WHERE {joined})
           AND NOT EXISTS (SELECT FROM {staged_reject} r
                           WHERE r.stage = {stage_name} AND r.column_name IS NULL AND r.record_key = {key})""",
        within=within if target.is_scoped else sql.SQL(""),
        joined=target.joined("s", "t"),
        key=key_text(target.table, "t"),
        **_literals(target),
    )


def _marking(target: Target, reason: str) -> sql.Composed:
    return target.compose(
        """WITH gone AS (
             UPDATE {target} t SET deleted_at = {at}, synced_at = {at}
             WHERE t.deleted_at IS NULL AND NOT {meanwhile} AND {vanished}
             RETURNING {key} AS __id__, {order}),
           noted AS (
             INSERT INTO {tombstone} (entity, id, noticed_at, reason, load_id)
             SELECT {entity}, __id__, {at}, {reason}, {load_id} FROM gone ON CONFLICT DO NOTHING)
           SELECT count(*), ARRAY(SELECT __id__ FROM gone ORDER BY {order} LIMIT {shown}) FROM gone""",
        meanwhile=written_meanwhile(target),
        vanished=_vanished(target),
        key=key_text(target.table, "t"),
        order=_key_order(target),
        shown=sql.Literal(_SHOWN),
        reason=sql.Literal(reason),
        **_literals(target),
    )


def _key_order(target: Target) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, target.table.primary_key))


def _removal(target: Target) -> sql.Composed:
    return target.compose(
        """WITH gone AS (DELETE FROM {target} t WHERE {vanished} RETURNING {key} AS __id__, {order})
           SELECT count(*), ARRAY(SELECT __id__ FROM gone ORDER BY {order} LIMIT {shown}) FROM gone""",
        vanished=_vanished(target),
        key=key_text(target.table, "t"),
        order=_key_order(target),
        shown=sql.Literal(_SHOWN),
    )
