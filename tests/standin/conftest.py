"""Reading the stand-in over HTTP, as plainly as can be: no client of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pipeboard_resources.pipedrive.standin import Company

if TYPE_CHECKING:
    from pipeboard_resources.pipedrive.standin import Server

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Reader:
    """Reads a server with one key."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        self.server = server
        self.http = http

    def get(self, path: str, *, key: str | None = None, **query: Any) -> httpx.Response:
        """One GET; `key` is the admin's unless given."""
        headers = {"x-api-token": self.server.api_key if key is None else key}
        return self.http.get(self.server.url + path, params=query, headers=headers)

    def post(self, action: str, **arguments: Any) -> Any:
        """One edit over HTTP; its result."""
        answer = self.http.post(f"{self.server.url}/_standin/{action}", json=arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def pages(self, endpoint: str, **query: Any) -> Iterator[list[dict[str, Any]]]:
        """The pages of a v2 list, following cursors to the end."""
        cursor: dict[str, str] = {}
        while True:
            body = self.get(f"/api/v2/{endpoint}", **query, **cursor).json()
            yield body["data"]
            following = body["additional_data"]["next_cursor"]
            if following is None:
                return
            cursor = {"cursor": following}

    def ids(self, endpoint: str, *, limit: int = 500, **query: Any) -> list[int]:
        """All ids of a v2 list, in the order in which they came."""
        return [record["id"] for page in self.pages(endpoint, limit=limit, **query) for record in page]


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """One connection pool per module; redirects are not followed."""
    with httpx.Client(timeout=10) as client:
        yield client


@pytest.fixture
def reader(standin: Server, http: httpx.Client) -> Iterator[Reader]:
    """The module's stand-in, at peace before and after each test."""
    standin.reset()
    yield Reader(standin, http)
    standin.reset()


@pytest.fixture
def fresh(standin_factory: Callable[..., Server], http: httpx.Client) -> Reader:
    """A small company of its own for a test that edits."""
    return Reader(standin_factory(deals=40), http)


@pytest.fixture
def company() -> Company:
    """A small company that nobody serves."""
    return Company.generate(deals=60, now=NOW)
