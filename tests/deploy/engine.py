"""A Docker engine with Compose: the machine's own, or one that is started for the tests and leaves nothing behind."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_START_SECONDS = 60


class NoEngineError(Exception):
    """Nothing can be brought up here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How to talk to the engine. `is_ours`: it was started for the tests, so its images are nobody else's."""

    is_ours: bool
    compose_program: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def docker(self, *arguments: str | Path, stdin: IO[bytes] | None = None) -> str:
        """Its output, without the last line break. Raises subprocess.CalledProcessError, with what it said."""
        return _output(["docker", *map(str, arguments)], self.environment, stdin)

    def compose(self, *arguments: str | Path, **environment: str) -> str:
        return _output([*self.compose_program, *map(str, arguments)], {**self.environment, **environment})

    def has(self, image: str) -> bool:
        return _succeeds(["docker", "image", "inspect", image], self.environment)

    def pulls(self, image: str) -> bool:
        return _succeeds(["docker", "pull", "--quiet", image], self.environment)


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """An engine that answers; one of ours keeps its data in `folder`. Raises NoEngineError."""
    if shutil.which("docker") is None:
        raise NoEngineError("there is no `docker` (Debian: apt install docker.io)")
    compose = compose_program()
    if compose is None:
        raise NoEngineError("there is no Compose: no plugin of docker, and none in a package for this machine")
    if _succeeds(["docker", "version"], {}):
        yield Engine(is_ours=False, compose_program=compose, environment=_builder({}))
        return
    with _own_daemon(folder) as socket:
        address = {"DOCKER_HOST": f"unix://{socket}"}
        yield Engine(is_ours=True, compose_program=compose, environment=_builder(address))


def compose_program() -> tuple[str, ...] | None:
    """Compose as docker's plugin, or as the program that is among the packages for development; None: neither."""
    if shutil.which("docker") and _succeeds(["docker", "compose", "version"], {}):
        return ("docker", "compose")
    found = shutil.which("docker-compose", path=Path(sys.executable).parent)
    return (found,) if found else None


def _builder(address: dict[str, str]) -> dict[str, str]:
    """Without its plugin buildx a client can only ask for the builder of old."""
    return address if _succeeds(["docker", "buildx", "version"], address) else {**address, "DOCKER_BUILDKIT": "0"}


@contextmanager
def _own_daemon(folder: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoEngineError(
            "no Docker engine answers, and `dockerd` can only be started here by root where it is installed"
        )
    folder.mkdir(parents=True)
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    rules = subprocess.run(["iptables-save"], capture_output=True, check=True).stdout
    command: list[str | Path] = [
        "dockerd",
        "--data-root",
        folder / "data",
        "--exec-root",
        folder / "exec",
        "--host",
        f"unix://{socket}",
    ]
    with log.open("wb") as output:
        daemon = subprocess.Popen([*command, "--pidfile", folder / "pid"], stdout=output, stderr=output)
    try:
        _wait_for(daemon, socket, log)
        yield socket
    finally:
        daemon.terminate()
        daemon.wait(_START_SECONDS)
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
        subprocess.run(["iptables-restore"], input=rules, check=True)
        shutil.rmtree(folder)


def _wait_for(daemon: "subprocess.Popen[bytes]", socket: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _succeeds(["docker", "version"], {"DOCKER_HOST": f"unix://{socket}"}):
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise NoEngineError(f"`dockerd` does not start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.2)


def _succeeds(command: list[str], environment: Mapping[str, str]) -> bool:
    answer = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
    return answer.returncode == 0


def _output(command: list[str], environment: Mapping[str, str], stdin: IO[bytes] | None = None) -> str:
    answer = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        error = subprocess.CalledProcessError(answer.returncode, command[:4], answer.stdout, answer.stderr)
        error.add_note(f"{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}")
        raise error
    return answer.stdout.rstrip("\n")
