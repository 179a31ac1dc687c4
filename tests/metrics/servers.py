"""Real Prometheus and Pushgateway for tests, each on a free port of 127.0.0.1."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from pipeboard_resources.embedded.processes import free_port, wait_until
from pipeboard_resources.settings import PROJECT_ROOT
from tests.fixtures.debian import program

CONFIG = PROJECT_ROOT / "deploy" / "prometheus" / "prometheus.yml"


@contextmanager
def running(command: Sequence[str | Path], ready_url: str, folder: Path) -> Iterator[None]:
    """A server, until the block is left; entered when it answers."""
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        try:
            is_ready = wait_until(lambda: process.poll() is not None or answers(ready_url), seconds=20)
            assert is_ready and process.poll() is None, (folder / "log").read_text()
            yield
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """Its host:port."""
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus-pushgateway"), f"--web.listen-address={address}"]
    with running(command, f"http://{address}/-/ready", folder):
        yield address


class Prometheus:
    """What a running one answers. Times are UNIX seconds."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series of now."""
        return list(self._get("query", query=query)["result"])

    def value(self, query: str) -> float:
        """The one value of now."""
        (series,) = self.query(query)
        return float(series["value"][1])

    def values(self, query: str, *, since: float) -> int:
        """How many values there were, second by second."""
        found = self._get("query_range", query=query, start=f"{since}", end=f"{time.time()}", step="1")["result"]
        return sum(len(series["values"]) for series in found)

    def rules(self) -> list[dict[str, Any]]:
        """Every alert rule."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **arguments: str) -> dict[str, Any]:
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(arguments)}", timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return dict(told["data"])


@contextmanager
def prometheus(folder: Path, exporter: str, gateway: str) -> Iterator[Prometheus]:
    """Our own prometheus.yml with the tests' ports, and more often: a busy machine may take a second for a scrape."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(CONFIG.parent / name) for name in config["rule_files"]]
    del config["alerting"]
    ports = {"pipeboard": exporter, "pushgateway": gateway}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [ports[job["job_name"]]]}]
        job["scrape_interval"] = "500ms" if job["job_name"] == "pushgateway" else "2s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"), "--config.file=prometheus.yml", f"--web.listen-address={address}", "--storage.tsdb.path=data",
    ]  # fmt: skip
    with running(command, f"http://{address}/-/ready", folder):
        yield Prometheus(f"http://{address}")
