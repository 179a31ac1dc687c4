"""The views `bi.<entity>`: living rows, custom fields under the labels that Pipedrive shows now, names beside ids.

Base columns keep Pipedrive's own names. A label that is taken, or too long for PostgreSQL, gets a number or is cut; a
removed field keeps its column. No Dagster here.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.records.custom_fields import LABELS
from pipeboard_assets.records.frames import base_attributes
from pipeboard_io import View, ViewColumn, Warehouse
from pipeboard_io.dictionary import OVERFLOW_COLUMN
from pipeboard_io.schema import quote
from pipeboard_io.table import NAME_BYTES, SYNCED_AT

# What a record is called, where it is not `name`.
_TITLES = {"deals": "title", "activities": "subject"}
# Custom fields that hold the id of a record of ours, by field type.
_REFERENCES = {"user": "users", "org": "organizations", "people": "persons", "deal": "deals", "stage": "stages"}

_FIELDS = """
SELECT entity, field_key, label, kind, columns, retired_at IS NOT NULL AS is_retired FROM pipeboard.custom_field
WHERE base_name IS NOT NULL ORDER BY retired_at IS NOT NULL, first_seen_at, field_key
"""
_COLUMNS = """
SELECT c.relname, a.attname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = to_regnamespace('pipedrive') AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
"""


@dataclass(frozen=True, slots=True)
class LabelledField:
    """A custom field as the column dictionary has it; `columns` are (suffix, column) pairs."""

    key: str
    label: str
    kind: str
    columns: tuple[tuple[str, str], ...]
    is_retired: bool = False

    def comment(self) -> str:
        """What a BI tool shows beside the column."""
        removed = ", removed from Pipedrive" if self.is_retired else ""
        return f"{self.label} ({self.kind}, {self.key}{removed})"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column before its name is known to be free: `head` may be cut, `tail` may not."""

    key: str
    head: str
    tail: str
    expression: str
    comment: str | None


@dataclass(frozen=True, slots=True)
class Dictionary:
    """What the database knows of entities: columns of their tables, and their custom fields, those in use first."""

    columns: Mapping[str, Collection[str]]
    fields: Mapping[str, Sequence[LabelledField]]

    def has_tables_for(self, entity: Entity) -> bool:
        """Whether its table is there, and those of the entities that it refers to."""
        return {entity.name, *entity.references.values()}.issubset(self.columns)


def read_dictionary(warehouse: Warehouse) -> Dictionary:
    """What views are made of now."""
    columns: dict[str, set[str]] = {}
    for row in warehouse.query(_COLUMNS):
        columns.setdefault(row["relname"], set()).add(row["attname"])
    fields: dict[str, list[LabelledField]] = {}
    for row in warehouse.query(_FIELDS):
        fields.setdefault(row["entity"], []).append(_field(row))
    return Dictionary(columns, fields)


def label_views(dictionary: Dictionary) -> Iterator[View]:
    """The views that tables and field labels call for now; without those whose tables are not there yet."""
    for entity in CATALOG:
        if dictionary.has_tables_for(entity):
            yield label_view(
                entity,
                dictionary.fields.get(entity.name, ()),
                columns=dictionary.columns[entity.name],
                tables=dictionary.columns.keys(),
            )


def _field(row: Mapping[str, Any]) -> LabelledField:
    columns = tuple((name["suffix"], name["name"]) for name in row["columns"])
    return LabelledField(row["field_key"], row["label"], row["kind"], columns, row["is_retired"])


def label_view(
    entity: Entity,
    fields: Sequence[LabelledField],
    *,
    columns: Collection[str],
    tables: Collection[str],
    taken: Collection[str] = (),
) -> View:
    """The view of one entity. `columns`: those that its table has; `tables`: the entities whose tables are there; `taken`:
    names that no column may have.

    `fields` claim their names in order, so that the fields in use come first.
    """
    joins = Joins()
    wanted = [*base_columns(entity, joins), *_custom(fields, columns, tables, joins)]
    if OVERFLOW_COLUMN in columns:
        wanted.append(Wanted(OVERFLOW_COLUMN, OVERFLOW_COLUMN, "", f"t.{OVERFLOW_COLUMN}", "Further custom fields."))
    return View(
        schema="bi",
        name=entity.name,
        columns=tuple(named(wanted, taken=taken)),
        body=f"FROM pipedrive.{entity.name} AS t{joins.sql()}\nWHERE t.deleted_at IS NULL",
        comment=f"{entity.description} Living rows only, with current labels as column names.",
    )


class Joins:
    """The joins that names come from: each by primary key, so PostgreSQL leaves out those that a query does not use."""

    def __init__(self) -> None:
        self._joins: list[str] = []

    def name_of(self, column: str, entity: str) -> str:
        """An expression for what the record is called whose id stands in the column."""
        alias = f"r{len(self._joins) + 1}"
        self._joins.append(f"\nLEFT JOIN pipedrive.{entity} AS {alias} ON {alias}.id = t.{quote(column)}")
        return f"{alias}.{_TITLES.get(entity, 'name')}"

    def sql(self) -> str:
        return "".join(self._joins)


def base_columns(entity: Entity, joins: Joins) -> Iterator[Wanted]:
    for attribute in base_attributes(entity):
        for column in attribute.columns:
            yield Wanted(column.name, column.name, "", f"t.{quote(column.name)}", column.comment)
        if attribute.key in entity.references:
            yield _name_beside(attribute.key, entity.references[attribute.key], joins)
        if attribute.key == LABELS:
            words = "What the labels in label_ids are called."
            yield Wanted("labels", "labels", "", labels_of(entity.name), words)
    yield Wanted(SYNCED_AT, SYNCED_AT, "", f"t.{SYNCED_AT}", "When this row last changed here.")


def _name_beside(column: str, target: str, joins: Joins) -> Wanted:
    role = column.removesuffix("_id").removesuffix("_user")
    name = f"{role}_{_TITLES.get(target, 'name')}"
    return Wanted(name, name, "", joins.name_of(column, target), f"What {column} is called in {target}.")


def labels_of(entity: str, alias: str = "t") -> str:
    """An expression for the labels behind `label_ids`, text[] in its order; an id that nobody knows is left out."""
    return f"""(SELECT array_agg(o.label ORDER BY l.place)
          FROM unnest({alias}.{LABELS}) WITH ORDINALITY AS l(id, place)
          JOIN pipeboard.custom_field_option AS o ON o.entity = '{entity}' AND o.field_key = '{LABELS}'
               AND o.option_id = l.id AND o.last_seen_at IS NULL)"""


def _custom(
    fields: Sequence[LabelledField], columns: Collection[str], tables: Collection[str], joins: Joins
) -> Iterator[Wanted]:
    for field in fields:
        head = field.label.strip() or field.key
        suffixes = [suffix for suffix, _ in field.columns]
        for suffix, column in field.columns:
            if column not in columns:  # the field is new and its first load has not come to its end
                continue
            target = _REFERENCES.get(field.kind)
            if suffixes == ["_id"] and target in tables:
                name = joins.name_of(column, str(target))
                yield Wanted(f"{field.key}_name", head, "", name, field.comment())
            yield Wanted(field.key + suffix, head, _tail(suffix), f"t.{quote(column)}", field.comment())


def _tail(suffix: str) -> str:
    words = suffix.strip("_").replace("_", " ")
    return f" ({words})" if words else ""


def named(wanted: Iterable[Wanted], *, taken: Iterable[str] = ()) -> Iterator[ViewColumn]:
    """Names unique without regard to case, among themselves and against those taken; at most 63 bytes."""
    taken = {name.casefold() for name in taken}
    for each in wanted:
        name = next(name for name in _candidates(each) if name.casefold() not in taken)
        taken.add(name.casefold())
        yield ViewColumn(name, each.expression, each.comment, key=each.key)


def _candidates(wanted: Wanted) -> Iterator[str]:
    for number in count(1):
        tail = wanted.tail if number == 1 else f"{wanted.tail} ({number})"
        room = NAME_BYTES - len(tail.encode())
        yield wanted.head.encode()[:room].decode(errors="ignore").rstrip() + tail
