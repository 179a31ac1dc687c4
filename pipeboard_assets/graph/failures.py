"""Domain errors into Dagster's words: what may be tried again, what stops at once, what stopped on purpose.

Three retries exist, and each has its own troubles. stamina's, of a request: what Pipedrive does. A step's: what PostgreSQL
does (a lost connection, a lock, a deadlock). The daemon's, of a run: a process that died, a database that was not there when
the run began. A fatal error stops all three. Steps ask for their retry themselves instead of having a `RetryPolicy`: that
would try again whatever comes, a Ctrl-C and a bug included.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from pipeboard_assets.sync.entity_sync import StaleMetadataError
from pipeboard_io.errors import RETRIABLE, WarehouseError
from pipeboard_resources.pipedrive.errors import FatalPipedriveError, RetriablePipedriveError, TokenBudgetSpent

STOPPED = "pipeboard/stopped"
STEP_RETRIES = 2

_METADATA_RETRIES = 2
_TRIED_AGAIN = "tried again"
_NEVER = {_TRIED_AGAIN: "no: it does not heal by itself"}
_BY_REQUESTS = {_TRIED_AGAIN: "every request was; the step would only begin anew"}
_BY_STEP = {_TRIED_AGAIN: f"the step is, {STEP_RETRIES} times"}

# For the daemon: no further run, whatever dagster.yaml says.
_NO_OTHER_RUN = {"dagster/max_retries": "0"}


@contextmanager
def as_dagster_failure(*, pause_seconds: float) -> Iterator[None]:
    """Translate what leaves a part of a step. Raises dg.Failure, or dg.RetryRequested for what heals within `pause_seconds`."""
    try:
        yield
    except StaleMetadataError as stale:
        raise dg.RetryRequested(max_retries=_METADATA_RETRIES, seconds_to_wait=0) from stale
    except TokenBudgetSpent as spent:
        raise dg.Failure(description=str(spent), metadata={STOPPED: True}, allow_retries=False) from spent
    except FatalPipedriveError as fatal:
        raise dg.Failure(description=str(fatal), metadata=_NEVER, allow_retries=False) from fatal
    except RetriablePipedriveError as passing:
        raise dg.Failure(description=str(passing), metadata=_BY_REQUESTS, allow_retries=False) from passing
    except RETRIABLE as passing:
        failure = dg.Failure(description=str(passing), metadata=_BY_STEP)
        failure.__cause__ = passing
        raise dg.RetryRequested(max_retries=STEP_RETRIES, seconds_to_wait=pause_seconds) from failure
    except WarehouseError as fatal:
        raise dg.Failure(description=str(fatal), metadata=_NEVER, allow_retries=False) from fatal


@contextmanager
def ending_the_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[None]:
    """Translate what keeps a run from beginning. The daemon tries another run, unless that would end the same way."""
    try:
        yield
    except WarehouseError as error:
        if not isinstance(error, RETRIABLE):
            instance.add_run_tags(run.run_id, _NO_OTHER_RUN)
        raise dg.Failure(description=str(error)) from error
