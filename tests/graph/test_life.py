"""The promise, over random lives of a company: some in every run of the tests, 200 by `make lives`, an hour by `make soak`."""

import random
from time import monotonic

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.graph.company_life import CompanyLife, World


def live(world: World, lives: int, luck: int | None = None) -> None:
    class Life(CompanyLife):
        pass

    Life.world = world
    patient = settings(
        max_examples=lives, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Life if luck is None else seed(luck)(Life), settings=patient)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("half", [1, 2])  # one a worker
def test_whatever_happens_a_successful_sync_is_right_and_a_failed_one_changed_nothing(
    world: World, half: int, request: pytest.FixtureRequest
) -> None:
    lives = request.config.getoption("lives") // 2
    live(world, lives)
    assert world.lives >= lives


@pytest.mark.timeout(0)
def test_an_hour_of_lives(world: World, request: pytest.FixtureRequest) -> None:
    minutes = request.config.getoption("soak_minutes")
    if not minutes:
        pytest.skip("takes as long as --soak-minutes says; `make soak` runs it")
    end = monotonic() + 60 * minutes
    while monotonic() < end:
        luck = random.randrange(2**32)
        print(f"{world.lives} lives; next seed {luck}", flush=True)
        live(world, 50, luck)
    for what, times in sorted(world.faults_survived.items()):
        print(f"{times:6} {what}")
