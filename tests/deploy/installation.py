"""The installation of deploy/compose.yaml as a person sees it: brought up with secrets of its own, asked through its proxy."""

import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from pipeboard_assets.graph.automation import SYNC_ALL, months
from pipeboard_assets.graph.launching import run_config, run_tags
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_resources.pipedrive.standin import DEMO_API_KEY
from pipeboard_resources.settings import Settings
from tests.deploy.engine import Engine

_LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on UnauthorizedError { message } ... on RunConfigValidationInvalid { errors { message } } } }"""
_RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status stepStats { status } } } }"
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
# One line a table: its name, the number of its rows, a hash of all that they hold but when they were synced.
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'pipedrive' ORDER BY 1"
_TABLE = """SELECT '{0}', count(*), sum(hashtextextended((to_jsonb(t) - 'synced_at')::text, 0)) FROM pipedrive.{0} t"""

Login = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A Compose project. `deploy`: the folder of its compose.yaml; `environment`: what goes before its demo.env."""

    engine: Engine
    deploy: Path
    environment: Mapping[str, str]
    operator: Login
    reader: Login

    def at(self, deploy: Path, *, image: str) -> "Installation":
        """The same project, of another release."""
        return replace(self, deploy=deploy, environment={**self.environment, "PIPEBOARD_IMAGE": image})

    def compose(self, *arguments: str) -> str:
        fixed = ("--project-directory", self.deploy, "--env-file", self.deploy / "demo.env")
        return self.engine.compose(*fixed, *arguments, **self.environment)

    def up(self) -> None:
        """Until every service is healthy."""
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "400")

    def services(self) -> list[str]:
        return sorted(self.compose("config", "--services").split())

    def containers(self) -> list[dict[str, Any]]:
        """What `docker inspect` tells of each."""
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *self.compose("ps", "--quiet").split()))
        return found

    def execute(self, service: str, *command: str) -> str:
        return self.compose("exec", "--no-TTY", service, *command)

    def query(self, sql: str, *, database: str = "pipeboard") -> str:
        return self.execute("postgres", "psql", "-U", "postgres", "-d", database, "-XtAqc", sql)

    def tables(self, *, database: str = "pipeboard") -> list[str]:
        """What the tables hold, as far as a sync of the same company must leave it alone."""
        names = self.query(_TABLES, database=database).split()
        return self.query(" UNION ALL ".join(map(_TABLE.format, names)), database=database).splitlines()

    def deals(self) -> int:
        return int(self.query("SELECT count(*) FROM bi.main_bi"))

    def crash(self, service: str) -> None:
        """Every process of it dies at once, as when the machine takes them away; `docker kill` would forbid a restart."""
        self.compose("exec", "--no-TTY", service, "sh", "-c", "kill -9 -1")

    def browse(self, path: str, login: Login | None, question: Mapping[str, Any] | None = None) -> httpx.Response:
        """GET, or POST where there is a question."""
        with httpx.Client(verify=self._trust(), auth=login, timeout=60) as browser:
            url = f"https://localhost:{self.environment['HTTPS_PORT']}{path}"
            return browser.get(url) if question is None else browser.post(url, json=question)

    def _trust(self) -> ssl.SSLContext:
        """Nothing but the authority that the proxy made for itself."""
        return ssl.create_default_context(
            cadata=self.execute("proxy", "cat", "/data/caddy/pki/authorities/local/root.crt")
        )

    def ask(self, question: str, /, *, path: str = "/graphql", login: Login | None = None, **variables: Any) -> Any:
        """The data of a GraphQL answer."""
        answer = self.browse(path, login or self.operator, {"query": question, "variables": variables})
        answer.raise_for_status()
        told = answer.json()
        assert "errors" not in told, told["errors"]
        return told["data"]

    def launch(self, request: SyncRequest, *, path: str = "/graphql", login: Login | None = None) -> dict[str, Any]:
        """Ask for a run as the UI does; GraphQL's answer."""
        partitions = months(Settings(_env_file=None).history_start)
        tags = [{"key": key, "value": value} for key, value in run_tags(request, partitions).items()]
        selector = {"repositoryLocationName": "pipeboard", "repositoryName": "__repository__", "jobName": SYNC_ALL}
        params = {"selector": selector, "runConfigData": run_config(request), "executionMetadata": {"tags": tags}}
        answer: dict[str, Any] = self.ask(_LAUNCH, path=path, login=login, params=params)["launchRun"]
        return answer

    def begin(self, request: SyncRequest) -> str:
        """Launch a run and see its first step begin; its id."""
        run_id = str(self.launch(request)["run"]["runId"])
        eventually(lambda: self._run(run_id)["stepStats"], f"a step of run {run_id}")
        return run_id

    def status_at_end(self, run_id: str) -> str:
        eventually(lambda: self._run(run_id)["status"] in _ENDED, f"the end of run {run_id}")
        return str(self._run(run_id)["status"])

    def sync(self, *, full: bool = False) -> None:
        """A run through the UI's GraphQL, to its good end."""
        run_id = self.begin(SyncRequest(full=full))
        assert self.status_at_end(run_id) == "SUCCESS", self.compose("logs", "--tail", "40", "code")

    def _run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(_RUN, id=run_id)["runOrError"]
        return found


def eventually(holds: Callable[[], Any], what: str, *, within_seconds: float = 400) -> None:
    """Wait for something in other processes; an answer that cannot be had yet counts as no."""
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            if holds():
                return
        except (httpx.HTTPError, subprocess.CalledProcessError):
            pass
        assert time.monotonic() < deadline, f"waited {within_seconds:.0f} s for {what}"
        time.sleep(0.2)


def make_secrets(engine: Engine, deploy: Path, folder: Path) -> tuple[Login, Login]:
    """Secrets as a person makes them, the demo's API key among them; the logins of the operator and of the reader."""
    told = subprocess.run(
        [deploy / "secrets.sh"],
        env={**os.environ, **engine.environment, "SECRETS": str(folder)},
        input=f"{DEMO_API_KEY}\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    operator, reader = re.findall(r"name (\w+), password (\w+)", told)
    return operator, reader
