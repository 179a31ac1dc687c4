"""What is given to Kubernetes: accepted by its schemas, of the lock's Dagster, without secrets and without privileges.

The chart itself, which no package index has, is rendered with them in test_chart.py.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import psycopg
import pytest
import yaml
from dagster_postgres import PostgresRunStorage
from dagster_postgres.utils import pg_url_from_config

from pipeboard_assets.catalog.schemas import SCHEMAS
from pipeboard_resources.settings import PROJECT_ROOT, Settings

FOLDER = PROJECT_ROOT / "deploy" / "kubernetes"
METRICS = (FOLDER / "metrics.yaml").read_text(encoding="utf-8")
TEXT = (FOLDER / "values.yaml").read_text(encoding="utf-8")
VALUES: dict[str, Any] = yaml.safe_load(TEXT)
COMPANIES: list[dict[str, Any]] = VALUES["dagster-user-deployments"]["deployments"]
KUBERNETES = "1.31"


def manifests() -> Iterator[dict[str, Any]]:
    for name in ("metrics.yaml", "networkpolicy.yaml"):
        yield from yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))


def pod_of(values: dict[str, Any]) -> dict[str, Any]:
    """The pod that the chart makes of these values, as far as they are handed on."""
    mounts = values.get("volumeMounts", [])
    container = {
        "name": "dagster",
        "image": "x",
        "env": values.get("env", []),
        "envFrom": [{"secretRef": each} for each in values.get("envSecrets", [])],
        "resources": values.get("resources", {}),
        "securityContext": values["securityContext"],
        "volumeMounts": mounts,
    }
    if "readinessProbe" in values:
        container["readinessProbe"] = values["readinessProbe"]
    spec = {
        "containers": [container],
        "securityContext": values["podSecurityContext"],
        "volumes": values.get("volumes", []),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}


def run_pod() -> dict[str, Any]:
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    spec = launcher["runK8sConfig"]["podSpecConfig"]
    container = {"name": "dagster", "image": "x", "securityContext": launcher["securityContext"]}
    template = {"spec": {**spec, "containers": [container], "restartPolicy": "Never"}}
    job = {"template": template, **launcher["runK8sConfig"]["jobSpecConfig"]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job}


def all_objects() -> list[dict[str, Any]]:
    dagster = [VALUES[name] for name in ("dagsterDaemon", "dagsterWebserver")]
    return [*manifests(), *map(pod_of, [*COMPANIES, *dagster]), run_pod()]


@pytest.mark.parametrize("made", all_objects(), ids=lambda made: f"{made['kind']} {made['metadata']['name']}")
def test_kubernetes_accepts_every_object_and_knows_every_field(made: dict[str, Any]) -> None:
    kubernetes_validate.validate(made, KUBERNETES, strict=True)


def pods() -> Iterator[dict[str, Any]]:
    for made in all_objects():
        if made["kind"] == "Pod":
            yield made["spec"]
        elif made["kind"] in ("Deployment", "Job"):
            yield made["spec"]["template"]["spec"]


@pytest.mark.parametrize("pod", list(pods()))
def test_every_pod_meets_the_restricted_standard(pod: dict[str, Any]) -> None:
    assert (
        pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    for container in pod["containers"]:
        allowed = container["securityContext"]
        assert (allowed["allowPrivilegeEscalation"], allowed["capabilities"]) == (False, {"drop": ["ALL"]})


def test_the_chart_is_of_the_version_in_the_lock() -> None:
    lock = (PROJECT_ROOT / "requirements.lock").read_text(encoding="utf-8")
    (version,) = re.findall(r"^dagster==(\S+)", lock, re.MULTILINE)
    assert re.findall(r"--version (\S+)", TEXT) == [version]


def test_a_run_ends_and_is_tried_again_as_it_is_outside_kubernetes() -> None:
    instance = yaml.safe_load((PROJECT_ROOT / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8"))
    assert run_pod()["spec"]["activeDeadlineSeconds"] == instance["run_monitoring"]["max_runtime_seconds"]
    retries = VALUES["dagsterDaemon"]["runRetries"]
    assert {
        "enabled": retries["enabled"],
        "max_retries": retries["maxRetries"],
        "retry_on_asset_or_op_failure": retries["retryOnAssetOrOpFailure"],
    } == instance["run_retries"]


def test_the_image_has_a_tag_that_the_release_of_this_version_has() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tags = {company["image"]["tag"] for company in COMPANIES} | set(re.findall(r"image: \S+:(\S+)", METRICS))
    assert tags == {project["version"]}


def test_the_image_runs_as_the_user_that_it_was_made_for() -> None:
    (user,) = re.findall(
        r"^USER (\d+):", (PROJECT_ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {company["podSecurityContext"]["runAsUser"] for company in COMPANIES} == {int(user)}


def test_every_company_has_an_account_and_a_secret_of_its_own() -> None:
    accounts = [next(each["value"] for each in c["env"] if each["name"] == "PIPEBOARD_ACCOUNT") for c in COMPANIES]
    assert [Settings(_env_file=None, account=name).prefix + SCHEMAS[0] for name in accounts] == [
        f"{company['name']}_pipedrive" for company in COMPANIES
    ]
    assert [company["envSecrets"] for company in COMPANIES] == [[{"name": company["name"]}] for company in COMPANIES]


def test_no_secret_stands_in_a_file() -> None:
    for path in FOLDER.glob("*.yaml"):
        assert not re.search(r"password: *\S|API_KEY, value|://[^/\s]*:[^/\s]*@", path.read_text(encoding="utf-8")), (
            path
        )


def test_every_setting_that_is_given_exists() -> None:
    known = {str(field.alias) for field in Settings.model_fields.values()}
    named = {
        name for path in FOLDER.glob("*.yaml") for name in re.findall(r"PIPEBOARD_[A-Z_]+", path.read_text("utf-8"))
    }
    assert named and named <= known


def test_the_chart_keeps_dagsters_history_in_its_schema(fresh_database: str) -> None:
    values, parts = VALUES["postgresql"], urlsplit(fresh_database)
    address = {"username": parts.username, "password": parts.password, "hostname": parts.hostname, "port": parts.port}
    params = {**values["postgresqlParams"], "sslmode": "prefer"}  # the server of the tests speaks no TLS
    config = {**address, "db_name": parts.path[1:], "params": params, "scheme": values["postgresqlScheme"]}
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dagster")
        PostgresRunStorage(pg_url_from_config({"postgres_db": config})).dispose()
        found = connection.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'runs'").fetchall()
    assert found == [("dagster",)]
