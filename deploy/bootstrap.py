"""Makes `.venv` from requirements.lock; does nothing, quickly, when it is up to date. Standard library only.

Runs before anything is installed, also under a Python that is too old, which it says: hence nothing newer than 3.6.
Safe when two run at once, and when the one before was interrupted.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """The environment cannot be made; the message is one sentence that says what to do."""


class Environment:
    """The virtual environment of one checkout.

    `.ok` names what was installed; `.unfinished` is there from the first change to the last, so whoever finds it starts
    from nothing: an interrupted installation leaves packages that look complete.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self.folder = project / ".venv"
        self.python = self.folder / "bin" / "python"
        self._stamp = self.folder / ".ok"
        self._unfinished = self.folder / ".unfinished"
        self._lock_file = project / "requirements.lock"

    def wanted(self) -> str:
        """What `.ok` must hold: the folder (scripts contain it) and a hash of what gets installed."""
        digest = hashlib.sha256()
        for path in (self._lock_file, self.project / "pyproject.toml"):
            digest.update(path.read_bytes())
        return f"{self.project}\n{digest.hexdigest()}\n"

    def is_ready(self) -> bool:
        """Whether there is nothing to do."""
        return self.python.exists() and not self._unfinished.exists() and _text(self._stamp) == self.wanted()

    def make(self) -> None:
        """Install everything; raises SetupError."""
        wanted = self.wanted()
        check_python(self.project)
        if not self._is_usable():
            self._create()
        self._unfinished.touch()
        self._install_uv()
        self._install_lock()
        self._install_project()
        self._stamp.write_text(wanted)
        self._unfinished.unlink()

    def _is_usable(self) -> bool:
        """Whether packages can be added to what is there; an environment made by hand is kept."""
        if self._unfinished.exists() or not self.python.exists():
            return False
        moved = self._stamp.exists() and _text(self._stamp).splitlines()[:1] != [str(self.project)]
        return not moved and _succeeds([self.python, "-m", "pip", "--version"])

    def _create(self) -> None:
        say(f"Making .venv with Python {sys.version.split()[0]}")
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._unfinished.touch()
        # The base interpreter: when an activated environment runs us, it may be the one that was just removed.
        _run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", self.folder])

    def _install_uv(self) -> None:
        requirement = pinned("uv", self._lock_file.read_text())
        version = requirement.split("==")[1].split()[0]
        if list(self.folder.glob(f"lib/python*/site-packages/uv-{version}.dist-info")):
            return
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
            only_uv.write(requirement)
            only_uv.flush()
            self._pip("--no-deps", "-r", only_uv.name)

    def _install_lock(self) -> None:
        names = re.findall(r"^[\w.-]+(?=[\[=])", self._lock_file.read_text(), re.MULTILINE)
        say(f"Installing up to {len(names)} packages from requirements.lock")
        try:
            self._uv("--require-hashes", "-r", self._lock_file)
        except SetupError as error:
            say(f"{error}\nTrying once more with pip, which takes half a minute")
            self._pip("-r", self._lock_file)

    def _install_project(self) -> None:
        # The build tools come from the lock too (--no-build-isolation), so this needs no package index.
        self._uv("--no-deps", "--no-build-isolation", "--offline", "--editable", self.project)

    def _pip(self, *arguments: "str | Path") -> None:
        _run(
            [
                self.python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--require-hashes",
                *arguments,
            ]
        )

    def _uv(self, *arguments: "str | Path") -> None:
        cache = () if _has_a_home() else ("--no-cache",)
        uv = self.folder / "bin" / "uv"
        _run([uv, "pip", "install", "--quiet", "--python", self.python, *cache, *arguments], **self._index())

    def _index(self) -> "dict[str, str]":
        """uv reads no pip.conf: hand on the index that pip uses, unless uv has been told one."""
        if any(name.startswith("UV_") and "INDEX" in name for name in os.environ):
            return {}
        command = [str(self.python), "-m", "pip", "config", "get", "global.index-url"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        address = os.environ.get("PIP_INDEX_URL") or answer.stdout.strip()
        return {"UV_DEFAULT_INDEX": address} if address else {}


def pinned(name: str, lock: str) -> str:
    """The lines of `lock` that pin `name`, hashes included; raises SetupError when there are none."""
    found = re.search(rf"^{re.escape(name)}==.*(?:\n[ \t].*)*", lock, re.MULTILINE)
    if not found:
        raise SetupError(f"requirements.lock does not pin {name}: run `make lock` in a complete environment.")
    return found[0] + "\n"


def check_python(project: Path, version: "tuple[int, int]" = sys.version_info[:2]) -> None:
    """Raise SetupError unless this Python can make an environment for `project`."""
    bounds = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', _text(project / "pyproject.toml"), re.MULTILINE)
    if bounds and not (3, int(bounds[1])) <= version < (3, int(bounds[2])):
        raise SetupError(
            f"Pipeboard needs Python 3.{bounds[1]} to 3.{int(bounds[2]) - 1}, and {sys.executable} is {version[0]}.{version[1]}: "
            "name another one, for example `make demo PY=python3.12`."
        )
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            f"This Python ({sys.executable}) lacks {' and '.join(missing)}: install it "
            "(Debian, Ubuntu: apt install python3-venv) and repeat the command."
        )


def say(message: str) -> None:
    """Tell the person what takes its time; stdout is left to the command that comes after us."""
    print(message, file=sys.stderr, flush=True)


def _run(command: "list[str | Path]", **environment: str) -> None:
    """Run `command`; raises SetupError with what it said when it fails."""
    answer = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if answer.returncode:
        name = " ".join(Path(part).name if index == 0 else str(part) for index, part in enumerate(command[:4]))
        raise SetupError(f"`{name}` failed:\n{answer.stdout.strip()}")


def _succeeds(command: "list[str | Path]") -> bool:
    try:
        return subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _has_a_home() -> bool:
    """Whether uv can keep a cache; an account such as `nobody` has no home to put it in."""
    return "UV_CACHE_DIR" in os.environ or os.access(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~")), os.W_OK)


@contextlib.contextmanager
def _alone(folder: Path) -> "Iterator[None]":
    """One at a time per checkout; the folder itself is locked, so that no file is left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another command is setting up .venv: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(project: Path = PROJECT) -> int:
    """Bring the environment up to date; 0, or 1 after one sentence on stderr."""
    environment = Environment(project)
    try:
        if environment.is_ready():
            return 0
        if not os.access(project, os.W_OK):
            raise SetupError(f"Cannot write to {project}, where .venv belongs: make it writable for this account.")
        with _alone(project):
            if not environment.is_ready():
                environment.make()
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"Setting up {environment.folder} failed: {error}. Mend that and repeat the command.")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; the next make begins anew.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
