"""A sync request as one Dagster run of `sync_all`: what it selects, its configuration, its partitions, its tags.

The command and the sensors launch with the same words, so that both read the same.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from pipeboard_assets.bi.main_bi import MAIN_BI, UPSTREAM
from pipeboard_assets.catalog import CATALOG, by_name
from pipeboard_assets.graph.automation import SYNC_TAG, month_key, range_tags
from pipeboard_assets.graph.entity_assets import asset_key
from pipeboard_assets.graph.request import MONTHLY, SyncRequest
from pipeboard_assets.graph.view_assets import STEP
from pipeboard_assets.sync.covered import half_read, months_read, read_whole
from pipeboard_assets.sync.entity_sync import Mode
from pipeboard_assets.sync.forecast import Forecaster
from pipeboard_assets.sync.history import is_too_large, progress
from pipeboard_assets.sync.months import month_of, months_between
from pipeboard_io import Warehouse
from pipeboard_resources.dagster_resources import open_pipedrive, open_redis
from pipeboard_resources.settings import Settings


def without_history(warehouse: Warehouse, request: SyncRequest) -> frozenset[str]:
    """Incremental entities that were never read whole: their first sync reads everything and leaves nobody out.

    None where months or the rejected records are asked for by themselves, or everything anyway.
    """
    if request.full or request.first or request.retry_rejected:
        return frozenset()
    wanted = (entity.name for entity in CATALOG if entity.is_incremental and entity.name in request.assets)
    return frozenset(wanted) - read_whole(warehouse)


def runs_of(
    settings: Settings,
    warehouse: Warehouse,
    request: SyncRequest,
    *,
    resting: frozenset[str] = frozenset(),
    now: datetime | None = None,
) -> tuple[SyncRequest, ...]:
    """The runs that bring a request about, in order: one, or one a month while a first load is more than a day's tokens.

    `resting`: entities that failed lately, and what needs them; the months of the others do not wait for that. Raises
    PipedriveError where it has to ask how large the account is.
    """
    new = without_history(warehouse, request)
    now = now or datetime.now(UTC)
    months_begun = months_read(warehouse)
    whole = half_read(warehouse, new) - months_begun.keys()  # they go on from their last page
    new -= whole
    begun = progress(warehouse, new, settings.history_start, now)
    if not new or (begun is None and not _is_too_large(settings, warehouse, new, now)):
        return (replace(request, without_history=new | whole),)
    new, whole, request = new - resting, whole - resting, without(request, resting)
    begun = progress(warehouse, new, settings.history_start, now)
    left = begun.left if begun is not None else tuple(reversed(months_between(settings.history_start, month_of(now))))
    read = {name: dict(months) for name, months in months_begun.items() if name in new}
    recent = replace(without(request, new - read.keys()), without_history=whole)
    history = [
        replace(
            request,
            assets=tuple(
                name
                for name in request.assets
                if name not in MONTHLY
                or (name in new and (month == settings.history_start or month not in read.get(name, ())))
            ),
            first=month,
            last=month,
            is_history=True,
        )
        for month in left
    ]
    return (*([recent] if set(recent.assets) & set(MONTHLY) else []), *history)


def without(request: SyncRequest, absent: Collection[str]) -> SyncRequest:
    """The request, but for these entities, and for the mart where it would lack one of them."""
    absent = {*absent, MAIN_BI.name} if set(absent) & set(UPSTREAM) else absent
    return replace(request, assets=tuple(name for name in request.assets if name not in absent))


def with_downstream(names: Collection[str]) -> frozenset[str]:
    """These entities, and those that need one of them."""
    found = set(names)
    for entity in CATALOG:  # upstream first
        if found & set(entity.upstream):
            found.add(entity.name)
    return frozenset(found)


def _is_too_large(settings: Settings, warehouse: Warehouse, new: frozenset[str], now: datetime) -> bool:
    forecaster = Forecaster(warehouse=warehouse, now=now, overlap=settings.overlap, page_size=settings.page_size)
    with open_redis(settings) as redis, open_pipedrive(settings, redis) as client:
        return is_too_large(forecaster, client, new)


def mode_of(name: str, request: SyncRequest) -> Mode:
    """How the run reads an entity; one that cannot be filtered by time is read whole whatever it says."""
    if request.retry_rejected:
        return Mode.REJECTED
    if request.full or name in request.without_history:
        return Mode.FULL
    if request.is_history:
        return Mode.HISTORY
    return Mode.BACKFILL if request.first else Mode.INCREMENTAL


def selection(request: SyncRequest, views: Sequence[dg.AssetKey]) -> list[dg.AssetKey]:
    """Assets of the run, with their checks: the tables asked for and every view. The job's other assets do not run."""
    return [*(asset_key(name, request.prefix) for name in request.assets), *views]


def run_config(request: SyncRequest) -> dict[str, Any]:
    """Configuration of the run's steps."""
    if request.deal_history:
        return {}
    ops: dict[str, Any] = {
        asset_key(name, request.prefix).to_python_identifier(): {
            "config": {"mode": mode_of(name, request).value, "allow_mass_delete": request.allow_mass_delete}
        }
        for name in request.assets
        if name != MAIN_BI.name
    }
    if request.full:
        ops[STEP] = {"config": {"mode": Mode.FULL.value}}
    if request.full and MAIN_BI.name in request.assets:
        ops[asset_key(MAIN_BI.name, request.prefix).to_python_identifier()] = {"config": {"mode": Mode.FULL.value}}
    return {"ops": ops}


def run_tags(request: SyncRequest, partitions: dg.PartitionsDefinition[str] | None) -> Mapping[str, str]:
    """The range asked for; the whole history where it is read anew; else the current month."""
    return {SYNC_TAG: "yes", **_partition_tags(request, partitions)}


def _partition_tags(request: SyncRequest, partitions: dg.PartitionsDefinition[str] | None) -> Mapping[str, str]:
    if partitions is None or not any(_is_monthly(name) for name in request.assets):
        return {}
    keys = partitions.get_partition_keys()
    if request.first and request.last:
        return range_tags(month_key(request.first), month_key(request.last))
    if request.full or request.without_history:
        return range_tags(keys[0], keys[-1])
    return {"dagster/partition": keys[-1]}


def _is_monthly(name: str) -> bool:
    return name != MAIN_BI.name and by_name(name).is_incremental
