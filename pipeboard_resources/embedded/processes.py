"""Starting programs that outlive us, as an account that may run them, and recognising them afterwards.

Nothing here knows which server it starts, and nothing creates an account or changes a folder that exists.
"""

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeboard_resources.embedded.errors import EmbeddedServerError

# A server needs neither our keys nor a PGPORT that happens to be set; messages in English can be recognised.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}

# The shell leaves at once, so the server becomes init's child: no zombie stays with us when somebody else stops it.
# Background jobs read /dev/null, hence the detour of stdin through descriptor 3.
_DETACH = 'exec 3<&0; "$@" <&3 3<&- >&2 & echo $!'


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine that a server started by root runs as."""

    name: str
    uid: int
    gid: int


def unprivileged_account(owned: Path | None = None) -> Account | None:
    """Whom to run a server as: None = as ourselves, unless we are root, whom PostgreSQL refuses.

    The owner of the folder `owned` comes first (PostgreSQL insists on it), then `postgres`, then `nobody`.
    Raises KeyError when this machine has none of them.
    """
    if os.geteuid() != 0:
        return None
    if owned is not None and owned.exists() and (status := owned.stat()).st_uid != 0:
        return Account(f"uid {status.st_uid}", status.st_uid, status.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise KeyError("neither postgres nor nobody is an account of this machine")


def run(
    command: Sequence[str | Path], *, account: Account | None = None, stdin: bytes = b"", log: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run `command` to its end in a session of its own (Ctrl-C does not reach it), stderr to `log`.

    Raises OSError when it cannot be run, PermissionError also when `account` cannot be taken.
    """
    return subprocess.run(
        [str(part) for part in command],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=log,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,
        check=False,
    )


def launch(command: Sequence[str | Path], *, account: Account | None, stdin: bytes = b"", log: int) -> int:
    """Start `command` detached, output to `log`; returns its pid. It may die at once: ask `is_process`."""
    return int(run(["/bin/sh", "-c", _DETACH, "sh", *command], account=account, stdin=stdin, log=log).stdout)


def can_enter(folder: Path, account: Account | None) -> bool:
    """Whether `account` can work inside `folder`, which depends on every folder above it."""
    try:
        return run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder], account=account).returncode == 0
    except PermissionError as error:
        raise EmbeddedServerError(
            f"This process is root and may not start a program as {account.name if account else 'itself'} ({error.strerror}): "
            "run Pipeboard as an ordinary user, or set DATABASE_URL and REDIS_URL to servers of yours."
        ) from error


def is_process(pid: int, mark: str) -> bool:
    """Whether `pid` is alive, no zombie, and has `mark` in its command line: a pid alone may have been given anew."""
    for _ in range(EXEC_LOOKS):
        line = command_line(pid)
        if line is None or line:
            return line is not None and mark in line
        time.sleep(0.005)
    return False


# A process has no command line for an instant while it becomes another program; kernel threads never have one.
EXEC_LOOKS = 20


def command_line(pid: int) -> str | None:
    """The command line of a process, parts joined by spaces; None for one that is gone or a zombie."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        line = run(["ps", "-ww", "-o", "stat=,args=", "-p", str(pid)]).stdout.strip()  # macOS
        state = line[:1] or b"Z"
    return None if state in b"ZX" else os.fsdecode(line.replace(b"\0", b" "))


def wait_until(condition: Callable[[], bool], *, seconds: float, every_seconds: float = 0.01) -> bool:
    """Wait for `condition`; False when it did not become true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_seconds)
    return True


def free_port(preferred: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on: `preferred` if it is free, so that addresses stay the same."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
