"""What a program costs while it runs: seconds, CPU, memory, WAL, and what it asks of the API."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import psycopg

_LOOK_EVERY_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one program. `own_seconds`: what it says itself of its work, where it does, process start aside."""

    seconds: float
    own_seconds: float
    cpu_seconds: float
    """Of the program and of PostgreSQL together."""
    memory_mebibytes: float
    """The most that the program and its children held at once, PostgreSQL aside."""
    wal_bytes: int
    requests: int
    tokens: int
    rows: int
    told: Mapping[str, Any]
    """The JSON object that it printed last."""


@dataclass(frozen=True, slots=True)
class Api:
    """The Pipedrive that is asked, in a process of its own."""

    url: str
    key: str

    def asked(self) -> Mapping[str, int]:
        """Requests and tokens since last time."""
        return self._bench("asked")

    def change(self, share: float) -> int:
        """Every 1/share-th record of the large lists changes now; returns how many."""
        return int(self._bench(f"change?share={share}")["changed"])

    def answer_after(self, seconds: float) -> None:
        """Let every request wait so long."""
        self._bench(f"latency?seconds={seconds}")

    def _bench(self, what: str) -> Any:
        with urlopen(f"{self.url}/_bench/{what}") as answer:
            return json.load(answer)


@contextmanager
def running(command: Sequence[str]) -> Iterator[Api]:
    """A fast Pipedrive until the block ends. Raises RuntimeError when it does not start."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command)} did not start")
        try:
            yield Api(**json.loads(line))
        finally:
            process.stdin.close()
            process.terminate()


class Server:
    """The PostgreSQL that everybody writes to."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        (pid,) = self._value("SELECT pg_backend_pid()")
        self._postmaster = psutil.Process(pid).parent()

    def close(self) -> None:
        self._connection.close()

    def wal_position(self) -> int:
        (position,) = self._value("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        return int(position)

    def cpu_seconds(self) -> float:
        """Of the server and all its sessions, those that ended included."""
        assert self._postmaster is not None
        spent = self._postmaster.cpu_times()
        alive = sum(sum(each.cpu_times()[:2]) for each in self._postmaster.children())
        return spent.user + spent.system + spent.children_user + spent.children_system + alive

    def settle(self) -> None:
        """Nobody's work is left for the next one to pay."""
        self._connection.execute("CHECKPOINT")

    def _value(self, query: str) -> Any:
        return self._connection.execute(query.encode()).fetchone()


def cost_of(
    command: Sequence[str | Path], environment: Mapping[str, str], *, server: Server, api: Api, folder: Path
) -> Cost:
    """Runs it to its end; it must print a JSON object last, with `rows` and maybe `seconds`. Raises RuntimeError."""
    api.asked()
    server.settle()
    wal, cpu, began = server.wal_position(), server.cpu_seconds(), time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=folder, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=(folder / "stderr").open("w"),
    )  # fmt: skip
    watch = _Watch(process.pid)
    printed, _ = process.communicate()
    seconds = time.perf_counter() - began
    own_cpu = watch.stop()
    if process.returncode:
        told_by_it = printed + (folder / "stderr").read_text()
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} ended with {process.returncode}: {told_by_it[-2000:]}")
    told = json.loads(printed.strip().splitlines()[-1])
    asked = api.asked()
    return Cost(
        seconds=seconds,
        own_seconds=float(told.get("seconds", seconds)),
        cpu_seconds=own_cpu + server.cpu_seconds() - cpu,
        memory_mebibytes=watch.peak_bytes / 2**20,
        wal_bytes=server.wal_position() - wal,
        requests=asked["requests"],
        tokens=asked["tokens"],
        rows=_rows(told),
        told=told,
    )


def _rows(told: Mapping[str, Any]) -> int:
    return int(told["rows"]) if "rows" in told else sum(each["rows"] or 0 for each in told["assets"])


class _Watch:
    """Looks at a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._cpu: dict[int, float] = {}
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> float:
        """CPU seconds of all of them."""
        self._over.set()
        self._thread.join()
        return sum(self._cpu.values())

    def _look(self) -> None:
        while not self._over.wait(_LOOK_EVERY_SECONDS):
            total = 0
            for each in self._family():
                try:
                    total += each.memory_info().rss
                    self._cpu[each.pid] = sum(each.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
