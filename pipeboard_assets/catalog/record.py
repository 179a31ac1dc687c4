"""The base of every record: one pydantic class an entity, whose attributes are the columns of its table.

Every attribute but the id may be null or missing (pipedrive-api.md section 4); unknown keys are kept for `extra`.
"""

from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from pipeboard_assets.catalog import shapes

Id = Annotated[shapes.BIGINT | None, shapes.ID]
Count = Annotated[shapes.BIGINT | None, shapes.COUNT]
Number = Annotated[Decimal | None, shapes.NUMBER]
Text = Annotated[str | None, shapes.TEXT]
Flag = Annotated[bool | None, shapes.FLAG]
Instant = Annotated[str | None, shapes.INSTANT]
Date = Annotated[str | None, shapes.DATE]
Clock = Annotated[str | None, shapes.CLOCK]
Ids = Annotated[list[shapes.BIGINT] | None, shapes.IDS]
Json = Annotated[Any, shapes.JSON]
Address = Annotated[dict[str, str | None] | None, shapes.ADDRESS]
Emails = Annotated[list[dict[str, Any]] | None, shapes.contacts("email")]
Phones = Annotated[list[dict[str, Any]] | None, shapes.contacts("phone")]


class Record(BaseModel):
    """One validated object of the API. `descriptions` become column comments; keep them for what a name does not say."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True, populate_by_name=True)
    descriptions: ClassVar[dict[str, str]] = {}

    id: Annotated[shapes.BIGINT, shapes.ID]
