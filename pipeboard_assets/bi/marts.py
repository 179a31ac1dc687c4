"""The marts: views for dashboards, each one file in `marts/` that says what it is, what it reads and what its columns mean.

A file begins with comment lines: a description, then `schema:` (if not bi), `reads:`, `key:` (if the mart is stored, see
`stored_marts.py`) and one line for every column. In the SQL, `:timezone` is the company's. No Dagster here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from pipeboard_io import View, ViewColumn
from pipeboard_io.schema import quote

# In the order in which they are made: a view comes after those that it reads.
NAMES = (
    "deal_stage_history",
    "funnel",
    "velocity",
    "closed_deals",
    "activity_by_user",
    "forecast",
    "stalled_deals",
    "data_quality",
)

_ENTRY = re.compile(r"-- (\w+): (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mart:
    """`reads`: tables and views as schema.name; `columns`: name -> meaning, in order.

    `key`: the columns that tell its rows apart, for a mart that is stored; none: the view computes it whenever it is read.
    """

    schema: str
    name: str
    description: str
    reads: tuple[str, ...]
    columns: Mapping[str, str]
    key: tuple[str, ...]
    sql: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def store(self) -> str:
        """The table behind the view, if the mart is stored. Readers see the view only."""
        return f"pipeboard.mart_{self.name}"

    def select(self, timezone: str) -> str:
        """What computes it."""
        return self.sql.replace(":timezone", "'" + timezone.replace("'", "''") + "'")

    def view(self, timezone: str) -> View:
        """The view to define."""
        source = self.store if self.key else f"(\n{self.select(timezone)}\n)"
        return View(
            schema=self.schema,
            name=self.name,
            columns=tuple(ViewColumn(name, f"q.{quote(name)}", words) for name, words in self.columns.items()),
            body=f"FROM {source} AS q",
            comment=self.description,
        )


def parse_mart(name: str, text: str) -> Mart:
    """A mart from the text of its file; raises ValueError where the head is incomplete."""
    lines = text.splitlines()
    head = [line for line in lines if line.startswith("--")]
    entries = {found[1]: found[2] for line in head if (found := _ENTRY.fullmatch(line))}
    description = " ".join(line.removeprefix("-- ") for line in head if not _ENTRY.fullmatch(line))
    schema, reads, key = (
        entries.pop(name, default) for name, default in (("schema", "bi"), ("reads", ""), ("key", ""))
    )
    if not (description and reads and entries):
        raise ValueError(f"the mart {name} lacks a description, `reads:` or columns at the head of its file")
    return Mart(
        schema=schema,
        name=name,
        description=description,
        reads=tuple(reads.split(", ")),
        columns=entries,
        key=tuple(key.split(", ")) if key else (),
        sql="\n".join(lines[len(head) :]).strip(),
    )


def _read(name: str) -> Mart:
    return parse_mart(name, files("pipeboard_assets.bi").joinpath("marts", f"{name}.sql").read_text(encoding="utf-8"))


MARTS = tuple(map(_read, NAMES))
