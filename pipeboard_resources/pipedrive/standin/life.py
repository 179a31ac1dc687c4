"""A working day in a few lines: random, plausible edits of a company, for the demo and for model-based tests."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pipeboard_resources.pipedrive.standin import words
from pipeboard_resources.pipedrive.standin.company import Company
from pipeboard_resources.pipedrive.standin.values import amount

Edit = Callable[[Company, Random], None]


def live(company: Company, edits: int, rng: Random) -> list[str]:
    """Make `edits` random edits, each at the company's now; their names, in order."""
    names = rng.choices(tuple(EDITS), [weight for weight, _ in EDITS.values()], k=edits)
    for name in names:
        with company.lock:
            EDITS[name][1](company, rng)
    return names


def _pick(company: Company, entity: str, rng: Random) -> int:
    """A living record, made first if there is none."""
    ids = company.ids(entity)
    return rng.choice(ids) if ids else company.create(entity)


def _new_organization(company: Company, rng: Random) -> None:
    company.create("organizations", {"name": f"{rng.choice(words.COMPANY_KINDS)} {rng.choice(words.COMPANY_NAMES)}"})


def _new_person(company: Company, rng: Random) -> None:
    first, last = rng.choice(words.FIRST_NAMES), rng.choice(words.LAST_NAMES)
    names = {"name": f"{first} {last}", "first_name": first, "last_name": last}
    company.create("persons", {**names, "org_id": _pick(company, "organizations", rng)})


def _new_deal(company: Company, rng: Random) -> None:
    person = company.get("persons", _pick(company, "persons", rng))
    company.create(
        "deals",
        {
            "title": rng.choice(words.OFFERS),
            "value": amount(rng),
            "person_id": person["id"],
            "org_id": person["org_id"],
            "stage_id": _pick(company, "stages", rng),
        },
    )


def _new_activity(company: Company, rng: Random) -> None:
    deal = company.get("deals", _pick(company, "deals", rng))
    company.create(
        "activities",
        {
            "subject": rng.choice(words.SUBJECTS),
            "deal_id": deal["id"],
            "person_id": deal["person_id"],
            "org_id": deal["org_id"],
            "due_date": company.now().date().isoformat(),
        },
    )


def _move_deal(company: Company, rng: Random) -> None:
    company.update("deals", _pick(company, "deals", rng), {"stage_id": _pick(company, "stages", rng)})


def _close_deal(company: Company, rng: Random) -> None:
    status = rng.choice(("won", "lost", "open"))
    reason = rng.choice(words.LOST_REASONS) if status == "lost" else None
    company.update("deals", _pick(company, "deals", rng), {"status": status, "lost_reason": reason})


def _revalue_deal(company: Company, rng: Random) -> None:
    company.update("deals", _pick(company, "deals", rng), {"value": amount(rng)})


def _finish_activity(company: Company, rng: Random) -> None:
    when = company.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    company.update("activities", _pick(company, "activities", rng), {"done": True, "marked_as_done_time": when})


def _rename_person(company: Company, rng: Random) -> None:
    last = rng.choice(words.LAST_NAMES)
    number = _pick(company, "persons", rng)
    first = company.get("persons", number)["first_name"]
    company.update("persons", number, {"last_name": last, "name": f"{first} {last}"})


def _delete_something(company: Company, rng: Random) -> None:
    entity = rng.choice(("deals", "activities", "persons", "organizations"))
    company.delete(entity, _pick(company, entity, rng))


def _restore_deal(company: Company, rng: Random) -> None:
    deleted = company.deleted("deals")
    if deleted:
        company.restore("deals", rng.choice(deleted)["id"])


def _archive_deal(company: Company, rng: Random) -> None:
    number = _pick(company, "deals", rng)
    if company.get("deals", number)["is_archived"]:
        company.unarchive(number)
    else:
        company.archive(number)


def _merge_contacts(company: Company, rng: Random) -> None:
    entity = rng.choice(("persons", "organizations", "deals"))
    first, second = _pick(company, entity, rng), _pick(company, entity, rng)
    if first != second:
        company.merge(entity, first, second)


# Name: how often, compared with the others, and what it does.
EDITS: dict[str, tuple[int, Edit]] = {
    "new_organization": (2, _new_organization),
    "new_person": (4, _new_person),
    "new_deal": (6, _new_deal),
    "new_activity": (12, _new_activity),
    "move_deal": (14, _move_deal),
    "close_deal": (8, _close_deal),
    "revalue_deal": (8, _revalue_deal),
    "finish_activity": (12, _finish_activity),
    "rename_person": (3, _rename_person),
    "delete_something": (3, _delete_something),
    "restore_deal": (1, _restore_deal),
    "archive_deal": (3, _archive_deal),
    "merge_contacts": (1, _merge_contacts),
}
