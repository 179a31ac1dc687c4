"""What can go wrong with an embedded server; every message says what was seen and what to do.

EmbeddedServerError
├── StateFolderError      the folder cannot be written, locked or reached
├── BinariesNotFoundError no usable PostgreSQL on this machine
├── DataVersionError      the data folder belongs to another major version
└── ServerStartError      the server was started and did not come up, or did not accept us
"""

from pathlib import Path


class EmbeddedServerError(Exception):
    """An embedded server cannot be used; the message is one sentence for a person."""


class StateFolderError(EmbeddedServerError):
    """`path` cannot be written, locked or reached."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class BinariesNotFoundError(EmbeddedServerError):
    """No server program that we can run was found."""


class DataVersionError(EmbeddedServerError):
    """The data folder was made by PostgreSQL `found`; the programs at hand are of the majors `wanted`."""

    def __init__(self, message: str, *, found: int, wanted: tuple[int, ...]) -> None:
        super().__init__(message)
        self.found = found
        self.wanted = wanted


class ServerStartError(EmbeddedServerError):
    """The server did not come up; `output` is the end of what it said."""

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(f"{message}\n{output}" if output else message)
        self.output = output
