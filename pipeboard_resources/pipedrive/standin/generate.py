"""Fills a new company: accounts, funnels, contacts, deals and activities that agree with each other and with time.

Ids follow add_time, as in a real account. Each entity has its own stream of random numbers, so more deals do not give
other persons.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from pipeboard_resources.pipedrive.standin import words
from pipeboard_resources.pipedrive.standin.clock import v1_time, v2_time
from pipeboard_resources.pipedrive.standin.company import Company
from pipeboard_resources.pipedrive.standin.fields import CUSTOM_FIELDS, extra_blueprints
from pipeboard_resources.pipedrive.standin.shapes import BLANKS, Record
from pipeboard_resources.pipedrive.standin.values import Links, address, amount, currency, day, maker, phone

HISTORY = timedelta(days=3 * 365)

USER_IDS = tuple(range(101, 109))
DEACTIVATED_USER_ID = 107
RESTRICTED_USER_ID = 104
# Removed from the company: they still own records but are not in the list (api.md 4.1).
DEPARTED_USER_IDS = (190, 191)

_FILLED_SHARE = 0.4
_ODD_EVERY = 23
_UNDATED_EVERY = 17


@dataclass(frozen=True, slots=True)
class Size:
    """How many living records of each kind."""

    deals: int
    persons: int
    organizations: int
    activities: int

    @staticmethod
    def for_deals(deals: int, *, persons: int | None, organizations: int | None, activities: int | None) -> Size:
        """Ratios of the demo company: 2,000 deals, 1,600 persons, 600 organizations, 6,000 activities."""
        return Size(
            deals,
            deals * 4 // 5 if persons is None else persons,
            deals * 3 // 10 if organizations is None else organizations,
            deals * 3 if activities is None else activities,
        )


def populate(company: Company, *, size: Size, has_custom_fields: bool, extra_custom_fields: int) -> None:
    """Fill an empty company in place."""
    now = company.now()
    _add_users(company, now)
    _add_activity_types(company, now)
    _add_funnels(company, now)
    if has_custom_fields:
        _add_custom_fields(company, extra_custom_fields)
    _Filler(company, size, now).fill()
    company.version = 0


def _add_users(company: Company, now: datetime) -> None:
    rng = Random(f"{company.seed}/users")
    founded = now - HISTORY
    for number in USER_IDS:
        first, last = rng.choice(words.FIRST_NAMES), rng.choice(words.LAST_NAMES)
        is_admin = number in USER_IDS[:2]
        created = founded + timedelta(days=7 * (number - USER_IDS[0]))
        user = BLANKS["users"](number, v1_time(created))
        user.update(
            name=f"{first} {last}",
            email=f"usuario{number}@{company.domain}.example",
            is_admin=int(is_admin),
            has_created_company=number == USER_IDS[0],
            last_login=v1_time(now - timedelta(hours=rng.randrange(1, 400))),
            active_flag=number != DEACTIVATED_USER_ID,
            access=_access(is_admin=is_admin),
        )
        company.collections["users"].put(user)


def _access(*, is_admin: bool) -> list[dict[str, Any]]:
    return [
        {"app": app, "admin": is_admin, "permission_set_id": f"{number:08d}-39bd-43a9-b305-ef3a2b0998e5"}
        for number, app in enumerate(("sales", "global", "account_settings"))
    ]


def _add_activity_types(company: Company, now: datetime) -> None:
    rows = (
        ("Chamada", "call", "call", True),
        ("Reunião", "meeting", "meeting", True),
        ("Tarefa", "task", "task", True),
        ("Prazo", "deadline", "deadline", True),
        ("E-mail", "email", "email", True),
        ("Almoço", "lunch", "lunch", True),
        ("Visita técnica", "visita_tecnica", "car", True),
        ("Fax (antigo)", "fax", "document", False),
    )
    founded = v1_time(now - HISTORY)
    for number, (name, key, icon, is_active) in enumerate(rows, start=1):
        row = BLANKS["activity_types"](number, founded)
        row.update(name=name, key_string=key, icon_key=icon, active_flag=is_active, is_custom_flag=number > 6)
        row["update_time"] = None if number == 2 else founded
        company.collections["activity_types"].put(row)


_FUNNELS = (
    ("Vendas", ("Prospecção", "Qualificação", "Diagnóstico", "Proposta enviada", "Negociação", "Fechamento")),
    (
        "Renovações",
        ("A vencer", "Contato feito", "Proposta de renovação", "Em negociação", "Contrato enviado", "Assinatura"),
    ),
    ("Parcerias", ("Ideia", "Primeira conversa", "Termo de intenção", "Jurídico", "Piloto", "Lançamento")),
)


def _add_funnels(company: Company, now: datetime) -> None:
    founded = now - HISTORY
    stage_number = 0
    for number, (name, stages) in enumerate(_FUNNELS, start=1):
        pipeline = BLANKS["pipelines"](number, v2_time(founded))
        # api.md gotcha 2: a pipeline's update_time can be null.
        pipeline.update(name=name, update_time=None if number == 2 else v2_time(founded + timedelta(days=number)))
        company.collections["pipelines"].put(pipeline)
        for order, stage_name in enumerate(stages):
            stage_number += 1
            stage = BLANKS["stages"](stage_number, v2_time(founded))
            stage.update(
                name=stage_name,
                order_nr=order,
                pipeline_id=number,
                deal_probability=min(100, 10 + 18 * order),
                is_deal_rot_enabled=order == 3,
                days_to_rotten=30 if order == 3 else None,
            )
            company.collections["stages"].put(stage)


def _add_custom_fields(company: Company, extra: int) -> None:
    for entity, blueprints in CUSTOM_FIELDS.items():
        for name, field_type, labels in (*blueprints, *(extra_blueprints(extra) if entity == "deals" else ())):
            company.add_field(entity, name, field_type, labels)


def _instants(rng: Random, count: int, now: datetime) -> list[datetime]:
    """`count` times over the history, ascending, more of them of late; two bulk imports share one second each."""
    span = HISTORY.total_seconds()
    seconds = [span * rng.random() ** 1.3 for _ in range(count)]
    for import_at in (0.35, 0.8):
        first = int(count * import_at)
        for place in range(first, min(first + count // 25, count)):
            seconds[place] = span * import_at
    return sorted(now - timedelta(seconds=int(s)) for s in seconds)


class _Filler:
    """Makes contacts, deals and activities in that order, so that each finds what it refers to."""

    def __init__(self, company: Company, size: Size, now: datetime) -> None:
        self.company = company
        self.size = size
        self.now = now
        self.stages = list(company.collections["stages"])
        self.organization_ids: list[int] = []
        self.person_ids: list[int] = []
        self.people_of: dict[int, list[int]] = {}
        self.times: dict[str, list[datetime]] = {}

    def fill(self) -> None:
        # Ids are handed out beforehand, since organizations may point to persons in custom fields and the reverse.
        self.organization_ids = _ids(Random(f"{self.company.seed}/org-ids"), self.size.organizations)
        self.person_ids = _ids(Random(f"{self.company.seed}/person-ids"), self.size.persons)
        self._fill_organizations()
        self._fill_persons()
        self._fill_deals()
        self._fill_activities()

    # ---------------------------------------------------------------- contacts

    def _fill_organizations(self) -> None:
        rng, custom = self._streams("organizations")
        self.times["organizations"] = times = _instants(rng, len(self.organization_ids), self.now)
        for place, (number, added) in enumerate(zip(self.organization_ids, times, strict=True)):
            record = BLANKS["organizations"](number, v2_time(added))
            record.update(
                name=f"{rng.choice(words.COMPANY_KINDS)} {rng.choice(words.COMPANY_NAMES)} {rng.choice(words.COMPANY_FORMS)}",
                owner_id=self._owner(rng),
                visible_to=_visibility(rng),
                address=address(rng) if rng.random() < 0.8 else None,
                label_ids=_labels(rng, (11, 12, 13)),
                website=f"https://empresa{number}.example.com.br" if rng.random() < 0.5 else None,
                industry=rng.choice((None, 21, 22)),
                employee_count=rng.choice((None, rng.randrange(1, 5000))),
                annual_revenue=rng.choice((None, rng.randrange(10_000, 90_000_000))),
                custom_fields=custom(),
            )
            self._finish("organizations", record, (rng, added, place), odd="name")

    def _fill_persons(self) -> None:
        rng, custom = self._streams("persons")
        self.times["persons"] = times = _instants(rng, len(self.person_ids), self.now)
        for place, (number, added) in enumerate(zip(self.person_ids, times, strict=True)):
            record = BLANKS["persons"](number, v2_time(added))
            first, last = (
                rng.choice(words.FIRST_NAMES),
                f"{rng.choice(words.LAST_NAMES)} {rng.choice(words.LAST_NAMES)}",
            )
            org_id = self._organization_before(rng, added) if rng.random() < 0.85 else None
            record.update(
                name=f"{first} {last}",
                first_name=first,
                last_name=last,
                owner_id=self._owner(rng),
                org_id=org_id,
                visible_to=_visibility(rng),
                emails=_emails(rng, number),
                phones=_phones(rng),
                label_ids=_labels(rng, (11, 12, 13)),
                birthday=day(rng, self.now, before=22_000, after=-6_600) if rng.random() < 0.2 else None,
                job_title=rng.choice((None, *words.JOB_TITLES)),
                notes=rng.choice(words.PHRASES) if rng.random() < 0.1 else None,
                postal_address=address(rng) if rng.random() < 0.1 else None,
                im=[{"value": f"contato{number}", "primary": True, "label": "skype"}] if rng.random() < 0.1 else [],
                picture_id=number * 3 if rng.random() < 0.1 else None,
                custom_fields=custom(),
            )
            if org_id is not None:
                self.people_of.setdefault(org_id, []).append(number)
            self._finish("persons", record, (rng, added, place), odd="name")

    # ---------------------------------------------------------------- deals

    def _fill_deals(self) -> None:
        rng, custom = self._streams("deals")
        deleted_count = self.size.deals // 50
        numbers = _ids(rng, self.size.deals + deleted_count)
        deleted = set(rng.sample(numbers, deleted_count))
        for place, (number, added) in enumerate(zip(numbers, _instants(rng, len(numbers), self.now), strict=True)):
            record = BLANKS["deals"](number, v2_time(added))
            record.update(self._parties(rng, added))
            offer = rng.choice(words.OFFERS)
            record.update(
                title=f"{offer} nº {number}",
                owner_id=self._owner(rng),
                creator_user_id=rng.choice(USER_IDS),
                value=amount(rng) if rng.random() < 0.95 else 0,
                currency=currency(rng),
                visible_to=_visibility(rng),
                label_ids=_labels(rng, (1, 2, 3)),
                channel=rng.choice((None, None, 52, 53)),
                probability=rng.choice((None, 10, 50, 90)),
                expected_close_date=day(rng, added, before=0, after=180) if rng.random() < 0.6 else None,
                custom_fields=custom(),
            )
            if record["channel"] is not None:
                record["channel_id"] = f"Campanha {rng.randrange(1, 30)}"
            self._live_through(record, rng, added)
            self._finish("deals", record, (rng, added, place), odd="title")
            if number in deleted:
                self._delete(record, rng)

    def _parties(self, rng: Random, added: datetime) -> Record:
        """An organization and one of its persons, or one without the other, all known by then."""
        known = self.person_ids[: bisect_right(self.times["persons"], added)]
        org_id = self._organization_before(rng, added) if rng.random() < 0.9 else None
        if org_id is None:
            return {"person_id": rng.choice(known) if known else None, "org_id": None}
        people = [number for number in self.people_of.get(org_id, ()) if number <= (known[-1] if known else 0)]
        return {"org_id": org_id, "person_id": rng.choice(people) if people else None}

    def _organization_before(self, rng: Random, added: datetime) -> int | None:
        known = bisect_right(self.times["organizations"], added)
        return self.organization_ids[rng.randrange(known)] if known else None

    def _live_through(self, record: Record, rng: Random, added: datetime) -> None:
        """Stage, status and their times, in the order in which they can happen."""
        age = (self.now - added).total_seconds()
        moved = added + timedelta(seconds=int(age * rng.random() ** 2 * 0.5))
        closed = moved + timedelta(seconds=int((self.now - moved).total_seconds() * rng.random() ** 3))
        stage = rng.choice(self.stages)
        record.update(stage_id=stage["id"], pipeline_id=stage["pipeline_id"], stage_change_time=v2_time(moved))
        status = rng.choices(("open", "won", "lost"), (50, 28, 22))[0]
        record["status"] = status
        last = moved
        if status != "open":
            last = closed
            record.update(
                {
                    "close_time": v2_time(closed),
                    f"{status}_time": v2_time(closed),
                    f"local_{status}_date": _local_date(closed),
                    "local_close_date": _local_date(closed),
                }
            )
            record["probability"] = None
            record["lost_reason"] = rng.choice((None, *words.LOST_REASONS)) if status == "lost" else None
        if rng.random() < 0.08:
            last += timedelta(seconds=int((self.now - last).total_seconds() * rng.random()))
            record.update(is_archived=True, archive_time=v2_time(last))
        record["update_time"] = v2_time(last)

    def _delete(self, record: Record, rng: Random) -> None:
        """Within the last 29 days, after whatever else happened to it."""
        changed = datetime.fromisoformat(record["update_time"])
        earliest = max(changed, self.now - timedelta(days=29))
        at = earliest + timedelta(seconds=int((self.now - earliest).total_seconds() * rng.random()))
        self.company.delete("deals", record["id"], at=at)

    # ---------------------------------------------------------------- activities

    def _fill_activities(self) -> None:
        rng = Random(f"{self.company.seed}/activities")
        deals = list(self.company.collections["deals"])
        deal_times = [deal["add_time"] for deal in deals]
        types = [t["key_string"] for t in self.company.collections["activity_types"]]
        numbers = _ids(rng, self.size.activities)
        for place, (number, added) in enumerate(zip(numbers, _instants(rng, len(numbers), self.now), strict=True)):
            record = BLANKS["activities"](number, v2_time(added))
            known = bisect_right(deal_times, record["add_time"])
            deal = deals[rng.randrange(known)] if known and rng.random() < 0.9 else None
            record.update(self._parties(rng, added) if deal is None else {k: deal[k] for k in ("person_id", "org_id")})
            owner = self._owner(rng)
            record.update(
                deal_id=None if deal is None else deal["id"],
                subject=rng.choice(words.SUBJECTS),
                type=rng.choice(types),
                owner_id=owner,
                creator_user_id=owner,
                due_date=day(rng, added, before=0, after=30) if rng.random() < 0.9 else None,
                due_time=f"{rng.randrange(8, 19):02d}:30:00" if rng.random() < 0.5 else None,
                duration=rng.choice((None, "00:30:00", "01:00:00")),
                busy=rng.random() < 0.3,
                priority=rng.choice((None, None, 261, 262, 263)),
                note=f"<p>{rng.choice(words.PHRASES)}</p>" if rng.random() < 0.4 else None,
                location=address(rng) if rng.random() < 0.1 else None,
            )
            if record["person_id"] is not None:
                record["participants"] = [{"person_id": record["person_id"], "primary": True}]
            self._maybe_done(record, rng, added)
            self._finish("activities", record, (rng, added, place), odd="subject")

    def _maybe_done(self, record: Record, rng: Random, added: datetime) -> None:
        if rng.random() < 0.7:
            at = added + timedelta(seconds=int((self.now - added).total_seconds() * rng.random() ** 4))
            record.update(done=True, marked_as_done_time=v2_time(at), update_time=v2_time(at))

    # ---------------------------------------------------------------- shared

    def _owner(self, rng: Random) -> int:
        return rng.choice(DEPARTED_USER_IDS) if rng.random() < 0.03 else rng.choice(USER_IDS)

    def _streams(self, entity: str) -> tuple[Random, Callable[[], Record]]:
        """Random numbers of the entity, and a maker of its custom values from a stream of their own."""
        rng = Random(f"{self.company.seed}/{entity}/custom")
        links = Links(USER_IDS, self.organization_ids or (1,), self.person_ids or (1,))
        makers = [
            (field.code, maker(field, rng, links, self.now)) for field in self.company.fields(entity, custom_only=True)
        ]

        def custom() -> Record:
            return {code: make() for code, make in makers if rng.random() < _FILLED_SHARE}

        return Random(f"{self.company.seed}/{entity}"), custom

    def _finish(self, entity: str, record: Record, made: tuple[Random, datetime, int], *, odd: str) -> None:
        """Odd text here and there, a later update of some, a null update_time of a few old ones; then store it."""
        rng, added, place = made
        if place % _ODD_EVERY == 5:
            record[odd] = words.ODD_TEXTS[place // _ODD_EVERY % len(words.ODD_TEXTS)]
        if record["update_time"] == record["add_time"] and rng.random() < 0.5:
            later = added + timedelta(seconds=int((self.now - added).total_seconds() * rng.random() ** 3))
            record["update_time"] = v2_time(later)
        # api.md gotcha 3: old rows may have no update_time, so no time filter finds them.
        is_old = self.now - added > HISTORY * 0.6
        if entity in {"persons", "organizations"} and is_old and place % _UNDATED_EVERY == 3:
            record["update_time"] = None
        self.company.collections[entity].put(record)


def _ids(rng: Random, count: int) -> list[int]:
    """`count` ascending ids with the gaps that purged records leave."""
    number, numbers = 0, []
    for _ in range(count):
        number += 1 if rng.random() < 0.95 else 2
        numbers.append(number)
    return numbers


def _visibility(rng: Random) -> int:
    """Most records are for the whole company; the rest for their owner and the owner's group."""
    return rng.choices((7, 3, 1), (70, 25, 5))[0]


def _labels(rng: Random, ids: Sequence[int]) -> list[int]:
    return [] if rng.random() < 0.7 else sorted(rng.sample(ids, rng.randrange(1, 3)))


def _emails(rng: Random, number: int) -> list[Record]:
    if rng.random() < 0.1:
        return []
    made: list[Record] = [{"value": f"contato{number}@example.com.br", "primary": True, "label": "work"}]
    if rng.random() < 0.2:
        made.insert(0, {"value": f"pessoal{number}@example.com", "primary": False, "label": "home"})
    return made


def _phones(rng: Random) -> list[Record]:
    """None, the empty entry without a label that recordings show (api.md 4.6), one, or two."""
    draw = rng.random()
    if draw < 0.1:
        return []
    if draw < 0.15:
        return [{"value": "", "primary": True}]
    made: list[Record] = [{"value": phone(rng), "primary": True, "label": "mobile"}]
    return made if draw < 0.8 else [*made, {"value": phone(rng), "primary": False, "label": "work"}]


def _local_date(instant: datetime) -> str:
    """The date on the company's wall, three hours behind UTC."""
    return (instant.astimezone(UTC) - timedelta(hours=3)).date().isoformat()
