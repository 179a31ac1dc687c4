"""Clients with a clock of their own and no waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import stamina
from pydantic import SecretStr

from pipeboard_resources.pipedrive.classify import RateHeaders
from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
from pipeboard_resources.pipedrive.retry import RetryPolicy
from pipeboard_resources.shared_redis import SharedRedis


class FakeClock:
    """Time that passes only when somebody waits. Waits of several threads overlap, as real ones do."""

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.waits: list[float] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def wait(self, seconds: float, cancel: threading.Event | None = None) -> None:
        with self._lock:
            self.waits.append(seconds)
        self.advance_to(self._now + seconds)

    def advance_to(self, moment: float) -> None:
        with self._lock:
            self._now = max(self._now, moment)

    def advance(self, seconds: float) -> None:
        self.advance_to(self._now + seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    """stamina counts attempts but does not sleep."""
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


ClientFactory = Callable[..., PipedriveClient]


@pytest.fixture
def client_for(clock: FakeClock) -> Iterator[ClientFactory]:
    """`client_for(server, page_size=20, ...)`: options of ClientOptions, then those of PipedriveClient."""
    made: list[PipedriveClient] = []

    def make(server, *, key: str | None = None, shared=None, cache=None, on_request=None, clock=clock, **options):
        options = {"retry": RetryPolicy(attempts=3), "timeout_seconds": 5.0, **options}
        client = PipedriveClient(
            SecretStr(key or server.api_key),
            ClientOptions(base_url=server.url, **options),
            shared=shared,
            cache=cache,
            on_request=on_request,
            clock=clock,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def told(**rates) -> RateHeaders:
    """The limits of an answer that tells only these."""
    return RateHeaders(**{**dict.fromkeys(RateHeaders.__slots__), **rates})


@pytest.fixture
def shared(redis_client, redis_url, clock) -> Iterator[SharedRedis]:
    """An empty Redis that is asked again right after a trouble."""
    redis_client.flushall()
    made = SharedRedis(SecretStr(redis_url), clock=clock, pause_seconds=0)
    yield made
    made.close()


@pytest.fixture
def peaceful(standin):
    """The module's stand-in, without faults, log or spent tokens of the test before."""
    standin.reset()
    return standin
