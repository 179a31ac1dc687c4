"""The command line as a person meets it: one sentence instead of a trace, the right exit status, one JSON object."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil
import psycopg
import pytest

from pipeboard_assets.graph.request import ASSETS
from pipeboard_resources.embedded import postgres_server
from pipeboard_resources.pipedrive.standin import Server
from tests.fixtures.servers import temporary_state_dir

KEYS = {
    "asset",
    "status",
    "error",
    "rows",
    "inserted",
    "updated",
    "unchanged",
    "deleted",
    "restored",
    "rejected",
    "seconds",
}

OUTCOME_KEYS = {"run_id", "status", "seconds", "requests", "tokens", "assets"}


def pipeboard(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with nothing of the caller's environment but the path."""
    return subprocess.run(
        [sys.executable, "-m", "pipeboard_assets", *arguments],
        env={"PATH": os.environ["PATH"], "PIPEBOARD_STATE_DIR": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def account_settings(standin: Server, database_url: str, redis_url: str) -> dict[str, str]:
    return {
        "PIPEDRIVE_BASE_URL": standin.url,
        "PIPEDRIVE_API_KEY": standin.api_key,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PIPEBOARD_HISTORY_START": "2026-06",
    }


@pytest.fixture(scope="module")
def account(account_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cli")
    return lambda *arguments, **changes: pipeboard(*arguments, folder=folder, **{**account_settings, **changes})


def test_sync_prints_one_json_object_that_keeps_the_contract_and_then_status_does(account) -> None:
    answer = account("sync", "--json")
    outcome = json.loads(answer.stdout)
    assert (answer.returncode, outcome["status"]) == (0, "success")
    assert outcome.keys() == OUTCOME_KEYS
    assert [asset.keys() for asset in outcome["assets"]] == [KEYS] * 9
    state = json.loads(account("status", "--json").stdout)
    rows = {asset["asset"]: asset["rows"] for asset in outcome["assets"]}
    assert {asset["asset"]: asset["rows"] for asset in state["assets"]} == rows
    assert 0 < state["tokens_left"] < 2_000_000


def test_a_wrong_key_is_one_sentence_that_says_where_the_right_one_is(account) -> None:
    answer = account("sync", "--select", "users", PIPEDRIVE_API_KEY="not-the-key")
    assert answer.returncode == 1
    assert "Personal preferences > API" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr and "not-the-key" not in answer.stdout + answer.stderr


def test_a_missing_key_is_a_wrong_setting(account) -> None:
    answer = account("sync", PIPEDRIVE_API_KEY="")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "PIPEDRIVE_API_KEY" in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize("url", ["postgresql://a:secret@127.0.0.1:1/x", "nonsense"])
def test_an_unreachable_database_is_one_sentence_that_names_the_setting(account, url: str) -> None:
    answer = account("sync", DATABASE_URL=url)
    assert answer.returncode == 1
    assert "DATABASE_URL" in answer.stderr and "Traceback" not in answer.stderr and "secret" not in answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--select", "dogs"),
        ("--select", ""),
        ("--select", ","),
        ("--allow-mass-delete",),
        ("--from", "2026-03", "--to", "2026-01"),
        ("--from", "2020-01", "--to", "2026-07"),
        ("--from", "2026-07"),
        ("--full", "--from", "2026-07", "--to", "2026-08"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_exits_with_2_before_anything_starts(account, arguments: tuple[str, ...]) -> None:
    answer = account("sync", *arguments, "--json")
    outcome = json.loads(answer.stdout)
    assert (answer.returncode, outcome["status"], outcome.keys()) == (2, "failed", OUTCOME_KEYS)
    (told,) = {asset["error"] for asset in outcome["assets"]}
    assert told in answer.stderr


def test_a_month_that_is_none_exits_with_2(account) -> None:
    assert account("sync", "--from", "x", "--to", "2026-07").returncode == 2


def test_a_bad_setting_is_told_by_every_command_alike(account) -> None:
    for command in ("sync", "plan", "status", "doctor", "demo", "ui", "metrics"):
        answer = account(command, PIPEBOARD_PAGE_SIZE="abc")
        assert (answer.returncode, answer.stdout) == (2, ""), command
        assert "PIPEBOARD_PAGE_SIZE" in answer.stderr and "Traceback" not in answer.stderr


def test_a_killed_demo_takes_its_stand_in_along_and_the_next_sync_ends_its_run() -> None:
    with temporary_state_dir() as folder:
        with interruptible("demo", folder=folder) as running:
            assert running.stderr is not None
            while not running.stderr.readline().startswith("pipelines"):
                pass
            (standin,) = (child for child in psutil.Process(running.pid).children() if "--api-key" in child.cmdline())
            running.kill()
            standin.wait(timeout=10)
        assert pipeboard("demo", folder=folder).returncode == 0
        with postgres_server(folder / "demo") as server, psycopg.connect(server.url) as connection:
            statuses = connection.execute("SELECT status FROM dagster.runs ORDER BY id").fetchall()
    assert statuses == [("FAILURE",), ("SUCCESS",)]


def test_a_refused_connection_is_told_once_an_attempt(account) -> None:
    answer = account("sync", "--select", "users", PIPEDRIVE_BASE_URL="http://127.0.0.1:1", PIPEBOARD_RETRY_ATTEMPTS="2")
    assert answer.returncode == 1
    assert answer.stderr.count("attempt 1 of 2") == 1 and "stamina" not in answer.stderr


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("REDIS_URL", "foo://:hunter2@x"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:port/0"),
        ("PIPEDRIVE_BASE_URL", "notaurl"),
        ("PIPEDRIVE_BASE_URL", "https://u:hunter2@api.pipedrive.com"),
        ("PIPEDRIVE_API_KEY", "hunter2\nX-Evil: 1"),
        ("PIPEDRIVE_API_KEY", "chavé-hunter2"),
        ("PIPEBOARD_REQUEST_TIMEOUT_SECONDS", "inf"),
        ("PIPEBOARD_TOKEN_RESERVE_PERCENT", "nan"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_before_anything_starts(account, setting: str, value: str) -> None:
    answer = account("doctor", **{setting: value})
    assert (answer.returncode, answer.stdout) == (2, "")
    assert setting in answer.stderr and "Traceback" not in answer.stderr and "hunter2" not in answer.stderr


def test_a_dagster_home_that_cannot_be_written_is_one_sentence(account, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = account("sync", DAGSTER_HOME=str(tmp_path / "file" / "home"))
    assert answer.returncode == 2
    assert "DAGSTER_HOME" in answer.stderr and "Traceback" not in answer.stderr


def test_a_demo_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "demo" / "company-born-at").mkdir(parents=True)
    answer = pipeboard("demo", folder=tmp_path)
    assert answer.returncode == 1
    assert "PIPEBOARD_STATE_DIR" in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize("module", ["pydantic_settings", "pipeboard_io.errors", "dagster"])
def test_ctrl_c_while_the_program_loads_leaves_no_trace(account_settings, tmp_path: Path, module: str) -> None:
    """Interrupted at the moment it imports `module`: before its first line, in its boundary, in a command."""
    interrupt = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from pipeboard_assets.__main__ import main\n"
        "main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", interrupt, "sync"],
        env={"PATH": os.environ["PATH"], "PIPEBOARD_STATE_DIR": str(tmp_path), **account_settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in answer.stderr and "Aborted" not in answer.stderr


def test_a_forbidden_list_fails_alone_and_what_needs_it_is_skipped(account, standin: Server) -> None:
    standin.faults.add("status_403", "/api/v2/persons", times=None)
    try:
        answer = account("sync", "--json")
    finally:
        standin.faults.clear()
    statuses = {asset["asset"]: asset["status"] for asset in json.loads(answer.stdout)["assets"]}
    assert answer.returncode == 1
    assert (statuses["persons"], statuses["organizations"], statuses["main_bi"]) == ("failed", "success", "skipped")


def test_a_spent_token_budget_stops_with_75(account, standin: Server) -> None:
    standin.faults.add("daily_429", "/api/v2/deals", times=None)
    try:
        answer = account("sync", "--json")
    finally:
        standin.faults.clear()
    assert answer.returncode == 75
    assert json.loads(answer.stdout)["status"] == "stopped"


@pytest.mark.parametrize("command", ["sync", "plan"])
def test_a_budget_spent_before_a_run_begins_is_a_sentence_and_75_too(
    command: str, standin: Server, fresh_database: str, redis_url: str, tmp_path: Path
) -> None:
    """A first sync asks how large the account is."""
    environment = {
        "PIPEDRIVE_BASE_URL": standin.url,
        "PIPEDRIVE_API_KEY": standin.api_key,
        "DATABASE_URL": fresh_database,
        "REDIS_URL": redis_url,
    }
    standin.faults.add("daily_429", "/v1/users/me", times=None)
    try:
        answer = pipeboard(command, "--json", folder=tmp_path, **environment)
    finally:
        standin.faults.clear()
    assert answer.returncode == 75, answer.stderr
    assert "run it again" in answer.stderr and "Traceback" not in answer.stderr
    told = json.loads(answer.stdout)
    if command == "sync":
        assert told["status"] == "stopped" and {asset["status"] for asset in told["assets"]} == {"stopped"}


@contextmanager
def interruptible(*arguments: str, folder: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a terminal starts it: Ctrl-C reaches it, even where what runs the tests ignores it."""
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    running = subprocess.Popen(
        [sys.executable, "-c", f"{heed}; from pipeboard_assets.__main__ import main; main()", *arguments],
        env={"PATH": os.environ["PATH"], "PIPEBOARD_STATE_DIR": str(folder), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        running.terminate()
        running.communicate(timeout=30)


def ended_by_ctrl_c(running: "subprocess.Popen[str]") -> tuple[float, str]:
    """Seconds until it was gone, and what it told."""
    started = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: its children are meant too
    _, told = running.communicate(timeout=30)
    return time.monotonic() - started, told


def test_the_demo_answers_a_question_writes_nothing_twice_and_survives_ctrl_c() -> None:
    with temporary_state_dir() as folder:
        with interruptible("demo", folder=folder) as running:
            assert running.stderr is not None
            while not running.stderr.readline().startswith("pipelines"):
                pass
            seconds, told = ended_by_ctrl_c(running)
        assert running.returncode == 130 and "Traceback" not in told and seconds < 5
        first = pipeboard("demo", folder=folder)
        assert first.returncode == 0 and "Where is the money" in first.stdout, first.stderr
        second = pipeboard("demo", folder=folder)
        assert second.stderr.count("nothing changed") == 9


def test_the_ui_shows_nine_assets_and_ctrl_c_ends_it(account_settings: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with interruptible("ui", "--port", str(port), folder=tmp_path, **account_settings) as running:
        assets = asset_names(f"http://127.0.0.1:{port}/graphql", patience_seconds=60)
        seconds, told = ended_by_ctrl_c(running)
    assert assets >= {f"{'bi' if name == 'main_bi' else 'pipedrive'}/{name}" for name in ASSETS}
    assert seconds < 15 and "Traceback" not in told and "superseded" not in told
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def asset_names(graphql: str, *, patience_seconds: float) -> set[str]:
    """What a server that is still starting shows, once it shows anything."""
    query = Request(
        graphql, json.dumps({"query": "{assetNodes{assetKey{path}}}"}).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            with urlopen(query, timeout=5) as answer:
                nodes = json.load(answer)["data"]["assetNodes"]
        except (URLError, ConnectionError, TimeoutError):
            nodes = []
        if nodes or time.monotonic() > deadline:
            return {"/".join(node["assetKey"]["path"]) for node in nodes}
        time.sleep(0.2)


def test_processes_that_start_side_by_side_on_an_empty_database_make_dagsters_tables_once(fresh_database: str) -> None:
    program = (
        "from pipeboard_assets.instance_storage import InstanceStorage;"
        "storage = InstanceStorage.from_config_value(None, {}); print(storage.run_storage.get_runs_count())"
    )
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": fresh_database}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=100) for process in started]
    assert [(process.returncode, out) for process, (out, _) in zip(started, ended, strict=True)] == [(0, b"0\n")] * 3, (
        ended
    )
