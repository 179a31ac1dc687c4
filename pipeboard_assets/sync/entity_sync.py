"""One entity, one request: pages -> records -> frames -> Load. Lazy: nothing is read before the loader asks; no Dagster."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.records.custom_fields import CustomFields, parse_fields, place
from pipeboard_assets.records.frames import Framer, reserved_names
from pipeboard_assets.sync.covered import newest_month, read_whole
from pipeboard_assets.sync.deal_summary import read_summary
from pipeboard_assets.sync.sight import KeyUser, company_of, require_same_sight
from pipeboard_io import Batch, Load, Reconcile, Warehouse
from pipeboard_resources.pipedrive.endpoint import CURRENT_USER, Endpoint
from pipeboard_resources.pipedrive.errors import TokenBudgetSpent
from pipeboard_resources.pipedrive.ranges import Phase, Progress

if TYPE_CHECKING:  # it loads httpx and redis, which the graph does not need before it runs
    from pipeboard_resources.pipedrive.client import PipedriveClient


class Mode(StrEnum):
    """What a sync reads: everything (and reconciles), what changed since the watermark, a range of `update_time`, a month
    of a first load that is spread over days, the records of which something was rejected, or the changelogs of deals."""

    FULL = "full"
    INCREMENTAL = "incremental"
    BACKFILL = "backfill"
    HISTORY = "history"
    REJECTED = "rejected"
    CHANGELOG = "changelog"


@dataclass(frozen=True, slots=True)
class Window:
    """Records with `lower <= update_time < upper`; None is open. `moves_watermark`: the window reaches now."""

    mode: Mode
    lower: datetime | None = None
    upper: datetime | None = None
    moves_watermark: bool = True

    @property
    def begin(self) -> datetime:
        """A moment in the first month of the window; of one that is open to the past, in its last month."""
        if self.lower is not None:
            return self.lower
        return datetime.now(UTC) if self.upper is None else self.upper - timedelta(seconds=1)


FULL = Window(Mode.FULL)
REJECTED = Window(Mode.REJECTED, moves_watermark=False)

Bounds: TypeAlias = tuple[datetime | None, datetime | None]

# Raise it when a bookmark's meaning changes: loads that broke off before begin anew.
_BOOKMARK_VERSION = 2
# A first load began with the month that our clock named, which may be wrong by an hour.
_MONTH_BEGINS_WITHIN = timedelta(hours=2)
# A record may show in its new list a moment after its time stamp.
_MOVES_SHOW_WITHIN = timedelta(seconds=60)
# What `ids` takes at once (pipedrive-api.md 3.1).
_IDS_A_REQUEST = 100
_REJECTED = r"""
SELECT DISTINCT record_key::bigint AS id FROM pipeboard.rejected_record
WHERE entity = %s AND resolved_at IS NULL AND record_key ~ '^[0-9]{1,18}$' ORDER BY id
"""
_LAST_FULL = """
SELECT max(finished_at) AS finished_at FROM pipeboard.load WHERE entity = %s AND mode = 'full' AND status = 'success'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Settings of a sync. `overlap`: how far before the watermark is read again on purpose. `may_take_days`: a sweep takes more
    tokens than a day has, so it goes on where it stopped; what went meanwhile is noticed by the next one."""

    overlap: timedelta = timedelta(minutes=10)
    max_delete_percent: float = 10.0
    allow_mass_delete: bool = False
    bypass_cache: bool = False
    may_take_days: bool = False


class StaleMetadataError(Exception):
    """Records carry custom fields or options that appeared after the field metadata was read: start the load again."""

    def __init__(self, entity: str, keys: frozenset[str]) -> None:
        super().__init__(
            f"{entity}: the custom fields changed while reading ({', '.join(sorted(keys))}); reading again"
        )
        self.entity = entity
        self.keys = keys


@dataclass(slots=True)
class _Bookmark:
    """How far the lists of one load are read: kept with the staged rows, so that a load goes on where it broke off.

    `since`: from when on a list is read that had been read to its end when the load broke off; None is from its beginning.
    """

    progress: dict[str, Progress] = field(default_factory=dict)
    newest: dict[str, datetime] = field(default_factory=dict)
    since: dict[str, datetime | None] = field(default_factory=dict)
    owners: set[int] = field(default_factory=set)

    def as_json(self) -> dict[str, object]:
        return {
            "progress": {name: progress.as_json() for name, progress in self.progress.items()},
            "newest": {name: newest.isoformat() for name, newest in self.newest.items()},
            "since": {name: since and since.isoformat() for name, since in self.since.items()},
            "owners": sorted(self.owners),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            progress={name: Progress.from_json(each) for name, each in value["progress"].items()},
            newest={name: datetime.fromisoformat(each) for name, each in value["newest"].items()},
            since={name: each and datetime.fromisoformat(each) for name, each in value["since"].items()},
            owners=set(value["owners"]),
        )

    def safe_until(self, name: str) -> datetime | None:
        """Whatever changed in the list before then was met; None: nobody in it has a time.

        A record may bear a time to come, so not later than when the read began, by the server's clock.
        """
        newest, began = self.newest.get(name), self.progress[name].began
        return newest if newest is None or began is None else min(newest, datetime.fromtimestamp(began, UTC))

    def take_up(self, lists: Sequence[str]) -> None:
        """After an interruption, which may have lasted days: lists that were read to their end are caught up with."""
        for name in [each for each in self.progress if each not in lists]:
            del self.progress[name]
        for name, progress in [*self.progress.items()]:
            if progress.phase is Phase.DONE:
                until = self.safe_until(name)
                self.since[name] = None if until is None else until - _MOVES_SHOW_WITHIN
                del self.progress[name]


@dataclass(slots=True)
class EntitySync:
    """Reads one entity for one window. Use once: `load()` gives the Load to hand to the warehouse."""

    entity: Entity
    window: Window
    client: "PipedriveClient"
    warehouse: Warehouse
    policy: Policy
    run_id: str | None = None
    page_read: Callable[[str, int], None] | None = None
    _bookmark: _Bookmark = field(default_factory=_Bookmark)
    _ghosts: set[str] = field(default_factory=set)
    _company: int | None = None
    _user: KeyUser | None = None
    _summary: Mapping[str, Any] | None = None

    def load(self) -> Load:
        """Describe the load. Reads the field metadata now, the records when the frames are drained."""
        self._company = company_of(self.warehouse, self.client)
        framer = Framer(self.entity, self._custom_fields(), now=datetime.now(UTC).replace(microsecond=0))
        load = Load(
            table=framer.table,
            frames=self._batches_by_id(framer) if self.window.mode is Mode.REJECTED else self._batches(framer),
            reconcile=self._reconcile(),
            mode=self.window.mode.value,
            run_id=self.run_id,
            stops=(TokenBudgetSpent,),
            facts=self.facts,
        )
        if not self.entity.is_incremental or self.window.mode is Mode.REJECTED:
            return load
        windows = {endpoint.name: self._bounds(endpoint) for endpoint in self.entity.lists}
        return replace(
            load,
            frames=partial(self._batches_by_time, framer, windows),
            watermarks=self._watermarks if self.window.moves_watermark else None,
            resume_key=None if self._must_see_all_at_once() else self._resume_key(windows),
        )

    def facts(self) -> Mapping[str, object]:
        """What the ledger remembers: whose data it is; the tokens left today; which month of the history this was; of a sweep, whose key saw
        all of it and what Pipedrive itself counts."""
        facts: dict[str, object] = {
            "account": self.client.account,
            "company": self._company,
            "tokens_left": self.client.tokens_left,
        }
        if self.window.mode is Mode.HISTORY:
            facts |= {"month": f"{self.window.begin:%Y-%m}", "completes_history": self.window.lower is None}
        if self._user is not None:
            facts |= {"key_user": self._user.id, "key_is_admin": self._user.is_admin, "summary": self._summary}
        return facts

    def _custom_fields(self, *, bypass_cache: bool = False) -> CustomFields:
        if self.entity.fields is None:
            return CustomFields()
        if bypass_cache or self.policy.bypass_cache:
            self.client.forget(self.entity.fields)
        pages = self.client.pages(self.entity.fields)
        fields = parse_fields(record for page in pages for record in page.records)
        return place(self.entity.name, fields, self.warehouse, reserved_names(self.entity))

    def _batches(self, framer: Framer) -> Iterator[Batch]:
        """Lists that cannot be filtered by time: short ones, read whole."""
        for endpoint in self.entity.lists:
            if self.policy.bypass_cache:
                self.client.forget(endpoint)
            for page in self.client.pages(endpoint):
                yield self._batch(framer, endpoint, page.records)

    def _batches_by_id(self, framer: Framer) -> Iterator[Batch]:
        """Read again, not taken from the reject table: the record may have changed or gone since."""
        rejected = [str(row["id"]) for row in self.warehouse.query(_REJECTED, [self.entity.name])]
        some = [",".join(rejected[at : at + _IDS_A_REQUEST]) for at in range(0, len(rejected), _IDS_A_REQUEST)]
        for endpoint, ids in product(self.entity.lists, some):
            for page in self.client.pages(endpoint, params={"ids": ids}):
                yield self._batch(framer, endpoint, page.records)

    def _batches_by_time(
        self, framer: Framer, windows: Mapping[str, Bounds], checkpoint: Mapping[str, Any] | None
    ) -> Iterator[Batch]:
        """Each batch carries the bookmark that its rows, once committed, make true."""
        self._bookmark = _Bookmark() if checkpoint is None else _Bookmark.from_json(checkpoint)
        self._bookmark.take_up([endpoint.name for endpoint in self.entity.lists])
        for endpoint in self.entity.lists:
            lower, upper = windows[endpoint.name]
            lower = self._bookmark.since.get(endpoint.name, lower)
            yield from self._read(framer, endpoint, (lower, upper), endpoint.name)
        if self.window.mode is Mode.FULL:
            yield from self._moved_back(framer)
            # Asked anew: rights that went while the lists were read would take rows along.
            self._user = KeyUser.of(self.client.get(CURRENT_USER.path, tokens=CURRENT_USER.tokens))
            if not self.policy.allow_mass_delete:
                require_same_sight(self.warehouse, self.entity.name, self._user, self._bookmark.owners)
            if self.entity.has_summary:
                self._summary = read_summary(self.client)
        elif self.window.mode is Mode.HISTORY:  # the first full sync will want to know who saw what is there
            self._user = KeyUser.of(self.client.current_user())

    def _moved_back(self, framer: Framer) -> Iterator[Batch]:
        """What moved into a list after it was read, from one that was not yet (an archived deal that is taken up again):
        seen in neither, it would count as gone."""
        for endpoint in self.entity.lists[:-1]:
            until = self._bookmark.safe_until(endpoint.name)
            since = None if until is None else until - _MOVES_SHOW_WITHIN  # it was empty, or holds nobody with a time
            yield from self._read(framer, endpoint, (since, None), f"{endpoint.name} again")

    def _read(self, framer: Framer, endpoint: Endpoint, bounds: Bounds, name: str) -> Iterator[Batch]:
        lower, upper = bounds
        begun = self._bookmark.progress.get(name)
        for page in self.client.pages_by_time(endpoint, lower=lower, upper=upper, progress=begun):
            batch = self._batch(framer, endpoint, page.records)
            self._bookmark.progress[name] = page.progress
            yield replace(batch, checkpoint=self._bookmark.as_json())

    def _batch(self, framer: Framer, endpoint: Endpoint, records: Sequence[Mapping[str, Any]]) -> Batch:
        began = perf_counter()
        framed = framer.frame(records)
        seconds = perf_counter() - began
        self._check_metadata(framed.unknown)
        if framed.newest is not None:
            newest = self._bookmark.newest
            newest[endpoint.name] = max(framed.newest, newest.get(endpoint.name, framed.newest))
        if self.window.mode is Mode.FULL and "owner_id" in framed.frame.columns:
            self._bookmark.owners.update(framed.frame["owner_id"].unique().drop_nulls().to_list())
        if self.page_read is not None:
            self.page_read(self.entity.name, len(records))
        return Batch(framed.frame, framed.rejects, seconds={"decode": seconds})

    def _bounds(self, endpoint: Endpoint) -> Bounds:
        """`update_time` from (>=) and until (<).

        A list that was read whole and has no watermark held nothing: whatever is in it now is new, whenever that was. So it
        is with one of which only the newest months were read.
        """
        if self.window.mode is not Mode.INCREMENTAL:
            return self.window.lower, self.window.upper
        watermark = self.warehouse.watermark(endpoint.name)
        if watermark is not None:
            return watermark - self.policy.overlap, self.window.upper
        was_read_whole = self.entity.name in read_whole(self.warehouse)
        newest = newest_month(self.warehouse, self.entity.name)
        since = self.window.lower if newest is None else newest - _MONTH_BEGINS_WITHIN
        return None if was_read_whole else since, self.window.upper

    def _must_see_all_at_once(self) -> bool:
        """Rows staged before an interruption may be of records that are gone by now, which only a new sweep can tell."""
        if self.window.mode is not Mode.FULL or self.policy.may_take_days:
            return False
        return self.entity.name in read_whole(self.warehouse)

    def _resume_key(self, windows: Mapping[str, Bounds]) -> str:
        """Same question, same key. Rows staged before the last full sync may be of records that it found gone."""
        full = self.warehouse.query(_LAST_FULL, [self.entity.name])
        question = [self.client.account, full, windows, _BOOKMARK_VERSION]
        digest = hashlib.sha256(json.dumps(question, default=str, sort_keys=True).encode()).hexdigest()
        return f"{self.entity.name} {self.window.mode} {digest[:16]}"

    def _check_metadata(self, unknown: frozenset[str]) -> None:
        """Ask once for each unknown key: is it a new field or option (start again) or a ghost of a removed one (pass)?"""
        unknown -= self._ghosts
        if not unknown:
            return
        now = self._custom_fields(bypass_cache=True)
        known = now.keys | {f"{key}={option}" for key, options in now.options.items() for option in options}
        if unknown & known:
            raise StaleMetadataError(self.entity.name, unknown & known)
        self._ghosts.update(unknown)

    def _reconcile(self) -> Reconcile | None:
        if self.window.mode is not Mode.FULL:
            return None
        return Reconcile(max_share_percent=self.policy.max_delete_percent, force=self.policy.allow_mass_delete)

    def _watermarks(self) -> Mapping[str, datetime]:
        """Greatest `update_time` seen, per list; a window that starts after the stored watermark would leave a gap.

        Never later than when the read began: one record from the future would hide every change until then.
        """
        until = {name: self._bookmark.safe_until(name) for name in self._bookmark.newest}
        now = datetime.now(UTC)
        return {name: min(each, now) for name, each in until.items() if each and not self._leaves_gap(name)}

    def _leaves_gap(self, name: str) -> bool:
        """Between what is loaded and the months read now. The first month of a first load has nothing before it yet."""
        stored, lower = self.warehouse.watermark(name), self.window.lower
        if lower is None or self.window.mode not in (Mode.BACKFILL, Mode.HISTORY):
            return False
        return self.window.mode is Mode.BACKFILL if stored is None else lower > stored
