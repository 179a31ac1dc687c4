"""The stable column dictionary: which columns a source's custom field has, chosen once per key and kept for ever.

A label may change, a field may go and come back: its columns stay. Names are ASCII, unique without regard to case
against reserved names and all other columns, and do not depend on the order in which fields arrive.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Self

from anyascii import anyascii
from psycopg import sql
from psycopg.types.json import Jsonb

from pipeboard_io.connection import Connection, Timeouts, advisory_lock, lock_key, transaction
from pipeboard_io.publishing import Target
from pipeboard_io.state import State
from pipeboard_io.table import NAME_BYTES, SYNCED_AT, Column, ColumnType

OVERFLOW_COLUMN = "custom_fields"
_PREFIX = "cf_"

# What a value takes inside its row at worst. PostgreSQL moves what is longer than a TOAST pointer (18 bytes, 24 with
# padding) out of the row, but never less; a row must fit one 8 kB page, or the whole record cannot be stored.
_INLINE_BYTES = {
    ColumnType.BOOLEAN: 1,
    ColumnType.INTEGER: 4,
    ColumnType.DATE: 4,
    ColumnType.BIGINT: 8,
    ColumnType.DOUBLE: 8,
    ColumnType.TIME: 8,
    ColumnType.TIMESTAMPTZ: 8,
    ColumnType.NUMERIC: 16,
}
_VARIABLE_BYTES = 24
_RESERVED_BYTES = 16


@dataclass(frozen=True, slots=True)
class Budget:
    """How many columns of an entity's table may be custom, and how many bytes a row may take when all of them are filled.

    PostgreSQL allows 1,600 columns, dropped ones included, and 8,160 bytes of row. The second limit is the tighter one:
    with it even a record that fills every field loads. Fields past the budget live in one jsonb column.
    """

    columns: int = 1_400
    row_bytes: int = 7_900


@dataclass(frozen=True, slots=True)
class SourceField:
    """A custom field as the source describes it: `key` never changes, `label` may; `columns` are (suffix, type) pairs.

    The first column has the suffix "" as a rule. `options` are (id, label); an enum has the columns "" text and "_id"
    bigint, a set "" text[] and "_ids" bigint[]: those are the ones whose stored labels follow a rename.
    """

    key: str
    label: str
    kind: str
    columns: tuple[tuple[str, ColumnType], ...]
    options: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FieldColumns:
    """Where the values of one field go: its columns in the order of its suffixes, or the overflow column if it has none."""

    key: str
    label: str
    kind: str
    columns: tuple[Column, ...]
    suffixes: tuple[str, ...]
    labels: Mapping[int, str]
    """Label by option id; options that the source no longer has keep their last one."""

    @property
    def is_overflow(self) -> bool:
        return not self.columns

    def column(self, suffix: str = "") -> Column:
        """The column with that suffix; raises KeyError."""
        return dict(zip(self.suffixes, self.columns, strict=True))[suffix]


@dataclass(frozen=True, slots=True)
class ColumnAssignment:
    """The columns of an entity's custom fields by field key; only fields that the source still has."""

    entity: str
    fields: Mapping[str, FieldColumns]

    @property
    def has_overflow(self) -> bool:
        return any(found.is_overflow for found in self.fields.values())

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns to declare in the table, the overflow column last where it is needed."""
        own = tuple(column for found in self.fields.values() for column in found.columns)
        comment = "Custom fields past the column budget, by field key"
        return (*own, Column(OVERFLOW_COLUMN, ColumnType.JSONB, comment)) if self.has_overflow else own


@dataclass(frozen=True, slots=True)
class _Known:
    """A field as the dictionary has it; `names` are (suffix, column name, type)."""

    key: str
    label: str
    kind: str
    base_name: str | None
    names: tuple[tuple[str, str, ColumnType], ...]
    is_retired: bool


@dataclass(frozen=True, slots=True)
class _Option:
    label: str
    is_retired: bool


@dataclass(frozen=True, slots=True)
class _Dictionary:
    fields: Mapping[str, _Known]
    options: Mapping[str, Mapping[int, _Option]]


@dataclass(frozen=True, slots=True)
class _Edit:
    """What has to be written so that the dictionary says what the source says."""

    fields: list[_Known] = field(default_factory=list)
    new_options: list[tuple[str, int, str, bool]] = field(default_factory=list)
    """(field key, option id, label, is a rename)"""
    retired_options: list[tuple[str, int]] = field(default_factory=list)
    revived_options: list[tuple[str, int]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.fields or self.new_options or self.retired_options or self.revived_options)


def assign_columns(
    connection: Connection,
    state: State,
    timeouts: Timeouts,
    *,
    entity: str,
    fields: Sequence[SourceField],
    reserved: Collection[str],
    budget: Budget,
) -> ColumnAssignment:
    """The columns of all custom fields of an entity; see `Warehouse.assign_columns`."""
    known = _read(connection, state, entity)
    if not _edit(known, fields, reserved, budget).is_empty:
        with transaction(connection, timeouts):
            advisory_lock(connection, lock_key("dictionary", state.schema, entity))
            known = _read(connection, state, entity)
            _write(connection, state, entity, _edit(known, fields, reserved, budget))
            known = _read(connection, state, entity)
    return ColumnAssignment(entity, {found.key: _field_columns(known, found) for found in fields})


def _field_columns(known: _Dictionary, source: SourceField) -> FieldColumns:
    entry = known.fields[source.key]
    return FieldColumns(
        key=source.key,
        label=source.label,
        kind=source.kind,
        columns=tuple(Column(name, kind, _comment(source)) for _, name, kind in entry.names),
        suffixes=tuple(suffix for suffix, _, _ in entry.names),
        labels={number: option.label for number, option in known.options.get(source.key, {}).items()},
    )


def _comment(source: SourceField) -> str:
    return f"{source.label.replace(chr(0), '')} ({source.kind}, {source.key})"


def _read(connection: Connection, state: State, entity: str) -> _Dictionary:
    rows = connection.execute(
        state.compose(
            """SELECT field_key, label, kind, base_name, columns, retired_at IS NOT NULL FROM {custom_field}
               WHERE entity = %s ORDER BY field_key"""
        ),
        [entity],
    ).fetchall()
    fields = {
        str(key): _Known(str(key), str(label), str(kind), base, tuple(_stored_names(names)), bool(is_retired))
        for key, label, kind, base, names, is_retired in rows
    }
    options: dict[str, dict[int, _Option]] = {}
    for key, number, label, is_retired in connection.execute(
        state.compose(
            """SELECT field_key, option_id, label, retired_at IS NOT NULL FROM {custom_field_option}
               WHERE entity = %s AND last_seen_at IS NULL ORDER BY field_key, option_id"""
        ),
        [entity],
    ).fetchall():
        options.setdefault(str(key), {})[int(number)] = _Option(str(label), bool(is_retired))
    return _Dictionary(fields, options)


def _stored_names(names: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str, ColumnType]]:
    for name in names:
        yield name["suffix"], name["name"], ColumnType(name["type"])


def _edit(known: _Dictionary, fields: Sequence[SourceField], reserved: Collection[str], budget: Budget) -> _Edit:
    names = _Names(known, reserved, budget)
    edit = _Edit()
    # By key, so that the names do not depend on the order in which the source lists its fields.
    for source in sorted(fields, key=lambda found: found.key):
        entry = known.fields.get(source.key)
        wanted = _wanted(source, entry, names)
        if wanted != entry:
            edit.fields.append(wanted)
        _edit_options(edit, source, known.options.get(source.key, {}))
    present = {source.key for source in fields}
    edit.fields.extend(
        replace(entry, is_retired=True)
        for key, entry in known.fields.items()
        if key not in present and not entry.is_retired
    )
    return edit


def _wanted(source: SourceField, entry: _Known | None, names: "_Names") -> _Known:
    label = source.label.replace("\x00", "")
    if entry is None:
        base, chosen = names.choose(source)
        return _Known(source.key, label, source.kind, base, chosen, is_retired=False)
    kept = {suffix: name for suffix, name, _ in entry.names}
    chosen = entry.names
    if entry.base_name is not None and source.columns != tuple((suffix, kind) for suffix, _, kind in entry.names):
        chosen = tuple(
            (suffix, kept.get(suffix) or names.further(entry.base_name + suffix), kind)
            for suffix, kind in source.columns
        )
    return _Known(source.key, label, source.kind, entry.base_name, chosen, is_retired=False)


def _edit_options(edit: _Edit, source: SourceField, known: Mapping[int, _Option]) -> None:
    present = {number: label.replace("\x00", "") for number, label in source.options}
    for number, label in present.items():
        option = known.get(number)
        if option is None or option.label != label:
            edit.new_options.append((source.key, number, label, option is not None))
        elif option.is_retired:
            edit.revived_options.append((source.key, number))
    edit.retired_options.extend(
        (source.key, number) for number, option in known.items() if number not in present and not option.is_retired
    )


class _Names:
    """Chooses column names that nobody has, within the budget."""

    def __init__(self, known: _Dictionary, reserved: Collection[str], budget: Budget) -> None:
        used = [(name, kind) for entry in known.fields.values() for _, name, kind in entry.names]
        self._taken = {name.lower() for name in reserved} | {name.lower() for name, _ in used} | {OVERFLOW_COLUMN}
        self._columns_left = budget.columns - len(used)
        self._bytes_left = budget.row_bytes - _RESERVED_BYTES * len(reserved) - sum(_width(kind) for _, kind in used)

    def choose(self, source: SourceField) -> tuple[str | None, tuple[tuple[str, str, ColumnType], ...]]:
        """(base name, columns) of a new field; (None, ()) when it has to go to the overflow column."""
        width = sum(_width(kind) for _, kind in source.columns)
        if not source.columns or len(source.columns) > self._columns_left or width > self._bytes_left:
            return None, ()
        base = self._free_base(source)
        self._columns_left -= len(source.columns)
        self._bytes_left -= width
        columns = tuple((suffix, base + suffix, kind) for suffix, kind in source.columns)
        self._taken.update(name.lower() for _, name, _ in columns)
        return base, columns

    def further(self, name: str) -> str:
        """A name for a column that a known field gets later."""
        for tail in _tails():
            candidate = name[: NAME_BYTES - len(tail)] + tail
            if candidate.lower() not in self._taken:
                self._taken.add(candidate.lower())
                return candidate
        raise AssertionError("the tails do not end")

    def _free_base(self, source: SourceField) -> str:
        room = NAME_BYTES - len(_PREFIX) - max(len(suffix) for suffix, _ in source.columns)
        stem = _slug(source.label) or _slug(source.key)[:8] or "field"
        for tail in _tails():
            base = _PREFIX + stem[: room - len(tail)].rstrip("_") + tail
            if not any((base + suffix).lower() in self._taken for suffix, _ in source.columns):
                return base
        raise AssertionError("the tails do not end")


def _tails() -> Iterator[str]:
    yield ""
    for number in count(2):
        yield f"_{number}"


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", anyascii(label).lower()).strip("_")


def _width(kind: ColumnType) -> int:
    return _INLINE_BYTES.get(kind, _VARIABLE_BYTES)


def _write(connection: Connection, state: State, entity: str, edit: _Edit) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            state.compose(
                """INSERT INTO {custom_field} AS f (entity, field_key, label, kind, base_name, columns, retired_at)
                   VALUES (%s, %s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)
                   ON CONFLICT (entity, field_key) DO UPDATE SET label = EXCLUDED.label, kind = EXCLUDED.kind,
                       columns = EXCLUDED.columns, changed_at = now(), retired_at = EXCLUDED.retired_at"""
            ),
            [_field_row(entity, entry) for entry in edit.fields],
        )
        renamed = [(entity, key, number) for key, number, _, is_rename in edit.new_options if is_rename]
        cursor.executemany(_option_sql(state, "last_seen_at = now()"), renamed)
        # A second rename within one transaction's instant would meet its own key; clock_timestamp() tells them apart.
        cursor.executemany(
            state.compose(
                """INSERT INTO {custom_field_option} (entity, field_key, option_id, label, relabel, first_seen_at)
                   VALUES (%s, %s, %s, %s, %s, clock_timestamp())"""
            ),
            [(entity, *option) for option in edit.new_options],
        )
        cursor.executemany(
            _option_sql(state, "retired_at = now()"), [(entity, *found) for found in edit.retired_options]
        )
        cursor.executemany(
            _option_sql(state, "retired_at = NULL"), [(entity, *found) for found in edit.revived_options]
        )


def _field_row(entity: str, entry: _Known) -> tuple[object, ...]:
    names = [{"suffix": suffix, "name": name, "type": kind.value} for suffix, name, kind in entry.names]
    return entity, entry.key, entry.label, entry.kind, entry.base_name, Jsonb(names), entry.is_retired


def _option_sql(state: State, change: str) -> sql.Composed:
    return state.compose(
        f"""UPDATE {{custom_field_option}} SET {change}
            WHERE entity = %s AND field_key = %s AND option_id = %s AND last_seen_at IS NULL"""
    )


@dataclass(frozen=True, slots=True)
class _Relabel:
    """Stored labels of one field that a rename made old: `ids` of the column pair, labels by option id."""

    label_column: str
    id_column: str
    is_set: bool
    labels: Mapping[str, str]

    def masked(self, masks: Mapping[str, Callable[[str], str | None]]) -> Self:
        """With what the column holds in the place of the labels."""
        mask = masks.get(self.label_column)
        if mask is None:
            return self
        shown = {number: mask(label) for number, label in self.labels.items()}
        return replace(self, labels={number: text for number, text in shown.items() if text is not None})


# A load reads the options before it claims its stage. Renames of that time, too, it may not have seen.
_READ_BEFORE = "interval '1 hour'"
_RENAMED = f"""
SELECT field_key, option_id, label FROM {{custom_field_option}} o
WHERE entity = %s AND last_seen_at IS NULL AND (relabel OR first_seen_at >= %s - {_READ_BEFORE} AND EXISTS (
    SELECT FROM {{custom_field_option}} e WHERE e.entity = o.entity AND e.field_key = o.field_key
    AND e.option_id = o.option_id AND e.last_seen_at IS NOT NULL))
FOR UPDATE OF o
"""


def relabel(connection: Connection, target: Target, masks: Mapping[str, Callable[[str], str | None]]) -> int:
    """Renews the stored labels of renamed options, one statement for the whole table; returns the rows it changed.

    Those renamed since this load read them as well, although another load renewed them: it may have staged the old label.
    `masks`: what a column holds in the place of a label, None where it holds nothing.
    """
    entity = target.table.entity
    pending = connection.execute(target.compose(_RENAMED), [entity, target.stage.started_at]).fetchall()
    if not pending:
        return 0
    labels: dict[str, dict[str, str]] = {}
    for key, number, label in pending:
        labels.setdefault(str(key), {})[str(number)] = str(label)
    known = _read(connection, target.state, entity)
    declared = {column.name for column in target.table.columns}
    stored = {key: _relabel_of(known.fields[key], by_id) for key, by_id in labels.items()}
    ours = [found for found in stored.values() if found and found.label_column in declared]
    changes = [shown for found in ours if (shown := found.masked(masks)).labels]
    changed = connection.execute(_relabel_statement(target, changes)).rowcount if changes else 0
    # The others wait for a load that declares their column.
    done = [key for key, found in stored.items() if found is None or found in ours]
    with connection.cursor() as cursor:
        cursor.executemany(
            _option_sql(target.state, "relabel = false"), [(entity, key, int(n)) for key in done for n in labels[key]]
        )
    return changed


def _relabel_of(entry: _Known, labels: Mapping[str, str]) -> _Relabel | None:
    by_suffix = {suffix: name for suffix, name, _ in entry.names}
    for suffix, is_set in (("_id", False), ("_ids", True)):
        if "" in by_suffix and suffix in by_suffix:
            return _Relabel(by_suffix[""], by_suffix[suffix], is_set, labels)
    return None


def _relabel_statement(target: Target, changes: Sequence[_Relabel]) -> sql.Composed:
    values = [(sql.Identifier(change.label_column), _renewed(change)) for change in changes]
    sets = [sql.SQL("{} = {}").format(name, value) for name, value in values]
    if target.table.lifecycle:
        sets.append(sql.SQL("{} = {}").format(sql.Identifier(SYNCED_AT), sql.Literal(target.published_at)))
    tests = [
        sql.SQL("({} AND t.{} IS DISTINCT FROM {})").format(_is_affected(change), name, value)
        for change, (name, value) in zip(changes, values, strict=True)
    ]
    return target.compose(
        "UPDATE {target} t SET {sets} WHERE {tests}", sets=sql.SQL(", ").join(sets), tests=sql.SQL(" OR ").join(tests)
    )


def _is_affected(change: _Relabel) -> sql.Composed:
    numbers = sql.Literal([int(number) for number in change.labels])
    how = "t.{} && {}::bigint[]" if change.is_set else "t.{} = ANY({}::bigint[])"
    return sql.SQL(how).format(sql.Identifier(change.id_column), numbers)


def _renewed(change: _Relabel) -> sql.Composed:
    label, number, by_id = (
        sql.Identifier(change.label_column),
        sql.Identifier(change.id_column),
        Jsonb(dict(change.labels)),
    )
    if not change.is_set:
        return sql.SQL("coalesce({}::jsonb ->> t.{}::text, t.{})").format(sql.Literal(by_id), number, label)
    # The two arrays are parallel; where the stored labels are shorter, the number itself has to do.
    return sql.SQL(
        """(CASE WHEN t.{number} IS NULL THEN t.{label} ELSE ARRAY(
              SELECT coalesce({by_id}::jsonb ->> p.number::text, p.label, p.number::text)
              FROM unnest(t.{number}, t.{label}) WITH ORDINALITY AS p(number, label, place)
              WHERE p.number IS NOT NULL ORDER BY p.place) END)"""
    ).format(number=number, label=label, by_id=sql.Literal(by_id))
