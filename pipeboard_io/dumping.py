"""pg_dump and pg_restore as child processes: streams in and out, no password on a command line."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeboard_io.checkpoints import PROGRESS
from pipeboard_io.connection import libpq_url
from pipeboard_io.errors import DatabaseUrlError, DumpError, connection_error
from pipeboard_io.snapshot import Snapshot

_CHUNK_BYTES = 1 << 20
# checkpoints.STAGES as pg_dump writes a pattern.
_STAGES = f"stage_*_{'[0-9a-f]' * 16}"
# How much of what a program says is repeated: its last lines tell why it gave up.
_LINES = 3


def dump(program: Path, url: str, *, schemas: Sequence[str], snapshot: Snapshot, sink: IO[bytes]) -> None:
    """Writes these schemas, as they are in the snapshot, in pg_dump's custom format. Raises DumpError, or OSError of the sink.

    Without owners and rights, which are the server's own: `deploy/roles.sql` gives them. Without what loads are staging.
    """
    options = (
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--no-unlogged-table-data",
        "--lock-wait-timeout=30s",
    )
    chosen = [f'--schema="{schema}"' for schema in schemas]
    ours = f'"{snapshot.state.schema}".'
    left_out = [f"--exclude-table={ours}{_STAGES}", *(f"--exclude-table-data={ours}{table}" for table in PROGRESS)]
    command: list[str | Path] = [program, *options, f"--snapshot={snapshot.id}", *chosen, *left_out]
    with _running(command, url, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        shutil.copyfileobj(process.stdout, sink, _CHUNK_BYTES)


def restore(program: Path, url: str, *, schemas: Sequence[str], source: IO[bytes]) -> None:
    """Puts a dump into schemas that exist and are empty, in one transaction: all of it or nothing. Raises DumpError."""
    # With --schema, pg_restore leaves the schemas themselves alone.
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    chosen = [f"--schema={schema}" for schema in schemas]
    with _running([program, *options, *chosen], url, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            shutil.copyfileobj(source, process.stdin, _CHUNK_BYTES)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it gave up, and its exit status and last words say why


@contextmanager
def _running(
    command: Sequence[str | Path], url: str, *, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """The program at work; it is ended when the caller fails. Raises DumpError when it does."""
    address, environment = _address(url)
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            [*command, f"--dbname={address}"], env=environment, stdin=stdin, stdout=stdout, stderr=said
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            raise DumpError(f"{Path(command[0]).name} failed: {' '.join(lines[-_LINES:])}")


def _address(url: str) -> tuple[str, dict[str, str]]:
    """What may stand on a command line, and the environment with the password, which only our own account can read."""
    try:
        parts = conninfo_to_dict(libpq_url(url))
    except psycopg.ProgrammingError as error:
        raise connection_error(error) from None
    if "sslpassword" in parts:
        raise DatabaseUrlError(
            "The database URL has an sslpassword, which other accounts of this machine could read while pg_dump runs: "
            "use a key without one"
        )
    password = parts.pop("password", None)
    return make_conninfo("", **parts), {**os.environ, **({"PGPASSWORD": str(password)} if password is not None else {})}
