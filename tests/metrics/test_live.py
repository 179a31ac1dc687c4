"""What a Pushgateway in trouble costs a run, and that no load leaves its figures there for good."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest

from pipeboard_assets.graph import entity_assets
from pipeboard_assets.graph.observer import Observer
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.metrics.live import LivePush
from pipeboard_io.errors import DatabaseUnavailableError
from pipeboard_resources.dagster_resources import open_pipedrive
from pipeboard_resources.embedded.processes import wait_until
from pipeboard_resources.settings import Settings
from tests.graph.conftest import Account
from tests.metrics.conftest import sync

TIMEOUT_SECONDS = 0.2


class SlowGateway(ThreadingHTTPServer):
    """Keeps what it was asked; answers a request whose place is in `slow` only once it may."""

    daemon_threads = True

    def __init__(self, *slow: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.slow = slow
        self.may_answer = threading.Event()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    server: SlowGateway

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        asked = self.server.asked
        asked.append(self.command)
        if (self.command, asked.count(self.command)) in self.server.slow:
            self.server.may_answer.wait(30)
            return  # whoever asked went away long ago
        self.send_response(202)
        self.end_headers()

    do_DELETE = do_PUT

    def log_message(self, format: str, *args: object) -> None:
        """Keep still."""


@pytest.fixture
def gateway(request: pytest.FixtureRequest) -> Iterator[SlowGateway]:
    with SlowGateway(*request.param) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.may_answer.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, pipedrive_api_key="x", pipedrive_base_url="http://127.0.0.1:1", state_dir=tmp_path)


@pytest.mark.parametrize("gateway", [[("PUT", 1)]], indirect=True)
def test_after_a_slow_push_the_next_ones_are_tried_and_the_figures_removed(
    gateway: SlowGateway, settings: Settings
) -> None:
    live = LivePush(gateway.address, every_seconds=0.01, timeout_seconds=TIMEOUT_SECONDS)
    with open_pipedrive(settings, None) as client:
        Observer(live=live).begin("deals", client)
        assert wait_until(lambda: gateway.asked.count("PUT") >= 3, seconds=10)
        live.stop()
    assert gateway.asked[-1] == "DELETE"


@pytest.mark.parametrize("gateway", [[("DELETE", 1)]], indirect=True)
def test_a_removal_that_was_not_answered_is_tried_again(gateway: SlowGateway, settings: Settings) -> None:
    live = LivePush(gateway.address, timeout_seconds=TIMEOUT_SECONDS)
    with open_pipedrive(settings, None) as client:
        Observer(live=live).begin("deals", client)
        live.stop()
    assert gateway.asked[-2:] == ["DELETE", "DELETE"]


@pytest.mark.parametrize("gateway", [[]], indirect=True)
def test_a_load_that_fails_before_its_first_request_leaves_no_figures(
    gateway: SlowGateway, watched: Account, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> bool:
        raise DatabaseUnavailableError("PostgreSQL began anew")

    monkeypatch.setattr(entity_assets, "failed_last", gone)
    outcome = sync(watched, instance, LivePush(gateway.address), assets=("users",))["users"]
    assert outcome.status is Status.FAILED
    assert gateway.asked[-1] == "DELETE"


def test_a_gateway_that_never_answers_costs_a_run_its_patience_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, open_pipedrive(settings, None) as client:
        live = LivePush(f"127.0.0.1:{deaf.getsockname()[1]}", timeout_seconds=TIMEOUT_SECONDS, patience_seconds=0.3)
        started = time.monotonic()
        for _ in range(20):
            Observer(live=live).begin("deals", client)
            live.stop()
        assert time.monotonic() - started < 1
    assert [record.message for record in caplog.records if "Pushgateway" in record.message] != []
