"""How one JSON value of Pipedrive becomes one or more columns: the only place where value shapes are known.

A `Shape` is attached to a record's attribute (base columns) or chosen by field type (custom fields). Here is no polars
and no SQL: `split` gives plain Python values, `frames.py` turns them into typed columns.
Value shapes: pipedrive-api.md section 5.3; column rules: DESIGN section 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pipeboard_io import ColumnType

type_ = ColumnType
Split = Callable[[Any], tuple[Any, ...]]

# PostgreSQL's bigint; checked by pydantic so that a larger number is rejected alone instead of failing the COPY.
BIGINT = Annotated[int, Field(ge=-(2**63), lt=2**63)]


@dataclass(frozen=True, slots=True)
class Shape:
    """`annotation`: what pydantic accepts besides None; `columns`: (suffix, type); `split`: value -> one item a column."""

    annotation: Any
    columns: tuple[tuple[str, ColumnType], ...]
    split: Split | None = None


class _Value(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class Money(_Value):
    value: Decimal | None = None
    currency: str | None = None


class Range(_Value):
    value: str | None = None
    until: str | None = None
    timezone_name: str | None = None


ADDRESS_PARTS = (
    "country",
    "admin_area_level_1",
    "admin_area_level_2",
    "locality",
    "sublocality",
    "route",
    "street_number",
    "subpremise",
    "postal_code",
    "formatted_address",
)


def _split_address(address: Mapping[str, str | None]) -> tuple[str | None, ...]:
    return (address.get("value"), *(address.get(part) for part in ADDRESS_PARTS))


def _split_contacts(contacts: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """All of them, and the primary one: the one so marked, else the first that is not empty (gotchas 18 and 19)."""
    filled = [contact for contact in contacts if contact.get("value")]
    primary = next((c for c in filled if c.get("primary") or c.get("primary_flag")), filled[0] if filled else None)
    return contacts, str(primary["value"]) if primary else None


ID = Shape(BIGINT, (("", type_.BIGINT),))
COUNT = Shape(BIGINT, (("", type_.BIGINT),))
NUMBER = Shape(Decimal, (("", type_.NUMERIC),))
TEXT = Shape(str, (("", type_.TEXT),))
FLAG = Shape(bool, (("", type_.BOOLEAN),))
INSTANT = Shape(str, (("", type_.TIMESTAMPTZ),))
DATE = Shape(str, (("", type_.DATE),))
CLOCK = Shape(str, (("", type_.TIME),))
IDS = Shape(list[BIGINT], (("", type_.BIGINT_ARRAY),))
JSON = Shape(Any, (("", type_.JSONB),))
ADDRESS = Shape(
    dict[str, str | None],
    (("", type_.TEXT), *((f"_{part}", type_.TEXT) for part in ADDRESS_PARTS)),
    _split_address,
)
MONEY = Shape(Money, (("", type_.NUMERIC), ("_currency", type_.TEXT)), lambda money: (money.value, money.currency))
DATE_RANGE = Shape(Range, (("", type_.DATE), ("_until", type_.DATE)), lambda span: (span.value, span.until))
ZONED_CLOCK = Shape(
    Range, (("", type_.TIME), ("_timezone", type_.TEXT)), lambda clock: (clock.value, clock.timezone_name)
)
CLOCK_RANGE = Shape(
    Range,
    (("", type_.TIME), ("_timezone", type_.TEXT), ("_until", type_.TIME)),
    lambda span: (span.value, span.timezone_name, span.until),
)
REFERENCE = Shape(BIGINT, (("_id", type_.BIGINT),))


def contacts(singular: str) -> Shape:
    """E-mails or phones: the whole list as jsonb, and the primary one as `<singular>` beside it."""
    return Shape(list[dict[str, Any]], (("", type_.JSONB), (f"={singular}", type_.TEXT)), _split_contacts)


def enum_of(labels: Mapping[int, str]) -> Shape:
    """One option: its label as text, its id beside it. An option that nobody knows keeps its id and has no label."""
    return Shape(BIGINT, (("", type_.TEXT), ("_id", type_.BIGINT)), lambda option: (labels.get(option), option))


def set_of(labels: Mapping[int, str]) -> Shape:
    """Several options: labels in the order of the ids."""

    def split(options: list[int]) -> tuple[list[str | None], list[int]]:
        return [labels.get(option) for option in options], options

    return Shape(list[BIGINT], (("", type_.TEXT_ARRAY), ("_ids", type_.BIGINT_ARRAY)), split)


def column_names(attribute: str, shape: Shape) -> tuple[str, ...]:
    """Names of a shape's columns for one attribute: `<attribute><suffix>`, or the suffix alone after an `=`."""
    return tuple(suffix[1:] if suffix.startswith("=") else attribute + suffix for suffix, _ in shape.columns)
