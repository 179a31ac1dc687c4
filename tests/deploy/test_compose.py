"""What deploy/compose.yaml promises, read from the file; test_installation.py brings it up."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeboard_resources.pipedrive.standin import DEMO_API_KEY
from pipeboard_resources.settings import PROJECT_ROOT, Settings
from tests.deploy.engine import compose_program

DEPLOY = PROJECT_ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SECRETS_SCRIPT = (DEPLOY / "secrets.sh").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def variables(name: str) -> set[str]:
    """What an env file sets, comments included."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    return set(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", text, re.MULTILINE))


def test_nothing_but_the_proxy_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_limited_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] or name == "metabase"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert "healthcheck" in service or name == "code", "the image has the code location's own"


def test_dagster_logs_in_json_like_the_rest() -> None:
    commands = {
        name: service["command"] for name, service in SERVICES.items() if "dagster" in str(service.get("command"))
    }
    assert commands.keys() == {"code", "webserver", "webserver-readonly", "daemon"}
    for command in commands.values():
        assert command[command.index("--log-format") + 1] == "json"
    image = re.search(r"^CMD (.*)$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert image is not None and commands["code"] == [*json.loads(image[1]), "--log-format", "json"]


def test_the_disk_that_is_watched_is_that_of_postgresql() -> None:
    (volume,) = SERVICES["metrics"]["volumes"]
    name, folder, access = volume.split(":")
    assert f"{name}:/var/lib/postgresql/data" in SERVICES["postgres"]["volumes"] and access == "ro"
    command = SERVICES["metrics"]["command"]
    assert command[command.index("--disk") + 1] == folder


def test_only_the_code_location_holds_the_api_key() -> None:
    assert [name for name, service in SERVICES.items() if "pipedrive_api_key" in service.get("secrets", ())] == ["code"]


def test_secrets_are_files_and_no_variable_holds_one() -> None:
    assert re.findall(r"\$\{?\w*(?:PASSWORD|API_KEY|TOKEN|HASH)", TEXT) == []
    variables_set = {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert {name for name in variables_set if re.search("PASS|KEY", name)} <= {
        name for name in variables_set if name.endswith("_FILE")
    }


def test_the_demo_and_the_script_make_every_secret(tmp_path: Path) -> None:
    wanted = set(COMPOSE["secrets"])
    assert {path.name for path in (DEPLOY / "demo-secrets").iterdir()} == wanted
    assert set(re.findall(r"^(?: *keep|login) (\w+)", SECRETS_SCRIPT, re.MULTILINE)) == wanted


def test_secrets_that_pipeboard_reads_are_named_like_its_settings() -> None:
    known = {str(field.alias).lower() for field in Settings.model_fields.values()}
    for name in ("code", "webserver", "webserver-readonly", "daemon", "metrics"):
        assert set(SERVICES[name]["secrets"]) <= known


def test_settings_handed_to_containers_exist() -> None:
    known = {str(field.alias) for field in Settings.model_fields.values()}
    for name in ("code", "webserver", "webserver-readonly", "daemon", "metrics", "standin"):
        assert set(SERVICES[name]["environment"]) <= known


def test_the_example_and_the_demo_set_every_variable_that_is_required() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert used <= variables(".env.example")
    required = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))
    assert required and required <= variables("demo.env")


def test_the_demo_is_reached_from_this_machine_only_and_its_key_opens_nothing_else() -> None:
    assert "BIND_ADDRESS=127.0.0.1\n" in (DEPLOY / "demo.env").read_text(encoding="utf-8")
    assert (DEPLOY / "demo-secrets" / "pipedrive_api_key").read_text(encoding="utf-8") == f"{DEMO_API_KEY}\n"


def test_every_mounted_file_exists() -> None:
    mounts = re.findall(r"\./((?:compose|prometheus|grafana)/[\w./-]+)", TEXT)
    assert mounts and [mount for mount in mounts if not (DEPLOY / mount).exists()] == []


def test_prometheus_in_containers_has_the_rules_and_jobs_of_the_one_without() -> None:
    alone, contained = (
        yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))
        for path in ("prometheus/prometheus.yml", "compose/prometheus.yml")
    )
    assert contained["rule_files"] == alone["rule_files"]
    assert [job["job_name"] for job in contained["scrape_configs"]] == [
        job["job_name"] for job in alone["scrape_configs"]
    ]


def test_alerts_are_sent_to_nobody_until_somebody_is_named() -> None:
    default = re.findall(r"\$\{ALERTMANAGER_CONFIG:-\./([\w./-]+)\}", TEXT)
    receivers = yaml.safe_load((DEPLOY / default[0]).read_text(encoding="utf-8"))["receivers"]
    assert receivers == [{"name": "nobody"}]


@pytest.mark.parametrize("profile", ["demo", "dashboards"])
def test_compose_itself_takes_the_file(profile: str) -> None:
    program = compose_program()
    if program is None:
        pytest.skip("there is no Compose to ask: no plugin of docker, and none in a package for this machine")
    command = [*program, "--env-file", "demo.env", "--profile", profile, "config", "--quiet"]
    answer = subprocess.run(command, cwd=DEPLOY, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")


class Script:
    """secrets.sh in a folder of its own, and a stand-in for docker: what hashes passwords comes in the proxy's image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        shutil.copy(DEPLOY / "secrets.sh", folder)
        docker = folder / "docker"
        docker.write_text("#!/bin/sh\nread -r password && echo '$2a$14$of'$password\n", encoding="utf-8")
        docker.chmod(0o755)

    def run(self, typed: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}"}
        command = [self.folder / "secrets.sh"]
        return subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, check=False)

    def made(self) -> dict[str, str]:
        return {path.name: path.read_text(encoding="utf-8") for path in self.secrets.iterdir()}


def test_the_script_makes_secrets_once_and_asks_for_the_key_first(tmp_path: Path) -> None:
    script = Script(tmp_path)
    assert script.run("\n").returncode == 2 and script.made() == {}
    first = script.run("the-key\n")
    made = script.made()
    assert set(made) == set(COMPOSE["secrets"]) and made["pipedrive_api_key"] == "the-key\n"
    assert "the-key" not in first.stdout and first.stdout.count("password ") == 2
    assert script.secrets.stat().st_mode & 0o777 == 0o700
    assert (script.run("").returncode, script.made()) == (0, made)


def test_secrets_are_made_where_compose_looks_for_them(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.secrets = tmp_path / "else where"
    (tmp_path / ".env").write_text(f"SECRETS={script.secrets}\n", encoding="utf-8")
    assert script.run("the-key\n").returncode == 0
    assert script.made()["pipedrive_api_key"] == "the-key\n"


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ("", ""),
        ("PIPEBOARD_ACCOUNT=\n", ""),
        ("PIPEBOARD_ACCOUNT=acme\n", "acme_"),
        ('PIPEBOARD_ACCOUNT="acme"\r\n', "acme_"),
        ("PIPEBOARD_ACCOUNT=acme # the first\n", "acme_"),
        ("#PIPEBOARD_ACCOUNT=acme\n", ""),
    ],
)
def test_an_account_has_roles_of_its_own(tmp_path: Path, settings: str, prefix: str) -> None:
    (tmp_path / ".env").write_text(f"SITE_ADDRESS=localhost\n{settings}", encoding="utf-8")
    script = Script(tmp_path)
    assert script.run("the-key\n").returncode == 0
    made = script.made()
    assert made["database_url"].startswith(f"postgresql://{prefix}pipeboard_loader:")
    assert made["reader_url"].startswith(f"postgresql://{prefix}pipeboard_reader:")


@pytest.mark.parametrize("document", ["deploy/RUNBOOK.md", "README.md", "README.pt-BR.md"])
def test_a_document_names_services_that_compose_has(document: str) -> None:
    text = (PROJECT_ROOT / document).read_text(encoding="utf-8")
    told = re.findall(r"docker compose (exec|logs|restart|stop|up) ([^`|;&\n]*)", text)
    words = [(verb, re.sub(r"--tail \d+|-\S+", "", rest).split()) for verb, rest in told]
    # What comes after a service is said to it.
    named = {name for verb, rest in words for name in (rest[:1] if verb in ("exec", "logs") else rest)}
    assert named and named <= set(SERVICES)


@pytest.mark.parametrize(
    ("breaks", "files"), [("", ["0o600 whole"]), ("backup", []), ("cat", []), ("rm", ["0o600 whole"])]
)
def test_the_runbooks_backup_is_whole_and_for_its_owner_only(tmp_path: Path, breaks: str, files: list[str]) -> None:
    """With a stand-in for docker, in which one of the commands fails half-way."""
    section = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8").partition("## Backups every night")[2]
    script = section.partition("```sh\n")[2].partition("```")[0]
    programs, here = tmp_path / "programs", tmp_path / "here"
    programs.mkdir()
    here.mkdir()
    lines = ['[ "$5" != cat ] || printf who', f'case "$*" in *" {breaks or "nothing"} "*) exit 1;; esac']
    (programs / "docker").write_text(
        "\n".join(["#!/bin/sh", *lines, '[ "$5" != cat ] || printf le\n']), encoding="utf-8"
    )
    (programs / "docker").chmod(0o755)
    ran = subprocess.run(["sh", "-c", f"umask 022\n{script}"], cwd=here, env={"PATH": f"{programs}:{os.environ['PATH']}"}, check=False)  # fmt: skip
    assert ran.returncode == (1 if breaks else 0)
    finished = [path for path in here.iterdir() if path.suffix == ".backup"]
    assert [f"{path.stat().st_mode & 0o777:#o} {path.read_text(encoding='utf-8')}" for path in finished] == files


@pytest.mark.parametrize("name", ["README.md", "README.pt-BR.md"])
def test_an_upgrade_takes_the_new_files_that_are_mounted(name: str) -> None:
    """Compose makes a container anew where its declaration changed, not where the words of a file did that it mounts."""
    told = re.findall(r"docker compose up [^`]*--build[^`]*", (PROJECT_ROOT / name).read_text(encoding="utf-8"))
    mounted = [volume for service in SERVICES.values() for volume in service.get("volumes", ()) if volume[0] == "."]
    assert mounted and told and all("--force-recreate" in command.split() for command in told)
