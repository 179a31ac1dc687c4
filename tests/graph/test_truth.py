"""After a sync every table equals the stand-in's truth: row by row, column by column."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.graph.outcome import AssetOutcome, Status
from pipeboard_assets.graph.request import ASSETS
from tests.graph.conftest import Account

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
# What a base column holds is told by its name, so that this reading of the API is not our catalogue's own.
ADDRESSES = {"address", "postal_address", "location"}
DATES = {"birthday", "due_date", "expected_close_date", "local_won_date", "local_lost_date", "local_close_date"}
INSTANTS = {"created", "modified", "last_login"}
NUMBERS = {"value", "probability", "acv", "arr", "mrr", "annual_revenue", "deal_probability"}


@pytest.fixture(scope="module")
def outcomes(account: Account) -> dict[str, AssetOutcome]:
    return account.sync()


@pytest.mark.parametrize("asset", ASSETS)
def test_the_first_sync_of_every_asset_succeeds(outcomes: dict[str, AssetOutcome], asset: str) -> None:
    assert (outcomes[asset].status, outcomes[asset].error, outcomes[asset].rejected) == (Status.SUCCESS, None, 0)


@pytest.mark.parametrize("entity", CATALOG, ids=lambda entity: entity.name)
def test_every_row_and_column_equals_the_truth(account: Account, outcomes: Any, entity: Entity) -> None:
    truth = {record["id"]: record for record in account.company.truth(entity.name)}
    rows = account.rows(f"pipedrive.{entity.name}")
    assert rows.keys() == truth.keys()
    fields, names = custom_fields(account, entity), base_names(account, entity)
    for number, record in truth.items():
        expected = {**base_row(record), **custom_row(fields, names, record)}
        assert {name: rows[number][name] for name in expected} == expected


def test_every_key_the_api_sent_has_a_column(account: Account, outcomes: Any) -> None:
    for entity in CATALOG:
        extras = account.warehouse.query(f"SELECT extra FROM pipedrive.{entity.name} WHERE extra IS NOT NULL")
        assert extras == []


def test_deleted_deals_carry_deleted_at(account: Account, outcomes: Any) -> None:
    rows = account.warehouse.query("SELECT id FROM pipedrive.deals WHERE deleted_at IS NOT NULL")
    assert {row["id"] for row in rows} == {record["id"] for record in account.company.deleted("deals")}


def test_archived_deals_are_alive_and_marked(account: Account, outcomes: Any) -> None:
    rows = account.rows("pipedrive.deals").values()
    archived = {record["id"] for record in account.company.truth("deals") if record["is_archived"]}
    assert archived and {row["id"] for row in rows if row["is_archived"]} == archived


def base_row(record: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in record.items():
        if key in ("custom_fields", "is_you"):  # `is_you` depends on who asks
            continue
        if key in ADDRESSES:
            row[key] = value and value.get("value")
            row |= {f"{key}_{part}": value and value.get(part) for part in ADDRESS_PARTS}
        elif key in ("emails", "phones"):
            row[key] = value
            row[key[:-1]] = next(
                (entry["value"] for entry in value or () if entry.get("primary") and entry["value"]), None
            )
        else:
            row[key] = scalar(key, value)
    return row


def scalar(key: str, value: Any) -> Any:
    if value is None or value == "" and (key in DATES or key == "due_time"):
        return None
    if key.endswith("_time") and key != "due_time" or key in INSTANTS:
        return instant(value)
    if key in DATES:
        return date.fromisoformat(value)
    if key == "due_time":
        return time.fromisoformat(value)
    if key in NUMBERS:
        return Decimal(str(value))
    return bool(value) if key == "is_admin" else value


def instant(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def base_names(account: Account, entity: Entity) -> dict[str, str]:
    rows = account.warehouse.query(
        "SELECT field_key, base_name FROM pipeboard.custom_field WHERE entity = %s", [entity.name]
    )
    return {row["field_key"]: row["base_name"] for row in rows}


def custom_fields(account: Account, entity: Entity) -> list[dict[str, Any]]:
    if entity.fields is None:
        return []
    return [field.v2() for field in account.company.fields(entity.name, custom_only=True)]


def custom_row(fields: list[dict[str, Any]], names: dict[str, str], record: dict[str, Any]) -> dict[str, Any]:
    """Expected custom columns: names from the dictionary, the rest from the stand-in's own field list."""
    row: dict[str, Any] = {}
    for field in fields:
        value = (record["custom_fields"] or {}).get(field["field_code"])
        row |= {names[field["field_code"]] + suffix: cell for suffix, cell in custom_cells(field, value).items()}
    return row


def custom_cells(field: dict[str, Any], value: Any) -> dict[str, Any]:
    part = value.get if isinstance(value, dict) else {}.get
    labels = {option["id"]: option["label"] for option in field["options"] or ()}
    match field["field_type"]:
        case "monetary":
            return {"": number(part("value")), "_currency": part("currency")}
        case "double":
            return {"": number(value)}
        case "date":
            return {"": value and date.fromisoformat(value)}
        case "daterange":
            return {"": day(part("value")), "_until": day(part("until"))}
        case "time":
            return {"": clock(part("value")), "_timezone": part("timezone_name")}
        case "timerange":
            return {"": clock(part("value")), "_until": clock(part("until")), "_timezone": part("timezone_name")}
        case "enum":
            return {"": labels.get(value), "_id": value}
        case "set":
            return {"": value and [labels[option] for option in value], "_ids": value}
        case "user" | "org" | "people":
            return {"_id": value}
        case "address":
            return {"": part("value"), **{f"_{name}": part(name) for name in ADDRESS_PARTS}}
        case _:
            return {"": value}


def number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def day(value: str | None) -> date | None:
    return None if value is None else date.fromisoformat(value)


def clock(value: str | None) -> time | None:
    return None if value is None else time.fromisoformat(value)
