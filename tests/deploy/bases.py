"""Stand-ins for base images that cannot be pulled, made of Debian's packages and the Python that runs the tests.

They have the names of the official images, so they are made only in an engine that the tests started themselves.
"""

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.deploy.engine import Engine, NoEngineError

FOLDER = Path(__file__).with_name("bases")

_DEBIAN = "pipeboard-debian"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_UNWANTED = shutil.ignore_patterns(
    "__pycache__", "site-packages", "test", "tests", "idlelib", "tkinter", "*.a", "share"
)


def provide(engine: Engine, images: Iterable[str], workspace: Path) -> list[str]:
    """See to it that `images` are there: as they are, pulled, or as stand-ins, which are returned. Raises NoEngineError."""
    absent = [image for image in sorted(set(images)) if not engine.has(image) and not engine.pulls(image)]
    if absent and not engine.is_ours:
        raise NoEngineError(f"this machine's Docker engine cannot pull {', '.join(absent)}")
    if absent:
        if not engine.has(_DEBIAN):
            _import_debian(engine, workspace / "debian")
        _fill_context(workspace / "context")
        for image in absent:
            engine.docker("build", "--target", _target(image), "--tag", image, workspace / "context")
    return absent


def _target(image: str) -> str:
    """`prom/prometheus:v3.5.0` -> `prometheus`."""
    return image.rsplit("/", 1)[-1].split(":")[0]


def _import_debian(engine: Engine, folder: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise NoEngineError("no registry is reached, and debootstrap, which makes base images without one, is missing")
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", folder], check=True, stdout=subprocess.DEVNULL)
    # As slim as the official one, so that the size of what is built upon it tells something.
    left_out = [
        f"--exclude=./{path}/*" for path in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")
    ]
    with subprocess.Popen(["tar", "-C", folder, *left_out, "-c", "."], stdout=subprocess.PIPE) as tree:
        engine.docker("import", "-", _DEBIAN, stdin=tree.stdout)
    shutil.rmtree(folder)


def _fill_context(folder: Path) -> None:
    shutil.copytree(FOLDER, folder)
    authorities = ssl.get_default_verify_paths()
    shutil.copy(authorities.cafile or authorities.openssl_cafile, folder / "ca-certificates.crt")
    home, python = Path(sys.base_prefix), folder / "python"
    shutil.copytree(home / "lib", python / "lib", symlinks=True, ignore=_UNWANTED)
    (python / "bin").mkdir()
    shutil.copy(home / "bin" / f"python{PYTHON}", python / "bin" / "python3")
