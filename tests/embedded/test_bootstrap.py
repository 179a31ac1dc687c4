"""`make setup` on machines that are not ready for it, and its quick way out when there is nothing to do."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BOOTSTRAP = PROJECT / "deploy/bootstrap.py"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, bootstrap: ModuleType) -> Path:
    """A checkout whose environment is complete, as far as bootstrap.py can tell."""
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    environment = bootstrap.Environment(tmp_path)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    (environment.folder / ".ok").write_text(environment.wanted())
    return tmp_path


def test_nothing_is_done_when_it_is_up_to_date(checkout: Path, bootstrap: ModuleType) -> None:
    assert bootstrap.Environment(checkout).is_ready()
    assert bootstrap.main(checkout) == 0


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_file_makes_it_stale(checkout: Path, bootstrap: ModuleType, name: str) -> None:
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert not bootstrap.Environment(checkout).is_ready()


def test_an_interrupted_installation_begins_anew(checkout: Path, bootstrap: ModuleType) -> None:
    (checkout / ".venv/.unfinished").touch()
    environment = bootstrap.Environment(checkout)
    assert not environment.is_ready()
    assert not environment._is_usable()


def test_a_moved_checkout_begins_anew(checkout: Path, bootstrap: ModuleType) -> None:
    moved = checkout.rename(checkout.with_name("moved"))
    environment = bootstrap.Environment(moved)
    assert not environment.is_ready()
    assert not environment._is_usable()


def test_a_removed_interpreter_begins_anew(checkout: Path, bootstrap: ModuleType) -> None:
    (checkout / ".venv/bin/python").unlink()
    assert not bootstrap.Environment(checkout).is_ready()


@pytest.mark.parametrize("version", [(3, 10), (3, 99)])
def test_another_python_is_one_sentence(bootstrap: ModuleType, version: tuple[int, int]) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"^Pipeboard needs Python 3.11 to .* is 3.\d+: name another one"):
        bootstrap.check_python(PROJECT, version)


def test_a_python_without_venv_is_one_sentence(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match="lacks venv and ensurepip: .*apt install python3-venv"):
        bootstrap.check_python(PROJECT)


def test_a_folder_that_cannot_be_written_is_one_sentence(
    checkout: Path, bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / ".venv/.ok").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert bootstrap.main(checkout) == 1
    assert (
        capsys.readouterr().err
        == f"Cannot write to {checkout}, where .venv belongs: make it writable for this account.\n"
    )


@pytest.mark.parametrize("name", ["uv", "setuptools"])
def test_the_lock_pins_what_installs_the_rest(bootstrap: ModuleType, name: str) -> None:
    """setuptools too, on every platform and Python: the project itself is installed without a package index."""
    lines = bootstrap.pinned(name, (PROJECT / "requirements.lock").read_text()).splitlines()
    assert ";" not in lines[0]
    assert "--hash=sha256:" in lines[1]


def test_the_lock_names_no_package_index() -> None:
    assert "://" not in (PROJECT / "requirements.lock").read_text()


def test_make_lists_its_commands() -> None:
    answer = subprocess.run(["make", "-C", str(PROJECT), "help"], capture_output=True, text=True, check=True)
    for name in ("demo", "test", "ui", "check", "bench"):
        assert f"make {name} " in answer.stdout
