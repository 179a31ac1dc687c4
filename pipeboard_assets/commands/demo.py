"""`make demo`: a made-up company synced through the real path, in a place of its own; the user's settings stay out."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from pipeboard_assets.commands.console import say, show_outcomes, show_table
from pipeboard_assets.commands.environment import servers
from pipeboard_assets.commands.syncing import exit_code, perform
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_resources.embedded.errors import EmbeddedServerError
from pipeboard_resources.settings import Settings

SEED = 7
DEALS = 2000
API_KEY = "demo-key-of-the-standin"

QUESTION = "Where is the money of the open deals?"
ANSWER_SQL = """
SELECT pipeline.name AS pipeline, stage.name AS stage, count(*) AS deals, mart.currency, round(sum(mart.value)) AS value
FROM bi.main_bi AS mart
JOIN pipedrive.stages AS stage ON stage.id = mart.stage_id
JOIN pipedrive.pipelines AS pipeline ON pipeline.id = mart.pipeline_id
WHERE mart.status = 'open' AND mart.value > 0
GROUP BY 1, 2, 4
ORDER BY value DESC
LIMIT 5
"""


class DemoRunningError(EmbeddedServerError):
    """Somebody else runs the demo in this folder right now."""


def demo(settings: Settings) -> int:
    """Sync the company, show the result and an answer from `bi.main_bi`; the second time nothing is written."""
    with demo_environment(settings) as ready:
        outcome = perform(ready, SyncRequest())
        show_outcomes(outcome.assets)
        say(f"{outcome.seconds:.1f} s, {outcome.requests:,} requests, {outcome.tokens:,} API tokens")
        if outcome.status is not Status.SUCCESS:
            return exit_code(outcome)
        with open_warehouse(ready) as warehouse:
            rows = warehouse.query(ANSWER_SQL)
    print(f"\n{QUESTION}")
    show_table(("pipeline", "stage", "deals", "currency", "value"), [tuple(row.values()) for row in rows])
    print("\nSee the assets, their runs and their columns:  make ui  ->  http://127.0.0.1:3000")
    return 0


@contextmanager
def demo_environment(settings: Settings) -> Iterator[Settings]:
    """Embedded servers and the stand-in, in `<state>/demo`; DATABASE_URL and the real key are not looked at."""
    folder = settings.state_dir / "demo"
    with _only_one(folder), _standin(folder) as url:
        own = settings.model_copy(
            update={
                "state_dir": folder,
                "dagster_home": folder / "dagster_home",
                "database_url": None,
                "redis_url": None,
                "pipedrive_base_url": url,
                "pipedrive_api_key": SecretStr(API_KEY),
                "history_start": "2020-01",
            }
        )
        with servers(own, say) as ready:
            yield ready


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "demo.lock").open("a")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoRunningError(f"the demo or its UI is running already in {folder}; stop it first") from error
        yield


def _birth(folder: Path) -> str:
    """When the demo's company began, kept for the next demo; a file that was cut short is written anew."""
    kept = folder / "company-born-at"
    try:
        with suppress(FileNotFoundError, ValueError):
            return datetime.fromisoformat(kept.read_text(encoding="ascii").strip()).isoformat()
        now = datetime.now(UTC).replace(microsecond=0).isoformat()
        kept.write_text(now, encoding="ascii")
    except OSError as error:
        raise _unwritable(folder, error) from error
    return now


def _unwritable(folder: Path, error: OSError) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"cannot write the state folder {folder} ({error.strerror}); make it yours or set PIPEBOARD_STATE_DIR"
    )


@contextmanager
def _standin(folder: Path) -> Iterator[str]:
    """The stand-in as a process of its own; the company's clock starts once, so that the next demo finds the same one."""
    command = [sys.executable, "-m", "pipeboard_resources.pipedrive.standin", "--port", "0", "--api-key", API_KEY]
    command += ["--deals", str(DEALS), "--seed", str(SEED), "--now", _birth(folder), "--until-stdin-closes"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ}
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line:
            raise EmbeddedServerError(f"the stand-in did not start (exit status {process.wait()})")
        yield next(word.rstrip(",") for word in line if word.startswith("http://"))
    finally:
        process.terminate()
        process.wait()
