"""Records into frames: one page becomes one polars frame with the declared columns of the entity's table.

What does not fit is set aside with its reason and the rest of the row goes on. Nothing is dropped and nothing is
inferred from a batch; no SQL and no Dagster here.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, reduce
from operator import or_
from typing import Any

import polars as pl

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.catalog.record import Record
from pipeboard_assets.catalog.shapes import JSON, Shape, column_names
from pipeboard_assets.records.columns import column_series, json_text, parse_times
from pipeboard_assets.records.custom_fields import LABELS, CustomFields
from pipeboard_assets.records.validation import PageValidator, Raw
from pipeboard_io import Column, ColumnType, Reject, Table
from pipeboard_io.dictionary import OVERFLOW_COLUMN
from pipeboard_io.load import ABSENT
from pipeboard_io.table import LIFECYCLE_COLUMNS

EXTRA = Column("extra", ColumnType.JSONB, "Keys that Pipedrive sent and this version does not know.")
OVERFLOW = Column(OVERFLOW_COLUMN, ColumnType.JSONB, "Custom fields beyond PostgreSQL's column limit, by field key.")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One key of a record and the columns that it fills."""

    key: str
    shape: Shape
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Framed:
    """One page as a frame, what was set aside, and the greatest `update_time` in it (None: no record has one).

    `unknown`: custom field keys, and options as `key=id`, that the field metadata in hand does not have.
    """

    frame: pl.DataFrame
    rejects: tuple[Reject, ...]
    newest: datetime | None
    unknown: frozenset[str] = frozenset()


def base_attributes(entity: Entity) -> tuple[Attribute, ...]:
    """The record's class read as columns, in its order."""
    return tuple(_base_attribute(entity.record, name) for name in entity.record.model_fields)


def _base_attribute(record: type[Record], name: str) -> Attribute:
    shape = next(item for item in record.model_fields[name].metadata if isinstance(item, Shape))
    columns = tuple(
        Column(column, kind, record.description(name, column), nullable=column != "id")
        for column, (_, kind) in zip(column_names(name, shape), shape.columns, strict=True)
    )
    return Attribute(name, shape, columns)


def reserved_names(entity: Entity) -> frozenset[str]:
    """Column names that no custom field may take."""
    base = {column.name for attribute in base_attributes(entity) for column in attribute.columns}
    return frozenset(base.union((EXTRA.name, OVERFLOW.name), LIFECYCLE_COLUMNS))


class Framer:
    """Frames of one entity with the custom fields known now; prepared once, then used page by page."""

    def __init__(self, entity: Entity, custom: CustomFields, *, now: datetime) -> None:
        self._entity = entity
        self._custom = custom
        self._now = now
        self._base = base_attributes(entity)
        self._custom_keys = custom.keys
        self._placed = tuple(Attribute(field.key, field.shape, field.columns) for field in custom.placed)
        self._validator = PageValidator(entity.record, custom)

    @cached_property
    def table(self) -> Table:
        """The table that the frames fit; the loader adds `synced_at` and `deleted_at`."""
        columns = [column for attribute in (*self._base, *self._placed) for column in attribute.columns]
        if self._custom.overflow:
            columns.append(OVERFLOW)
        return Table(
            schema="pipedrive",
            name=self._entity.name,
            columns=(*columns, EXTRA),
            indexes=self._entity.indexes,
            comment=self._entity.description,
            version_column="update_time" if "update_time" in self._entity.record.model_fields else None,
        )

    def frame(self, page: Sequence[Raw]) -> Framed:
        """One frame from one page of API objects; rows keep the order of the page."""
        validated = self._validator.validate(page)
        records = validated.records
        builder = _FrameBuilder([record.id for record in records], validated.raws)
        for attribute in self._base:
            builder.add(attribute, [record.__dict__[attribute.key] for record in records])
        builder.mark_absent(self._base, [record.model_fields_set for record in records])
        if self._custom_keys:
            self._add_custom_fields(builder, records)
        strangers = [self._strangers(record) for record in records]
        builder.add(
            _json_attribute(EXTRA), [_extra(record, keys) for record, keys in zip(records, strangers, strict=True)]
        )
        frame = self._with_deleted_at(builder.frame())  # which adds to the rejects, too
        unknown = frozenset().union(*strangers, self._unknown_options(records))
        return Framed(frame, (*validated.rejects, *builder.rejects), _newest(frame), unknown)

    def _strangers(self, record: Record) -> frozenset[str]:
        """Keys below `custom_fields` that are no field we know."""
        group = record.__dict__["custom_fields"]
        return frozenset() if group is None else frozenset(group.keys() - self._custom_keys)

    def _unknown_options(self, records: Sequence[Record]) -> frozenset[str]:
        groups = [group for record in records if (group := record.__dict__["custom_fields"]) is not None]
        labels = [record.__dict__ for record in records]
        return frozenset(
            f"{key}={option}"
            for key, known in self._custom.options.items()
            for option in _chosen(holder.get(key) for holder in (labels if key == LABELS else groups)) - known
        )

    def _add_custom_fields(self, builder: "_FrameBuilder", records: Sequence[Record]) -> None:
        groups = [record.__dict__["custom_fields"] or {} for record in records]
        for attribute in self._placed:
            builder.add(attribute, [group.get(attribute.key) for group in groups])
        builder.mark_absent(self._placed, [_custom_keys_sent(record, self._custom_keys) for record in records])
        if self._custom.overflow:
            attribute = _json_attribute(OVERFLOW)
            builder.add(attribute, [_only(group, self._custom.overflow) for group in groups])
            builder.mark_absent((attribute,), [record.model_fields_set for record in records])

    def _with_deleted_at(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`deleted_at` from what the source says; its time is the deletion's, which bumps `update_time`."""
        says_deleted = [
            (pl.col(name) == value).fill_null(value=False)
            for name, value in self._entity.deleted_when.items()
            if name in frame.columns
        ]
        if not says_deleted:
            return frame
        now = pl.lit(self._now).cast(pl.Datetime("us", "UTC"))
        when = pl.coalesce("update_time", now) if "update_time" in frame.columns else now
        return frame.with_columns(pl.when(reduce(or_, says_deleted)).then(when).alias("deleted_at"))


class _FrameBuilder:
    """Collects columns of one page; a column that no record sent stays out of the frame (absent keeps the old value)."""

    def __init__(self, keys: Sequence[int], raws: Sequence[Raw]) -> None:
        self.rejects: list[Reject] = []
        self._keys = keys
        self._raws = raws
        self._columns: dict[str, pl.Series] = {}
        self._kinds: dict[str, ColumnType] = {}
        self._absent: list[list[str]] = [[] for _ in keys]

    def add(self, attribute: Attribute, values: Sequence[Any]) -> None:
        split = attribute.shape.split
        if split is None:
            self._add_column(attribute.columns[0], values)
            return
        nothing = (None,) * len(attribute.columns)
        rows = [nothing if value is None else split(value) for value in values]
        for position, column in enumerate(attribute.columns):
            self._add_column(column, [row[position] for row in rows])

    def _add_column(self, column: Column, values: Sequence[Any]) -> None:
        self._columns[column.name] = column_series(column.name, column.type, values)
        self._kinds[column.name] = column.type

    def mark_absent(self, attributes: Sequence[Attribute], sent: Sequence[AbstractSet[str]]) -> None:
        """`sent`: the keys that each record had. Most pages miss none, so that case costs one comparison a row."""
        wanted = {attribute.key for attribute in attributes}
        if all(keys >= wanted for keys in sent):
            return
        for attribute in attributes:
            without = [row for row, keys in enumerate(sent) if attribute.key not in keys]
            for column in attribute.columns:
                if len(without) == len(sent):
                    del self._columns[column.name]
                for row in without if len(without) < len(sent) else ():
                    self._absent[row].append(column.name)

    def frame(self) -> pl.DataFrame:
        if any(self._absent):
            absent = [names or None for names in self._absent]
            self._columns[ABSENT] = pl.Series(ABSENT, absent, dtype=pl.List(pl.String))
        as_sent = pl.DataFrame(list(self._columns.values()))
        frame, unread = parse_times(as_sent, self._kinds)
        for name, positions in unread.items():
            for position in positions:
                reason = f"{as_sent[name][position]!r} is no {self._kinds[name].value}"
                raw = json_text(self._raws[position])
                self.rejects.append(Reject(key=str(self._keys[position]), column=name, reason=reason, raw=raw))
        return frame


def _json_attribute(column: Column) -> Attribute:
    return Attribute(column.name, JSON, (column,))


def _custom_keys_sent(record: Record, everything: frozenset[str]) -> AbstractSet[str]:
    """`custom_fields: null` says that all are empty; without the key nothing is said."""
    if "custom_fields" not in record.model_fields_set:
        return frozenset()
    group = record.__dict__["custom_fields"]
    return everything if group is None else group.keys()


def _only(sent: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any] | None:
    return {key: sent[key] for key in keys if sent.get(key) is not None} or None


def _extra(record: Record, strangers: frozenset[str]) -> Mapping[str, Any] | None:
    if not strangers:
        return record.model_extra or None
    sent = record.__dict__["custom_fields"]
    return {**(record.model_extra or {}), "custom_fields": {key: sent[key] for key in strangers}}


def _chosen(values: Iterable[int | list[int] | None]) -> set[int]:
    chosen: set[int] = set()
    for value in values:
        chosen.update(value if isinstance(value, list) else () if value is None else (value,))
    return chosen


def _newest(frame: pl.DataFrame) -> datetime | None:
    newest = frame["update_time"].max() if "update_time" in frame.columns else None
    return newest if isinstance(newest, datetime) else None
