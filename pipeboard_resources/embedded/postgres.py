"""A real PostgreSQL for the demo and the tests: ours alone, on 127.0.0.1 with a password, shared by several processes.

Not here: reading settings, or deciding between this and DATABASE_URL.
"""

import json
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from pipeboard_resources.embedded.errors import ServerStartError
from pipeboard_resources.embedded.folders import (
    account_for,
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
from pipeboard_resources.embedded.postgres_binaries import SOURCES, PostgresBinaries, find_postgres
from pipeboard_resources.embedded.processes import Account, free_port, is_process, launch, run, wait_until
from pipeboard_resources.embedded.sharing import shared_server

NAME = "pipeboard"  # of the role and of the database
START_SECONDS = 120.0  # a recovery after kill -9 reads all the WAL there is; 0.15-2 s were seen
STOP_SECONDS = 30.0  # a fast stop writes a checkpoint; 0.05-0.13 s were seen
START_ATTEMPTS = 10
# Why another try can succeed: somebody took the port, the backends of a killed server are not gone yet, or the one
# that a killed user began to start is coming up.
PASSING = (
    "Address already in use",
    "could not create any TCP/IP sockets",
    "is still in use",
    'lock file "postmaster.pid"',
)

OPTIONS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "cluster_name": NAME,
    "shared_buffers": "48MB",
    "max_connections": "50",
    "max_wal_size": "512MB",
    "jit": "off",
    # Parallel workers talk through /dev/shm, of which a container has 64 MB: "could not resize shared memory segment".
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    # No replica, so COPY into a table of the same transaction needs no WAL.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # Statements and DETAIL lines hold personal data.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running PostgreSQL that accepts us; `url` holds the password of its superuser `pipeboard`."""

    url: str = field(repr=False)
    source: str
    pid: int
    port: int


@contextmanager
def postgres_server(
    state_dir: Path, *, options: Mapping[str, str] | None = None, sources: Sequence[str] = tuple(SOURCES)
) -> Iterator[PostgresServer]:
    """The PostgreSQL of `state_dir`, started if nobody did, stopped if nobody else uses it; data is kept.

    `options` are server settings added to OPTIONS and count only for the process that starts it. `sources` are tried
    in order ("system", "wheel"). Raises EmbeddedServerError; its message says what to do.
    """
    folder = prepare_folder(state_dir, "postgres")
    with shared_server(folder, _PostgresLauncher(folder, {**OPTIONS, **(options or {})}, sources)) as server:
        yield server


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What `postmaster.pid` says; PostgreSQL writes it, and removes it as the last thing of a clean stop."""

    pid: int
    port: int
    status: str

    @classmethod
    def read(cls, data: Path) -> "_Postmaster | None":
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
            return cls(int(lines[0]), int(lines[3]), lines[7].strip())
        except FileNotFoundError:
            return None
        except (IndexError, ValueError):  # PostgreSQL adds its lines one by one while it starts
            return cls(int(lines[0]), 0, "starting") if lines and lines[0].isdecimal() else None


class _PostgresLauncher:
    """How the PostgreSQL of one folder is found, started and stopped."""

    def __init__(self, folder: Path, options: Mapping[str, str], sources: Sequence[str]) -> None:
        self._folder = folder
        self._options = options
        self._sources = sources
        self._launched: int | None = None

    @property
    def _data(self) -> Path:
        return home_of(self._folder) / "data"

    def running(self) -> PostgresServer | None:
        with writing_to(self._folder):
            deadline = time.monotonic() + START_SECONDS
            while postmaster := self._postmaster():
                if postmaster.status == "ready" and (server := self._connect(postmaster)):
                    return server
                if time.monotonic() > deadline:
                    raise ServerStartError(
                        f"PostgreSQL (pid {postmaster.pid}) accepts no connection since {START_SECONDS:.0f} s; it says it is "
                        f"{postmaster.status}, and its last words are:",
                        output=log_since(self._folder, 0),
                    )
                time.sleep(0.01)
        return None

    def start(self) -> PostgresServer:
        with writing_to(self._folder):
            account = account_for(self._data if self._data.exists() else self._folder)
            home = reachable_home(self._folder, account)
            binaries = find_postgres(home=home, account=account, sources=self._sources, major=_major(home / "data"))
            if not (home / "data").exists():
                self._create_data(home, binaries, account)
            return self._start_on_a_free_port(binaries, account)

    def stop(self) -> None:
        postmaster = self._postmaster()
        pid = postmaster.pid if postmaster else self._launched
        # Fast stop: sessions are ended, a checkpoint is written. Then immediate: the next start recovers from the WAL.
        for order, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 5.0)):
            if pid is None or not self._is_ours(pid):
                return
            with suppress(ProcessLookupError):
                os.kill(pid, order)
            if wait_until(lambda: not self._is_ours(pid), seconds=seconds):
                return
        logger.warning("postgres stops slowly: pid %d, data folder %s", pid, self._data)

    def _is_ours(self, pid: int) -> bool:
        return is_process(pid, str(self._data))

    def _postmaster(self) -> _Postmaster | None:
        found = _Postmaster.read(self._data)
        return found if found and self._is_ours(found.pid) else None

    def _connect(self, postmaster: _Postmaster) -> PostgresServer | None:
        """The server if it accepts us and has our database; None while it is going down or recovering."""
        import psycopg  # 0.3 s that a command without servers need not pay

        origin = f"postgresql://{NAME}:{password_in(self._folder)}@127.0.0.1:{postmaster.port}"
        try:
            with psycopg.connect(f"{origin}/postgres", autocommit=True, connect_timeout=10) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchall():
                    connection.execute(f"CREATE DATABASE {NAME}")
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ServerStartError(
                    f"PostgreSQL in {self._data} refuses the password in {self._folder / 'password'}: put back the file that "
                    "was made with that data, or move the data folder away to start empty."
                ) from error
            return None
        source = str(read_json(self._folder / "server.json").get("source", "PostgreSQL"))
        return PostgresServer(f"{origin}/{NAME}", source, postmaster.pid, postmaster.port)

    def _create_data(self, home: Path, binaries: PostgresBinaries, account: Account | None) -> None:
        """initdb beside the final place, then rename: a data folder is complete or not there."""
        draft, password = Path(tempfile.mkdtemp(prefix="data.new-", dir=home)), home / "initdb.password"
        write_private(password, password_in(self._folder))
        if account:
            for path in (draft, password):
                os.chown(path, account.uid, account.gid)
        command: list[str | Path] = [binaries.folder / "initdb", "-D", draft, "--pwfile", password, "-U", NAME]
        command += ["-E", "UTF8", "--auth=scram-sha-256"]
        if self._options.get("fsync") == "off":
            command.append("--no-sync")
        answers = (run([*command, *locale], account=account) for locale in _locales(binaries.major))
        failures = list(takewhile(lambda answer: answer.returncode != 0, answers))
        password.unlink()
        if len(failures) == len(_locales(binaries.major)):
            shutil.rmtree(draft)
            raise ServerStartError(
                f"initdb of {binaries.source} could not make {home / 'data'}; it said:",
                output=failures[0].stderr.decode(errors="replace").strip(),
            )
        draft.replace(home / "data")
        for abandoned in home.glob("data.new-*"):  # by a killed process, whose initdb may still write there
            shutil.rmtree(abandoned, ignore_errors=True)

    def _start_on_a_free_port(self, binaries: PostgresBinaries, account: Account | None) -> PostgresServer:
        state = self._folder / "server.json"
        port = int(read_json(state).get("port", 0))  # the last one again: bookmarks and open sessions find it
        log = fresh_log(self._folder)
        try:
            for attempt in range(START_ATTEMPTS):
                port = free_port(port)
                write_private(state, json.dumps({"port": port, "source": binaries.source}))
                begin = os.fstat(log).st_size
                self._launched = launch(self._command(binaries, port), account=account, log=log)
                if server := self._await(self._launched):
                    logger.info("postgres started: %s, port %d, data folder %s", server.source, port, self._data)
                    return server
                output = log_since(self._folder, begin)
                if not any(sign in output for sign in PASSING):
                    break
                time.sleep(0.1 * attempt)
                port = 0
        finally:
            os.close(log)
        raise ServerStartError(f"{binaries.source} did not start in {self._data}; its last words:", output=output)

    def _command(self, binaries: PostgresBinaries, port: int) -> list[str | Path]:
        settings = {**self._options, "port": str(port)}
        options = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        # A number left in postmaster.pid may be a zombie's (where init reaps none, as in many containers) or another
        # program's by now, and PostgreSQL would not start. This variable, which is pg_ctl's, makes it overlook that one
        # number and still look for backends that outlived their server.
        left = _Postmaster.read(self._data)
        overlook = ["env", f"PG_GRANDPARENT_PID={left.pid}"] if left else []
        return [*overlook, binaries.folder / "postgres", "-D", self._data, *options]

    def _await(self, pid: int) -> PostgresServer | None:
        """The server once it accepts us; None when its process has ended instead."""
        wait_until(lambda: bool(self._postmaster()) or not self._is_ours(pid), seconds=START_SECONDS)
        return self.running()


def _major(data: Path) -> int | None:
    """The major version that made `data`; None when there is no data yet."""
    with suppress(FileNotFoundError):
        return int((data / "PG_VERSION").read_text())
    return None


def _locales(major: int) -> tuple[tuple[str, ...], ...]:
    """initdb's locale options, best first: text sorts by code point and upper() knows every script, on any machine."""
    if major >= 17:
        return (("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),)
    # The second one for a machine without C.UTF-8: upper() knows ASCII only.
    return (("--locale=C", "--lc-ctype=C.UTF-8"), ("--locale=C",))
