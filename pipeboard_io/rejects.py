"""Rejected values and records: staged with their batch, kept with the reason, resolved when the record loads clean."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256

from psycopg import sql

from pipeboard_io.connection import Connection, scalar
from pipeboard_io.load import ABSENT, Reject
from pipeboard_io.state import State
from pipeboard_io.table import Table

# What a record without a key is filed under, with a digest of what came: several are several.
NO_KEY = "no key "


def filed_under(reject: Reject) -> str:
    """The key, or what stands for it."""
    return reject.key or f"{NO_KEY}{sha256(reject.raw.encode()).hexdigest()[:16]}"


def stage(connection: Connection, state: State, stage_name: str, rejects: Iterable[Reject]) -> None:
    """Stages rejects in the transaction that stages their batch."""
    statement = state.compose("COPY {staged_reject} (stage, record_key, column_name, reason, raw) FROM STDIN")
    with connection.cursor().copy(statement) as copy:
        for reject in rejects:
            row = (stage_name, filed_under(reject), reject.column, reject.reason, reject.raw)
            copy.write_row([None if value is None else value.replace("\x00", "") for value in row])


# The primary key of rejected_record is an index, of which an entry holds 2,704 bytes: entity, key, column and reason.
_FILED_BYTES = 1_000


def _filed(text: sql.Composable) -> sql.Composed:
    """A key or reason as `rejected_record` files it: a long one by its beginning and its hash."""
    return sql.SQL(
        "CASE WHEN octet_length({0}) > {1} THEN left({0}, 200) || '... md5 ' || md5({0}) ELSE {0} END"
    ).format(text, _FILED_BYTES)


def key_text(table: Table, alias: str) -> sql.Composed:
    """The key of a row as the text that rejects and tombstones are filed under."""
    parts = [sql.SQL("{}.{}::text").format(sql.SQL(alias), sql.Identifier(name)) for name in table.primary_key]
    return parts[0] if len(parts) == 1 else sql.SQL("concat_ws(',', {})").format(sql.SQL(", ").join(parts))


def key_of(table: Table, row: Mapping[str, object]) -> str:
    """`key_text` of a row at hand."""
    return ",".join(_as_printed(row[name]) for name in table.primary_key if row[name] is not None)


def _as_printed(value: object) -> str:
    """A value as PostgreSQL prints it, in UTC."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        instant = value.astimezone(UTC) if value.tzinfo else value
        text = instant.replace(tzinfo=None).isoformat(sep=" ")
        return f"{text.rstrip('0') if '.' in text else text}+00"
    return str(value)


def publish(
    connection: Connection,
    state: State,
    table: Table,
    *,
    stage_name: str,
    load_id: str,
    run_id: str | None,
    started_at: datetime,
    is_complete: bool,
) -> int:
    """Moves the staged rejects to `rejected_record` and resolves those whose record came clean; returns their number.

    `is_complete`: the load saw every record, so a reject whose record it did not see is resolved as well. What another
    load rejected since `started_at` is not: it read the record later, maybe.
    """
    count = connection.execute(
        state.compose(
            """INSERT INTO {rejected_record} AS r (entity, record_key, column_name, reason, raw, load_id, run_id)
               SELECT DISTINCT ON (record_key, column_name, reason) %s, record_key, coalesce(column_name, ''), reason, raw, %s, %s
               FROM (SELECT {key} AS record_key, column_name, {reason} AS reason, raw FROM {staged_reject} WHERE stage = %s) s
               ON CONFLICT (entity, record_key, column_name, reason) DO UPDATE
               SET raw = EXCLUDED.raw, last_seen_at = now(), resolved_at = NULL,
                   load_id = EXCLUDED.load_id, run_id = EXCLUDED.run_id""",
            key=_filed(sql.SQL("record_key")),
            reason=_filed(sql.SQL("reason")),
        ),
        [table.entity, load_id, run_id, stage_name],
    ).rowcount
    _resolve(connection, state, table, names=(stage_name, load_id), started_at=started_at, is_complete=is_complete)
    return count


def _resolve(
    connection: Connection, state: State, table: Table, *, names: Sequence[str], started_at: datetime, is_complete: bool
) -> None:
    stage_name, load_id = names
    # Literals, not parameters: beside those a % in the name of a key column would be one more.
    others = sql.SQL("entity = {} AND resolved_at IS NULL AND load_id <> {} AND last_seen_at < {}").format(
        table.entity, load_id, started_at
    )
    # Nearly always there is none: the staged keys are not even looked at.
    if not scalar(
        connection, state.compose("SELECT EXISTS (SELECT FROM {rejected_record} WHERE {others})", others=others)
    ):
        return
    seen: sql.Composable = sql.SQL("true")
    if not is_complete:
        seen = state.compose(
            "EXISTS (SELECT FROM {stage} s WHERE {key} = r.record_key AND r.column_name <> ALL (coalesce(s.{absent}, '{{}}')))",
            absent=sql.Identifier(ABSENT),
            stage=state.name(stage_name),
            key=_filed(key_text(table, "s")),
        )
    connection.execute(
        state.compose(
            "UPDATE {rejected_record} r SET resolved_at = now() WHERE {others} AND {seen}", others=others, seen=seen
        )
    )
