"""A page of API objects into validated records: pydantic decides, and what fails is set aside value by value."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import (
    Any,
    NotRequired,  # typing's own is not enough for pydantic before Python 3.12
)

from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model, with_config
from typing_extensions import TypedDict

from pipeboard_assets.catalog.record import Record
from pipeboard_assets.records.columns import json_text
from pipeboard_assets.records.custom_fields import CustomFields
from pipeboard_io import Reject

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Validated:
    """Sound records with the objects they came from (same order), and what was set aside."""

    records: Sequence[Record]
    raws: Sequence[Raw]
    rejects: tuple[Reject, ...] = ()


class PageValidator:
    """Validates pages of one record class with the custom fields known now."""

    def __init__(self, record: type[Record], custom: CustomFields) -> None:
        self._model = _with_custom_fields(record, custom)
        self._page: TypeAdapter[list[Record]] = TypeAdapter(list[self._model])  # type: ignore[name-defined]

    def validate(self, page: Sequence[Raw]) -> Validated:
        """All records at once; only a page with a bad value is looked through record by record."""
        try:
            return Validated(self._page.validate_python(page), page)
        except ValidationError:
            found = [(raw, *_repair(self._model, raw)) for raw in page]
        sound = [(record, raw) for raw, record, _ in found if record is not None]
        rejects = tuple(reject for _, _, rejects in found for reject in rejects)
        return Validated([record for record, _ in sound], [raw for _, raw in sound], rejects)


def _with_custom_fields(record: type[Record], custom: CustomFields) -> type[Record]:
    """Custom fields stay a dictionary of the keys that were sent: a model of 60 attributes takes 1.7 times as long."""
    placed = {field.key: NotRequired[field.shape.annotation | None] for field in custom.placed}
    group = TypedDict("CustomFields", placed)  # type: ignore[misc]
    checked: Any = with_config(ConfigDict(extra="allow", coerce_numbers_to_str=True))(group)
    return create_model(record.__name__, __base__=record, custom_fields=(checked | None, None))


def _repair(model: type[Record], raw: Raw) -> tuple[Record | None, list[Reject]]:
    """The record without its bad values (each set to null and rejected); None when the record itself is bad."""
    number = raw.get("id") if isinstance(raw, Mapping) else None
    key = "" if number is None else str(number)
    repaired = copy.deepcopy(raw)
    rejects: dict[str, Reject] = {}
    while True:
        try:
            return model.model_validate(repaired), list(rejects.values())
        except ValidationError as invalid:
            error = invalid.errors(include_url=False, include_input=False)[0]
        path = [str(part) for part in error["loc"][: 2 if error["loc"][:1] == ("custom_fields",) else 1]]
        column = ".".join(path)
        if not path or path == ["id"] or column in rejects:
            return None, [Reject(key=key, column=None, reason=error["msg"], raw=json_text(raw))]
        rejects[column] = Reject(key=key, column=column, reason=error["msg"], raw=json_text(raw))
        _set_null(repaired, path)


def _set_null(record: Any, path: Sequence[str]) -> None:
    *parents, last = path
    for part in parents:
        record = record[part]
    record[last] = None
