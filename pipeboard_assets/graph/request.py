"""What a person asks a sync for, and which questions make no sense. Loads no Dagster, so that misuse is told at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG

ASSETS = (*(entity.name for entity in CATALOG), MAIN_BI.name)
MONTHLY = tuple(entity.name for entity in CATALOG if entity.is_incremental)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """What a person asked for. `first`/`last`: months YYYY-MM of a backfill, both or none; `is_history`: they are a part of
    a first load that is spread over days. `deal_history`: the changelogs of deals instead of the tables. `without_history`: assets that were never read whole. `prefix`: of the company's
    names (Settings.prefix)."""

    assets: tuple[str, ...] = ASSETS
    full: bool = False
    first: str | None = None
    last: str | None = None
    allow_mass_delete: bool = False
    retry_rejected: bool = False
    is_history: bool = False
    deal_history: bool = False
    without_history: frozenset[str] = frozenset()
    prefix: str = ""


def asked_for(
    selected: Sequence[str],
    *,
    full: bool,
    months: tuple[str | None, str | None],
    allow_mass_delete: bool = False,
    retry_rejected: bool = False,
    deal_history: bool = False,
    history_start: str,
    prefix: str = "",
) -> SyncRequest:
    """The request behind the options. Raises click.UsageError when they contradict each other."""
    if deal_history:
        if selected or full or any(months) or allow_mass_delete or retry_rejected:
            raise click.UsageError(
                "--deal-history asks for the changelogs of deals and nothing else; leave out the other options"
            )
        return SyncRequest(assets=(DEAL_CHANGELOG.name,), deal_history=True, prefix=prefix)
    names = [name.strip() for item in selected for name in item.split(",") if name.strip()]
    if selected and not names:
        raise click.UsageError("--select names no asset; leave it out to sync all")
    unknown = sorted(set(names) - set(ASSETS))
    if unknown:
        raise click.UsageError(f"no such asset: {', '.join(unknown)}. There are: {', '.join(ASSETS)}")
    first, last = months
    assets = tuple(name for name in ASSETS if name in names) if names else ASSETS
    if first or last:
        _check_months(first, last, assets, history_start)
    if allow_mass_delete and not full:
        raise click.UsageError("--allow-mass-delete goes with --full, which is what marks rows deleted")
    if full and first:
        raise click.UsageError("--full reads everything; leave out --from and --to")
    if retry_rejected and (full or first):
        raise click.UsageError("--retry-rejected reads the rejected records only; leave out --full, --from and --to")
    return SyncRequest(
        assets=assets,
        full=full,
        first=first,
        last=last,
        allow_mass_delete=allow_mass_delete,
        retry_rejected=retry_rejected,
        prefix=prefix,
    )


def _check_months(first: str | None, last: str | None, assets: Sequence[str], history_start: str) -> None:
    if first is None or last is None or first > last:
        raise click.UsageError("--from and --to go together, the earlier month first")
    if last > f"{datetime.now(UTC):%Y-%m}":
        raise click.UsageError(f"--to {last} is in the future")
    if first < history_start:
        raise click.UsageError(
            f"--from {first} lies before PIPEBOARD_HISTORY_START ({history_start}); that month holds everything older, "
            "so begin there"
        )
    if not set(assets) & set(MONTHLY):
        raise click.UsageError(f"--from and --to need one of {', '.join(MONTHLY)}; the others are always read whole")
