"""Folders and files of an embedded server: made by us, private, and reachable by the account that it runs as.

Folders that are not ours are never changed: what the account must reach goes elsewhere, behind a link.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeboard_resources.embedded.errors import StateFolderError
from pipeboard_resources.embedded.processes import Account, can_enter, unprivileged_account

# Where root puts what its server must reach, when the state folder lies in a private place such as /root.
ROOT_PLACES = (Path("/var/lib"), Path("/var/db"))


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an OSError into one sentence about `folder`."""
    try:
        yield
    except OSError as error:
        place = f" at {error.filename}" if error.filename and str(error.filename) != str(folder) else ""
        raise StateFolderError(
            f"Cannot write to the state folder {folder} ({error.strerror}{place}): make it writable for this account, "
            "or set PIPEBOARD_STATE_DIR to another folder.",
            path=folder,
        ) from error


def prepare_folder(state_dir: Path, name: str) -> Path:
    """`state_dir/name`, made with the folders above it where missing; raises StateFolderError."""
    folder = state_dir.absolute() / name
    with writing_to(state_dir):
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            missing.mkdir(exist_ok=True)
            # Only folders made just now. As root, the server's account must pass through them.
            missing.chmod(0o711 if os.geteuid() == 0 else 0o700)
        os.close(open_private(folder / "users.lock"))
    return folder.resolve()


def open_private(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open `path`, mode 0600; when root works in somebody's folder the file is theirs, lest they be locked out."""
    descriptor = os.open(path, flags, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step, mode 0600: a reader sees the old text or the new one."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(open_private(draft), "w") as file:
        file.write(text)
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when there is none or it is damaged (it is only a hint where to look)."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def password_in(folder: Path) -> str:
    """The server's password, kept in `folder/password`; made on first use."""
    path = folder / "password"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def fresh_log(folder: Path) -> int:
    """An open, empty `folder/log`; the one before is kept as `log.1`."""
    log = folder / "log"
    if log.exists():
        log.replace(folder / "log.1")
    return open_private(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def log_since(folder: Path, begin: int) -> str:
    """What was added to `folder/log` after its first `begin` bytes: the last 10 lines, for an error message."""
    text = (folder / "log").read_bytes()[begin:].decode(errors="replace")
    return "\n".join(text.splitlines()[-10:])


def home_of(folder: Path) -> Path:
    """Where what the server's account must reach lies: in `folder`, or where its link `elsewhere` leads."""
    link = folder / "elsewhere"
    return link.resolve() if link.exists() else folder


def reachable_home(folder: Path, account: Account | None) -> Path:
    """`home_of(folder)`, moved to another place when `account` cannot enter it and nothing is there yet."""
    home = home_of(folder)
    if can_enter(home, account):
        return home
    if account is None or (home / "data").exists():
        raise StateFolderError(
            f"The account {account.name if account else 'of this process'} cannot enter {home}, where its data lies: "
            "let others pass through the folders above it (chmod o+x).",
            path=home,
        )
    elsewhere = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=_reachable_place(folder)))
    elsewhere.chmod(0o711)
    link = folder / "elsewhere"
    link.unlink(missing_ok=True)
    link.symlink_to(elsewhere)
    return elsewhere


def account_for(data: Path) -> Account | None:
    """Whom to run a server with this data folder as; raises StateFolderError when root has nobody to drop to."""
    try:
        return unprivileged_account(data)
    except KeyError as error:
        raise StateFolderError(
            f"The server for {data} cannot run as root, and this machine has neither an account postgres nor nobody: "
            "run Pipeboard as an ordinary user, or set DATABASE_URL to a server of yours.",
            path=data,
        ) from error


def _reachable_place(folder: Path) -> Path:
    temporary = Path(tempfile.gettempdir())
    if folder.is_relative_to(temporary):  # the state is temporary, so its data is too
        return temporary
    for place in ROOT_PLACES:
        if place.is_dir():
            ours = place / "pipeboard"
            ours.mkdir(mode=0o755, exist_ok=True)
            return ours
    raise StateFolderError(
        f"The server cannot run as root, and no other account can enter {folder}: set PIPEBOARD_STATE_DIR to a folder "
        "that others may enter, or DATABASE_URL to a server of yours.",
        path=folder,
    )


def copy_for_everyone(root: Path, parts: Sequence[str], into: Path) -> Path:
    """Copy `parts` of `root` to the folder `into`, readable by every account; made once. Returns `into`."""
    if into.exists():
        return into
    with writing_to(into.parent):
        draft = Path(tempfile.mkdtemp(prefix=f"{into.name}-", dir=into.parent))
        for part in parts:
            shutil.copytree(root / part, draft / part, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        draft.replace(into)
    return into
