"""The promise, over random lives of a company; `make soak` runs the same for an hour."""

from collections.abc import Callable
from itertools import count

import pytest
import stamina
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from pipeboard_resources.pipedrive.standin import Server
from tests.graph.company_life import CompanyLife, World

LIVES = 30


@pytest.mark.timeout(900)
def test_whatever_happens_a_successful_sync_is_right_and_a_failed_one_changed_nothing(
    standin_factory: Callable[..., Server], database_url: str
) -> None:
    seconds = count()  # the stand-in's limits see a second pass with each request: they are not what is tried here

    class Life(CompanyLife):
        world = World(standin_factory(deals=1, clock=lambda: float(next(seconds))), database_url)

    with stamina.set_testing(True, attempts=10, cap=True):
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=LIVES, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    assert Life.world.lives >= LIVES
