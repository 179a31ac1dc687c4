"""What v1 tells about deals beside the records: sums by currency, changelog and flow, and the currencies themselves."""

from __future__ import annotations

import base64
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeboard_resources.pipedrive.standin.company import Change, Company
from pipeboard_resources.pipedrive.standin.queries import InvalidQueryError
from pipeboard_resources.pipedrive.standin.shapes import Record

# code, name, symbol, rate into the company's own currency
_CURRENCIES = (("BRL", "Real brasileiro", "R$", "1"), ("USD", "US Dollar", "$", "5.5"), ("EUR", "Euro", "€", "6"))


def currencies() -> list[Record]:
    """The rows of /v1/currencies."""
    return [
        {
            "id": number,
            "code": code,
            "name": name,
            "decimal_points": 2,
            "symbol": symbol,
            "active_flag": True,
            "is_custom_flag": False,
        }
        for number, (code, name, symbol, _) in enumerate(_CURRENCIES, start=1)
    ]


def summary(deals: list[Record]) -> Record:
    """Values and counts per currency; converted into the company's currency at fixed rates."""
    rates = {code: Decimal(rate) for code, _, _, rate in _CURRENCIES}
    values: dict[str, Record] = {}
    weighted: dict[str, Record] = {}
    for deal in deals:
        amount = Decimal(str(deal["value"]))
        share = Decimal(100 if deal["probability"] is None else deal["probability"]) / 100
        for totals, part in ((values, amount), (weighted, amount * share)):
            total = totals.setdefault(deal["currency"], {"value": Decimal(0), "count": 0})
            total["value"] += part
            total["count"] += 1
    for code, total in values.items():
        total["value_converted"] = total["value"] * rates.get(code, Decimal(1))
        total["value_formatted"] = f"{code} {total['value']:,.2f}"
        total["value_converted_formatted"] = f"BRL {total['value_converted']:,.2f}"
    for code, total in weighted.items():
        total["value_formatted"] = f"{code} {total['value']:,.2f}"
    total_value = sum((t["value_converted"] for t in values.values()), Decimal(0))
    total_weighted = sum((t["value"] * rates.get(code, Decimal(1)) for code, t in weighted.items()), Decimal(0))
    return {
        "values_total": values,
        "weighted_values_total": weighted,
        "total_count": len(deals),
        "total_currency_converted_value": total_value,
        "total_weighted_currency_converted_value": total_weighted,
        "total_currency_converted_value_formatted": f"BRL {total_value:,.2f}",
        "total_weighted_currency_converted_value_formatted": f"BRL {total_weighted:,.2f}",
    }


def history(company: Company, number: int) -> list[Change]:
    """A deal's changes, newest first: its way through the stages up to now, and the edits made since."""
    deal = company.collection("deals").records[number]
    edits = company.changes.get(number, [])
    changes = list(edits)
    before = {change.field_key: change.old_value for change in reversed(edits)}
    stage_id = before.get("stage_id", deal["stage_id"])
    stages = [
        s for s in company.collection("stages") if s["pipeline_id"] == before.get("pipeline_id", deal["pipeline_id"])
    ]
    earlier = [s["id"] for s in stages if s["id"] < (stage_id or 0)][-1:]
    moved = before.get("stage_change_time", deal["stage_change_time"])
    if earlier and moved:
        changes.append(Change("stage_id", earlier[0], stage_id, moved, deal["owner_id"]))
    status = before.get("status", deal["status"])
    closed = before.get("close_time", deal["close_time"])
    if closed:
        changes.append(Change("status", "open", status, closed, deal["owner_id"]))
    changes.append(Change("add_time", None, deal["add_time"], deal["add_time"], deal["creator_user_id"]))
    return sorted(changes, key=lambda change: change.at, reverse=True)


def changelog(company: Company, number: int) -> list[Record]:
    """The lines of a deal's changelog, newest first; values are text."""
    return [
        {
            "field_key": change.field_key,
            "old_value": _as_text(change.old_value),
            "new_value": _as_text(change.new_value),
            "actor_user_id": change.user_id,
            "time": _v1(change.at),
            "change_source": "app",
            "change_source_user_agent": None,
            "is_bulk_update_flag": False,
        }
        for change in history(company, number)
    ]


def changelog_cursor(start: int) -> str:
    """The changelog's cursor, which unlike v2's is padded base64 of `id:<n>`."""
    return base64.b64encode(f"id:{start}".encode()).decode()


def changelog_start(cursor: str | None) -> int:
    """Where a cursor points to; InvalidQueryError when it is none of ours."""
    if cursor is None:
        return 0
    try:
        return int(base64.b64decode(cursor).decode().removeprefix("id:"))
    except ValueError as error:
        raise InvalidQueryError("Provided cursor is invalid") from error


def flow(company: Company, number: int) -> list[Record]:
    """A deal's changes and activities as one stream, newest first."""
    items = [_flow_change(place, number, change) for place, change in enumerate(history(company, number))]
    items += [
        {"object": "activity", "timestamp": _v1(activity["add_time"]), "data": dict(activity)}
        for activity in company.collection("activities")
        if activity["deal_id"] == number and company.is_listed("activities", activity["id"])
    ]
    return sorted(items, key=lambda item: str(item["timestamp"]), reverse=True)


def _flow_change(place: int, number: int, change: Change) -> Record:
    return {
        "object": "dealChange",
        "timestamp": _v1(change.at),
        "data": {
            "id": number * 1000 + place,
            "item_id": number,
            "user_id": change.user_id,
            "field_key": change.field_key,
            "old_value": change.old_value,
            "new_value": change.new_value,
            "is_bulk_update_flag": None,
            "log_time": _v1(change.at),
            "change_source": "app",
        },
    }


def _v1(text: str) -> str:
    """A v2 time in v1's form."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")


def _as_text(value: Any) -> str | None:
    return None if value is None else str(value)
