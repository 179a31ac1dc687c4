"""What Pipeboard puts into Metabase: questions, models, descriptions of columns. Declarations; nothing is asked here.

A question is a file in `questions/`: comment lines with its title, then its description, then `key: value` entries
(`display`, `size` on the dashboard's grid of 24 columns, and what is drawn), then one SELECT.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeboard_assets.bi.calendar import CALENDAR
from pipeboard_assets.bi.deal_history import DEAL_CHANGE
from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.records.frames import base_attributes

COLLECTION = "Pipeboard"
DASHBOARD = "Sales"
DASHBOARD_WORDS = "Open deals, what was won and lost, the funnel, the forecast, and what is missing."
GRID_COLUMNS = 24

# In the order in which the dashboard shows them.
NAMES = (
    "open_deals",
    "won_lately",
    "win_rate",
    "past_close_date",
    "open_value_by_stage",
    "forecast",
    "funnel",
    "won_and_lost_by_month",
    "won_value_by_owner",
    "lost_reasons",
    "activities_by_user",
    "days_in_stage",
    "stalled_deals",
    "data_quality",
)

_ENTRY = re.compile(r"-- (\w+): (.*)")


@dataclass(frozen=True, slots=True)
class Question:
    """`width` and `height` are in cells of the dashboard's grid; `settings` are Metabase's visualization settings."""

    name: str
    title: str
    description: str
    display: str
    width: int
    height: int
    settings: Mapping[str, Any]
    sql: str


@dataclass(frozen=True, slots=True)
class Model:
    """A table or view, "schema.name", that people start questions of their own from."""

    name: str
    title: str
    description: str
    table: str


def parse_question(name: str, text: str) -> Question:
    """A question from the text of its file; raises ValueError where the head is incomplete."""
    lines = text.splitlines()
    head = [line for line in lines if line.startswith("--")]
    entries = {found[1]: found[2] for line in head if (found := _ENTRY.fullmatch(line))}
    title, *words = [line.removeprefix("-- ") for line in head if not _ENTRY.fullmatch(line)] or [""]
    size = re.fullmatch(r"(\d+) x (\d+)", entries.get("size", ""))
    if not (title and words and "display" in entries and size):
        raise ValueError(f"the question {name} lacks a title, a description, `display:` or `size:` at its head")
    return Question(
        name=name,
        title=title,
        description=" ".join(words),
        display=entries["display"],
        width=int(size[1]),
        height=int(size[2]),
        settings=_settings(entries),
        sql="\n".join(lines[len(head) :]).strip(),
    )


def _settings(entries: Mapping[str, str]) -> dict[str, Any]:
    dimensions, metrics = (entries[key].split(", ") if key in entries else [] for key in ("dimensions", "metrics"))
    settings: dict[str, Any] = {}
    if entries["display"] == "funnel":
        settings |= {"funnel.dimension": dimensions[0], "funnel.metric": metrics[0]}
    elif dimensions:
        settings |= {"graph.dimensions": dimensions, "graph.metrics": metrics}
    if "stacked" in entries:
        settings["stackable.stack_type"] = "stacked"
    if "percent" in entries:
        settings["column_settings"] = {f'["name","{entries["percent"]}"]': {"number_style": "percent"}}
    return settings


QUESTIONS = tuple(
    parse_question(name, (Path(__file__).parent / "questions" / f"{name}.sql").read_text(encoding="utf-8"))
    for name in NAMES
)

MODELS = (
    Model("deals_for_reports", "Deals for reports", str(MAIN_BI.comment), str(MAIN_BI)),
    *(
        Model(f"all_{entity.name}", f"All {entity.name}", f"{entity.description} Living ones.", f"bi.{entity.name}")
        for entity in CATALOG
        if entity.is_incremental
    ),
)


def descriptions() -> dict[str, dict[str, str]]:
    """What each column means, by table ("schema.name") and column. Custom fields are described in the database."""
    tables = {str(table): table.columns for table in (MAIN_BI, CALENDAR, DEAL_CHANGE.table)}
    views = {
        f"bi.{entity.name}": [column for each in base_attributes(entity) for column in each.columns]
        for entity in CATALOG
    }
    described = {
        name: {column.name: column.comment for column in columns if column.comment}
        for name, columns in (tables | views).items()
    }
    return described | {str(mart): dict(mart.columns) for mart in MARTS}


def places(questions: Iterable[Question]) -> Iterator[tuple[Question, int, int]]:
    """Each question with the column and row of its upper left corner: from left to right, then the next row."""
    column = row = height = 0
    for question in questions:
        if column + question.width > GRID_COLUMNS:
            column, row, height = 0, row + height, 0
        yield question, column, row
        column, height = column + question.width, max(height, question.height)
