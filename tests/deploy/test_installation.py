"""The whole installation on a real engine: `make test-deploy`. The tests build on each other, in their order.

Grafana and Metabase stay away (their profile `dashboards` is not the demo's): no stand-in could be made of them.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from pipeboard_assets.graph.request import SyncRequest
from pipeboard_resources.settings import PROJECT_ROOT
from tests.deploy import bases
from tests.deploy.engine import Engine, NoEngineError, engine
from tests.deploy.installation import Installation, eventually, make_secrets

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

PORTS = {"HTTP_PORT": "18080", "HTTPS_PORT": "18443", "METABASE_PORT": "18444"}
_RESTORE = (
    "DATABASE_URL=$(sed 's|/pipeboard$|/restored|' /run/secrets/database_url) pipeboard restore /backups/company.backup"
)
IMAGE, PREVIOUS_IMAGE = "pipeboard:under-test", "pipeboard:previous"


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    try:
        with engine(tmp_path_factory.mktemp("engine") / "docker") as found:
            yield found
    except NoEngineError as error:
        pytest.skip(f"the installation was not brought up: {error}")


@pytest.fixture(scope="module")
def image(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    build(docker, PROJECT_ROOT, IMAGE, tmp_path_factory.mktemp("bases"))
    return IMAGE


@pytest.fixture(scope="module")
def installation(docker: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Not up yet. Its volumes go with it at the end."""
    deploy, secrets = PROJECT_ROOT / "deploy", tmp_path_factory.mktemp("secrets")
    named = {"COMPOSE_PROJECT_NAME": "pipeboard-under-test", "SECRETS": str(secrets), "PIPEBOARD_IMAGE": image, **PORTS}
    probe = Installation(engine=docker, deploy=deploy, environment=named, operator=("", ""), reader=("", ""))
    told = bases.provide(
        docker, set(probe.compose("config", "--images").split()) - {image}, tmp_path_factory.mktemp("more")
    )
    print(f"\nStand-ins of Debian's packages for: {', '.join(told) or 'none'}. Not brought up: grafana, metabase.")
    operator, reader = make_secrets(docker, deploy, secrets)
    project = Installation(engine=docker, deploy=deploy, environment=named, operator=operator, reader=reader)
    try:
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "20")


@pytest.fixture(scope="module")
def previous(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The release before this one: the last tag, or the commit before."""
    folder = tmp_path_factory.mktemp("previous")
    revision = os.environ.get("PREVIOUS") or git("describe", "--tags", "--abbrev=0", "HEAD^") or "HEAD^"
    names = sorted(path.name for path in (PROJECT_ROOT / "deploy" / "demo-secrets").iterdir())
    if git("ls-tree", "--name-only", f"{revision}:deploy/demo-secrets").split() != names:
        pytest.skip(f"nothing was upgraded: there is no {revision} here with the same secrets")
    # With the modes of a checkout: what did not change is not built again.
    command = ["git", "-c", "tar.umask=022", "archive", revision]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
    build(installation.engine, folder, PREVIOUS_IMAGE, tmp_path_factory.mktemp("bases"))
    return installation.at(folder / "deploy", image=PREVIOUS_IMAGE)


def git(*arguments: str) -> str:
    """What git says; empty where it says no, or where this is no checkout."""
    answer = subprocess.run(["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def build(docker: Engine, checkout: Path, tag: str, workspace: Path) -> None:
    """The image of a checkout, from its own Dockerfile as it is, on the Python that runs the tests."""
    bases.provide(docker, [f"python:{bases.PYTHON}-slim"], workspace)
    revision = git("rev-parse", "HEAD") or "unknown"
    arguments = ["--build-arg", f"PYTHON={bases.PYTHON}", "--build-arg", f"REVISION={revision}"]
    docker.docker("build", "--file", checkout / "deploy" / "Dockerfile", *arguments, "--tag", tag, checkout)


def test_the_image_is_small_runs_as_nobody_and_tells_what_it_is(docker: Engine, image: str) -> None:
    size, user = docker.docker("image", "inspect", "--format", "{{.Size}} {{.Config.User}}", image).split()
    print(f"\nThe image: {int(size) / 1e6:.0f} MB")
    assert int(size) < 700e6 and user == "10001:10001"
    labels = docker.docker(
        "image", "inspect", "--format", "{{json .Config.Labels}} {{json .Config.Healthcheck}}", image
    )
    assert "org.opencontainers.image.revision" in labels and "grpc://127.0.0.1:4000" in labels


def test_the_image_works_on_a_read_only_root_without_any_capability(docker: Engine, image: str) -> None:
    confined = ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", image]
    assert "sync" in docker.docker(*confined, "pipeboard", "--help")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        docker.docker(*confined, "touch", "/opt/pipeboard/x")
    assert "Read-only file system" in str(refused.value.stderr)


def test_an_upgrade_under_a_running_sync_loses_nothing(installation: Installation, previous: Installation) -> None:
    previous.up()
    previous.sync()
    before = previous.tables()
    assert previous.deals() > 0
    previous.begin(SyncRequest(full=True))
    installation.up()
    assert installation.tables() == before
    installation.sync()
    assert installation.tables() == before


def test_every_service_comes_up_healthy(installation: Installation) -> None:
    installation.up()
    health = {
        each["Config"]["Labels"]["com.docker.compose.service"]: each["State"] for each in installation.containers()
    }
    assert sorted(health) == installation.services()
    assert {name for name, state in health.items() if state["Health"]["Status"] != "healthy"} == set()


def test_a_sync_through_the_ui_brings_rows(installation: Installation) -> None:
    installation.sync()
    assert installation.deals() > 0


def test_nothing_but_the_proxy_listens_and_that_on_loopback(installation: Installation) -> None:
    published = {
        binding["HostIp"]
        for each in installation.containers()
        for bindings in each["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    assert published == {"127.0.0.1"}
    ports = {int(port) for port in PORTS.values()}
    addresses = [each.laddr for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr]
    assert {address.ip for address in addresses if address.port in ports} <= {"127.0.0.1"}


def test_the_ui_wants_a_login(installation: Installation) -> None:
    query = {"query": "{ version }"}
    for path in ("/", "/readonly/", "/server_info"):
        assert installation.browse(path, None).status_code == 401
    assert installation.browse("/graphql", None, query).status_code == 401
    assert installation.browse("/", ("operator", "wrong")).status_code == 401
    assert installation.browse("/", installation.operator).status_code == 200


def of_the_runbook(section: str, pattern: str) -> list[list[str]]:
    """What a section tells to say after `docker compose`; "": its head. Nobody is at the terminal here."""
    text = (PROJECT_ROOT / "deploy" / "RUNBOOK.md").read_text(encoding="utf-8")
    found = re.findall(pattern, text.partition(f"## {section}\n" if section else "#")[2].partition("\n## ")[0])
    return [shlex.split(re.sub("^exec (-T )?", "exec -T ", command)) for command in found]


def test_the_runbooks_commands_run_as_they_are_written(installation: Installation) -> None:
    told = [installation.compose(*command) for command in of_the_runbook("", "`docker compose ([^`]*)`")]
    assert len(told) == 6 and "pipeboard_rows_total" in "".join(told)
    installation.up()


def test_a_password_is_rotated_as_the_runbook_says(installation: Installation) -> None:
    before = installation.tables()
    secret = Path(installation.environment["SECRETS"]) / "database_url"
    secret.write_text(re.sub(":[0-9a-f]+@", ":another@", secret.read_text()), encoding="utf-8")
    for command in of_the_runbook("Rotating a password of the database", r"(?m)^docker compose (.*)$"):
        installation.compose(*command)
    installation.sync()
    assert installation.tables() == before


def test_a_reader_sees_everything_and_starts_nothing(installation: Installation) -> None:
    assert installation.browse("/", installation.reader).status_code == 401
    assert installation.browse("/readonly", installation.reader).headers["location"] == "/readonly/"
    assert installation.browse("/readonly/", installation.reader).status_code == 200
    shown = installation.ask(
        "{ runsOrError { ... on Runs { count } } }", path="/readonly/graphql", login=installation.reader
    )
    assert shown["runsOrError"]["count"] > 0
    answer = installation.launch(SyncRequest(), path="/readonly/graphql", login=installation.reader)
    assert answer["__typename"] == "UnauthorizedError"


def test_secrets_are_seen_neither_by_inspect_nor_in_process_lists_nor_in_logs(installation: Installation) -> None:
    secrets = [path.read_text().strip() for path in Path(installation.environment["SECRETS"]).iterdir()]
    passwords = {secret.split(":", 2)[-1].split("@")[0] for secret in secrets if secret}
    # The stand-in tells its key to whoever starts it: that is its purpose.
    quiet = [name for name in installation.services() if name != "standin"]
    shown = {
        "inspect": str(installation.containers()),
        "process list": "".join(installation.engine.docker("top", each["Id"]) for each in installation.containers()),
        "log": installation.compose("logs", "--no-color", *quiet),
        "image": installation.engine.docker("history", "--no-trunc", installation.environment["PIPEBOARD_IMAGE"]),
        "Dagster's storage": installation.query("SELECT string_agg(run_body, '') FROM dagster.runs"),
    }
    assert [(place, secret[:4]) for place, text in shown.items() for secret in passwords if secret in text] == []


def test_prometheus_gets_figures_of_everything_it_is_told_to_watch(installation: Installation) -> None:
    def targets() -> dict[str, Any]:
        return {each["labels"]["job"]: each["health"] for each in figures(installation, "targets")["activeTargets"]}

    eventually(lambda: targets() == {"pipeboard": "up", "pushgateway": "up"}, "both jobs to be up")
    assert figures(installation, "rules")["groups"][0]["rules"]
    assert figures(installation, "alertmanagers")["activeAlertmanagers"]


def figures(installation: Installation, what: str) -> dict[str, Any]:
    """An answer of Prometheus's own API."""
    text = installation.execute("prometheus", "wget", "-q", "-O", "-", f"http://127.0.0.1:9090/api/v1/{what}")
    data: dict[str, Any] = httpx.Response(200, text=text).json()["data"]
    return data


def test_each_service_can_be_restarted(installation: Installation) -> None:
    before = installation.tables()
    for service in installation.services():
        installation.compose("restart", "--timeout", "20", service)
        installation.up()
    installation.sync()
    assert installation.tables() == before


def test_a_database_that_dies_during_a_sync_is_made_right_by_the_next(installation: Installation) -> None:
    before = installation.tables()
    installation.query("UPDATE pipedrive.deals SET title = 'wrong'; UPDATE pipedrive.persons SET name = 'wrong'")
    run_id = installation.begin(SyncRequest(full=True))
    installation.crash("postgres")
    installation.up()
    installation.status_at_end(run_id)
    installation.sync(full=True)
    assert installation.tables() == before


def test_a_backup_fills_an_empty_database(installation: Installation) -> None:
    installation.execute("code", "pipeboard", "backup", "/backups/company.backup")
    installation.query("CREATE DATABASE restored")
    installation.execute("postgres", "psql", "-U", "postgres", "-d", "restored", "-qf", "/roles.sql")
    installation.execute("code", "sh", "-c", _RESTORE)
    assert installation.tables(database="restored") == installation.tables()


def test_down_and_up_lose_nothing(installation: Installation) -> None:
    before = installation.tables()
    runs = installation.query("SELECT count(*) FROM dagster.runs")
    installation.compose("down", "--timeout", "20")
    installation.up()
    assert installation.tables() == before
    assert int(installation.query("SELECT count(*) FROM dagster.runs")) >= int(runs)
