"""The circuit: closed, open, half-open; a storm of server faults opens it, one good answer closes it again."""

from __future__ import annotations

import threading

import pytest
from pydantic import SecretStr

from pipeboard_resources.embedded import redis_server
from pipeboard_resources.pipedrive.breaker import FAULTS_TO_OPEN, OPEN_SECONDS, Breaker
from pipeboard_resources.pipedrive.endpoint import Endpoint, Request
from pipeboard_resources.pipedrive.errors import CircuitOpenError, NoAnswerError, PipedriveError, ServerError
from pipeboard_resources.shared_redis import SharedRedis
from tests.fixtures.servers import temporary_state_dir

PAGE = Request("persons", "/api/v2/persons", {}, tokens=10)
PERSONS = Endpoint("persons", "/api/v2/persons")
URL = "https://api.pipedrive.com"


@pytest.fixture(params=["memory", "redis"])
def breaker(request, clock):
    place = request.getfixturevalue("shared") if request.param == "redis" else None
    return Breaker(URL, shared=place, clock=clock)


def fail(breaker, times=FAULTS_TO_OPEN):
    for _ in range(times):
        breaker.record(is_fault=True, is_trial=False)


def is_let_through(breaker):
    """Whether a request may leave now, and as what."""
    try:
        return "trial" if breaker.admit(PAGE, patience_seconds=0) else "yes"
    except CircuitOpenError:
        return "no"


def test_it_opens_at_the_tenth_fault_in_a_row_and_says_when_it_tries_again(breaker, clock):
    fail(breaker, FAULTS_TO_OPEN - 1)
    assert (breaker.state, is_let_through(breaker)) == ("closed", "yes")
    fail(breaker, 1)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError, match="not sent because Pipedrive failed too many times") as refused:
        breaker.admit(PAGE, patience_seconds=0)
    assert refused.value.retry_at.timestamp() == pytest.approx(clock.now() + OPEN_SECONDS, abs=1)
    clock.advance(OPEN_SECONDS - 1)
    assert is_let_through(breaker) == "no"


def test_one_success_in_between_starts_the_count_anew(breaker):
    for _ in range(3):
        fail(breaker, FAULTS_TO_OPEN - 1)
        breaker.record(is_fault=False, is_trial=False)
    assert breaker.state == "closed"


def test_after_a_while_one_trial_is_let_through_at_a_time_and_its_success_closes_it(breaker, clock):
    fail(breaker)
    clock.advance(OPEN_SECONDS)
    assert [is_let_through(breaker) for _ in range(3)] == ["trial", "no", "no"]
    breaker.record(is_fault=False, is_trial=True)
    assert breaker.state == "closed"
    assert is_let_through(breaker) == "yes"
    fail(breaker, FAULTS_TO_OPEN - 1)
    assert breaker.state == "closed"


def test_a_trial_that_fails_opens_it_for_another_while(breaker, clock):
    fail(breaker)
    for _ in range(3):
        clock.advance(OPEN_SECONDS)
        assert is_let_through(breaker) == "trial"
        breaker.record(is_fault=True, is_trial=True)
        assert is_let_through(breaker) == "no"
    clock.advance(OPEN_SECONDS)
    assert is_let_through(breaker) == "trial"


def test_a_trial_that_is_cancelled_makes_room_for_the_next(breaker, clock):
    fail(breaker)
    clock.advance(OPEN_SECONDS)
    assert is_let_through(breaker) == "trial"
    breaker.give_back(is_trial=True)
    assert is_let_through(breaker) == "trial"


@pytest.mark.parametrize(("is_fault", "end"), [(False, ["yes"] * 3), (True, ["no"] * 3)])
def test_those_who_wait_for_a_trial_end_as_it_does(breaker, clock, is_fault, end):
    fail(breaker)
    clock.advance(OPEN_SECONDS)
    assert is_let_through(breaker) == "trial"
    ends, waiting = [], threading.Barrier(4)

    def wait_for_it():
        waiting.wait()
        try:
            ends.append("trial" if breaker.admit(PAGE, patience_seconds=30) else "yes")
        except CircuitOpenError:
            ends.append("no")

    readers = [threading.Thread(target=wait_for_it) for _ in range(3)]
    for reader in readers:
        reader.start()
    waiting.wait()
    breaker.record(is_fault=is_fault, is_trial=True)
    for reader in readers:
        reader.join(timeout=10)
    assert ends == end


def test_a_late_answer_of_before_neither_closes_nor_counts(breaker):
    fail(breaker)
    breaker.record(is_fault=False, is_trial=False)
    breaker.record(is_fault=True, is_trial=False)
    assert breaker.state == "open"


def test_two_clients_share_one_circuit_and_its_healing(shared, clock):
    one, two = (Breaker(URL, shared=shared, clock=clock) for _ in range(2))
    other = Breaker("http://127.0.0.1:8090", shared=shared, clock=clock)
    for breaker in (one, two) * (FAULTS_TO_OPEN // 2):
        fail(breaker, 1)
    assert [is_let_through(each) for each in (one, two, other)] == ["no", "no", "yes"]
    clock.advance(OPEN_SECONDS)
    assert is_let_through(two) == "trial"
    two.record(is_fault=False, is_trial=True)
    assert [is_let_through(each) for each in (one, two)] == ["yes", "yes"]


def test_redis_that_stops_leaves_the_circuit_as_this_process_knew_it(clock):
    with temporary_state_dir() as folder, redis_server(folder) as server:
        shared = SharedRedis(SecretStr(server.url), clock=clock)
        breaker = Breaker(URL, shared=shared, clock=clock)
        fail(breaker)
    assert (is_let_through(breaker), shared.errors) == ("no", 1)
    clock.advance(OPEN_SECONDS)
    assert is_let_through(breaker) == "trial"
    breaker.record(is_fault=False, is_trial=True)
    assert is_let_through(breaker) == "yes"
    shared.close()


def test_what_lies_in_redis_goes_away_by_itself(shared, redis_client, clock):
    fail(Breaker(URL, shared=shared, clock=clock), 1)
    (name,) = redis_client.keys("pipeboard:breaker:*")
    assert 0 < redis_client.ttl(name) <= 600


@pytest.mark.parametrize("number", ["inf", "nan", "1e300", "-5", "many", b"\xff"])
def test_rubbish_in_redis_is_healed_by_the_next_trial(shared, redis_client, clock, number):
    breaker = Breaker(URL, shared=shared, clock=clock)
    fail(breaker, 1)
    (name,) = redis_client.keys("pipeboard:breaker:*")
    redis_client.hset(name, mapping={"state": "open", "faults": number, "opened_at": number, "successes": number})
    assert is_let_through(breaker) in ("trial", "yes")
    breaker.record(is_fault=False, is_trial=breaker.state == "open")
    redis_client.hset(name, "state", "ajar")
    assert is_let_through(breaker) == "yes"


def test_a_storm_of_5xx_opens_it_the_rest_fails_fast_and_it_heals_by_itself(peaceful, client_for, clock):
    peaceful.faults.add("status_503", PERSONS.path, times=None)
    client = client_for(peaceful)
    ends = []
    for _ in range(6):
        with pytest.raises(PipedriveError) as failed:
            list(client.pages(PERSONS))
        ends.append(type(failed.value))
    assert ends == [ServerError] * 3 + [CircuitOpenError] * 3
    assert len(peaceful.requests) == FAULTS_TO_OPEN
    assert str(failed.value).startswith("Reading page 1 of persons from Pipedrive: no answer, the request was not sent")
    peaceful.faults.clear()
    clock.advance(OPEN_SECONDS)
    assert {record["id"] for page in client.pages(PERSONS) for record in page.records}


@pytest.mark.parametrize("fault", ["status_400", "status_401", "status_402", "status_403", "status_404", "burst_429"])
def test_a_refusal_never_opens_it(fault, peaceful, client_for):
    peaceful.faults.add(fault, PERSONS.path, times=None)
    client = client_for(peaceful)
    for _ in range(2 * FAULTS_TO_OPEN):
        with pytest.raises(PipedriveError) as refused:
            list(client.pages(PERSONS))
        assert not isinstance(refused.value, CircuitOpenError)


def test_requests_that_are_cancelled_half_way_are_no_faults(peaceful, client_for):
    """One refused list cancels its other readers; were they faults, a few such lists would shut out every other one."""
    peaceful.faults.add("connection_cut", PERSONS.path, times=2 * FAULTS_TO_OPEN)
    client = client_for(peaceful)
    for _ in range(2 * FAULTS_TO_OPEN):
        cancel = threading.Event()
        peaceful.before_page = lambda *_, cancel=cancel: cancel.set()
        with pytest.raises(NoAnswerError):
            client.page(PERSONS, cancel=cancel)
    assert len(peaceful.requests) == 2 * FAULTS_TO_OPEN
    assert client.page(PERSONS).records
