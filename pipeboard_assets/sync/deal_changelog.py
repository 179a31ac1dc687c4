"""What deals said before the first sync, on request: Pipedrive's changelog of each deal, read once, open and newest deals first.

A call a deal at least, so it takes days where a sync takes minutes. Rows are staged deal by deal and published by the
hundred; which deals a load has read stands in its ledger row, written with the rows. No Dagster here.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from pipeboard_assets.catalog.shapes import BIGINT
from pipeboard_assets.records.columns import json_text
from pipeboard_assets.sync.entity_sync import Mode
from pipeboard_assets.sync.forecast import EntityForecast
from pipeboard_assets.sync.sight import company_of
from pipeboard_io import Batch, Column, ColumnType, Load, LoadError, Reject, Table, Warehouse
from pipeboard_resources.pipedrive.endpoint import Endpoint, Forecast
from pipeboard_resources.pipedrive.errors import NotFoundError, TokenBudgetSpent

if TYPE_CHECKING:  # it loads httpx and redis, which the graph does not need before it runs
    from pipeboard_resources.pipedrive.client import PipedriveClient

type_ = ColumnType
DEAL_CHANGELOG = Table(
    schema="pipedrive",
    name="deal_changelog",
    columns=(
        Column("deal_id", type_.BIGINT, "pipedrive.deals.id", nullable=False),
        Column("position", type_.BIGINT, "Place in the deal's changelog, the oldest line first.", nullable=False),
        Column("field", type_.TEXT, "Which column of pipedrive.deals changed.", nullable=False),
        Column("old_value", type_.TEXT, "What it said before, as text; NULL = nothing."),
        Column("new_value", type_.TEXT, "What it said since, as text."),
        Column("changed_at", type_.TIMESTAMPTZ, "When it changed.", nullable=False),
        Column("user_id", type_.BIGINT, "Who changed it: pipedrive.users.id."),
    ),
    primary_key=("deal_id", "position"),
    comment="What changed about a deal before Pipeboard kept watch over it, as Pipedrive tells: pipeboard sync --deal-history.",
    lifecycle=False,
)

# What of a changelog is kept: the columns that `pipedrive.deal_change` keeps, by the field's key there.
FIELDS: Mapping[str, str] = {
    "stage_id": "stage_id",
    "pipeline_id": "pipeline_id",
    "status": "status",
    "value": "value",
    "currency": "currency",
    "user_id": "owner_id",
    "owner_id": "owner_id",
    "expected_close_date": "expected_close_date",
}
ENDPOINT = Endpoint("deal_changelog", "/v1/deals/{id}/changelog", tokens=20)

_DEALS_A_LOAD = 100

_SCHEMA: Mapping[str, Any] = {
    "deal_id": pl.Int64,
    "position": pl.Int64,
    "field": pl.String,
    "old_value": pl.String,
    "new_value": pl.String,
    "changed_at": pl.Datetime("us", "UTC"),
    "user_id": pl.Int64,
}
_HAS_DEALS = "SELECT to_regclass('pipedrive.deals') IS NOT NULL AS exists"
# Deals whose changelog was asked for, be it that they have none any more.
DEALS_READ = f"""
SELECT jsonb_array_elements(facts -> 'deals_read')::bigint AS id FROM pipeboard.load
WHERE entity = '{DEAL_CHANGELOG.entity}' AND status = 'success'
"""
_UNREAD = f"""
WITH read AS ({DEALS_READ})
SELECT id FROM pipedrive.deals AS d
WHERE deleted_at IS NULL AND id <> ALL(%(staged)s) AND NOT EXISTS (SELECT FROM read WHERE read.id = d.id)
ORDER BY status IS NOT DISTINCT FROM 'open' DESC, update_time DESC NULLS LAST, id DESC
"""


def _in_utc(time: datetime) -> datetime:
    """v1 writes no offset and means UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    field_key: str
    old_value: str | None = None
    new_value: str | None = None
    actor_user_id: BIGINT | None = None
    time: Annotated[datetime, AfterValidator(_in_utc)]


def unread(warehouse: Warehouse, hidden: Collection[str] = ()) -> list[int]:
    """Ids of the living deals whose changelog is still to be asked for, in the order of asking. Raises LoadError.

    `hidden`: columns of deals that are masked, here as below.
    """
    if not warehouse.query(_HAS_DEALS)[0]["exists"]:
        raise LoadError("the history of deals is asked for deal by deal, and no deal is stored yet: run a sync first")
    return [row["id"] for row in warehouse.query(_UNREAD, {"staged": _staged(warehouse, hidden)})]


def _staged(warehouse: Warehouse, hidden: Collection[str]) -> list[int]:
    """Deals that were read by a load that broke off; the next one publishes them."""
    return list((warehouse.checkpoint(_resume_key(hidden)) or {}).get("deals", ()))


def _resume_key(hidden: Collection[str]) -> str:
    """Lines that were staged before a mask was set must not be what the next load goes on from."""
    return " masked ".join([DEAL_CHANGELOG.entity, *([str(sorted(hidden))] if hidden else ())])


def changelog_forecast(warehouse: Warehouse, hidden: Collection[str] = ()) -> EntityForecast:
    """What is left to ask: a call a deal, which holds for up to 500 lines. Raises LoadError."""
    deals = len(unread(warehouse, hidden))
    cost = Forecast(deals, deals * ENDPOINT.tokens)
    return EntityForecast(entity=DEAL_CHANGELOG.name, mode=Mode.CHANGELOG, records=deals, cost=cost)


def deal_history_told(warehouse: Warehouse, hidden: Collection[str] = ()) -> str:
    """How many deals are left, in a sentence. Raises LoadError."""
    left = len(unread(warehouse, hidden))
    return f"Deal history: {left:,} deals are left; the next call goes on." if left else "Deal history: complete."


@dataclass(slots=True)
class ChangelogSync:
    """Reads the next hundred deals. Use once: `load()` gives the Load to hand to the warehouse, None where nothing is left.

    `hidden`: columns of deals that are masked; lines about them are left out.
    """

    client: "PipedriveClient"
    warehouse: Warehouse
    run_id: str | None = None
    page_read: Callable[[str, int], None] | None = None
    hidden: Collection[str] = ()
    _read: list[int] = field(default_factory=list)
    _unread: list[int] = field(default_factory=list)
    _company: int | None = None

    def load(self) -> Load | None:
        """Describe the load; the changelogs are read when the frames are drained. Raises LoadError, PipedriveError."""
        self._unread = unread(self.warehouse, self.hidden)
        deals = self._unread[:_DEALS_A_LOAD]
        if not deals and not _staged(self.warehouse, self.hidden):
            return None
        self._company = company_of(self.warehouse, self.client)
        return Load(
            table=DEAL_CHANGELOG,
            frames=lambda checkpoint: self._batches(deals, checkpoint),
            mode=Mode.CHANGELOG.value,
            resume_key=_resume_key(self.hidden),
            run_id=self.run_id,
            stops=(TokenBudgetSpent,),
            facts=self.facts,
        )

    def facts(self) -> Mapping[str, object]:
        """What the ledger remembers: whose data it is, the tokens left today, which deals need not be asked for again, and
        how many are still to be asked for."""
        return {
            "account": self.client.account,
            "company": self._company,
            "tokens_left": self.client.tokens_left,
            "deals_read": self._read,
            "deals_left": len(set(self._unread).difference(self._read)),
        }

    def _batches(self, deals: Sequence[int], checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        """One a deal, which is committed to the stage with the list of those that are in it."""
        self._read = [] if checkpoint is None else list(checkpoint["deals"])
        for deal in deals:
            if deal not in self._read:
                batch = self._batch(deal, self._lines(deal))
                self._read.append(deal)
                yield Batch(batch.frame, batch.rejects, {"deals": [*self._read]})

    def _lines(self, deal: int) -> list[Mapping[str, Any]]:
        """The whole changelog of a deal, newest first; of one that is gone at Pipedrive, nothing."""
        endpoint = Endpoint(ENDPOINT.name, ENDPOINT.path.format(id=deal), tokens=ENDPOINT.tokens)
        lines: list[Mapping[str, Any]] = []
        try:
            for page in self.client.pages(endpoint):
                lines.extend(page.records)
        except NotFoundError:
            # A wrong address answers so, too; then this, asked once a run, fails as well.
            self.client.current_user()
        if self.page_read is not None:
            self.page_read(DEAL_CHANGELOG.name, len(lines))
        return lines

    def _batch(self, deal: int, lines: Sequence[Mapping[str, Any]]) -> Batch:
        rows, rejects = [], []
        for position, raw in enumerate(reversed(lines), start=1):
            key = raw.get("field_key")
            if key is not None and FIELDS.get(str(key)) in (None, *self.hidden):
                continue
            try:
                line = _Line.model_validate(raw)
            except ValidationError as invalid:
                reason = invalid.errors(include_url=False, include_input=False)[0]["msg"]
                # What it is about cannot be told, so it may be about what is masked.
                told = "{}" if self.hidden else json_text(raw)
                rejects.append(Reject(key=f"{deal},{position}", column=None, reason=reason, raw=told))
                continue
            field_ = FIELDS[line.field_key]
            rows.append((deal, position, field_, line.old_value, line.new_value, line.time, line.actor_user_id))
        return Batch(pl.DataFrame(rows, schema=_SCHEMA, orient="row"), tuple(rejects))
