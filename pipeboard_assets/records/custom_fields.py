"""Custom fields of one entity: from the field metadata to typed columns with names that never change.

Here the API's 33 field types meet our column rules (DESIGN section 5); names and option labels live in the column
dictionary of `pipeboard_io`, which knows nothing of Pipedrive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeboard_assets.catalog import shapes
from pipeboard_assets.catalog.shapes import Shape
from pipeboard_io import Column, ColumnAssignment, SourceField, Warehouse

_SCALARS: Mapping[str, Shape] = {
    "varchar": shapes.TEXT,
    "varchar_auto": shapes.TEXT,
    "text": shapes.TEXT,
    "phone": shapes.TEXT,
    "double": shapes.NUMBER,
    "int": shapes.NUMBER,
    "monetary": shapes.MONEY,
    "date": shapes.DATE,
    "daterange": shapes.DATE_RANGE,
    "time": shapes.ZONED_CLOCK,
    "timerange": shapes.CLOCK_RANGE,
    "address": shapes.ADDRESS,
} | dict.fromkeys(("user", "org", "people", "deal", "stage", "project", "activity"), shapes.REFERENCE)

# A base column of deals, persons and organizations. The dictionary keeps what its ids are called; it has no further columns.
LABELS = "label_ids"


class FieldOption(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    id: int | str
    label: str = ""


class FieldMetadata(BaseModel):
    """One field object of `/api/v2/<entity>Fields`; only what we use. Unknown field types pass (gotcha 16)."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    field_code: str
    field_name: str = ""
    field_type: str
    is_custom_field: bool = False
    options: list[FieldOption] | None = None

    @property
    def labels(self) -> dict[int, str]:
        """Option id -> label. Ids of custom options are integers (pipedrive-api.md 5.1)."""
        return {option.id: option.label for option in self.options or () if isinstance(option.id, int)}


def shape_of(field_type: str, labels: Mapping[int, str]) -> Shape:
    """How values of a custom field type are stored; jsonb for any type that we do not know."""
    if field_type == "enum":
        return shapes.enum_of(labels)
    if field_type == "set":
        return shapes.set_of(labels)
    return _SCALARS.get(field_type, shapes.JSON)


@dataclass(frozen=True, slots=True)
class CustomColumns:
    """One field with its place in the table: `columns` follow `shape.columns` one to one; none of its own in overflow."""

    key: str
    shape: Shape
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class CustomFields:
    """The custom fields of an entity at one moment. Field keys are 40 hex characters.

    `options`: ids by key, those of the labels among them.
    """

    placed: tuple[CustomColumns, ...] = ()
    overflow: tuple[str, ...] = ()
    options: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset((*(custom.key for custom in self.placed), *self.overflow))


def parse_fields(records: Iterable[Mapping[str, Any]]) -> list[FieldMetadata]:
    """The custom ones among the field objects of the API, in its order, and the one that says what labels are called.

    Raises pydantic.ValidationError.
    """
    fields = [FieldMetadata.model_validate(record) for record in records]
    return [metadata for metadata in fields if metadata.is_custom_field or metadata.field_code == LABELS]


def source_fields(fields: Sequence[FieldMetadata]) -> list[SourceField]:
    """What the column dictionary wants to know: key, label, type, wanted columns, options."""
    return [
        SourceField(
            key=metadata.field_code,
            label=metadata.field_name,
            kind=metadata.field_type,
            columns=shape_of(metadata.field_type, {}).columns if metadata.is_custom_field else (),
            options=tuple(metadata.labels.items()),
        )
        for metadata in fields
    ]


def place(entity: str, fields: Sequence[FieldMetadata], warehouse: Warehouse, reserved: frozenset[str]) -> CustomFields:
    """Give every field its columns, the same for ever; `reserved` are the base columns of the table."""
    return _placed(fields, warehouse.assign_columns(entity, source_fields(fields), reserved=reserved))


def preview(
    entity: str, fields: Sequence[FieldMetadata], warehouse: Warehouse, reserved: frozenset[str]
) -> CustomFields:
    """The columns that `place` would give, without giving them."""
    return _placed(fields, warehouse.preview_columns(entity, source_fields(fields), reserved=reserved))


def _placed(fields: Sequence[FieldMetadata], assignment: ColumnAssignment) -> CustomFields:
    found = assignment.fields
    custom = [metadata for metadata in fields if metadata.is_custom_field]
    return CustomFields(
        placed=tuple(
            CustomColumns(m.field_code, shape_of(m.field_type, found[m.field_code].labels), found[m.field_code].columns)
            for m in custom
            if not found[m.field_code].is_overflow
        ),
        overflow=tuple(m.field_code for m in custom if found[m.field_code].is_overflow),
        options={
            m.field_code: frozenset(found[m.field_code].labels) for m in fields if m.field_type in ("enum", "set")
        },
    )
