"""A backup restored into an empty database is the same company, and whatever is not whole or in the way is refused."""

import json
import stat
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import IO

import polars as pl
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pipeboard_assets.commands.backup import backup, restore
from pipeboard_io import (
    ArchiveError,
    Column,
    ColumnType,
    DatabaseUrlError,
    DumpError,
    Load,
    RestoreError,
    StateVersionError,
    Table,
    Warehouse,
    WarehouseError,
    archive,
    dumping,
)
from pipeboard_io.dumping import dump
from pipeboard_io.snapshot import Snapshot
from pipeboard_resources.embedded import BinariesNotFoundError
from pipeboard_resources.embedded.postgres_clients import find_client
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import Settings
from tests.graph.conftest import Account
from tests.graph.test_sync import assert_equals_truth, assert_green


@pytest.fixture(scope="module")
def saved(
    standin_factory: Callable[..., Server], database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Account, Path]:
    """A synced company whose newest sync broke off, and its backup."""
    folder = tmp_path_factory.mktemp("backup")
    account = Account(standin_factory(deals=30), database_url, folder, redis_url, old_names_schema="antes")
    assert_green(account.sync())
    account.server.faults.add("status_403", "/api/v2/deals/archived", times=None)
    account.sync(assets=("deals",), full=True)
    account.server.faults.clear()
    backup(account.settings, folder / "company.backup")
    return account, folder / "company.backup"


@pytest.fixture
def empty(saved: tuple[Account, Path], fresh_database: str) -> Settings:
    """The same settings on an empty database."""
    return saved[0].settings.model_copy(update={"database_url": SecretStr(fresh_database)})


def schemas_of(settings: Settings) -> list[str]:
    assert settings.database_url is not None
    query = "SELECT nspname AS name FROM pg_namespace WHERE nspname IN ('pipedrive', 'bi', 'pipeboard', 'antes')"
    return [row["name"] for row in Warehouse(settings.database_url.get_secret_value()).query(query)]


def test_a_restored_company_is_the_same_and_its_next_sync_is_right(
    saved: tuple[Account, Path], empty: Settings, tmp_path: Path, redis_url: str
) -> None:
    account, file = saved
    assert restore(empty, file) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert empty.database_url is not None
    restored = Account(
        account.server, empty.database_url.get_secret_value(), tmp_path, redis_url, old_names_schema="antes"
    )
    assert restored.rows("pipedrive.deals") == account.rows("pipedrive.deals")
    assert restored.warehouse.watermarks() == account.warehouse.watermarks()
    assert restored.warehouse.query("SELECT count(*) FROM antes.negocios") == account.warehouse.query(
        "SELECT count(*) FROM antes.negocios"
    )
    deal = account.company.ids("deals")[0]
    account.company.update("deals", deal, {"title": "after the disaster"})
    assert_green(restored.sync(assets=("deals",), full=True))
    assert_equals_truth(restored, "deals")


def test_a_backup_beside_a_writer_holds_one_moment(
    saved: tuple[Account, Path], tmp_path: Path, empty: Settings
) -> None:
    account, _ = saved
    assert account.settings.database_url is not None
    is_over = threading.Event()

    def write() -> None:
        with psycopg.connect(account.settings.database_url.get_secret_value(), autocommit=True) as connection:
            while not is_over.is_set():
                connection.execute("UPDATE pipedrive.persons SET synced_at = clock_timestamp()")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backup(account.settings, tmp_path / "moving.backup")
    finally:
        is_over.set()
        writer.join()
    assert restore(empty, tmp_path / "moving.backup") == 0


@pytest.mark.parametrize("resume_key", ["key", None])
def test_a_backup_and_a_load_beside_it_wait_for_nothing_of_each_other(
    fresh_database: str, tmp_path: Path, resume_key: str | None
) -> None:
    """Whether the load ends before the rows are counted, or while pg_dump reads them."""
    warehouse = Warehouse(fresh_database, lock_timeout_seconds=0.5)
    program = find_client("pg_dump", oldest_major=14).path
    table = Table("s", "t", (Column("id", ColumnType.BIGINT),))
    warehouse.load(Load(table, frames=[pl.DataFrame({"id": [1]})]))
    with ExitStack() as until_the_end:

        def source() -> Iterator[pl.DataFrame]:
            yield pl.DataFrame({"id": [2]})
            snapshot = until_the_end.enter_context(warehouse.snapshot(["s", "pipeboard"]))
            assert snapshot.contents(["s", "pipeboard"]).keys() >= {"s.t", "pipeboard.load"}
            snapshots.append(snapshot)
            yield pl.DataFrame({"id": [3]})

        snapshots: list[Snapshot] = []
        assert warehouse.load(Load(table, frames=source(), resume_key=resume_key)).rows == 3
        contents = snapshots[0].contents(["s", "pipeboard"])
        assert contents["s.t"].rows == 1 and not {"pipeboard.checkpoint", "pipeboard.staged_reject"} & contents.keys()
        with (tmp_path / "dump").open("wb") as sink:
            dump(program, fresh_database, schemas=["s", "pipeboard"], snapshot=snapshots[0], sink=sink)
    listed = subprocess.run(
        [program.with_name("pg_restore"), "--list", tmp_path / "dump"], capture_output=True, text=True, check=True
    ).stdout
    assert "TABLE DATA s t" in listed and "TABLE pipeboard checkpoint" in listed
    assert "stage_t_" not in listed and "TABLE DATA pipeboard checkpoint" not in listed


def test_a_table_that_a_load_wants_to_rewrite_is_in_the_backup_with_its_rows(fresh_database: str) -> None:
    """Whoever reads a table with a snapshot from before it was rewritten sees none of its rows."""
    warehouse = Warehouse(fresh_database, lock_timeout_seconds=0.5)
    narrow, wide = (Table("s", "t", (Column("id", ColumnType.BIGINT), Column("v", kind))) for kind in (ColumnType.BIGINT, ColumnType.TEXT))  # fmt: skip
    warehouse.load(Load(narrow, frames=[pl.DataFrame({"id": [1], "v": [2]})]))
    with warehouse.snapshot(["s"]) as snapshot:
        with pytest.raises(WarehouseError, match="lock"):
            warehouse.load(Load(wide, frames=[pl.DataFrame({"id": [1], "v": ["x"]})]))
        assert snapshot.contents(["s"])["s.t"].rows == 1
    warehouse.load(Load(wide, frames=[pl.DataFrame({"id": [1], "v": ["x"]})]))


@pytest.fixture
def dumped(fresh_database: str, tmp_path: Path) -> Iterator[Path]:
    """A table with one row, dumped by the newest client that there is; then its schema was emptied."""
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute("CREATE TABLE s.t AS SELECT 'SET transaction_timeout = 0;' AS says")
        program = find_client("pg_dump", oldest_major=18).path
        with Warehouse(fresh_database).snapshot() as snapshot, (tmp_path / "dump").open("wb") as sink:
            dump(program, fresh_database, schemas=["s"], snapshot=snapshot, sink=sink)
        connection.execute("DROP TABLE s.t")
    yield tmp_path / "dump"


def put_back(program: Path, url: str, dumped: Path) -> None:
    with dumped.open("rb") as source:
        dumping.restore(program, url, schemas=["s"], source=source)


def test_a_client_that_is_newer_than_the_server_restores_into_it(dumped: Path, fresh_database: str) -> None:
    put_back(find_client("pg_restore", oldest_major=18).path, fresh_database, dumped)
    with psycopg.connect(fresh_database) as connection:
        assert connection.execute("SELECT says FROM s.t").fetchall() == [("SET transaction_timeout = 0;",)]


def test_a_restore_that_does_not_come_to_its_end_leaves_nothing(
    dumped: Path, fresh_database: str, tmp_path: Path
) -> None:
    real, program = find_client("pg_restore", oldest_major=18).path, tmp_path / "pg_restore"
    (tmp_path / "psql").symlink_to(real.with_name("psql"))
    program.write_text(f'#!/bin/sh\n"{real}" "$@" | sed "/^COMMIT/,\\$d"\necho "out of luck" >&2\nexit 1\n')
    program.chmod(0o755)
    with pytest.raises(DumpError, match="pg_restore failed: out of luck"):
        put_back(program, fresh_database, dumped)
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        assert connection.execute("SELECT FROM pg_tables WHERE schemaname = 's'").fetchall() == []
        connection.execute("CREATE VIEW s.t AS SELECT 1")
    with pytest.raises(DumpError, match='psql failed: .*relation "t" already exists'):
        put_back(real, fresh_database, dumped)


def test_a_target_that_holds_anything_is_refused_and_left_alone(saved: tuple[Account, Path]) -> None:
    account, file = saved
    before = account.rows("pipedrive.deals")
    with pytest.raises(RestoreError, match="overwrites nothing"):
        restore(account.settings, file)
    assert account.rows("pipedrive.deals") == before


@pytest.mark.parametrize("damage", ["cut", "bit", "other file", "no file"])
def test_a_file_that_is_not_whole_is_refused_before_anything_is_restored(
    saved: tuple[Account, Path], empty: Settings, tmp_path: Path, damage: str
) -> None:
    whole, damaged = bytearray(saved[1].read_bytes()), tmp_path / "damaged"
    whole[len(whole) // 2] ^= 1
    if damage != "no file":
        damaged.write_bytes({"cut": whole[: len(whole) // 2], "bit": whole, "other file": b"-- SQL"}[damage])
    with pytest.raises(ArchiveError, match="damaged|no backup|cannot be read"):
        restore(empty, damaged)
    assert schemas_of(empty) == []


def rewritten(file: Path, target: Path, **changes: object) -> Path:
    """A copy of a backup whose manifest says something else."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        manifest = json.loads(old.read("manifest.json"))
        new.writestr("manifest.json", json.dumps(manifest | changes))
        new.writestr("database.dump", old.read("database.dump"))
    return target


def test_a_restore_that_differs_from_what_was_saved_is_no_success(
    saved: tuple[Account, Path], empty: Settings, tmp_path: Path
) -> None:
    tables = {name: {"rows": c.rows, "digest": c.digest} for name, c in archive.read_manifest(saved[1]).tables.items()}
    tables["pipedrive.deals"]["digest"] = "1"
    with pytest.raises(RestoreError, match=r"not what was saved: pipedrive\.deals"):
        restore(empty, rewritten(saved[1], tmp_path / "other", tables=tables))


def test_a_check_that_finds_something_else_after_a_restore_is_no_success(
    saved: tuple[Account, Path], empty: Settings, tmp_path: Path
) -> None:
    findings = {**archive.read_manifest(saved[1]).findings, "bi.main_bi sums_by_currency": 3}
    assert "pipedrive.deals references" in findings
    with pytest.raises(RestoreError, match="bi.main_bi sums_by_currency: 3 was saved, 0 is there"):
        restore(empty, rewritten(saved[1], tmp_path / "other", findings=findings))


def test_a_backup_of_another_release_whose_checks_were_others_is_restored(
    saved: tuple[Account, Path], empty: Settings, tmp_path: Path
) -> None:
    other = {"release": "0.0.9", "findings": {"pipedrive.deals of_old": 1}}
    assert restore(empty, rewritten(saved[1], tmp_path / "other", **other)) == 0


def test_a_backup_of_another_company_is_refused_before_anything_is_made(
    saved: tuple[Account, Path], empty: Settings
) -> None:
    with pytest.raises(RestoreError, match="and not acme_pipeboard: set PIPEBOARD_ACCOUNT"):
        restore(empty.model_copy(update={"account": "acme"}), saved[1])
    assert schemas_of(empty) == []


def test_a_server_that_ends_who_says_nothing_waits_for_a_restore(
    saved: tuple[Account, Path], empty: Settings, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET idle_in_transaction_session_timeout = 300").format(name))
    real = dumping.restore

    def slow(program: Path, url: str, *, schemas: Sequence[str], source: IO[bytes]) -> None:
        real(program, url, schemas=schemas, source=source)
        time.sleep(1)

    monkeypatch.setattr(dumping, "restore", slow)
    assert restore(empty, saved[1]) == 0


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"state_version": "9999"}, StateVersionError, "upgrade this program"),
        ({"server": 99}, RestoreError, "99 or newer"),
        ({"client": 99}, BinariesNotFoundError, "pg_restore 99 or newer is needed"),
        ({"format": 2}, ArchiveError, "use the release that made it"),
    ],
)
def test_a_backup_of_something_newer_is_refused(
    saved: tuple[Account, Path],
    empty: Settings,
    tmp_path: Path,
    changes: dict[str, object],
    error: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        restore(empty, rewritten(saved[1], tmp_path / "newer", **changes))
    assert schemas_of(empty) == []


def test_a_backup_overwrites_nothing_and_a_broken_one_leaves_no_file(
    saved: tuple[Account, Path], tmp_path: Path
) -> None:
    account, file = saved
    with pytest.raises(ArchiveError, match="overwrites nothing"):
        backup(account.settings, file)
    with pytest.raises(ArchiveError, match="cannot be written"):
        backup(account.settings, tmp_path / "nowhere" / "x")

    def breaks(sink: object) -> None:
        raise DumpError("pg_dump failed: out of luck")

    with pytest.raises(DumpError):
        archive.write(tmp_path / "x", archive.read_manifest(file), breaks)
    assert list(tmp_path.iterdir()) == []


def test_two_backups_to_one_file_at_once_do_not_write_into_each_other(
    saved: tuple[Account, Path], tmp_path: Path
) -> None:
    manifest, file = archive.read_manifest(saved[1]), tmp_path / "company.backup"

    def dump(sink: IO[bytes]) -> None:
        sink.write(b"half of the later one, ")
        archive.write(file, manifest, lambda other: other.write(b"the earlier one") and None)
        sink.write(b"and the rest")

    with pytest.raises(ArchiveError, match="overwrites nothing"):
        archive.write(file, manifest, dump)
    assert list(tmp_path.iterdir()) == [file] and archive.read_manifest(file) == manifest
    with archive.opened_dump(file) as kept:
        assert kept.read() == b"the earlier one"


def test_client_programs_that_are_absent_or_older_than_the_server_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BinariesNotFoundError, match="none was found on this machine: install .*postgresql-client-15"):
        find_client("pg_dump", oldest_major=15, folders=[tmp_path])
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n")
    old.chmod(0o755)
    with pytest.raises(BinariesNotFoundError, match="15 or newer is needed here, and only version 13 was found"):
        find_client("pg_dump", oldest_major=15, folders=[tmp_path])
    assert find_client("pg_dump", oldest_major=13, folders=[tmp_path]).path == old


def test_a_password_is_on_no_command_line(fresh_database: str, tmp_path: Path) -> None:
    seen, program = tmp_path / "seen", tmp_path / "pg_dump"
    real = find_client("pg_dump", oldest_major=14).path
    program.write_text(f'#!/bin/sh\necho "$@" >{seen}\necho "$PGPASSWORD" >{seen}.password\nexec {real} "$@"\n')
    program.chmod(0o755)
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s")
    address = conninfo_to_dict(fresh_database)
    url = f"postgresql://{address['user']}:hunter2@{address['host']}:{address['port']}/{address['dbname']}"
    with pytest.raises(DumpError) as refused, Warehouse(fresh_database).snapshot() as snapshot:
        dump(program, url, schemas=["absent"], snapshot=snapshot, sink=BytesIO())
    assert "hunter2" not in seen.read_text() + str(refused.value) and address["dbname"] in seen.read_text()
    assert (tmp_path / "seen.password").read_text() == "hunter2\n"
    with (
        pytest.raises(DatabaseUrlError, match="use a key without one"),
        Warehouse(fresh_database).snapshot() as snapshot,
    ):
        dump(program, f"{url}?sslpassword=hunter2", schemas=["s"], snapshot=snapshot, sink=BytesIO())
