"""Reads a Markdown document: its headings, tables, code and links. No rule lives here."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeboard_resources.settings import PROJECT_ROOT

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")

Row = tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """One Markdown file. `name` is its path below the project, `text` all of it."""

    name: str
    text: str

    def __str__(self) -> str:
        return self.name

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCED.sub("", self.text)

    @cached_property
    def heading_levels(self) -> list[int]:
        """The depth of each heading, in order."""
        return [len(marks) for marks in re.findall(r"^(#+) ", self.prose, re.MULTILINE)]

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of one language."""
        return [textwrap.dedent(body) for _, name, body in _FENCED.findall(self.text) if name == language]

    @cached_property
    def code(self) -> list[tuple[str, str]]:
        """Every fenced block as (language, code without its comments): the words in comments are translated."""
        return [(name, re.sub(r" *#.*", "", body)) for _, name, body in _FENCED.findall(self.text)]

    @cached_property
    def spans(self) -> list[str]:
        """What stands between single backticks."""
        return _SPAN.findall(self.prose)

    @cached_property
    def links(self) -> list[str]:
        """Targets of links."""
        return _LINK.findall(self.prose)

    @cached_property
    def command_lines(self) -> list[str]:
        """Every line of shell code, and every span."""
        shell = (line.strip() for _, body in self.code for line in body.splitlines())
        return [line for line in (*shell, *self.spans) if line]

    @cached_property
    def tables(self) -> list[list[Row]]:
        """Every table without its heading: cells, stripped."""
        blocks = re.findall(r"(?:^\|.*\n)+", self.prose, re.MULTILINE)
        return [[_cells(line) for line in block.splitlines()[2:]] for block in blocks]

    def table_with(self, cell: str) -> list[Row]:
        """The only table whose first column holds `cell`."""
        found = [table for table in self.tables if cell in (row[0] for row in table)]
        assert len(found) == 1, f"{self.name}: {len(found)} tables have {cell} in the first column, and one should"
        return found[0]


def _cells(line: str) -> Row:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def spans_in(cell: str) -> list[str]:
    """What stands between backticks in a cell of a table."""
    return _SPAN.findall(cell)


def _read(path: Path) -> Document:
    return Document(path.relative_to(PROJECT_ROOT).as_posix(), path.read_text(encoding="utf-8"))


def _documents() -> Iterator[Document]:
    for folder in (PROJECT_ROOT, PROJECT_ROOT / "deploy"):
        # The changelog is history, and may name what is gone.
        yield from (_read(path) for path in sorted(folder.glob("*.md")) if path.name != "CHANGELOG.md")


DOCUMENTS = tuple(_documents())
ENGLISH = _read(PROJECT_ROOT / "README.md")
PORTUGUESE = _read(PROJECT_ROOT / "README.pt-BR.md")
READMES = (ENGLISH, PORTUGUESE)
CONTRIBUTING = _read(PROJECT_ROOT / "CONTRIBUTING.md")
