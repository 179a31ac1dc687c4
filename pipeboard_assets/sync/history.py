"""A first load larger than the day's API tokens: month by month, the newest first, over as many days as it takes.

Each month is a run of its own, published whole, so dashboards are of use on the first day. When it is stopped, the next
sync brings what changed and goes on with the months that are left.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.sync.covered import months_read, read_whole
from pipeboard_assets.sync.entity_sync import FULL
from pipeboard_assets.sync.forecast import Forecaster
from pipeboard_assets.sync.months import month_of, months_between
from pipeboard_io import Warehouse
from pipeboard_resources.pipedrive.endpoint import Endpoint, Forecast
from pipeboard_resources.pipedrive.errors import ForbiddenError, GoneError, NotFoundError

if TYPE_CHECKING:  # it loads httpx and redis, which `pipeboard status` does not need
    from pipeboard_resources.pipedrive.client import PipedriveClient

logger = logging.getLogger(__name__)

# More than this is enough for a first load of any account that we know of, so that nobody is asked for its size.
_PLENTY_OF_TOKENS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Months of history, YYYY-MM: those that are left, the newest first. `complete_at`: at the pace of the last day."""

    months: int
    left: tuple[str, ...]
    complete_at: datetime | None

    def __str__(self) -> str:
        when = (
            "" if self.complete_at is None else f"; complete about {self.complete_at:%Y-%m-%d}, if it goes on like this"
        )
        return f"History: {self.months - len(self.left)} of {self.months} months are there, the newest first{when}."


def progress(warehouse: Warehouse, entities: Collection[str], history_start: str, now: datetime) -> Progress | None:
    """How far the month-by-month load of these entities is, none of which was read whole; None where none was begun.

    So the first month, which is open to the past, is left: it may have been read when it was not the first one yet.
    """
    read = months_read(warehouse)
    begun = {name: read[name] for name in entities if name in read}
    if not begun:
        return None
    months = months_between(history_start, month_of(now))
    done = {month for month in months[1:] if all(month in dict(begun.get(name, ())) for name in entities)}
    left = tuple(month for month in reversed(months) if month not in done)
    finished = [at for each in begun.values() for _, at in each]
    lately = sum(each > now - timedelta(days=1) for each in finished) / len(entities)
    complete_at = now + timedelta(days=len(left) / lately) if lately and left else None
    return Progress(months=len(months), left=left, complete_at=complete_at)


def history_told(warehouse: Warehouse, history_start: str, now: datetime) -> str | None:
    """How far a first load is that is spread over days, in a sentence; None where there is none."""
    monthly = {entity.name for entity in CATALOG if entity.is_incremental}
    found = progress(warehouse, monthly - read_whole(warehouse), history_start, now)
    return None if found is None else str(found)


def is_too_large(forecaster: Forecaster, client: "PipedriveClient", entities: Collection[str]) -> bool:
    """Whether reading these entities whole would take more tokens than are left today, the reserve aside.

    Asks for one record a list where tokens are few enough to make it a question.
    """
    client.current_user()  # any answer tells how many tokens are left
    left = client.plan.tokens_left
    usable = None if left is None else left - client.plan.tokens_reserved
    if usable is None or usable >= _PLENTY_OF_TOKENS:
        return False
    total = Forecast(0, 0)
    for entity in CATALOG:
        if entity.name in entities:
            total += cost_at_most(forecaster, client, entity)
    return total.tokens > usable


def cost_at_most(forecaster: Forecaster, client: "PipedriveClient", entity: Entity) -> Forecast:
    """Of an entity that was never loaded: the highest id stands for the number of its records."""
    found = forecaster.of(entity, FULL, highest_ids=highest_ids(client, entity))
    assert found.cost is not None
    return found.cost


def highest_ids(client: "PipedriveClient", entity: Entity) -> Mapping[str, int]:
    """By list, the greatest id at Pipedrive. Ids are given in ascending order, so no list holds more records."""
    return {endpoint.name: _highest_id(client, endpoint) for endpoint in entity.lists}


def _highest_id(client: "PipedriveClient", endpoint: Endpoint) -> int:
    try:
        page = client.page(endpoint, params={"sort_by": "id", "sort_direction": "desc", "limit": "1"})
    except (ForbiddenError, GoneError, NotFoundError) as refused:
        logger.warning("%s counts as empty in the forecast, and its own load will fail: %s", endpoint.name, refused)
        return 0  # the others do not wait for that
    return max((int(record["id"]) for record in page.records), default=0)
