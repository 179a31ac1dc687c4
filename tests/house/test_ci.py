"""CI runs what people run: the Makefile's targets, on every Python that is allowed."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from pipeboard_resources.settings import PROJECT_ROOT
from tests.house.test_commands import TARGETS

SCRIPT = (PROJECT_ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    text = (PROJECT_ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (only,) = yaml.safe_load(text)["jobs"].values()
    assert isinstance(only, dict)
    return only


def test_the_workflow_runs_targets_of_the_makefile_only(job: dict[str, Any]) -> None:
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert set(commands) <= {f"make {target}" for target in TARGETS}


def test_the_workflow_runs_at_least_what_the_local_script_does(job: dict[str, Any]) -> None:
    local = re.findall(r"^make .+$", SCRIPT, re.MULTILINE)
    assert "make test" in local
    assert {step.get("run") for step in job["steps"]} >= set(local)


def test_the_workflow_covers_every_python_that_is_allowed(job: dict[str, Any]) -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest, above = (int(minor) for minor in re.findall(r"3\.(\d+)", project["requires-python"]))
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(lowest, above)]
