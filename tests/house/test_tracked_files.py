"""What may not be in the repository: paths of somebody's machine, addresses of package indexes, odd bytes."""

import re
import subprocess
from pathlib import Path

import pytest

from pipeboard_resources.settings import PROJECT_ROOT

# Somebody's home folder. In documents of containers and services such a path is the container's own.
_HOME = re.compile(r"(?<![\w.])/(?:home|Users)/(?!runner\b)[A-Za-z][\w.-]*/|(?<![\w.])/root/[\w.]")
_INDEX = re.compile(r"https?://[^\s\"'<>]+/\+?simple\b|(?:--(?:extra-)?index-url|--find-links)[ =]+https?://")
_EXAMPLE_HOSTS = re.compile(
    r"//(?:[^/\s@]+@)?(?:[\w.-]+\.)?(?:example(?:\.\w+)?|test|invalid|localhost|127\.0\.0\.1)[:/]"
)


def tracked_texts() -> dict[str, str]:
    """Every file that git tracks, or would track with `git add`, as text; but this one, which has the bad examples."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout, so nothing is tracked")
    files = (PROJECT_ROOT / name for name in listed.split("\0") if name)
    return {
        path.relative_to(PROJECT_ROOT).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in files
        if path.is_file() and path != Path(__file__).resolve()
    }


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return tracked_texts()


def lines_with(texts: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}: {line.strip()[:120]}"
        for name, text in texts.items()
        for line in text.splitlines()
        if pattern.search(line) and not _EXAMPLE_HOSTS.search(line)
    ]


def test_no_file_holds_a_path_of_a_persons_machine(texts: dict[str, str]) -> None:
    assert lines_with(texts, _HOME) == []


def test_no_file_holds_the_path_of_this_checkout(texts: dict[str, str]) -> None:
    if len(PROJECT_ROOT.parts) < 3 or PROJECT_ROOT.parts[1] in ("opt", "srv", "app", "usr"):
        pytest.skip(f"{PROJECT_ROOT} is a place where installations are, so documents may name it")
    assert lines_with(texts, re.compile(rf"(?<![\w.-]){re.escape(str(PROJECT_ROOT))}(?![\w.-])")) == []


def test_no_file_holds_the_address_of_a_package_index(texts: dict[str, str]) -> None:
    assert lines_with(texts, _INDEX) == []


def test_the_lock_holds_no_address_at_all(texts: dict[str, str]) -> None:
    lock = texts["requirements.lock"]
    assert [line for line in lock.splitlines() if "://" in line or line.startswith("-")] == []


@pytest.mark.parametrize(
    "line", ["cd /home/ana/pipeboard", "open('/Users/ana/x')", "/root/.cache", "log: /home/ana.souza/a"]
)
def test_a_path_of_a_person_is_seen(line: str) -> None:
    assert lines_with({"file": line}, _HOME)


@pytest.mark.parametrize("line", ["https://app.pipedrive.com/home/x/", "./root/x", "/roots/x", "/home/<name>/"])
def test_what_only_looks_like_one_is_left_alone(line: str) -> None:
    assert lines_with({"file": line}, _HOME) == []


@pytest.mark.parametrize("line", ["--index-url https://pypi.org/x", "http://10.0.0.1:8080/root/pypi/+simple/"])
def test_the_address_of_an_index_is_seen(line: str) -> None:
    assert lines_with({"file": line}, _INDEX)
