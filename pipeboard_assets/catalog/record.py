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


# What an attribute says in whichever record it occurs; a record's own description goes before.
_COMMON = {
    "id": "Pipedrive's id.",
    "name": "Its name.",
    "owner_id": "Who owns it: users.id.",
    "creator_user_id": "Who created it: users.id.",
    "person_id": "Its person: persons.id.",
    "org_id": "Its organization: organizations.id.",
    "deal_id": "Its deal: deals.id.",
    "pipeline_id": "Its pipeline: pipelines.id.",
    "stage_id": "Its stage: stages.id.",
    "label_ids": "Ids of its labels; the view in bi has their names.",
    "picture_id": "Id of its picture.",
    "visible_to": "Visibility group that may see it.",
    "order_nr": "Its place among the others, from the first.",
    "active_flag": "False once it was switched off.",
    "is_custom_flag": "True where the account has added it.",
    "is_deleted": "As Pipedrive says; deleted_at tells since when.",
    "add_time": "When it was added.",
    "update_time": "When it last changed; NULL: never.",
}
_ADDRESS_PARTS = {
    "_country": "Country",
    "_admin_area_level_1": "State or region",
    "_admin_area_level_2": "Municipality or district",
    "_locality": "City",
    "_sublocality": "Part of the city",
    "_route": "Street",
    "_street_number": "House number",
    "_subpremise": "Apartment, floor or suite",
    "_postal_code": "Postal code",
    "_formatted_address": "The whole address, as Pipedrive's map writes it,",
}


class Record(BaseModel):
    """One validated object of the API. `descriptions`: comments of columns, beyond those that many records share."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True, populate_by_name=True)
    descriptions: ClassVar[dict[str, str]] = {}

    id: Annotated[shapes.BIGINT, shapes.ID]

    @classmethod
    def description(cls, attribute: str, column: str) -> str | None:
        """What a column of an attribute means; None where nobody has said it."""
        if part := _ADDRESS_PARTS.get(column.removeprefix(attribute)):
            return f"{part} of {attribute}."
        return cls.descriptions.get(column) or _COMMON.get(column)
