"""Domain errors into Dagster's words: what may be tried again, what stops at once, what stopped on purpose.

Three retries exist: stamina's for a request, Dagster's policy for a step, the daemon's for a run. A permanent error
must stop all three, so it becomes a `dg.Failure` that allows none; an error that may heal stays an exception.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import dagster as dg

from pipeboard_assets.sync.entity_sync import StaleMetadataError
from pipeboard_io.errors import RETRIABLE, WarehouseError
from pipeboard_resources.pipedrive.errors import FatalPipedriveError, RetriablePipedriveError, TokenBudgetSpent

STOPPED = "pipeboard/stopped"
_METADATA_RETRIES = 2

T = TypeVar("T")


@contextmanager
def as_dagster_failure() -> Iterator[None]:
    """Translate what leaves the block. Raises dg.Failure or dg.RetryRequested from the domain's error."""
    try:
        yield
    except StaleMetadataError as stale:
        raise dg.RetryRequested(max_retries=_METADATA_RETRIES, seconds_to_wait=0) from stale
    except TokenBudgetSpent as spent:
        raise dg.Failure(description=str(spent), metadata={STOPPED: True}, allow_retries=False) from spent
    except FatalPipedriveError as fatal:
        raise dg.Failure(description=str(fatal), allow_retries=False) from fatal
    except RetriablePipedriveError as passing:
        raise dg.Failure(description=str(passing), allow_retries=True) from passing
    except WarehouseError as failed:
        raise dg.Failure(description=str(failed), allow_retries=isinstance(failed, RETRIABLE)) from failed


def translated(items: Iterable[T]) -> Iterator[T]:
    """The same items; errors raised while drawing them are translated."""
    with as_dagster_failure():
        yield from items
