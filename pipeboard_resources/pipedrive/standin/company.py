"""The seeded company: its records and field definitions, and everything that people do to them in the Pipedrive app.

Holds state and the rules of editing (what bumps update_time, what a merge moves). Knows nothing of HTTP.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from pipeboard_resources.pipedrive.standin.clock import Clock, v1_time, v2_time
from pipeboard_resources.pipedrive.standin.collection import Collection
from pipeboard_resources.pipedrive.standin.fields import (
    FIELD_ENTITIES,
    Field,
    Option,
    OptionIds,
    built_in_fields,
    custom_key,
)
from pipeboard_resources.pipedrive.standin.limits import Plan
from pipeboard_resources.pipedrive.standin.shapes import BLANKS, ENTITIES, V1_ENTITIES, WITH_CUSTOM_FIELDS, Record

P = ParamSpec("P")
R = TypeVar("R")

# api.md section 6: a deletion only marks; the record is purged after 30 days.
PURGED_AFTER = timedelta(days=30)


class CompanyError(Exception):
    """An edit that the company cannot make: an unknown entity, record, field or option."""


@dataclass(frozen=True, slots=True)
class Gone:
    """When and why a record left the lists, and the status it had (deals)."""

    at: datetime
    reason: str
    status: str | None = None
    merged_into: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a deal's history."""

    field_key: str
    old_value: Any
    new_value: Any
    at: str
    user_id: int | None


def _locked(
    method: Callable[Concatenate[Company, P], R],
) -> Callable[Concatenate[Company, P], R]:
    @wraps(method)
    def guarded(self: Company, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return method(self, *args, **kwargs)

    return guarded


class Company:
    """A Pipedrive account in memory. Every public method is safe to call from any thread; `lock` groups several calls.

    Entities: users, activity_types, pipelines, stages, organizations, persons, deals, activities. Records are dicts in
    the API's shape (users and activity_types v1, the rest v2).

    Attributes that decide what the documents leave open: `nulls_first` (where null sort values come in an ascending
    list), `deleted_status_reads_deleted` (else a deleted deal keeps its former status), `out_of_support_status` (of the
    v1 endpoints that left the specification: 410 or 404).
    """

    def __init__(self, *, clock: Clock, seed: object = 0) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.seed = seed
        self.name = "Companhia de Demonstração Ltda."
        self.domain = "companhia-demo"
        self.company_id = 4242424
        self.plan = Plan()
        self.nulls_first = True
        self.deleted_status_reads_deleted = True
        self.out_of_support_status = 410
        self.forbidden: set[tuple[str, int | None]] = set()
        self.collections = {entity: Collection(self._show_with(entity)) for entity in ENTITIES}
        self.gone: dict[tuple[str, int], Gone] = {}
        self.changes: dict[int, list[Change]] = {}
        self.option_ids = OptionIds()
        self._fields = built_in_fields()
        self._nulls: dict[str, dict[str, None]] = {entity: {} for entity in WITH_CUSTOM_FIELDS}
        self._keys_made = dict.fromkeys(FIELD_ENTITIES, 0)
        self.version = 0

    @staticmethod
    def generate(
        *,
        deals: int = 2000,
        seed: object = 7,
        persons: int | None = None,
        organizations: int | None = None,
        activities: int | None = None,
        custom_fields: bool = True,
        extra_custom_fields: int = 0,
        now: datetime | None = None,
    ) -> Company:
        """A company of `deals` living deals (archived ones included) and, unless told otherwise, 0.8 persons, 0.3
        organizations and 3 activities per deal, over three years up to `now`.

        The same arguments give the same company. With `now` its clock is frozen there (`advance` moves it); without, it
        is the real time.
        """
        from pipeboard_resources.pipedrive.standin.generate import Size, populate

        size = Size.for_deals(deals, persons=persons, organizations=organizations, activities=activities)
        company = Company(clock=Clock(now), seed=seed)
        populate(company, size=size, has_custom_fields=custom_fields, extra_custom_fields=extra_custom_fields)
        return company

    # ---------------------------------------------------------------- reading

    def now(self) -> datetime:
        """The company's time: aware UTC, whole seconds."""
        return self.clock()

    @_locked
    def truth(self, entity: str) -> list[Record]:
        """What a complete copy must hold alive, in the API's shape, by id: archived deals included, deleted ones not."""
        collection = self.collection(entity)
        return [copy.deepcopy(collection.shown(number)) for number in sorted(self._living_ids(entity))]

    @_locked
    def deleted(self, entity: str) -> list[Record]:
        """Records deleted less than 30 days ago, by id; merged ones are not among them: they simply disappear."""
        collection = self.collection(entity)
        numbers = sorted(n for n in collection.records if self.is_recently_deleted(entity, n))
        return [copy.deepcopy(collection.shown(number)) for number in numbers]

    @_locked
    def ids(self, entity: str) -> list[int]:
        """Ids of the living records, ascending."""
        return sorted(self._living_ids(entity))

    @_locked
    def get(self, entity: str, number: int) -> Record:
        """A copy of one record in the API's shape, deleted or not."""
        self._stored(entity, number)
        return copy.deepcopy(self.collection(entity).shown(number))

    @_locked
    def fields(self, entity: str, *, custom_only: bool = False) -> list[Field]:
        """Field definitions in order: built-in ones first."""
        return [field for field in self._fields_of(entity) if field.is_custom or not custom_only]

    @_locked
    def field(self, entity: str, name_or_code: str) -> Field:
        """A field by its code, else the first one with that label (custom ones before built-in ones)."""
        fields = sorted(self._fields_of(entity), key=lambda field: not field.is_custom)
        for field in fields:
            if field.code == name_or_code:
                return field
        for field in fields:
            if field.name == name_or_code:
                return field
        raise CompanyError(f"{entity} has no field {name_or_code!r}. Known codes and labels: see Company.fields.")

    def collection(self, entity: str) -> Collection:
        """The stored records of an entity; CompanyError when there is no such entity."""
        if entity not in self.collections:
            raise CompanyError(f"No entity {entity!r} in the stand-in. Known: {', '.join(ENTITIES)}.")
        return self.collections[entity]

    def is_recently_deleted(self, entity: str, number: int) -> bool:
        """Deleted, not merged, and not yet purged."""
        gone = self.gone.get((entity, number))
        return gone is not None and gone.reason == "deleted" and self.now() - gone.at < PURGED_AFTER

    def is_listed(self, entity: str, number: int) -> bool:
        """Still in the ordinary lists. v1 users and activity types always are: only their flags change."""
        return entity in V1_ENTITIES or (entity, number) not in self.gone

    # ---------------------------------------------------------------- editing records

    @_locked
    def create(self, entity: str, values: Mapping[str, Any] | None = None, *, at: datetime | None = None) -> int:
        """Add a record and return its id. What `values` leaves out is plausible or null; `at` is its add_time (now)."""
        collection = self.collection(entity)
        number = (values or {}).get("id", collection.last_id + 1)
        record = BLANKS[entity](number, self._time(entity, at))
        record.update(self._defaults(entity))
        record.update(copy.deepcopy(dict(values or {})))
        if entity in WITH_CUSTOM_FIELDS:
            record["custom_fields"] = _merged({}, record["custom_fields"])
        if entity == "deals":
            self._begin(record, self._time(entity, at))
        self._put(entity, record)
        return int(number)

    @_locked
    def update(
        self, entity: str, number: int, values: Mapping[str, Any], *, touch: bool = True, at: datetime | None = None
    ) -> Record:
        """Change a record as a user does: `custom_fields` are merged into the old ones, a deal's status and stage carry
        their times along. `touch=False` leaves update_time as it is; `at` sets it. Returns the record.
        """
        record = self._stored(entity, number)
        before = dict(record)
        changed = copy.deepcopy(dict(values))
        if "custom_fields" in changed and entity in WITH_CUSTOM_FIELDS:
            record["custom_fields"] = _merged(record["custom_fields"], changed.pop("custom_fields"))
        record.update(changed)
        if entity == "deals":
            self._follow(before, record, self._time(entity, at))
        if touch:
            self._touch(entity, record, at)
        self._put(entity, record)
        return self.get(entity, number)

    @_locked
    def delete(self, entity: str, number: int, *, at: datetime | None = None) -> None:
        """Mark a record deleted, which bumps its update_time. Deleting a pipeline deletes its stages; what else points to
        a deleted record keeps pointing to it.

        A user or an activity type stays in its v1 list with its flags changed.
        """
        record = self._stored(entity, number)
        if entity in V1_ENTITIES:
            record["active_flag"] = False
            if entity == "users":
                record["is_deleted"] = True
        else:
            self._mark_gone(entity, record, Gone(at or self.now(), "deleted", record.get("status")))
        self._touch(entity, record, at)
        self._put(entity, record)
        if entity == "pipelines":
            for stage_id in [s["id"] for s in self.collection("stages") if s["pipeline_id"] == number]:
                if ("stages", stage_id) not in self.gone:
                    self.delete("stages", stage_id, at=at)

    @_locked
    def restore(self, entity: str, number: int, *, at: datetime | None = None) -> None:
        """Bring a deleted record back under the same id."""
        record = self._stored(entity, number)
        if entity in V1_ENTITIES:
            record["active_flag"] = True
            if entity == "users":
                record["is_deleted"] = False
        else:
            gone = self.gone.pop((entity, number), None)
            if gone is None:
                raise CompanyError(f"{entity} {number} is not deleted, so it cannot be restored.")
            record["is_deleted"] = False
            if gone.status is not None:
                record["status"] = gone.status
        self._touch(entity, record, at)
        self._put(entity, record)

    @_locked
    def remove(self, entity: str, number: int) -> None:
        """Take a record out for good, at once and without a trace (a purge, or a user removed from the company)."""
        self._stored(entity, number)
        self.collection(entity).remove(number)
        self.gone.pop((entity, number), None)
        self.version += 1

    @_locked
    def archive(self, number: int, *, at: datetime | None = None) -> None:
        """Move a deal to /deals/archived."""
        self.update("deals", number, {"is_archived": True, "archive_time": v2_time(at or self.now())}, at=at)

    @_locked
    def unarchive(self, number: int, *, at: datetime | None = None) -> None:
        """Move a deal back to /deals."""
        self.update("deals", number, {"is_archived": False, "archive_time": None}, at=at)

    @_locked
    def merge(self, entity: str, number: int, into: int, *, at: datetime | None = None) -> None:
        """Merge `number` into `into`: the first disappears without a trace in the lists, related records move."""
        if number == into:
            raise CompanyError(f"{entity} {number} cannot be merged with itself.")
        loser, winner = self._stored(entity, number), self._stored(entity, into)
        if (entity, into) in self.gone:
            raise CompanyError(f"{entity} {into} is gone, so nothing can be merged into it.")
        self._mark_gone(entity, loser, Gone(at or self.now(), "merged", loser.get("status"), into))
        for record in (loser, winner):
            self._touch(entity, record, at)
            self._put(entity, record)
        self._move_links(entity, number, into, at)

    # ---------------------------------------------------------------- editing fields

    @_locked
    def add_field(self, entity: str, name: str, field_type: str = "varchar", options: Sequence[str] = ()) -> Field:
        """Add a custom field; every record shows it as null from now on. update_time is not touched."""
        key = custom_key(self.seed, entity, self._keys_made[entity])
        self._keys_made[entity] += 1
        made = self.option_ids.options(options) if field_type in {"enum", "set"} else None
        field = Field(key, name, field_type, made, is_custom=True)
        self._fields_of(entity).append(field)
        self._fields_changed(entity)
        return field

    @_locked
    def remove_field(self, entity: str, code: str) -> None:
        """Delete a custom field and its values; update_time is not touched (api.md gotcha 2)."""
        field = self._custom_field(entity, code)
        self._fields[entity].remove(field)
        for record in self.collections[entity] if entity in WITH_CUSTOM_FIELDS else ():
            record["custom_fields"].pop(field.code, None)
        self._fields_changed(entity)

    @_locked
    def rename_field(self, entity: str, code: str, name: str) -> None:
        """Give a custom field another label."""
        self._replace_field(entity, replace(self._custom_field(entity, code), name=name))

    @_locked
    def add_option(self, entity: str, code: str, label: str) -> Option:
        """Add a choice to a custom enum or set field, or to the labels."""
        field = self.field(entity, code) if code == "label_ids" else self._custom_field(entity, code)
        (option,) = self.option_ids.options([label])
        self._replace_field(entity, replace(field, options=(*(field.options or ()), option)))
        return option

    @_locked
    def rename_option(self, entity: str, code: str, option_id: int, label: str) -> None:
        """Give a choice another label; records keep its id."""
        field = self._custom_field(entity, code)
        self._option(field, option_id)
        options = tuple(replace(o, label=label) if o.id == option_id else o for o in field.options or ())
        self._replace_field(entity, replace(field, options=options))

    @_locked
    def remove_option(self, entity: str, code: str, option_id: int) -> None:
        """Delete a choice; records may still hold its id (api.md 5.1)."""
        field = self._custom_field(entity, code)
        self._option(field, option_id)
        options = tuple(o for o in field.options or () if o.id != option_id)
        self._replace_field(entity, replace(field, options=options))

    # ---------------------------------------------------------------- account

    @_locked
    def set_permission(self, endpoint: str, *, allowed: bool, user_id: int | None = None) -> None:
        """Allow or refuse (403) an endpoint, such as `deals` or `activityTypes`, to one user or to everybody."""
        if allowed:
            self.forbidden.discard((endpoint, user_id))
        else:
            self.forbidden.add((endpoint, user_id))

    @_locked
    def set_plan(self, name: str = "Ultimate", seats: int = 8, top_up: int = 0) -> None:
        """Change the plan, hence the limits: Lite, Growth, Premium or Ultimate."""
        self.plan = Plan(name, seats, top_up)

    def advance(self, seconds: float) -> datetime:
        """Move the company's clock and return its new now."""
        return self.clock.advance(seconds)

    # ---------------------------------------------------------------- inside

    def _show_with(self, entity: str) -> Callable[[Record], Record]:
        if entity not in WITH_CUSTOM_FIELDS:
            return dict

        def show(record: Record) -> Record:
            # api.md 5.3: unset ones are present with null; the whole object is null when the account has none.
            nulls = self._nulls[entity]
            return {**record, "custom_fields": {**nulls, **record["custom_fields"]} if nulls else None}

        return show

    def _living_ids(self, entity: str) -> list[int]:
        return [number for number in self.collection(entity).records if self.is_listed(entity, number)]

    def _stored(self, entity: str, number: int) -> Record:
        record = self.collection(entity).records.get(number)
        if record is None:
            raise CompanyError(f"{entity} has no record {number}.")
        return record

    def _put(self, entity: str, record: Record) -> None:
        self.collections[entity].put(record)
        self.version += 1

    def _time(self, entity: str, at: datetime | None) -> str:
        instant = (at or self.now()).astimezone(UTC)
        return v1_time(instant) if entity in V1_ENTITIES else v2_time(instant)

    def _touch(self, entity: str, record: Record, at: datetime | None) -> None:
        record["modified" if entity == "users" else "update_time"] = self._time(entity, at)

    def _defaults(self, entity: str) -> Record:
        """Links that a new record cannot do without: an owner, a stage and its pipeline."""
        owner = next(iter(self.collections["users"].records), None)
        if entity == "stages":
            return {"pipeline_id": next(iter(self.ids("pipelines")), 1)}
        if entity not in {"organizations", "persons", "deals", "activities"}:
            return {}
        values: Record = {"owner_id": owner}
        if entity in {"deals", "activities"}:
            values["creator_user_id"] = owner
        if entity == "deals":
            values["stage_id"] = next(iter(self.ids("stages")), None)
        return values

    def _mark_gone(self, entity: str, record: Record, gone: Gone) -> None:
        if (entity, record["id"]) in self.gone:
            raise CompanyError(f"{entity} {record['id']} is already gone.")
        self.gone[entity, record["id"]] = gone
        record["is_deleted"] = True
        if entity == "deals" and self.deleted_status_reads_deleted:
            record["status"] = "deleted"

    def _move_links(self, entity: str, loser: int, winner: int, at: datetime | None) -> None:
        links = {"persons": "person_id", "organizations": "org_id", "deals": "deal_id"}
        if entity not in links:
            return
        link = links[entity]
        for other in ("persons", "deals", "activities"):
            for record in [r for r in self.collections[other] if link in r and r[link] == loser]:
                self.update(other, record["id"], {link: winner}, at=at)

    def _begin(self, deal: Record, when: str) -> None:
        """A new deal is in a stage, hence in its pipeline, and closed if it was created so."""
        self._follow_stage(deal)
        if deal["stage_change_time"] is None:
            deal["stage_change_time"] = deal["add_time"]
        if deal["status"] in {"won", "lost"} and deal["close_time"] is None:
            _follow_status(deal, when)

    def _follow(self, before: Record, deal: Record, when: str) -> None:
        """What changes along with a deal's stage and status, and the lines of its history."""
        if deal["stage_id"] != before["stage_id"]:
            self._follow_stage(deal)
            deal["stage_change_time"] = when
        if deal["status"] != before["status"]:
            _follow_status(deal, when)
        self.changes.setdefault(deal["id"], []).extend(
            Change(key, before.get(key), value, when, deal["owner_id"])
            for key, value in deal.items()
            if key != "custom_fields" and before.get(key) != value
        )

    def _follow_stage(self, deal: Record) -> None:
        stage = self.collections["stages"].records.get(deal["stage_id"])
        if stage is not None:
            deal["pipeline_id"] = stage["pipeline_id"]

    def _fields_of(self, entity: str) -> list[Field]:
        if entity not in self._fields:
            raise CompanyError(f"No field definitions for {entity!r}. Known: {', '.join(self._fields)}.")
        return self._fields[entity]

    def _custom_field(self, entity: str, code: str) -> Field:
        field = self.field(entity, code)
        if not field.is_custom:
            raise CompanyError(f"{field.code!r} of {entity} is a built-in field; only custom fields can be edited.")
        return field

    def _option(self, field: Field, option_id: int) -> Option:
        for option in field.options or ():
            if option.id == option_id:
                return option
        raise CompanyError(f"Field {field.name!r} has no option {option_id}.")

    def _replace_field(self, entity: str, field: Field) -> None:
        fields = self._fields[entity]
        fields[[f.code for f in fields].index(field.code)] = field
        self._fields_changed(entity)

    def _fields_changed(self, entity: str) -> None:
        if entity in WITH_CUSTOM_FIELDS:
            self._nulls[entity] = dict.fromkeys(field.code for field in self._fields[entity] if field.is_custom)
            self.collections[entity].forget_encodings()
        self.version += 1


def _merged(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Custom values with the new ones over the old; null unsets."""
    return {key: value for key, value in {**old, **(new or {})}.items() if value is not None}


def _follow_status(record: Record, when: str) -> None:
    """Winning, losing and reopening a deal set and clear the times that go with it."""
    status = record["status"]
    is_closed = status in {"won", "lost"}
    record["close_time"] = when if is_closed else None
    record["won_time"] = when if status == "won" else None
    record["lost_time"] = when if status == "lost" else None
    record["local_close_date"] = when[:10] if is_closed else None
    record["local_won_date"] = when[:10] if status == "won" else None
    record["local_lost_date"] = when[:10] if status == "lost" else None
    if status != "lost":
        record["lost_reason"] = None
