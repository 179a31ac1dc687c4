"""The linter refuses code that would make code of what is read, or trust whoever answers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeboard_resources.settings import PROJECT_ROOT


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("import pickle; pickle.loads(x)", "S301"),
        ("import marshal; marshal.loads(x)", "S302"),
        ("import yaml; yaml.load(x)", "S506"),
        ("eval(x)", "S307"),
        ("exec(x)", "S102"),
        ("import subprocess; subprocess.run(x, shell=True)", "S602"),
        ("import httpx; httpx.get(x, verify=False)", "S501"),
    ],
)
def test_code_made_of_what_is_read_is_refused(line: str, rule: str) -> None:
    command = [Path(sys.executable).with_name("ruff"), "check", "--no-cache", "--output-format=concise"]
    command += ["--stdin-filename", PROJECT_ROOT / "pipeboard_resources/cache.py", "-"]
    answer = subprocess.run(
        command, input=line, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert f" {rule} " in answer.stdout


def test_no_line_of_ours_is_exempt() -> None:
    exempt = [
        path.name
        for package in ("pipeboard_assets", "pipeboard_io", "pipeboard_resources")
        for path in (PROJECT_ROOT / package).rglob("*.py")
        if re.search(r"noqa:.*\bS\d", path.read_text(encoding="utf-8"))
    ]
    assert exempt == []
