"""Dagster's own chart rendered by Helm with our values: `make test-deploy`, where there is helm and the chart can be had.

DAGSTER_CHART names a folder or an archive with the chart; else helm asks Dagster's repository for the lock's version.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from pipeboard_resources.settings import PROJECT_ROOT
from tests.deploy.test_kubernetes import COMPANIES, FOLDER, KUBERNETES, TEXT, manifests

pytestmark = pytest.mark.engine

Object = dict[str, Any]
_REPOSITORY = "https://dagster-io.github.io/helm"


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("helm") is None:
        pytest.skip("the chart was not rendered: there is no helm here")
    if given := os.environ.get("DAGSTER_CHART"):
        return given
    (version,) = re.findall(r"--version (\S+)", TEXT)
    folder = tmp_path_factory.mktemp("chart")
    command = ["helm", "pull", "dagster", "--repo", _REPOSITORY, "--version", version, "--destination", str(folder)]
    pulled = subprocess.run(command, capture_output=True, text=True, check=False)
    if pulled.returncode:
        pytest.skip(f"the chart was not rendered: {pulled.stderr.strip()}")
    return str(folder / f"dagster-{version}.tgz")


@pytest.fixture(scope="module")
def rendered(chart: str) -> list[Object]:
    """All that helm would install, as Helm's own check of the values lets it."""
    command = [
        "helm",
        "template",
        "dagster",
        chart,
        "--namespace",
        "pipeboard",
        "--values",
        str(FOLDER / "values.yaml"),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return [made for made in yaml.safe_load_all(answer.stdout) if made]


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Labels and specification of each pod."""
    for made in objects:
        if made["kind"] in ("Deployment", "Job"):
            yield made["spec"]["template"]["metadata"]["labels"], made["spec"]["template"]["spec"]


def containers(objects: list[Object]) -> Iterator[Object]:
    for _, pod in pods(objects):
        yield from [*pod.get("initContainers", ()), *pod["containers"]]


def mounted(objects: list[Object], name: str) -> str:
    """The file of that name, which lies in a ConfigMap."""
    (text,) = [made["data"][name] for made in objects if made["kind"] == "ConfigMap" and name in (made["data"] or ())]
    return str(text)


def test_kubernetes_knows_every_field_that_is_rendered(rendered: list[Object]) -> None:
    for made in rendered:
        kubernetes_validate.validate(made, KUBERNETES, strict=True)


def test_every_pod_that_is_rendered_meets_the_restricted_standard(rendered: list[Object]) -> None:
    for _, pod in pods(rendered):
        allowed = pod["securityContext"]
        assert allowed["runAsNonRoot"] and allowed["seccompProfile"]["type"] == "RuntimeDefault"
    for container in containers(rendered):
        allowed = container["securityContext"]
        assert (allowed["allowPrivilegeEscalation"], allowed["capabilities"]) == (False, {"drop": ["ALL"]})


def test_no_container_listens_where_only_root_may_everywhere(rendered: list[Object]) -> None:
    ports = [port["containerPort"] for container in containers(rendered) for port in container.get("ports", ())]
    assert ports and min(ports) >= 1024


def test_the_workspace_has_a_code_location_for_each_company(rendered: list[Object]) -> None:
    servers = [each["grpc_server"] for each in yaml.safe_load(mounted(rendered, "workspace.yaml"))["load_from"]]
    services = {made["metadata"]["name"] for made in rendered if made["kind"] == "Service"}
    names = [company["name"] for company in COMPANIES]
    assert [server["host"] for server in servers] == names and set(names) <= services


def test_dagster_takes_the_instance_that_is_made_of_the_values(rendered: list[Object], tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(mounted(rendered, "dagster.yaml"), encoding="utf-8")
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["concurrency"] == yaml.safe_load((PROJECT_ROOT / "dagster_home" / "dagster.yaml").read_text())[
        "concurrency"
    ] | {"runs": {"max_concurrent_runs": 10}}


def test_runs_are_jobs_of_the_companys_image_and_secret(rendered: list[Object]) -> None:
    launcher = yaml.safe_load(mounted(rendered, "dagster.yaml"))["run_launcher"]
    assert launcher["class"] == "K8sRunLauncher" and launcher["config"]["job_namespace"] == "pipeboard"
    contexts = [
        each["value"] for made in containers(rendered) for each in made.get("env", ()) if "CONTEXT" in each["name"]
    ]
    given = [yaml.safe_load(context)["k8s"] for context in contexts]
    assert [each["env_secrets"] for each in given] == [[company["name"]] for company in COMPANIES]


def test_what_our_own_manifests_name_is_rendered(rendered: list[Object]) -> None:
    ours = list(manifests())
    labels = [label for label, _ in pods([*rendered, *ours])]
    components = {label.get("component") for label in labels}
    for made in ours:
        if made["kind"] == "NetworkPolicy":
            chosen = made["spec"]["podSelector"]
            for each in chosen.get("matchExpressions", ()):
                assert set(each["values"]) <= components, made["metadata"]["name"]
            wanted = chosen.get("matchLabels", {}).items()
            assert any(wanted <= label.items() for label in labels), made["metadata"]["name"]
    maps = {made["metadata"]["name"] for made in rendered if made["kind"] == "ConfigMap"}
    for _, pod in pods(ours):
        assert {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each} <= maps
