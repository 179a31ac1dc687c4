"""When a request is tried again: only for what can heal, so many times, so many seconds, after the pause asked for."""

from __future__ import annotations

import threading

import pytest

from pipeboard_resources.pipedrive import errors
from pipeboard_resources.pipedrive.clock import at
from pipeboard_resources.pipedrive.retry import Retries, RetryPolicy

POLICY = RetryPolicy(attempts=5, total_seconds=100.0, malformed_attempts=3)


def kinds(parent):
    """In one order for every worker: a set of classes has none."""
    return [kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), parent) and kind is not parent]


class Requests:
    """Fails with each error in turn, the last one for ever; None is a success. Each try takes `takes` seconds."""

    def __init__(self, clock, *ends, takes=0.0):
        self.clock, self.ends, self.takes, self.sent = clock, list(ends), takes, 0

    def __call__(self):
        self.sent += 1
        self.clock.advance(self.takes)
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if end is not None:
            raise end
        return "answer"


def tried(requests, clock, policy=POLICY, cancel=None):
    """The error it ended with or None, and the pauses that were asked for."""
    holds: list[float] = []

    def hold(seconds):
        holds.append(seconds)
        clock.advance(seconds)

    try:
        assert Retries(policy, clock, hold=hold, cancel=cancel).run(requests) == "answer"
    except errors.PipedriveError as error:
        return error, holds
    return None, holds


def no_answer(retry_after=None):
    error = errors.NoAnswerError("deals", "reset")
    error.retry_after_seconds = retry_after
    return error


@pytest.mark.parametrize(
    "kind", [*kinds(errors.FatalPipedriveError), errors.TokenBudgetSpent], ids=lambda each: each.__name__
)
def test_what_does_not_heal_is_never_tried_again(kind, clock):
    error = kind("deals", retry_at=at(0)) if kind is errors.CircuitOpenError else kind("deals", "trouble")
    requests = Requests(clock, error)
    assert tried(requests, clock) == (error, [])
    assert requests.sent == 1


@pytest.mark.parametrize("kind", kinds(errors.RetriablePipedriveError), ids=lambda each: each.__name__)
def test_what_may_heal_is_tried_again_and_no_more_than_so_often(kind, clock):
    tries = 3 if issubclass(kind, errors.MalformedPageError) else 5
    healing = Requests(clock, *[kind("deals", "trouble")] * (tries - 1), None)
    assert tried(healing, clock) == (None, [])
    lasting = Requests(clock, kind("deals", "trouble"))
    error, _ = tried(lasting, clock)
    assert (type(error), error.attempts, lasting.sent) == (kind, tries, tries)


def test_the_pause_that_the_server_asks_for_is_kept(clock):
    requests = Requests(clock, no_answer(7), no_answer(), no_answer(2), None)
    assert tried(requests, clock) == (None, [7, 2])


@pytest.mark.parametrize(("takes", "asked", "sent"), [(0, 101, 1), (60, None, 2), (30, 25, 2), (0, 60, 2)])
def test_it_gives_up_when_the_time_is_over_or_would_be(takes, asked, sent, clock):
    """A pause beyond the last second is not waited for: nobody would use what comes after it."""
    requests = Requests(clock, no_answer(asked), takes=takes)
    error, holds = tried(requests, clock)
    assert error is not None
    assert requests.sent == sent
    assert sum(holds) + sent * takes <= 100 + takes


def test_no_time_at_all_means_one_try(clock):
    requests = Requests(clock, no_answer())
    assert tried(requests, clock, RetryPolicy(total_seconds=0))[0] is not None
    assert requests.sent == 1


def test_nothing_is_tried_again_when_nobody_waits_for_it(clock):
    cancel = threading.Event()
    cancel.set()
    requests = Requests(clock, no_answer(30))
    error, holds = tried(requests, clock, cancel=cancel)
    assert (error is not None, holds, requests.sent) == (True, [], 1)
