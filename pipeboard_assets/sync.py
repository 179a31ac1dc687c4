"""One entity, one request: pages -> records -> frames -> Load. Lazy: nothing is read before the loader asks; no Dagster."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.custom_fields import CustomFields, parse_fields, place
from pipeboard_assets.frames import Framer, reserved_names
from pipeboard_io import Batch, Load, Reconcile, Warehouse
from pipeboard_resources.pipedrive.endpoint import Endpoint, Page

if TYPE_CHECKING:  # it loads httpx and redis, which the graph does not need before it runs
    from pipeboard_resources.pipedrive.client import PipedriveClient


class Mode(StrEnum):
    """What a sync reads: everything (and reconciles), what changed since the watermark, or a range of `update_time`."""

    FULL = "full"
    INCREMENTAL = "incremental"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class Window:
    """Records with `lower <= update_time < upper`; None is open. `moves_watermark`: the window reaches now."""

    mode: Mode
    lower: datetime | None = None
    upper: datetime | None = None
    moves_watermark: bool = True


FULL = Window(Mode.FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Settings of a sync. `overlap`: how far before the watermark is read again on purpose."""

    overlap: timedelta = timedelta(minutes=10)
    max_delete_percent: float = 10.0
    allow_mass_delete: bool = False
    bypass_cache: bool = False


class StaleMetadataError(Exception):
    """Records carry custom fields or options that appeared after the field metadata was read: start the load again."""

    def __init__(self, entity: str, keys: frozenset[str]) -> None:
        super().__init__(
            f"{entity}: the custom fields changed while reading ({', '.join(sorted(keys))}); reading again"
        )
        self.entity = entity
        self.keys = keys


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
    _newest: dict[str, datetime] = field(default_factory=dict)
    _ghosts: set[str] = field(default_factory=set)

    def load(self) -> Load:
        """Describe the load. Reads the field metadata now, the records when the frames are drained."""
        framer = Framer(self.entity, self._custom_fields(), now=datetime.now(UTC).replace(microsecond=0))
        return Load(
            table=framer.table,
            frames=self._batches(framer),
            reconcile=self._reconcile(),
            watermarks=self._watermarks if self.entity.is_incremental and self.window.moves_watermark else None,
            mode=self.window.mode.value,
            run_id=self.run_id,
        )

    def _custom_fields(self, *, bypass_cache: bool = False) -> CustomFields:
        if self.entity.fields is None:
            return CustomFields()
        if bypass_cache or self.policy.bypass_cache:
            self.client.forget(self.entity.fields)
        pages = self.client.pages(self.entity.fields)
        fields = parse_fields(record for page in pages for record in page.records)
        return place(self.entity.name, fields, self.warehouse, reserved_names(self.entity))

    def _batches(self, framer: Framer) -> Iterator[Batch]:
        for endpoint in self.entity.lists:
            for page in self._pages(endpoint):
                framed = framer.frame(page.records)
                self._check_metadata(framed.unknown)
                if framed.newest is not None:
                    self._newest[endpoint.name] = max(framed.newest, self._newest.get(endpoint.name, framed.newest))
                if self.page_read is not None:
                    self.page_read(self.entity.name, len(page.records))
                yield Batch(framed.frame, framed.rejects)

    def _pages(self, endpoint: Endpoint) -> Iterator[Page]:
        params = dict(self._bounds(endpoint)) if self.entity.is_incremental else {}
        if self.policy.bypass_cache:
            self.client.forget(endpoint)
        return self.client.pages(endpoint, params=params)

    def _bounds(self, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
        """`updated_since` (>=) and `updated_until` (<), whole seconds: the API rejects fractions."""
        lower = self.window.lower
        if self.window.mode is Mode.INCREMENTAL:
            watermark = self.warehouse.watermark(endpoint.name)
            lower = watermark - self.policy.overlap if watermark is not None else lower
        if lower is not None:
            yield "updated_since", lower.strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.window.upper is not None:
            yield "updated_until", self.window.upper.strftime("%Y-%m-%dT%H:%M:%SZ")

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
        """Greatest `update_time` seen, per list; a window that starts after the stored watermark would leave a gap."""
        return {name: newest for name, newest in self._newest.items() if not self._leaves_gap(name)}

    def _leaves_gap(self, name: str) -> bool:
        stored = self.warehouse.watermark(name)
        lower = self.window.lower
        return self.window.mode is Mode.BACKFILL and lower is not None and (stored is None or lower > stored)
