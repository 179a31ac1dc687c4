"""A backup as one file: what pg_dump wrote, and a manifest of what was in the database at that moment.

A zip file, because its checksums tell a damaged copy before anything is restored of it.
"""

import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from pipeboard_io.errors import ArchiveError
from pipeboard_io.snapshot import Content

_MANIFEST, _DUMP = "manifest.json", "database.dump"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds.

    `made_at` is RFC 3339 UTC, `release` the program's version; `server` and `client` are the major versions of PostgreSQL
    and of pg_dump. `tables` by "schema.table"; `findings` is whatever the maker counted by name, to be counted again after
    a restore.
    """

    made_at: str
    release: str
    server: int
    client: int
    state_version: str
    schemas: Sequence[str]
    tables: Mapping[str, Content]
    findings: Mapping[str, int]

    def to_json(self) -> str:
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises ArchiveError for a format of another release."""
        entries = json.loads(text)
        if (found := entries.pop("format")) != _FORMAT:
            raise ArchiveError(
                f"the backup has the format {found}, this release reads {_FORMAT}: use the release that made it"
            )
        entries["tables"] = {name: Content(**content) for name, content in entries["tables"].items()}
        return cls(**entries)


def write(path: Path, manifest: Manifest, dump: Callable[[IO[bytes]], None]) -> None:
    """Makes the file, which only its owner may read, once `dump` has written all of it; else there is none.

    Raises ArchiveError where there is a file already or none can be made, and whatever `dump` raises.
    """
    if path.exists():
        raise _is_there(path)
    try:
        # A name of its own: another backup to the same file may be under way.
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".unfinished", dir=path.parent)
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with zipfile.ZipFile(file, "w") as archive:
                    archive.writestr(_MANIFEST, manifest.to_json())
                    with archive.open(_DUMP, "w", force_zip64=True) as sink:
                        dump(sink)
                file.flush()
                os.fsync(file.fileno())
            _put(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be written ({error.strerror}): make room, or choose another place"
        ) from error


def _put(unfinished: Path, path: Path) -> None:
    try:
        path.hardlink_to(unfinished)  # unlike rename() it replaces nothing
    except FileExistsError:
        raise _is_there(path) from None
    except OSError:  # a file system without hard links
        unfinished.rename(path)


def _is_there(path: Path) -> ArchiveError:
    return ArchiveError(f"{path} exists, and a backup overwrites nothing: choose another name")


def read_manifest(path: Path) -> Manifest:
    """Raises ArchiveError when the file is no backup, or not whole: all of it is read and compared with its checksums."""
    with _opened(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ArchiveError(f"{path} is damaged: its part {damaged} is not what was written. Use another copy")
        return Manifest.from_json(archive.read(_MANIFEST))


@contextmanager
def opened_dump(path: Path) -> Iterator[IO[bytes]]:
    """What pg_dump wrote, as a stream. Raises ArchiveError."""
    with _opened(path) as archive, archive.open(_DUMP) as dump:
        yield dump


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read ({error.strerror})") from error
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ArchiveError(f"{path} is no backup of ours, or only a part of one") from error
