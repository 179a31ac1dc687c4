"""Dagster's UI as people start it, on a company of its own, and Chromium in front of it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import PROJECT_ROOT
from tests.fixtures.caddy import Proxy, proxy
from tests.fixtures.debian import program

# Soon enough to be waited for, late enough for the tests of a healthy graph.
LATE_AFTER_SECONDS, STALE_AFTER_SECONDS = 120, 125

# As a terminal starts it: Ctrl-C reaches it, even where what runs the tests ignores it.
_HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@dataclass(frozen=True, slots=True)
class Installation:
    """A running `pipeboard ui`, and the company that it is kept in step with."""

    url: str
    server: Server
    history_start: str


def chromium_path() -> str:
    """Debian's Chromium; on GitHub's machines, whose packages have none, the Chrome that is there."""
    return shutil.which("google-chrome") or program("chromium")


@pytest.fixture(scope="module")
def installation(
    standin_factory: Callable[..., Server],
    database_url: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """Everything was synced once; then the UI was started, and its daemon with it."""
    chromium_path()  # before anything is started for nothing
    folder = tmp_path_factory.mktemp("installation")
    now = datetime.now(UTC)
    server = standin_factory(deals=400, now=now, clock=time.time)
    history_start = f"{now - timedelta(days=200):%Y-%m}"
    environment = {
        "PATH": os.environ["PATH"],
        "PIPEDRIVE_BASE_URL": server.url,
        "PIPEDRIVE_API_KEY": server.api_key,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DAGSTER_HOME": str(folder / "dagster_home"),
        "PIPEBOARD_STATE_DIR": str(folder),
        "PIPEBOARD_HISTORY_START": history_start,
        "PIPEBOARD_FRESH_WARN_HOURS": str(LATE_AFTER_SECONDS / 3600),
        "PIPEBOARD_FRESH_FAIL_HOURS": str(STALE_AFTER_SECONDS / 3600),
        "METABASE_URL": "http://127.0.0.1:1/metabase",
    }
    command = [sys.executable, "-m", "pipeboard_assets", "sync"]
    subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=100, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "ui.log").open("w") as log:
        running = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"{_HEED}; from pipeboard_assets.__main__ import main; main()",
                "ui",
                "--port",
                str(port),
            ],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, running, folder / "ui.log")
        yield Installation(url, server, history_start)
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.wait(timeout=30)


def _wait_for(url: str, running: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urlopen(f"{url}/server_info", timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            if running.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the UI did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        # Without a sandbox, which root has not; it sees 127.0.0.1 only.
        started = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, installation: Installation) -> Iterator[Page]:
    context = browser.new_context(base_url=installation.url, viewport={"width": 1400, "height": 800})
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def site(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The same UI behind the proxy of the deployment."""
    port = int(installation.url.rpartition(":")[2])
    with proxy(tmp_path_factory.mktemp("proxy"), {"webserver": port}) as running:
        yield running


@pytest.fixture
def photograph(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """`photograph(page, name)` keeps what the page shows, where --screenshots says so."""

    def take(page: Page, name: str) -> None:
        folder = request.config.getoption("screenshots")
        if folder:
            page.mouse.move(0, 0)
            page.screenshot(path=PROJECT_ROOT / folder / f"{name}.png", animations="disabled")

    return take
