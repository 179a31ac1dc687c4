"""The day's tokens: counted between answers, believed from answers, never spent into the reserve; one ledger per company."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from pipeboard_resources.embedded import redis_server
from pipeboard_resources.pipedrive.budget import SECONDS_A_COUNT_IS_TRUSTED, TokenLedger
from pipeboard_resources.pipedrive.endpoint import Endpoint, Request
from pipeboard_resources.pipedrive.errors import TokenBudgetSpent
from pipeboard_resources.shared_redis import SharedRedis
from tests.client.conftest import told
from tests.fixtures.servers import temporary_state_dir

PAGE = Request("persons", "/api/v2/persons", {}, tokens=10)
PERSONS = Endpoint("persons", "/api/v2/persons")
DAY_SECONDS = 86_400
KEY = "pipeboard:tokens:account"


@pytest.fixture
def ledger_of(clock):
    return lambda shared=None, *, percent=10: TokenLedger("account", percent, shared=shared, clock=clock)


def spend(ledger, rates=None, *, is_charged=True):
    ledger.admit(PAGE)
    ledger.settle(PAGE, rates, is_charged=is_charged)


@pytest.fixture
def company(standin_factory, clock):
    """A Lite company of one seat, 30,000 tokens a day, whose days are those of the test's clock."""
    server = standin_factory(deals=60, clock=clock.now)
    server.company.set_plan("Lite", seats=1)
    server.limits.window_seconds = 0.0  # the burst limit is another test's
    return server


def read(client):
    return [record["id"] for page in client.pages(PERSONS) for record in page.records]


def leave(server, tokens):
    """`tokens` of the day are left; the rest is spent by somebody."""
    server.limits.left(server.company.plan)
    server.limits.spent = server.company.plan.daily_tokens - tokens


def test_nothing_is_known_and_nothing_stopped_before_the_first_answer(ledger_of):
    ledger = ledger_of()
    for _ in range(50):
        spend(ledger, told())
    assert (ledger.tokens_left, ledger.reserve) == (None, 0)


def test_answers_are_believed_and_between_them_it_counts(ledger_of):
    ledger = ledger_of()
    spend(ledger, told(daily_limit=30_000, daily_remaining=20_000))
    spend(ledger, None)
    spend(ledger, told(), is_charged=False)
    assert ledger.tokens_left == 19_990
    spend(ledger, told(daily_remaining=500))
    assert (ledger.tokens_left, ledger.limit) == (500, 30_000)


def test_the_reserve_is_left_alone_to_the_last_token(ledger_of):
    ledger = ledger_of()
    spend(ledger, told(daily_limit=1000, daily_remaining=125))
    spend(ledger)
    spend(ledger)
    with pytest.raises(TokenBudgetSpent, match=r"105 of 1000 tokens are left today and 100 of them are reserved.*10%"):
        ledger.admit(PAGE)
    assert ledger.tokens_left == 105


def test_requests_under_way_are_set_aside(ledger_of):
    ledger = ledger_of()
    spend(ledger, told(daily_limit=1000, daily_remaining=125))
    ledger.admit(PAGE)
    ledger.admit(PAGE)
    with pytest.raises(TokenBudgetSpent):
        ledger.admit(PAGE)
    ledger.settle(PAGE, None, is_charged=False)
    ledger.admit(PAGE)


def test_a_reserve_of_nothing_spends_to_the_end(ledger_of):
    ledger = ledger_of(percent=0)
    spend(ledger, told(daily_limit=1000, daily_remaining=10))
    spend(ledger)
    with pytest.raises(TokenBudgetSpent):
        ledger.admit(PAGE)


def test_a_run_stops_before_the_reserve_sends_nothing_more_and_goes_on_the_next_day(company, client_for, clock):
    leave(company, 3000 + 25)
    client = client_for(company, page_size=5)
    with pytest.raises(TokenBudgetSpent) as stopped:
        read(client)
    assert stopped.value.is_reserve and "nothing was sent" in str(stopped.value)
    assert company.limits.left(company.company.plan) >= 3000
    sent = len(company.requests)
    with pytest.raises(TokenBudgetSpent):
        read(client)
    assert len(company.requests) == sent
    assert {entry.status for entry in company.requests} == {200}
    clock.advance(DAY_SECONDS)
    assert set(read(client)) == set(company.company.ids("persons"))


def test_a_daily_429_stops_everything_until_the_hour_it_names(company, client_for, clock):
    leave(company, 0)
    client = client_for(company, page_size=5, token_reserve_percent=0)
    with pytest.raises(TokenBudgetSpent) as stopped:
        read(client)
    assert not stopped.value.is_reserve and stopped.value.status == 429
    assert f"{stopped.value.resets_at:%Y-%m-%dT%H:%M:%SZ}" in str(stopped.value)
    with pytest.raises(TokenBudgetSpent):
        read(client)
    assert len(company.requests) == 1
    assert client.usage.daily_refusals == 1
    clock.advance_to(stopped.value.resets_at.timestamp() + 1)
    assert set(read(client)) == set(company.company.ids("persons"))


def test_the_first_request_of_a_run_goes_out_whatever_yesterday_left_in_redis(ledger_of, shared):
    spend(ledger_of(shared), told(daily_limit=1000, daily_remaining=0))
    today = ledger_of(shared)
    spend(today, told(daily_limit=1000, daily_remaining=1000))
    assert today.tokens_left == 1000


def test_a_second_run_knows_what_the_first_was_told(ledger_of, shared):
    spend(ledger_of(shared), told(daily_limit=1000, daily_remaining=105))
    second = ledger_of(shared)
    spend(second, None, is_charged=False)
    with pytest.raises(TokenBudgetSpent, match="105 of 1000"):
        second.admit(PAGE)


def test_what_one_run_spends_without_headers_another_one_sees(ledger_of, shared):
    first = ledger_of(shared)
    spend(first, told(daily_limit=1000, daily_remaining=900))
    spend(first)
    spend(first)
    second = ledger_of(shared)
    second.admit(PAGE)
    assert second.tokens_left == 880


def test_an_old_count_stops_nobody(ledger_of, shared, clock):
    ledger = ledger_of(shared)
    spend(ledger, told(daily_limit=1000, daily_remaining=0))
    clock.advance(SECONDS_A_COUNT_IS_TRUSTED)
    spend(ledger)
    assert ledger.tokens_left is None


def test_an_entry_that_redis_lost_is_no_debt(ledger_of, shared, redis_client):
    ledger = ledger_of(shared)
    spend(ledger, told(daily_limit=1000, daily_remaining=900))
    redis_client.flushall()
    for _ in range(3):
        spend(ledger)
    assert ledger.tokens_left == 870
    assert redis_client.keys() == []


def test_the_entry_goes_away_by_itself(ledger_of, shared, redis_client):
    spend(ledger_of(shared), told(daily_limit=1000, daily_remaining=900))
    assert 0 < redis_client.ttl(KEY) <= DAY_SECONDS


@pytest.mark.parametrize(
    "entry",
    [
        {"seen_at": "inf", "left": "0", "limit": "1000"},
        {"seen_at": "nan", "left": "0", "limit": "1000"},
        {"seen_at": "1e300", "left": "0", "limit": "1000"},
        {"seen_at": "now", "left": "inf", "limit": "1000"},
        {"seen_at": "now", "left": "nan", "limit": "nan"},
        {"seen_at": "now", "left": b"\xff", "limit": "1000"},
        {"seen_at": "now"},
        {"left": "0"},
        {"something": "else"},
    ],
    ids=str,
)
def test_an_entry_that_is_rubbish_stops_nobody(entry, ledger_of, shared, redis_client, clock):
    redis_client.hset(KEY, mapping={name: clock.now() if value == "now" else value for name, value in entry.items()})
    ledger = ledger_of(shared)
    for _ in range(3):
        spend(ledger)
    spend(ledger, told(daily_limit=1000, daily_remaining=900))
    assert ledger.tokens_left == 900


def test_a_key_of_another_kind_stops_nobody(ledger_of, shared, redis_client):
    redis_client.set(KEY, "text")
    ledger = ledger_of(shared)
    for rates in (told(), told(daily_limit=1000, daily_remaining=900), told()):
        spend(ledger, rates)
    assert ledger.tokens_left == 890


def test_redis_that_stops_midway_leaves_each_run_its_own_count(ledger_of, clock):
    with temporary_state_dir() as folder, redis_server(folder) as server:
        shared = SharedRedis(SecretStr(server.url), clock=clock)
        ledger = ledger_of(shared)
        spend(ledger, told(daily_limit=1000, daily_remaining=120))
    spend(ledger)
    assert (ledger.tokens_left, shared.errors) == (110, 1)
    spend(ledger)
    with pytest.raises(TokenBudgetSpent):
        ledger.admit(PAGE)
    shared.close()
