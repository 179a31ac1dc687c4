"""pg_dump, pg_restore and psql as child processes: streams in and out, no password on a command line."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
# What pg_restore 17 and newer says at the head of its script, which older servers take for an error; and the same for all.
_NO_TIMEOUT = b"SET transaction_timeout = 0;\n"
_NO_TIMEOUT_WHERE_KNOWN = (
    b"SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';\n"
)
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
    address, environment = _address(url)
    command: list[str | Path] = [
        program,
        *options,
        f"--snapshot={snapshot.id}",
        *chosen,
        *left_out,
        f"--dbname={address}",
    ]
    with _running(command, environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        shutil.copyfileobj(process.stdout, sink, _CHUNK_BYTES)


def restore(program: Path, url: str, *, schemas: Sequence[str], source: IO[bytes]) -> None:
    """Puts a dump into schemas that exist and are empty, in one transaction: all of it or nothing. Raises DumpError.

    `program` makes a script of it, and the psql beside it carries that out. Without the COMMIT that is the script's end,
    the server takes everything back.
    """
    address, environment = _address(url)
    # With --schema, pg_restore leaves the schemas themselves alone.
    options = ("--file=-", "--single-transaction", "--no-owner", "--no-privileges")
    reader: list[str | Path] = [program, *options, *(f"--schema={schema}" for schema in schemas)]
    quietly = ("--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1")
    writer: list[str | Path] = [program.with_name("psql"), *quietly, f"--dbname={address}"]
    with (
        _running(writer, environment, stdin=subprocess.PIPE) as psql,
        suppress(BrokenPipeError),  # psql gave up, and its exit status and last words say why
        ThreadPoolExecutor(1) as thread,
        _running(reader, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pg_restore,
    ):
        assert psql.stdin is not None and pg_restore.stdin is not None and pg_restore.stdout is not None
        fed = thread.submit(_feed, source, pg_restore.stdin)
        _copy_script(pg_restore.stdout, psql.stdin)
        fed.result()


def _feed(source: IO[bytes], sink: IO[bytes]) -> None:
    with suppress(BrokenPipeError), sink:  # whoever reads no further says so by its exit status
        shutil.copyfileobj(source, sink, _CHUNK_BYTES)


def _copy_script(script: IO[bytes], sink: IO[bytes]) -> None:
    for line in script:
        sink.write(_NO_TIMEOUT_WHERE_KNOWN if line == _NO_TIMEOUT else line)
        if line.startswith(b"SELECT "):  # the settings at its head are over
            break
    shutil.copyfileobj(script, sink, _CHUNK_BYTES)


@contextmanager
def _running(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program at work; it is ended when the caller fails. Raises DumpError when it does."""
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, env=environment, stdin=stdin, stdout=stdout, stderr=said) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            finally:
                if process.stdin is not None:
                    with suppress(BrokenPipeError):
                        process.stdin.close()
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
