"""Rate limits with an injected clock: burst, daily budget, ban, and the headers that tell of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from pipeboard_resources.pipedrive.standin import Plan, Server
from tests.standin.conftest import Reader

MIDNIGHT = 20_000 * 86_400


class Time:
    """UNIX seconds that stand still until told."""

    def __init__(self) -> None:
        self.now = float(MIDNIGHT + 3600)

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def time() -> Time:
    return Time()


@pytest.fixture(scope="module")
def server(standin_factory: Callable[..., Server], time: Time) -> Server:
    return standin_factory(deals=20, clock=time)


@pytest.fixture
def limited(server: Server, http: httpx.Client) -> Iterator[Reader]:
    server.reset()
    server.company.plan = Plan("Lite", seats=1)
    yield Reader(server, http)
    server.reset()


def test_a_plan_sets_both_limits() -> None:
    assert (Plan("Lite", 1).daily_tokens, Plan("Lite", 1).burst_requests) == (30_000, 20)
    assert (Plan("Ultimate", 3, 500).daily_tokens, Plan("Ultimate", 3).burst_requests) == (630_500, 120)
    with pytest.raises(ValueError, match="Known: Lite"):
        Plan("Free")


def test_every_answer_bears_the_headers(limited: Reader) -> None:
    headers = limited.get("/api/v2/deals").headers
    assert headers["x-ratelimit-limit"] == "20"
    assert headers["x-ratelimit-remaining"] == "19"
    assert headers["x-ratelimit-reset"] == "2"
    assert headers["x-daily-ratelimit-token-limit"] == "30000"
    assert headers["x-daily-ratelimit-token-remaining"] == "29990"


@pytest.mark.parametrize(
    ("path", "tokens"),
    [
        ("/v1/users", 20),
        ("/v1/users/me", 2),
        ("/v1/activityTypes", 20),
        ("/api/v2/pipelines", 5),
        ("/api/v2/stages", 5),
        ("/api/v2/organizations", 10),
        ("/api/v2/deals", 10),
        ("/api/v2/deals/archived", 20),
        ("/api/v2/deals/1", 1),
        ("/api/v2/dealFields", 10),
        ("/v1/dealFields", 20),
        ("/v1/deals/summary", 40),
        ("/v1/deals/1/changelog", 20),
        ("/v1/deals/1/flow", 40),
    ],
)
def test_each_endpoint_costs_what_the_index_says(limited: Reader, path: str, tokens: int) -> None:
    left = limited.get(path).headers["x-daily-ratelimit-token-remaining"]
    assert int(left) == 30_000 - tokens
    assert limited.server.tokens_spent == tokens


def test_the_burst_limit_rolls_over_two_seconds(limited: Reader, time: Time) -> None:
    assert [limited.get("/v1/users/me").status_code for _ in range(21)] == [200] * 20 + [429]
    refused = limited.get("/v1/users/me")
    assert (refused.json()["error"], "retry-after" in refused.headers) == ("request over limit", False)
    time.now += 2
    assert limited.get("/v1/users/me").status_code == 200


def test_each_token_has_its_own_burst_limit(limited: Reader) -> None:
    for _ in range(20):
        limited.get("/v1/users/me")
    assert limited.get("/v1/users/me", key=limited.server.restricted_key).status_code == 200


def test_hammering_on_ends_in_a_cloudflare_page(limited: Reader, time: Time) -> None:
    statuses = [limited.get("/v1/users/me").status_code for _ in range(50)]
    assert (statuses[20], statuses[-1]) == (429, 403)
    page = limited.get("/v1/users/me")
    assert page.headers["content-type"].startswith("text/html")
    time.now += 60
    assert limited.get("/v1/users/me").status_code == 200


def test_a_spent_day_refuses_until_midnight(limited: Reader, time: Time) -> None:
    limited.server.limits.spent = 29_995
    assert limited.get("/api/v2/deals").status_code == 200
    refused = limited.get("/api/v2/deals")
    assert (refused.status_code, refused.json()["error"]) == (429, "daily request budget exceeded")
    assert refused.headers["x-daily-ratelimit-token-remaining"] == "0"
    assert int(refused.headers["retry-after"]) == MIDNIGHT + 86_400 - int(time.now)
    time.now = MIDNIGHT + 86_400
    assert limited.get("/api/v2/deals").status_code == 200
    time.now = MIDNIGHT + 3600


def test_refused_requests_cost_nothing(limited: Reader) -> None:
    assert limited.get("/api/v2/deals", key="wrong").status_code == 401
    assert limited.server.limits.spent == 0
