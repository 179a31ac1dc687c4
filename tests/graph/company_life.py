"""A company that lives and syncs that are disturbed, in random order: the model that our promise is held against.

After every full sync that nothing disturbed the tables equal the truth. After every incremental one each living record is
there as it is now, except what touches no `update_time`. A sync that fails leaves table and watermark as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from psycopg import sql
from pydantic import SecretStr

from pipeboard_assets.catalog import by_name
from pipeboard_assets.sync import FULL, EntitySync, Mode, Policy, StaleMetadataError, Window
from pipeboard_io import Warehouse, WarehouseError
from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
from pipeboard_resources.pipedrive.errors import PipedriveError
from pipeboard_resources.pipedrive.retry import RetryPolicy
from pipeboard_resources.pipedrive.standin import Company, Server
from tests.client.conftest import FakeClock

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MONTHS = tuple(datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 13))
ENTITIES = ("deals", "persons")
TITLE = {"deals": "title", "persons": "name"}
LISTS = {"deals": ("/api/v2/deals", "/api/v2/deals/archived"), "persons": ("/api/v2/persons",)}
FAULTS = (
    "status_403", "status_500", "status_503", "html_200", "success_false", "empty_body", "truncated_json", "daily_429",
    "burst_429", "connection_cut", "connection_reset", "repeated_cursor", "refused_cursor", "duplicate_records",
    "data_string", "gzip_garbage",
)  # fmt: skip


class Killed(BaseException):
    """As sudden as kill -9 for whoever reads: no handler of ours may catch it."""


@dataclass
class World:
    """A served stand-in and a database, both made anew for each life."""

    server: Server
    database_url: str
    faults_survived: Counter[str] = field(default_factory=Counter)
    lives: int = 0

    def __post_init__(self) -> None:
        self.warehouse = Warehouse(self.database_url)
        self.warehouse.migrate()

    def begin(self) -> Company:
        """An empty database and a small new company."""
        self.lives += 1
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS pipedrive CASCADE")
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'pipeboard' AND tablename <> 'alembic_version'"
            ).fetchall()
            for (name,) in tables:
                drop = "DROP TABLE {}" if name.startswith("stage_") else "TRUNCATE {}"
                connection.execute(sql.SQL(drop).format(sql.Identifier("pipeboard", name)))
        self.server.standin.company = Company.generate(deals=20, now=NOW, seed=7)
        self.server.reset()
        return self.server.company

    @contextmanager
    def client(self, skew_seconds: int = 0) -> Iterator[PipedriveClient]:
        """One run's client. `skew_seconds`: how wrong this machine's clock is."""
        options = ClientOptions(
            self.server.url, page_size=5, readers=3, timeout_seconds=0.3, retry=RetryPolicy(attempts=2)
        )
        clock = FakeClock(self.server.company.now().timestamp() + skew_seconds)
        with PipedriveClient(SecretStr(self.server.api_key), options, clock=clock) as client:
            yield client


class CompanyLife(RuleBasedStateMachine):
    """Subclass it with a `world`."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.company = self.world.begin()
        self.fields = {entity: self.company.add_field(entity, "Observação", "text").code for entity in ENTITIES}
        options = ("frio", "morno", "quente")
        self.choices = {
            entity: self.company.add_field(entity, "Temperatura", "enum", options).code for entity in ENTITIES
        }

    @initialize()
    def first_sync(self) -> None:
        for entity in ENTITIES:
            self.sync(entity, FULL)
            self.assert_equals_truth(entity)

    # What happens upstream.

    @rule(seconds=st.sampled_from([0, 1, 59, 700, 3600, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.company.advance(seconds)

    @rule(entity=st.sampled_from(ENTITIES), seed=st.integers(0, 2**16), many=st.integers(1, 8))
    def somebody_works(self, entity: str, seed: int, many: int) -> None:
        luck = Random(seed)
        for _ in range(many):
            self.edit(entity, luck)

    def edit(self, entity: str, luck: Random) -> None:
        ids = self.company.ids(entity)
        pick = luck.choice(ids) if ids else self.company.create(entity)
        edits: list[Callable[[], object]] = [
            lambda: self.company.create(entity, {TITLE[entity]: f"novo {luck.random()}"}),
            lambda: self.company.update(entity, pick, {TITLE[entity]: f"é \\N {luck.random()}"}),
            lambda: self.company.update(entity, pick, {"custom_fields": self._values(entity, luck)}),
            lambda: self.company.delete(entity, pick),
            lambda: self._restore(entity, luck),
        ]
        if entity == "deals":
            edits += [lambda: self.company.archive(pick), lambda: self._unarchive(luck)]
        if entity == "persons" and len(ids) > 1:
            edits.append(lambda: self.company.merge(entity, pick, next(each for each in ids if each != pick)))
        luck.choice(edits)()

    def _values(self, entity: str, luck: Random) -> dict[str, object]:
        options = self.company.field(entity, self.choices[entity]).options or ()
        return {self.fields[entity]: luck.choice(["", "a\r\nb", None]), self.choices[entity]: luck.choice(options).id}

    def _restore(self, entity: str, luck: Random) -> None:
        gone = [
            number for (name, number), each in self.company.gone.items() if name == entity and each.reason == "deleted"
        ]
        if gone:
            self.company.restore(entity, luck.choice(gone))

    def _unarchive(self, luck: Random) -> None:
        archived = [record["id"] for record in self.company.truth("deals") if record["is_archived"]]
        if archived:
            self.company.unarchive(luck.choice(archived))

    @rule(entity=st.sampled_from(ENTITIES), label=st.text("xyz", min_size=1, max_size=4), at=st.integers(0, 2))
    def an_option_is_renamed(self, entity: str, label: str, at: int) -> None:
        option = (self.company.field(entity, self.choices[entity]).options or ())[at]
        self.company.rename_option(entity, self.choices[entity], option.id, label)

    @rule(entity=st.sampled_from(ENTITIES), label=st.text("xyz", min_size=1, max_size=4))
    def a_field_is_renamed(self, entity: str, label: str) -> None:
        self.company.rename_field(entity, self.fields[entity], label)

    @rule(entity=st.sampled_from(ENTITIES))
    def a_field_is_replaced_by_one_of_the_same_name(self, entity: str) -> None:
        name = self.company.field(entity, self.fields[entity]).name
        self.company.remove_field(entity, self.fields[entity])
        self.fields[entity] = self.company.add_field(entity, name, "text").code

    @rule(entity=st.sampled_from(ENTITIES), seed=st.integers(0, 2**16))
    def a_record_is_purged(self, entity: str, seed: int) -> None:
        if ids := self.company.ids(entity):
            self.company.remove(entity, Random(seed).choice(ids))

    # What we do.

    @rule(entity=st.sampled_from(ENTITIES), skew=st.sampled_from([0, 0, 3600, -3600]))
    def incremental_sync(self, entity: str, skew: int) -> None:
        self.sync(entity, Window(Mode.INCREMENTAL, MONTHS[10]), skew=skew)
        self.assert_every_living_record_is_right(entity)

    @rule(entity=st.sampled_from(ENTITIES))
    def full_sync(self, entity: str) -> None:
        self.sync(entity, FULL)
        self.assert_equals_truth(entity)

    @rule(entity=st.sampled_from(ENTITIES), first=st.integers(0, 10), months=st.integers(1, 11))
    def backfill(self, entity: str, first: int, months: int) -> None:
        last = min(first + months, 11)
        window = Window(
            Mode.BACKFILL, MONTHS[first] if first else None, MONTHS[last] if last < 11 else None, last == 11
        )
        self.sync(entity, window)
        self.assert_every_living_record_is_right(entity, window)

    @rule(
        entity=st.sampled_from(ENTITIES),
        window=st.sampled_from([FULL, Window(Mode.INCREMENTAL, MONTHS[10]), Window(Mode.BACKFILL, None, MONTHS[9], False)]),
        fault=st.sampled_from(FAULTS),
        nth=st.integers(1, 5),
        is_for_ever=st.booleans(),
    )  # fmt: skip
    def a_sync_meets_a_fault(self, entity: str, window: Window, fault: str, nth: int, is_for_ever: bool) -> None:
        self.world.server.faults.add(fault, LISTS[entity][-1], nth=nth, times=None if is_for_ever else 1)
        self.disturbed(entity, window, fault)
        self.world.server.reset()

    @rule(entity=st.sampled_from(ENTITIES), window=st.sampled_from([FULL, Window(Mode.INCREMENTAL, MONTHS[10])]), after=st.integers(1, 6))  # fmt: skip
    def a_sync_is_killed(self, entity: str, window: Window, after: int) -> None:
        pages = iter(range(after))

        def page_read(_entity: str, _records: int) -> None:
            if next(pages, None) is None:
                raise Killed

        self.disturbed(entity, window, "killed", page_read=page_read)

    @rule(entity=st.sampled_from(ENTITIES), window=st.sampled_from([FULL, Window(Mode.INCREMENTAL, MONTHS[10])]), seed=st.integers(0, 2**16))  # fmt: skip
    def a_sync_reads_while_somebody_works(self, entity: str, window: Window, seed: int) -> None:
        luck, left = Random(seed), iter(range(6))
        asked = [entity, f"{entity}/archived"]

        def work(company: Company, endpoint: str, _page: int) -> None:
            if endpoint in asked and next(left, None) is not None:
                company.advance(luck.choice([0, 0, 1, 5]))
                self.edit(entity, luck)

        lived_through = {record["id"] for record in self.company.truth(entity)}
        self.world.server.before_page = work
        try:
            self.sync(entity, window)
        finally:
            self.world.server.before_page = None
        still_there = lived_through & {record["id"] for record in self.company.truth(entity)}
        assert still_there <= self.stored(entity).keys()

    # How it is judged.

    def sync(self, entity: str, window: Window, *, skew: int = 0, **options: Any) -> None:
        """As a Dagster step does it, retries for fresh field metadata included."""
        for attempt in range(3):
            with self.world.client(skew) as client:
                try:
                    sync = EntitySync(
                        entity=by_name(entity),
                        window=window,
                        client=client,
                        warehouse=self.world.warehouse,
                        policy=Policy(overlap=timedelta(minutes=10), allow_mass_delete=True, bypass_cache=attempt > 0),
                        **options,
                    )
                    self.world.warehouse.load(sync.load())
                except StaleMetadataError:
                    continue
                return
        raise AssertionError("the field metadata never settled")

    def disturbed(self, entity: str, window: Window, by: str, **options: Any) -> None:
        """Complete, or an error with table and watermark as before."""
        before = self.snapshot(entity)
        try:
            self.sync(entity, window, **options)
        except (PipedriveError, WarehouseError, Killed):
            assert self.snapshot(entity) == before
            self.world.faults_survived[f"{by}: refused"] += 1
            return
        self.world.faults_survived[f"{by}: complete"] += 1
        if window.mode is Mode.FULL:
            self.assert_equals_truth(entity)
        else:
            self.assert_every_living_record_is_right(entity, window)

    def snapshot(self, entity: str) -> object:
        rows = self.world.warehouse.query(
            f"SELECT count(*), sum(hashtextextended(t::text, 0)) AS digest FROM pipedrive.{entity} t"
        )
        return rows, self.world.warehouse.watermarks()

    def stored(self, entity: str) -> dict[int, dict[str, Any]]:
        """Living rows, told in the words of the API."""
        text, choice = self._column(entity, self.fields[entity]), self._column(entity, self.choices[entity])
        archived = "is_archived" if entity == "deals" else "NULL AS is_archived"
        rows = self.world.warehouse.query(
            f"SELECT id, {TITLE[entity]} AS title, update_time, {archived}, {text} AS note, {choice} AS choice "
            f"FROM pipedrive.{entity} WHERE deleted_at IS NULL"
        )
        return {row.pop("id"): row for row in rows}

    def _column(self, entity: str, key: str) -> str:
        found = self.world.warehouse.query(
            "SELECT base_name FROM pipeboard.custom_field WHERE entity = %s AND field_key = %s", [entity, key]
        )
        return str(found[0]["base_name"]) if found else "NULL"

    def truth(self, entity: str) -> dict[int, dict[str, Any]]:
        labels = {option.id: option.label for option in self.company.field(entity, self.choices[entity]).options or ()}
        return {
            record["id"]: {
                "title": record[TITLE[entity]],
                "update_time": record["update_time"] and datetime.fromisoformat(record["update_time"]),
                "is_archived": record.get("is_archived"),
                "note": record["custom_fields"].get(self.fields[entity]),
                "choice": labels.get(record["custom_fields"].get(self.choices[entity])),
            }
            for record in self.company.truth(entity)
        }

    def assert_equals_truth(self, entity: str) -> None:
        assert self.stored(entity) == self.truth(entity)

    def assert_every_living_record_is_right(self, entity: str, window: Window | None = None) -> None:
        """In the window; a record without `update_time` matches no window."""
        stored = self.stored(entity)
        for number, record in self.truth(entity).items():
            if record["update_time"] is not None and (window is None or _holds(window, record["update_time"])):
                assert stored.get(number) == record


def _holds(window: Window, moment: datetime) -> bool:
    if window.mode is Mode.INCREMENTAL:
        return True
    return (window.lower is None or window.lower <= moment) and (window.upper is None or moment < window.upper)
