"""What a sync will ask of the API, told before it starts from what is stored: requests and tokens. No Dagster."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.sync.covered import table_exists
from pipeboard_assets.sync.deal_summary import STATUSES
from pipeboard_assets.sync.entity_sync import Mode, Window
from pipeboard_io import Warehouse
from pipeboard_resources.pipedrive.endpoint import (
    CURRENT_USER,
    DEAL_SUMMARY,
    Endpoint,
    Forecast,
    forecast,
    forecast_by_time,
)

if TYPE_CHECKING:  # it loads httpx and redis, which a forecast does not need
    from pipeboard_resources.pipedrive.client import PipedriveClient

_FIELDS = "SELECT count(*) AS fields FROM pipeboard.custom_field WHERE entity = %s AND retired_at IS NULL"
_LOADED = "SELECT 1 FROM pipeboard.load WHERE entity = %s AND status = 'success' LIMIT 1"
NOTHING: Mapping[str, int] = MappingProxyType({})
_BASE_FIELDS = 50  # what Pipedrive's own field lists hold besides the custom ones


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityForecast:
    """What one entity will cost; None where nobody can know, because nothing of it was ever loaded."""

    entity: str
    mode: Mode
    records: int | None
    cost: Forecast | None

    @property
    def metadata(self) -> Mapping[str, int]:
        """For the run's page."""
        if self.cost is None:
            return {}
        return {"forecast_requests": self.cost.requests, "forecast_tokens": self.cost.tokens}

    def __str__(self) -> str:
        if self.cost is None:
            return f"{self.entity} was never loaded; `pipeboard plan` asks Pipedrive how much it may be"
        return f"{self.entity} will take about {self.cost.requests} requests and {self.cost.tokens} API tokens"


def exceeds_the_day(expected: EntityForecast, client: "PipedriveClient") -> bool:
    """Whether it will take more tokens than are left today, the reserve aside; False where neither is known."""
    left = client.plan.tokens_left
    return expected.cost is not None and left is not None and expected.cost.tokens > left - client.plan.tokens_reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecaster:
    """Estimates from the tables. Changes since the watermark are taken to be as many as in as long a time before it.

    Lists that may come from the cache count in full.
    """

    warehouse: Warehouse
    now: datetime
    overlap: timedelta
    page_size: int

    def of(self, entity: Entity, window: Window, *, highest_ids: Mapping[str, int] = NOTHING) -> EntityForecast:
        """`highest_ids`: by list, the greatest id at Pipedrive, which stands in where nothing was ever loaded.

        Raises WarehouseError.
        """
        is_new = not (self.warehouse.query(_LOADED, [entity.name]) and table_exists(self.warehouse, entity.name))
        counts = [
            highest_ids.get(endpoint.name) if is_new else self._records(entity, endpoint, window)
            for endpoint in entity.lists
        ]
        costs = [self._cost(endpoint, count) for endpoint, count in zip(entity.lists, counts, strict=True)]
        if window.mode is Mode.FULL:  # what moved back into an earlier list, see EntitySync
            costs += [Forecast(1, endpoint.tokens) for endpoint in entity.lists[:-1]]
            costs += [Forecast(1, DEAL_SUMMARY.tokens) for _ in STATUSES if entity.has_summary]
            costs += [Forecast(1, CURRENT_USER.tokens)] if entity.is_incremental else []  # who saw it
        known = [cost for cost in costs if cost is not None]
        return EntityForecast(
            entity=entity.name,
            mode=window.mode,
            records=None if None in counts else sum(count or 0 for count in counts),
            cost=sum(known, start=self._metadata_cost(entity)) if None not in costs else None,
        )

    def of_months(self, entity: Entity, months: int, *, highest_ids: Mapping[str, int]) -> EntityForecast:
        """Of the months that are left of a first load: what is not stored yet, and a page that is not full for each."""
        stored = {endpoint.name: self._stored(entity, endpoint) for endpoint in entity.lists}
        left = {name: max(0, highest_ids[name] - count) for name, count in stored.items()}
        costs = [forecast_by_time(each, left[each.name], page_size=self.page_size) for each in entity.lists]
        costs += [Forecast(months, months * each.tokens) for each in entity.lists]
        return EntityForecast(
            entity=entity.name,
            mode=Mode.HISTORY,
            records=sum(left.values()),
            cost=sum(costs, start=self._metadata_cost(entity)),
        )

    def _cost(self, endpoint: Endpoint, records: int | None) -> Forecast | None:
        if endpoint.is_filterable_by_time:
            return None if records is None else forecast_by_time(endpoint, records, page_size=self.page_size)
        return forecast(endpoint, records or 0, page_size=self.page_size)

    def _metadata_cost(self, entity: Entity) -> Forecast:
        if entity.fields is None:
            return Forecast(0, 0)
        ((stored,),) = [row.values() for row in self.warehouse.query(_FIELDS, [entity.name])]
        return forecast(entity.fields, stored + _BASE_FIELDS, page_size=self.page_size)

    def _records(self, entity: Entity, endpoint: Endpoint, window: Window) -> int:
        if window.mode is Mode.FULL:
            return self._stored(entity, endpoint)
        if window.mode is Mode.BACKFILL:
            return self._stored(entity, endpoint, since=window.lower, until=window.upper)
        watermark = self.warehouse.watermark(endpoint.name)
        since = window.lower if watermark is None else watermark - self.overlap
        if watermark is None:
            return self._stored(entity, endpoint, since=since)
        as_long_before = watermark - (self.now - watermark)
        return self._stored(entity, endpoint, since=since) + self._stored(entity, endpoint, since=as_long_before)

    def _stored(
        self, entity: Entity, endpoint: Endpoint, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        """Living rows of one list with since <= update_time < until."""
        conditions, values = ["deleted_at IS NULL"], dict[str, Any]()
        if entity.second_list_when:
            negation = "" if endpoint is entity.lists[1] else "NOT "
            conditions.append(f"{negation}coalesce({entity.second_list_when}, false)")
        for name, operator, bound in (("since", ">=", since), ("until", "<", until)):
            if bound is not None:
                conditions.append(f"update_time {operator} %({name})s")
                values[name] = bound
        query = f"SELECT count(*) AS rows FROM pipedrive.{entity.name} WHERE {' AND '.join(conditions)}"
        return int(self.warehouse.query(query, values)[0]["rows"])
