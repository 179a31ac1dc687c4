"""What goes into the image, and how its processes tell whether they serve; test_installation.py builds it."""

import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, start_http_server

from deploy.healthcheck import trouble_of
from pipeboard_resources.settings import PROJECT_ROOT


def pins(name: str) -> dict[str, str]:
    """Requirement (name, version, marker) -> its hashes, of one lock."""
    text = (PROJECT_ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
    found = (re.match(r"(\S+(?: ;[^\\]*?)?)\s+(--hash.*)", line) for line in text.splitlines() if line.strip())
    return {match[1]: " ".join(sorted(match[2].split())) for match in found if match}


def test_the_image_gets_what_the_tests_ran_with_and_nothing_that_only_they_want() -> None:
    whole, image = pins("requirements.lock"), pins("deploy/requirements.lock")
    named = {re.split(r"[=\[ ]", pin)[0] for pin in image}
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {re.split(r"[>=\[; ]", wanted)[0] for wanted in project["project"]["dependencies"]} <= named
    assert named & {"pytest", "mypy", "ruff", "hypothesis"} == set()
    different = [pin for pin, hashes in image.items() if whole.get(pin) != hashes]
    assert different == [], "run: make lock"


def test_the_dockerfile_is_one_that_hadolint_has_nothing_to_say_about() -> None:
    linter = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert linter, "it comes with the packages for development: make setup"
    command: list[str | Path] = [linter, "--no-color", PROJECT_ROOT / "deploy" / "Dockerfile"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "")


@contextmanager
def code_server(status: int) -> Iterator[str]:
    """A gRPC server that says `status` of the service that Dagster's code server says it of."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("DagsterApi", status)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_code_server_is_healthy_when_it_says_so_and_only_then() -> None:
    with code_server(health_pb2.HealthCheckResponse.SERVING) as url:
        assert trouble_of(url) == ""
    with code_server(health_pb2.HealthCheckResponse.NOT_SERVING) as url:
        assert trouble_of(url) == "gRPC status 2"


def test_a_web_server_is_healthy_when_it_answers() -> None:
    server, thread = start_http_server(0, addr="127.0.0.1", registry=CollectorRegistry())
    try:
        assert trouble_of(f"http://127.0.0.1:{server.server_port}/metrics") == ""
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there_is_told_in_words(scheme: str, closed_port: int) -> None:
    assert "refused" in trouble_of(f"{scheme}://127.0.0.1:{closed_port}").lower()
