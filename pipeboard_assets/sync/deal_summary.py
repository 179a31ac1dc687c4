"""Pipedrive's own count of the deals, by status and currency, asked after a sweep: a second opinion for a check."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeboard_resources.pipedrive.endpoint import DEAL_SUMMARY
from pipeboard_resources.pipedrive.errors import FatalPipedriveError

if TYPE_CHECKING:  # it loads httpx and redis, which the graph does not need before it runs
    from pipeboard_resources.pipedrive.client import PipedriveClient

logger = logging.getLogger(__name__)

STATUSES = ("open", "won", "lost")


def read_summary(client: "PipedriveClient") -> Mapping[str, Mapping[str, Any]] | None:
    """{status: {currency: {"count", "value"}}} of the deals that are neither archived nor deleted, values as text.

    None where the account does not answer it (plans and permissions differ). Raises the tree of errors.py but the fatal
    ones.
    """
    try:
        return {status: _totals(client, status) for status in STATUSES}
    except FatalPipedriveError as refused:
        logger.info("no summary of deals to compare with: %s", refused)
        return None


def _totals(client: "PipedriveClient", status: str) -> Mapping[str, Any]:
    answer = client.get(DEAL_SUMMARY.path, params={"status": status}, tokens=DEAL_SUMMARY.tokens)
    totals = answer.get("values_total") or {}
    return {
        currency: {"count": int(total["count"]), "value": str(total["value"])} for currency, total in totals.items()
    }
