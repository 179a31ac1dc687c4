"""`make ui`: Dagster's web UI and daemon on the user's data, or on the demo's while there is no API key."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from pipeboard_assets.commands.console import say
from pipeboard_assets.commands.demo import demo_environment
from pipeboard_assets.commands.environment import process_environment, servers
from pipeboard_resources.embedded.errors import EmbeddedServerError
from pipeboard_resources.settings import PROJECT_ROOT, Settings

# `dagster dev` was seen alive 10 s after SIGTERM; its processes hold nothing that a kill would harm.
_GRACE_SECONDS = 5.0
# Dagster advises `dg dev` instead, which is an extra package; nobody who opens the UI can act on that.
_UNHEEDED_WARNING = "ignore:Function `dev_command` is superseded"


def serve(settings: Settings, *, port: int) -> int:
    """Run until interrupted. Raises EmbeddedServerError when the port is taken."""
    _check_port(port)
    with _environment(settings) as ready:
        say(f"Dagster UI: http://127.0.0.1:{port}  (Ctrl-C stops it)")
        ours = process_environment(ready)
        workspace = _workspace(settings, Path(ours["DAGSTER_HOME"]))
        command = [sys.executable, "-m", "dagster", "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(port)]
        environment = os.environ | ours | {"PYTHONWARNINGS": _UNHEEDED_WARNING}
        if "ui_url" not in settings.model_fields_set:
            environment["PIPEBOARD_UI_URL"] = f"http://127.0.0.1:{port}"
        # polars takes SIGINT over so that system calls go on after it (SA_RESTART); this wait would never see Ctrl-C.
        signal.siginterrupt(signal.SIGINT, True)
        with _process_group(command, environment) as process, suppress(KeyboardInterrupt):
            return process.wait()
    return 0


def _workspace(settings: Settings, home: Path) -> str:
    """The checkout's workspace.yaml; with an account, the same under the company's name, in DAGSTER_HOME."""
    if not settings.account:
        return "workspace.yaml"
    workspace = yaml.safe_load((PROJECT_ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    module = workspace["load_from"][0]["python_module"]
    module |= {"location_name": settings.prefix + module["location_name"], "working_directory": str(PROJECT_ROOT)}
    named = home / "workspace.yaml"
    named.write_text(yaml.safe_dump(workspace), encoding="utf-8")
    return str(named)


@contextmanager
def _environment(settings: Settings) -> Iterator[Settings]:
    if settings.pipedrive_api_key is None:
        say("No PIPEDRIVE_API_KEY: showing the demo's data.")
        with demo_environment(settings) as ready:
            yield ready
    else:
        with servers(settings, say) as ready:
            yield ready


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EmbeddedServerError(f"port {port} is in use; choose another: pipeboard ui --port N") from error


@contextmanager
def _process_group(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process and all its children, ended together however the block is left."""
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, ending)
                process.wait(_GRACE_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
