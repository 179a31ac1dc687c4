"""Brings a Metabase to what `content.py` declares; what is as declared is left alone, and so is all that is not ours.

What is ours bears a mark at the end of its description: its name here, and a fingerprint of what was last written. So a
question is known again when people rename or move it, their changes stay until ours differ, and what they archived is
not made again. The dashboard keeps the cards that people added.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from deploy.metabase.api import Metabase, MetabaseError
from deploy.metabase.content import (
    COLLECTION,
    DASHBOARD,
    DASHBOARD_WORDS,
    MODELS,
    QUESTIONS,
    Model,
    Question,
    descriptions,
    places,
)

DATABASE = "Pipeboard"
_ENGINE = "postgres"
_SCHEMAS = "bi,pipedrive"

_LOOKS = 60
_SECONDS_BETWEEN_LOOKS = 2.0

_MARK = re.compile(r"\[pipeboard:(\w+):([0-9a-f]{12})\]\s*$")

Json = dict[str, Any]


class Status(StrEnum):
    """What became of one thing. `archived`: somebody threw it away, and it stays away."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the report."""

    kind: str
    title: str
    status: Status


def install(
    metabase: Metabase,
    database_url: str,
    *,
    sleep: Callable[[float], None],
    new_password: bool = False,
    questions: Sequence[Question] = QUESTIONS,
) -> Iterator[Step]:
    """Each thing as it is done. `database_url`: the reading role's, as Metabase reaches the server.

    `new_password` writes the connection again: Metabase tells nobody its passwords. Raises MetabaseError, and ValueError
    for a URL that is none.
    """
    details = connection_details(database_url)
    if not metabase.get("/api/user/current").get("is_superuser"):
        raise MetabaseError(
            "METABASE_API_KEY is no administrator's: make one for the group Administrators under Admin settings > "
            "Authentication > API keys."
        )
    number, step = _database(metabase, details, new_password=new_password)
    yield step
    tables = _tables(metabase, number, sleep)
    yield _described(metabase, tables)
    collection, step = _collection(metabase)
    yield step
    cards = _Cards(metabase, collection)
    for model in MODELS:
        yield cards.put(model.name, "model", _model_card(model, number, tables[model.table]["id"]))
    for question in questions:
        yield cards.put(question.name, "question", _question_card(question, number))
    yield _dashboard(metabase, collection, questions, cards.numbers)


def connection_details(url: str) -> Json:
    """What Metabase wants to know of a PostgreSQL. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not (parts.hostname and parts.username and parts.path[1:]):
        raise ValueError("the database must be given as postgresql://reader:password@host:5432/name")
    mode = parse_qs(parts.query).get("sslmode", ["disable"])[0]
    return {
        "host": parts.hostname,
        "port": parts.port or 5432,
        "dbname": unquote(parts.path[1:]),
        "user": unquote(parts.username),
        "password": unquote(parts.password or ""),
        "ssl": mode != "disable",
        **({"ssl-mode": mode} if mode != "disable" else {}),
        "schema-filters-type": "inclusion",
        "schema-filters-patterns": _SCHEMAS,
    }


def _database(metabase: Metabase, details: Json, *, new_password: bool) -> tuple[int, Step]:
    found = metabase.get("/api/database")
    for each in found["data"] if isinstance(found, dict) else found:
        if each["name"] == DATABASE and each["engine"] == _ENGINE:
            return int(each["id"]), _connected(metabase, each["id"], details, new_password=new_password)
    made = metabase.post("/api/database", {"name": DATABASE, "engine": _ENGINE, "details": details})
    return int(made["id"]), Step("database", DATABASE, Status.CREATED)


def _connected(metabase: Metabase, number: int, details: Json, *, new_password: bool) -> Step:
    stored = metabase.get(f"/api/database/{number}").get("details", {})
    differs = any(stored.get(key) != value for key, value in details.items() if key != "password")
    if differs or new_password:
        metabase.put(f"/api/database/{number}", {"details": stored | details})
    return Step("database", DATABASE, Status.UPDATED if differs or new_password else Status.UNCHANGED)


def _tables(metabase: Metabase, number: int, sleep: Callable[[float], None]) -> Mapping[str, Json]:
    """Tables and views as Metabase knows them, by "schema.name"; waits until it has looked at those that models need."""
    wanted = {model.table: descriptions()[model.table].keys() for model in MODELS}
    for look in range(_LOOKS):
        tables = _known_tables(metabase, number)
        lacking = [name for name, columns in wanted.items() if not columns <= _fields(tables.get(name, {})).keys()]
        if not lacking:
            return tables
        if look == 0:
            metabase.post(f"/api/database/{number}/sync_schema")
        sleep(_SECONDS_BETWEEN_LOOKS)
    raise MetabaseError(
        f"Metabase does not see {', '.join(lacking)} as declared after {_LOOKS * _SECONDS_BETWEEN_LOOKS:.0f} s. Run "
        "`pipeboard sync`, then deploy/roles.sql, then this again."
    )


def _known_tables(metabase: Metabase, number: int) -> dict[str, Json]:
    tables = metabase.get(f"/api/database/{number}/metadata")["tables"]
    return {f"{table['schema']}.{table['name']}": table for table in tables}


def _fields(table: Json) -> dict[str, Json]:
    return {field["name"]: field for field in table.get("fields", ())}


def _described(metabase: Metabase, tables: Mapping[str, Json]) -> Step:
    """Metabase reads the comments of columns once and then never again: what changed since is told here."""
    written = 0
    for table, columns in descriptions().items():
        fields = _fields(tables.get(table, {}))
        for column, words in columns.items():
            if column in fields and fields[column].get("description") != words:
                metabase.put(f"/api/field/{fields[column]['id']}", {"description": words})
                written += 1
    return Step("descriptions", f"{written} columns", Status.UPDATED if written else Status.UNCHANGED)


def _collection(metabase: Metabase) -> tuple[int, Step]:
    for each in metabase.get("/api/collection"):
        if each["name"] == COLLECTION and not each.get("archived") and isinstance(each["id"], int):
            return each["id"], Step("collection", COLLECTION, Status.UNCHANGED)
    made = metabase.post(
        "/api/collection", {"name": COLLECTION, "description": "What Pipeboard made, and what you add."}
    )
    return int(made["id"]), Step("collection", COLLECTION, Status.CREATED)


class _Cards:
    """Metabase's word for questions and models. `numbers`: the ids of ours by name, without what was archived."""

    def __init__(self, metabase: Metabase, collection: int) -> None:
        self._metabase = metabase
        self._collection = collection
        self._living = _marked(metabase.get("/api/card", f="all"))
        self._archived = _marked(metabase.get("/api/card", f="archived"))
        self.numbers: dict[str, int] = {}

    def put(self, name: str, kind: str, card: Json) -> Step:
        """Creates the card, or updates it where ours is another than the one last written."""
        marked, fingerprint = _with_mark(name, card)
        if name in self._living:
            number, last = self._living[name]
            self.numbers[name] = number
            if last == fingerprint:
                return Step(kind, card["name"], Status.UNCHANGED)
            self._metabase.put(f"/api/card/{number}", marked)
            return Step(kind, card["name"], Status.UPDATED)
        if name in self._archived:
            return Step(kind, card["name"], Status.ARCHIVED)
        made = self._metabase.post("/api/card", marked | {"collection_id": self._collection})
        self.numbers[name] = int(made["id"])
        return Step(kind, card["name"], Status.CREATED)


def _question_card(question: Question, database: int) -> Json:
    return {
        "name": question.title,
        "description": question.description,
        "type": "question",
        "display": question.display,
        "dataset_query": {"database": database, "type": "native", "native": {"query": question.sql}},
        "visualization_settings": dict(question.settings),
    }


def _model_card(model: Model, database: int, table: int) -> Json:
    """A query of a whole table: its columns bring their descriptions along."""
    return {
        "name": model.title,
        "description": model.description,
        "type": "model",
        "display": "table",
        "dataset_query": {"database": database, "type": "query", "query": {"source-table": table}},
        "visualization_settings": {},
    }


def _dashboard(metabase: Metabase, collection: int, questions: Sequence[Question], numbers: Mapping[str, int]) -> Step:
    shown = [
        {
            "card_id": numbers[question.name],
            "col": column,
            "row": row,
            "size_x": question.width,
            "size_y": question.height,
        }
        for question, column, row in places(questions)
        if question.name in numbers
    ]
    board, fingerprint = _with_mark(
        "dashboard", {"name": DASHBOARD, "description": DASHBOARD_WORDS, "dashcards": shown}
    )
    ours = _marked(metabase.get(f"/api/collection/{collection}/items", models="dashboard")["data"]).get("dashboard")
    if ours is None:
        # Marked at once: whoever dies before the cards are on it finds it again.
        empty = {"name": DASHBOARD, "description": _mark("dashboard", "0" * 12), "collection_id": collection}
        made = metabase.post("/api/dashboard", empty)
        number = int(made["id"])
    elif ours[1] == fingerprint:
        return Step("dashboard", DASHBOARD, Status.UNCHANGED)
    else:
        number = ours[0]
    there = metabase.get(f"/api/dashboard/{number}")
    metabase.put(
        f"/api/dashboard/{number}",
        {
            "tabs": there.get("tabs", []),
            **board,
            "dashcards": _placed(shown, there["dashcards"], set(numbers.values())),
        },
    )
    return Step("dashboard", DASHBOARD, Status.CREATED if ours is None else Status.UPDATED)


def _placed(shown: Sequence[Json], there: Sequence[Json], ours: set[int]) -> list[Json]:
    """The whole list, as Metabase wants it: ours where they belong, under the ids that they have; the others as they are.

    What is left out of the list goes. A new one is told by a negative id.
    """
    known = {each["card_id"]: each for each in there if each.get("card_id") in ours}
    kept = [each for each in there if each.get("card_id") not in ours]
    placed = [known.get(each["card_id"], {"id": -number}) | each for number, each in enumerate(shown, start=1)]
    return [*placed, *kept]


def _with_mark(name: str, thing: Json) -> tuple[Json, str]:
    """What is declared, with the mark in its description; and the fingerprint."""
    fingerprint = sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()[:12]
    return thing | {"description": f"{thing['description']}\n\n{_mark(name, fingerprint)}"}, fingerprint


def _mark(name: str, fingerprint: str) -> str:
    return f"[pipeboard:{name}:{fingerprint}]"


def _marked(things: Sequence[Json]) -> dict[str, tuple[int, str]]:
    """Id and fingerprint of those that bear a mark, by name; of copies that people made, the oldest is ours."""
    found: dict[str, tuple[int, str]] = {}
    for thing in sorted(things, key=lambda each: -int(each["id"])):
        if mark := _MARK.search(thing.get("description") or ""):
            found[mark[1]] = (int(thing["id"]), mark[2])
    return found
