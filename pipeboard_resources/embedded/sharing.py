"""One server, several processes, no owner: the first user starts it, the last one stops it.

Every user holds a shared lock on `users.lock`; joining and leaving happen one at a time under `start.lock`. The kernel
drops the locks of a killed process, so the next user finds its server running, joins it, and stops it when last.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from pipeboard_resources.embedded.errors import StateFolderError
from pipeboard_resources.embedded.folders import open_private
from pipeboard_resources.embedded.processes import wait_until

# A first start takes 1 s and a recovery seconds; whoever holds the lock for longer is stopped or stuck.
LOCK_SECONDS = 120.0

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class Launcher(Protocol[S_co]):
    """One kind of server in one folder; `shared_server` calls it under the start lock only."""

    def running(self) -> S_co | None:
        """The server, if it runs and accepts us; waits while it is coming up or going down."""

    def start(self) -> S_co:
        """Start it and wait until it accepts us; raises EmbeddedServerError."""

    def stop(self) -> None:
        """Stop it if it runs, and wait for its end."""


@contextmanager
def shared_server(folder: Path, launcher: Launcher[S]) -> Iterator[S]:
    """Use the server of `folder` together with every other process that does; see the module's docstring.

    Raises StateFolderError when the folder takes no locks, and what `launcher` raises.
    """
    users = open_private(folder / "users.lock")
    try:
        try:
            with _one_at_a_time(folder):
                fcntl.flock(users, fcntl.LOCK_SH)
                server = launcher.running() or launcher.start()
            yield server
        finally:
            with _one_at_a_time(folder):
                if _is_last(users):
                    launcher.stop()
    finally:
        os.close(users)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    lock = open_private(folder / "start.lock")
    try:
        if not wait_until(lambda: _try_lock(lock, folder), seconds=LOCK_SECONDS):
            raise StateFolderError(
                f"Another process has been starting or stopping the server in {folder} for {LOCK_SECONDS:.0f} s: "
                "look for a stopped pipeboard process and end it.",
                path=folder,
            )
        yield
    finally:
        os.close(lock)


def _try_lock(lock: int, folder: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StateFolderError(
            f"The folder {folder} takes no file locks ({error.strerror}): set PIPEBOARD_STATE_DIR to a local disk.",
            path=folder,
        ) from error
    return True


def _is_last(users: int) -> bool:
    # A failed conversion gives up the shared lock too (flock(2)), which is right for someone who is leaving.
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
