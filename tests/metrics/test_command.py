"""`pipeboard metrics` and the log for machines, as a deployment meets them: processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.ledger import Ledger
from pipeboard_io import Warehouse
from pipeboard_resources.embedded.processes import free_port, wait_until
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import Settings
from tests.metrics.conftest import Scrape
from tests.metrics.servers import answers

PROGRAM = [sys.executable, "-m", "pipeboard_assets"]


@pytest.fixture
def server(standin_factory: Callable[..., Server]) -> Server:
    return standin_factory(deals=20)


@pytest.fixture
def environment(server: Server, fresh_database: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PIPEDRIVE_BASE_URL": server.url,
        "PIPEDRIVE_API_KEY": server.api_key,
        "DATABASE_URL": fresh_database,
        "REDIS_URL": redis_url,
        "PIPEBOARD_STATE_DIR": str(tmp_path),
        "PIPEBOARD_LOG_FORMAT": "json",
    }


def test_a_sync_in_one_process_is_scraped_from_another(environment: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    serve = [*PROGRAM, "metrics", "--port", str(port), "--disk", str(tmp_path)]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(serve, env=environment, cwd=tmp_path, stdout=log, stderr=log) as serving,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            assert wait_until(lambda: answers(f"{address}/metrics"), seconds=60)
            done = subprocess.run(
                [*PROGRAM, "sync", "--json", "--select", "users,pipelines"],
                env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
            )  # fmt: skip
            found = Scrape.at(address)
        finally:
            serving.send_signal(signal.SIGTERM)
        assert serving.wait(timeout=20) == 0
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert found.total("pipeboard_api_tokens_total") == outcome["tokens"] > 0
    assert found.total("pipeboard_disk_bytes") == shutil.disk_usage(tmp_path).total
    assert found.total("pipeboard_loads_total", status="success", asset="users") == 1
    assert found.total("pipeboard_loads_total", status="success", asset="pipelines") == 1

    served = [json.loads(line)["event"] for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert any(f"{address}/metrics" in line for line in served)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    published = [line for line in lines if line["event"].startswith("load published")]
    assert [line["asset"] for line in published] == ["pipelines", "users", "bi_views"]
    assert {line["run_id"] for line in published} == {outcome["run_id"]}
    assert environment["PIPEDRIVE_API_KEY"] not in done.stderr


@pytest.mark.parametrize(
    ("changed", "command", "level"),
    [
        ({}, ("sync", "--select", "users"), "info"),
        ({"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, ("metrics",), "error"),
    ],
    ids=["said", "refused"],
)
def test_what_is_said_beside_the_result_is_a_line_of_the_log_for_machines(
    environment: dict[str, str], tmp_path: Path, changed: dict[str, str], command: tuple[str, ...], level: str
) -> None:
    done = subprocess.run(
        [*PROGRAM, *command],
        env={**environment, **changed}, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines if line["logger"].endswith(".console")] == [level]


def test_a_sync_killed_in_the_middle_has_begun_and_then_failed(
    environment: dict[str, str], server: Server, tmp_path: Path
) -> None:
    warehouse = Warehouse(environment["DATABASE_URL"])
    ledger = Ledger(warehouse, Settings(_env_file=None))

    def counted() -> tuple[float, float]:
        found = Scrape(tuple(sample for metric in ledger.read().metrics(series.LEDGER) for sample in metric.samples))
        failed = found.total("pipeboard_loads_total", asset="users", status="failed")
        return found.total("pipeboard_loads_started_total", asset="users"), failed

    under_way: list[tuple[float, float]] = []

    def kill(_company: object, endpoint: str, _page: int) -> None:
        if endpoint == "users" and not under_way:
            under_way.append(counted())
            syncing.kill()

    server.before_page = kill
    command = [*PROGRAM, "sync", "--select", "users"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL) as syncing:
        assert syncing.wait(timeout=100) == -signal.SIGKILL
    assert under_way == [(1, 0)]
    assert wait_until(warehouse.note_killed_loads, seconds=20)
    assert counted() == (1, 1)
