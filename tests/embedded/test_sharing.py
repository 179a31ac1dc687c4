"""Several processes, one server, no owner: first in starts it, last out stops it, killed ones do no harm."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeboard_resources.embedded import postgres_server
from pipeboard_resources.embedded.processes import is_process, wait_until
from tests.embedded.conftest import User, answer
from tests.fixtures.servers import FAST, temporary_state_dir

StartUser = Callable[..., User]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One folder for all: every test finds it with data and without a server, and leaves it so."""
    with temporary_state_dir() as folder:
        with postgres_server(folder, options=FAST):
            pass
        yield folder


def test_the_first_user_leaving_does_not_stop_it_and_the_last_one_does(folder: Path, start_user: StartUser) -> None:
    starter = start_user(folder)
    pid = starter.server["pid"]
    with postgres_server(folder, options=FAST) as server:
        assert server.pid == pid
        starter.leave()
        assert answer(server.url) == 1
    assert not is_process(pid, "")


def test_a_killed_user_leaves_a_server_that_the_next_one_joins_and_stops(folder: Path, start_user: StartUser) -> None:
    killed = start_user(folder)
    pid = killed.server["pid"]
    killed.process.kill()
    killed.leave()
    assert is_process(pid, "postgres")
    with postgres_server(folder, options=FAST) as server:
        assert server.pid == pid
    assert not is_process(pid, "")


def test_starters_at_once_get_one_server(folder: Path, start_user: StartUser) -> None:
    users = [start_user(folder) for _ in range(4)]
    urls = {user.server["url"] for user in users}
    assert len(urls) == 1
    assert answer(urls.pop()) == 1


def test_whoever_comes_while_others_leave_finds_a_server_that_works(folder: Path) -> None:
    """Most rounds start or stop it: the window between the last one's leaving and a newcomer's joining."""

    def come_and_go(_: int) -> int:
        with postgres_server(folder, options=FAST) as server:
            return int(answer(server.url))

    with ThreadPoolExecutor(3) as users:
        assert list(users.map(come_and_go, range(30))) == [1] * 30


def test_ctrl_c_stops_the_user_and_the_user_stops_the_server(folder: Path, start_user: StartUser) -> None:
    user = start_user(folder)
    pid = user.server["pid"]
    os.killpg(user.process.pid, signal.SIGINT)
    user.process.wait(timeout=10)
    assert not is_process(pid, "")


def test_ctrl_c_does_not_reach_the_server_of_others(folder: Path, start_user: StartUser) -> None:
    starter = start_user(folder)
    pid = starter.server["pid"]
    with postgres_server(folder, options=FAST) as server:
        os.killpg(starter.process.pid, signal.SIGINT)
        starter.process.wait(timeout=10)
        assert answer(server.url) == 1
        assert server.pid == pid


def test_a_user_killed_while_it_starts_the_server_leaves_a_folder_that_works(
    state_dir: Path, start_user: StartUser
) -> None:
    user = start_user(state_dir)
    assert wait_until(lambda: any(state_dir.glob("postgres/data.new-*/global")), seconds=20)  # in the middle of initdb
    user.process.kill()
    user.leave()
    with postgres_server(state_dir, options=FAST) as server:
        assert answer(server.url) == 1


def test_a_server_that_is_going_down_is_waited_for(folder: Path) -> None:
    with postgres_server(folder, options=FAST) as first:
        os.kill(first.pid, signal.SIGINT)
        with postgres_server(folder, options=FAST) as second:
            assert answer(second.url) == 1
            assert second.pid != first.pid
