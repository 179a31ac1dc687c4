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
from typing import Any, ClassVar

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from psycopg import sql
from psycopg.pq import TransactionStatus
from pydantic import SecretStr

from pipeboard_assets.catalog import by_name
from pipeboard_assets.sync.entity_sync import FULL, EntitySync, Mode, Policy, StaleMetadataError, Window
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


class Line(psycopg.Connection[Any]):
    """A connection that is kept for the next one who needs it: a life makes hundreds."""

    opened: ClassVar[list[Line]] = []
    free: ClassVar[list[Line]] = []
    statements_to_live: ClassVar[int | None] = None

    def execute(self, *args: Any, **options: Any) -> psycopg.Cursor[Any]:
        if Line.statements_to_live is not None:
            Line.statements_to_live -= 1
            if Line.statements_to_live < 0:
                raise Killed
        return super().execute(*args, **options)

    def __exit__(self, *error: object) -> None:
        if self.info.transaction_status is TransactionStatus.IDLE and not self.closed:
            self.free.append(self)
        else:
            self.close()

    @classmethod
    def hang_up(cls) -> None:
        """What the end of a process does to its connections."""
        cls.free.clear()
        while cls.opened:
            cls.opened.pop().close()


@dataclass
class World:
    """A served stand-in and a database, both made anew for each life."""

    server: Server
    database_url: str
    faults_survived: Counter[str] = field(default_factory=Counter)
    lives: int = 0

    def __post_init__(self) -> None:
        self.warehouse = Warehouse(self.database_url, connect=self._connect)
        self.warehouse.migrate()

    def _connect(self) -> Line:
        if not Line.free:
            line = Line.connect(self.database_url, autocommit=True, prepare_threshold=None)
            Line.opened.append(line)
            return line
        return Line.free.pop()

    def begin(self) -> Company:
        """An empty database and a small new company."""
        self.lives += 1
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS pipedrive CASCADE")
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'pipeboard' AND tablename <> 'schema_version'"
            ).fetchall()
            for (name,) in tables:
                drop = "DROP TABLE {}" if name.startswith("stage_") else "TRUNCATE {}"
                connection.execute(sql.SQL(drop).format(sql.Identifier("pipeboard", name)))
        self.server.standin.company = Company.generate(deals=30, now=NOW, seed=7)
        self.server.reset()
        return self.server.company

    @contextmanager
    def client(self, skew_seconds: int = 0) -> Iterator[PipedriveClient]:
        """One run's client. `skew_seconds`: how wrong this machine's clock is."""
        options = ClientOptions(
            self.server.url, page_size=8, readers=3, timeout_seconds=0.3, retry=RetryPolicy(attempts=2)
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

    @initialize(entity=st.sampled_from(ENTITIES))
    def first_sync(self, entity: str) -> None:
        self.entity = entity
        self.field = self.company.add_field(entity, "Observação", "text").code
        self.choice = self.company.add_field(entity, "Temperatura", "enum", ("frio", "morno", "quente")).code
        self.sync(FULL)
        self.assert_equals_truth()

    # What happens upstream.

    @rule(seconds=st.sampled_from([0, 1, 59, 700, 3600, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.company.advance(seconds)

    @rule(seed=st.integers(0, 2**16), many=st.integers(1, 8))
    def somebody_works(self, seed: int, many: int) -> None:
        luck = Random(seed)
        for _ in range(many):
            self.edit(luck)

    def edit(self, luck: Random) -> None:
        ids = self.company.ids(self.entity)
        pick = luck.choice(ids) if ids else self.company.create(self.entity)
        edits: list[Callable[[], object]] = [
            lambda: self.company.create(self.entity, {TITLE[self.entity]: f"novo {luck.random()}"}),
            lambda: self.company.update(self.entity, pick, {TITLE[self.entity]: f"é \\N {luck.random()}"}),
            lambda: self.company.update(self.entity, pick, {"custom_fields": self._values(luck)}),
            lambda: self.company.delete(self.entity, pick),
            lambda: self._restore(luck),
        ]
        if self.entity == "deals":
            edits += [lambda: self.company.archive(pick), lambda: self._unarchive(luck)]
        if self.entity == "persons" and len(ids) > 1:
            edits.append(lambda: self.company.merge(self.entity, pick, next(each for each in ids if each != pick)))
        luck.choice(edits)()

    def _values(self, luck: Random) -> dict[str, object]:
        options = self.company.field(self.entity, self.choice).options or ()
        return {self.field: luck.choice(["", "a\r\nb", None]), self.choice: luck.choice(options).id}

    def _restore(self, luck: Random) -> None:
        gone = [
            number
            for (name, number), each in self.company.gone.items()
            if name == self.entity and each.reason == "deleted"
        ]
        if gone:
            self.company.restore(self.entity, luck.choice(gone))

    def _unarchive(self, luck: Random) -> None:
        archived = [record["id"] for record in self.company.truth("deals") if record["is_archived"]]
        if archived:
            self.company.unarchive(luck.choice(archived))

    @rule(label=st.text("xyz", min_size=1, max_size=4), at=st.integers(0, 2))
    def an_option_is_renamed(self, label: str, at: int) -> None:
        option = (self.company.field(self.entity, self.choice).options or ())[at]
        self.company.rename_option(self.entity, self.choice, option.id, label)

    @rule(label=st.text("xyz", min_size=1, max_size=4))
    def a_field_is_renamed(self, label: str) -> None:
        self.company.rename_field(self.entity, self.field, label)

    @rule()
    def a_field_is_replaced_by_one_of_the_same_name(self) -> None:
        name = self.company.field(self.entity, self.field).name
        self.company.remove_field(self.entity, self.field)
        self.field = self.company.add_field(self.entity, name, "text").code

    @rule(seed=st.integers(0, 2**16))
    def a_record_is_purged(self, seed: int) -> None:
        if ids := self.company.ids(self.entity):
            self.company.remove(self.entity, Random(seed).choice(ids))

    # What we do.

    @rule(skew=st.sampled_from([0, 0, 3600, -3600]))
    def incremental_sync(self, skew: int) -> None:
        self.sync(Window(Mode.INCREMENTAL, MONTHS[10]), skew=skew)
        self.assert_every_living_record_is_right()

    @rule()
    def full_sync(self) -> None:
        self.sync(FULL)
        self.assert_equals_truth()

    @rule(first=st.integers(0, 10), months=st.integers(1, 11), mode=st.sampled_from([Mode.BACKFILL, Mode.HISTORY]))
    def backfill(self, first: int, months: int, mode: Mode) -> None:
        last = min(first + months, 11)
        window = Window(mode, MONTHS[first] if first else None, MONTHS[last] if last < 11 else None, last == 11)
        self.sync(window)
        self.assert_every_living_record_is_right(window)

    @rule(
        window=st.sampled_from([FULL, Window(Mode.INCREMENTAL, MONTHS[10]), Window(Mode.BACKFILL, None, MONTHS[9], False)]),
        fault=st.sampled_from(FAULTS),
        nth=st.integers(1, 5),
        is_for_ever=st.booleans(),
    )  # fmt: skip
    def a_sync_meets_a_fault(self, window: Window, fault: str, nth: int, is_for_ever: bool) -> None:
        self.world.server.faults.add(fault, LISTS[self.entity][-1], nth=nth, times=None if is_for_ever else 1)
        self.disturbed(window, fault)
        self.world.server.reset()

    @rule(window=st.sampled_from([FULL, Window(Mode.INCREMENTAL, MONTHS[10])]), after=st.integers(1, 6))  # fmt: skip
    def a_sync_is_killed(self, window: Window, after: int) -> None:
        pages = iter(range(after))

        def page_read(_entity: str, _records: int) -> None:
            if next(pages, None) is None:
                raise Killed

        self.disturbed(window, "killed while reading", page_read=page_read)

    @rule(window=st.sampled_from([FULL, Window(Mode.INCREMENTAL, MONTHS[10])]), statements=st.integers(0, 60))  # fmt: skip
    def a_sync_is_killed_at_a_statement(self, window: Window, statements: int) -> None:
        self.disturbed(window, "killed at a statement", statements_to_live=statements)

    @rule()
    def a_full_sync_minds_mass_deletes(self) -> None:
        self.disturbed(FULL, "minding mass deletes", allow_mass_delete=False)

    @rule(window=st.sampled_from([FULL, Window(Mode.INCREMENTAL, MONTHS[10])]), seed=st.integers(0, 2**16))  # fmt: skip
    def a_sync_reads_while_somebody_works(self, window: Window, seed: int) -> None:
        luck, left = Random(seed), iter(range(6))
        asked = [self.entity, f"{self.entity}/archived"]

        def work(company: Company, endpoint: str, _page: int) -> None:
            if endpoint in asked and next(left, None) is not None:
                company.advance(luck.choice([0, 0, 1, 5]))
                self.edit(luck)

        before = self.truth()
        self.world.server.before_page = work
        try:
            self.sync(window)
        finally:
            self.world.server.before_page = None
        stored, now = self.stored(), self.truth()
        for number, record in before.items():
            if now.get(number) == record and record["update_time"] is not None:
                assert stored.get(number) == record
        self.incremental_sync(skew=0)

    # How it is judged.

    def sync(self, window: Window, *, skew: int = 0, allow_mass_delete: bool = True, **options: Any) -> None:
        """As a Dagster step does it, retries for fresh field metadata included."""
        for attempt in range(3):
            with self.world.client(skew) as client:
                try:
                    sync = EntitySync(
                        entity=by_name(self.entity),
                        window=window,
                        client=client,
                        warehouse=self.world.warehouse,
                        policy=Policy(
                            overlap=timedelta(minutes=10),
                            allow_mass_delete=allow_mass_delete,
                            bypass_cache=attempt > 0,
                        ),
                        **options,
                    )
                    self.world.warehouse.load(sync.load())
                except StaleMetadataError:
                    Line.hang_up()
                    continue
                return
        raise AssertionError("the field metadata never settled")

    def disturbed(self, window: Window, by: str, *, statements_to_live: int | None = None, **options: Any) -> None:
        """Complete, or an error with table and watermark as before; only who dies at a statement may have published by then."""
        before = self.snapshot()
        Line.statements_to_live = statements_to_live
        try:
            self.sync(window, **options)
        except (PipedriveError, WarehouseError, Killed):
            Line.statements_to_live = None
            Line.hang_up()
            if statements_to_live is None or self.snapshot() == before:
                assert self.snapshot() == before
                self.world.faults_survived[f"{by}: refused"] += 1
                return
        Line.statements_to_live = None
        self.world.faults_survived[f"{by}: complete"] += 1
        if window.mode is Mode.FULL:
            self.assert_equals_truth()
        else:
            self.assert_every_living_record_is_right(window)

    def snapshot(self) -> object:
        rows = self.world.warehouse.query(
            f"SELECT count(*), sum(hashtextextended(t::text, 0)) AS digest FROM pipedrive.{self.entity} t"
        )
        return rows, self.world.warehouse.watermarks()

    def stored(self) -> dict[int, dict[str, Any]]:
        """Living rows, told in the words of the API."""
        text, choice = self._column(self.field), self._column(self.choice)
        archived = "is_archived" if self.entity == "deals" else "NULL AS is_archived"
        rows = self.world.warehouse.query(
            f"SELECT id, {TITLE[self.entity]} AS title, update_time, {archived}, {text} AS note, {choice} AS choice "
            f"FROM pipedrive.{self.entity} WHERE deleted_at IS NULL"
        )
        return {row.pop("id"): row for row in rows}

    def _column(self, key: str) -> str:
        found = self.world.warehouse.query(
            "SELECT base_name FROM pipeboard.custom_field WHERE entity = %s AND field_key = %s", [self.entity, key]
        )
        return str(found[0]["base_name"]) if found else "NULL"

    def truth(self) -> dict[int, dict[str, Any]]:
        labels = {option.id: option.label for option in self.company.field(self.entity, self.choice).options or ()}
        return {
            record["id"]: {
                "title": record[TITLE[self.entity]],
                "update_time": record["update_time"] and datetime.fromisoformat(record["update_time"]),
                "is_archived": record.get("is_archived"),
                "note": record["custom_fields"].get(self.field),
                "choice": labels.get(record["custom_fields"].get(self.choice)),
            }
            for record in self.company.truth(self.entity)
        }

    def assert_equals_truth(self) -> None:
        assert self.stored() == self.truth()

    def assert_every_living_record_is_right(self, window: Window | None = None) -> None:
        """In the window; a record without `update_time` matches no window."""
        stored = self.stored()
        for number, record in self.truth().items():
            if record["update_time"] is not None and (window is None or _holds(window, record["update_time"])):
                assert stored.get(number) == record


def _holds(window: Window, moment: datetime) -> bool:
    if window.mode is Mode.INCREMENTAL:
        return True
    return (window.lower is None or window.lower <= moment) and (window.upper is None or moment < window.upper)
