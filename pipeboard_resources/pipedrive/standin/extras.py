"""Fields that lists send on request only: include_fields, and labels beside ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeboard_resources.pipedrive.standin.company import Company
from pipeboard_resources.pipedrive.standin.fields import Field
from pipeboard_resources.pipedrive.standin.queries import Query
from pipeboard_resources.pipedrive.standin.shapes import Record

_LINKS = {"deals": "deal_id", "persons": "person_id", "organizations": "org_id"}
_TEXTS = {"smart_bcc_email", "first_won_time", "last_incoming_mail_time", "last_outgoing_mail_time", "source_lead_id"}


class Related:
    """Activities, deals and persons by what they belong to; built for one page and thrown away."""

    def __init__(self, company: Company, entity: str) -> None:
        link = _LINKS[entity]
        self.activities = _grouped(company, "activities", link)
        self.deals = {} if entity == "deals" else _grouped(company, "deals", link)
        self.people = _grouped(company, "persons", "org_id") if entity == "organizations" else {}


def _grouped(company: Company, entity: str, link: str) -> dict[int, list[Record]]:
    groups: dict[int, list[Record]] = {}
    for record in company.collection(entity):
        if record[link] is not None and company.is_listed(entity, record["id"]):
            groups.setdefault(record[link], []).append(record)
    return groups


def dressed(company: Company, entity: str, query: Query) -> Callable[[int], Record]:
    """A function that shows a record the way the query's shape parameters ask for."""
    fields = {field.code: field for field in company.fields(entity)}
    related = Related(company, entity) if query.include_fields and entity in _LINKS else None

    def show(number: int) -> Record:
        record = company.collection(entity).shown(number)
        if query.custom_fields is not None and record.get("custom_fields") is not None:
            record["custom_fields"] = {k: v for k, v in record["custom_fields"].items() if k in query.custom_fields}
        if related is not None:
            record.update({name: _extra(name, record, related) for name in query.include_fields})
        if entity == "activities" and query.include_fields:
            record["attendees"] = _attendees(company, record)
        if query.with_labels:
            record["labels"] = [_labelled(fields["label_ids"], number) for number in record["label_ids"]]
        if query.with_option_labels and record.get("custom_fields"):
            record["custom_fields"] = {k: _with_label(fields.get(k), v) for k, v in record["custom_fields"].items()}
        return record

    return show


def _extra(name: str, record: Record, related: Related) -> Any:
    number = record["id"]
    activities = related.activities.get(number, [])
    deals = related.deals.get(number, [])
    if name in {"next_activity_id", "last_activity_id"}:
        wanted = [a["id"] for a in activities if a["done"] is (name == "last_activity_id")]
        return (min(wanted) if name == "next_activity_id" else max(wanted)) if wanted else None
    if name.endswith("_count"):
        return _count(name, activities, deals, related.people.get(number, []))
    if name == "smart_bcc_email":
        return f"companhia-demo+{number}@pipedrivemail.example"
    if name == "first_won_time":
        return record["won_time"]
    return {"marketing_status": "no_consent", "doi_status": 1}.get(name)


def _count(name: str, activities: Sequence[Record], deals: Sequence[Record], people: Sequence[Record]) -> int:
    """Counts of what the stand-in has; things it has not (files, notes, mail) count zero."""
    counts: Mapping[str, int] = {
        "activities_count": len(activities),
        "done_activities_count": sum(a["done"] for a in activities),
        "undone_activities_count": sum(not a["done"] for a in activities),
        "people_count": len(people),
        "open_deals_count": sum(d["status"] == "open" for d in deals),
        "closed_deals_count": sum(d["status"] in {"won", "lost"} for d in deals),
        "won_deals_count": sum(d["status"] == "won" for d in deals),
        "lost_deals_count": sum(d["status"] == "lost" for d in deals),
    }
    return counts.get(name, 0)


def _attendees(company: Company, record: Record) -> list[Record]:
    person = company.collection("persons").records.get(record["person_id"] or 0)
    if person is None or not person["emails"]:
        return []
    return [
        {
            "email": person["emails"][0]["value"],
            "name": person["name"],
            "status": "noreply",
            "is_organizer": False,
            "person_id": person["id"],
            "user_id": None,
        }
    ]


def _labelled(field: Field, number: int) -> Record:
    return {"id": number, "label": next((o.label for o in field.options or () if o.id == number), None)}


def _with_label(field: Field | None, value: Any) -> Any:
    if field is None or value is None or field.type not in {"enum", "set"}:
        return value
    return [_labelled(field, v) for v in value] if isinstance(value, list) else _labelled(field, value)
