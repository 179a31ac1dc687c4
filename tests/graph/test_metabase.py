"""What Pipeboard puts into Metabase: questions that a reader's role answers, and an installation that can be repeated.

Metabase itself is not run here; tests/fixtures/metabase.py refuses what its API documentation does not allow.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from deploy.metabase import installation
from deploy.metabase.api import Metabase, MetabaseError
from deploy.metabase.content import GRID_COLUMNS, MODELS, QUESTIONS, Question, descriptions, parse_question, places
from deploy.metabase.installation import Status, connection_details, install
from tests.fixtures.metabase import FakeMetabase
from tests.graph.conftest import Account


@pytest.fixture(scope="module")
def synced(account: Account, admin: psycopg.Connection[Any]) -> Account:
    assert {outcome.error for outcome in account.sync().values()} == {None}
    return account


@pytest.fixture(scope="module")
def reader(synced: Account, reader_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(reader_url, autocommit=True) as connection:
        yield connection


def installed(server: FakeMetabase, url: str, **options: Any) -> list[installation.Step]:
    with Metabase(server.url, server.api_key) as metabase:
        return [*install(metabase, url, sleep=lambda seconds: None, **options)]


def statuses(steps: list[installation.Step]) -> Counter[str]:
    return Counter(step.status for step in steps)


def card(server: FakeMetabase, title: str) -> dict[str, Any]:
    (found,) = [each for each in server.things["card"].values() if each["name"] == title]
    return found


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_reader_answers_every_question_with_what_it_draws(
    reader: psycopg.Connection[Any], question: Question
) -> None:
    cursor = reader.execute(question.sql.encode())
    columns = {column.name for column in cursor.description or ()}
    assert cursor.fetchall()
    settings = question.settings
    drawn = {*settings.get("graph.dimensions", ()), *settings.get("graph.metrics", ())}
    drawn |= {settings[key] for key in ("funnel.dimension", "funnel.metric") if key in settings}
    assert drawn <= columns


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_no_bar_adds_up_money_of_several_currencies(question: Question) -> None:
    """Metabase draws either one metric over two dimensions or several over one; what is money stands beside its currency."""
    dimensions, metrics = (question.settings.get(f"graph.{what}", []) for what in ("dimensions", "metrics"))
    is_money = any("value" in metric for metric in metrics)
    assert not is_money or ("currency" in dimensions and "stackable.stack_type" not in question.settings)
    assert len(dimensions) < 2 or len(metrics) == 1


def test_places_lie_side_by_side_on_the_grid() -> None:
    cells = Counter(
        (column + x, row + y)
        for question, column, row in places(QUESTIONS)
        for x in range(question.width)
        for y in range(question.height)
    )
    assert set(cells.values()) == {1} and max(column for column, _ in cells) < GRID_COLUMNS


def test_a_question_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="the question x lacks"):
        parse_question("x", "-- Title\nSELECT 1")


def test_everything_is_made_once_and_nothing_the_second_time(
    fake_metabase: FakeMetabase, synced: Account, reader_url: str
) -> None:
    first = installed(fake_metabase, reader_url)
    assert statuses(first) == {"created": len(QUESTIONS) + len(MODELS) + 3, "unchanged": 1}
    things = fake_metabase.things
    (board,) = things["dashboard"].values()
    assert [each["card_id"] for each in board["dashcards"]] == [
        card(fake_metabase, question.title)["id"] for question in QUESTIONS
    ]
    assert all("pipeboard" not in table["schema"] for table in things["table"].values())
    fake_metabase.writes.clear()
    assert set(statuses(installed(fake_metabase, reader_url))) == {"unchanged"} and fake_metabase.writes == []


def test_an_edit_of_ours_arrives_and_what_people_made_stays(
    fake_metabase: FakeMetabase, synced: Account, reader_url: str
) -> None:
    installed(fake_metabase, reader_url)
    database = {"database": 1, "type": "native", "native": {"query": "SELECT 1"}}
    theirs = {"name": "Funnel of mine", "display": "table", "dataset_query": database, "visualization_settings": {}}
    with Metabase(fake_metabase.url, fake_metabase.api_key) as people:
        added = people.post("/api/card", theirs)
        board = people.get("/api/dashboard/1")
        own = {"id": -1, "card_id": added["id"], "row": 60, "col": 0, "size_x": 24, "size_y": 4}
        people.put("/api/dashboard/1", {"dashcards": [*board["dashcards"], own]})
        people.put(f"/api/card/{card(fake_metabase, 'Open deals')['id']}", {"display": "gauge"})
        people.put(f"/api/card/{card(fake_metabase, 'Why deals are lost')['id']}", {"archived": True})
    before = {each["card_id"]: each["id"] for each in fake_metabase.things["dashboard"][1]["dashcards"]}
    ours = [replace(each, display="line") if each.name == "forecast" else each for each in QUESTIONS]

    steps = installed(fake_metabase, reader_url, questions=ours)
    assert {step.title for step in steps if step.status is Status.UPDATED} == {"Forecast by month", "Sales"}
    assert [step.title for step in steps if step.status is Status.ARCHIVED] == ["Why deals are lost"]
    assert card(fake_metabase, "Forecast by month")["display"] == "line"
    assert card(fake_metabase, "Open deals")["display"] == "gauge"
    assert card(fake_metabase, "Funnel of mine")["dataset_query"] == database
    after = {each["card_id"]: each["id"] for each in fake_metabase.things["dashboard"][1]["dashcards"]}
    gone = card(fake_metabase, "Why deals are lost")["id"]
    assert after == {number: place for number, place in before.items() if number != gone} and added["id"] in after


def test_an_installation_that_died_half_way_is_completed_by_the_next(
    fake_metabase: FakeMetabase, synced: Account, reader_url: str
) -> None:
    fake_metabase.break_at = "PUT /api/dashboard/1"
    with pytest.raises(MetabaseError, match="PUT /api/dashboard/1: Metabase answered 500: out of memory"):
        installed(fake_metabase, reader_url)
    fake_metabase.break_at = None
    assert statuses(installed(fake_metabase, reader_url))["updated"] == 1
    assert len(fake_metabase.things["dashboard"]) == 1 and len(fake_metabase.things["card"]) == len(QUESTIONS) + len(
        MODELS
    )


def test_a_description_that_metabase_read_before_it_changed_is_told_again(
    fake_metabase: FakeMetabase, synced: Account, reader_url: str
) -> None:
    installed(fake_metabase, reader_url)
    table = next(each for each in fake_metabase.things["table"].values() if each["name"] == "funnel")
    field = next(
        each
        for each in fake_metabase.things["field"].values()
        if each["table_id"] == table["id"] and each["name"] == "entered"
    )
    assert field["description"] == descriptions()["bi.funnel"]["entered"]
    field["description"] = "What it meant once."
    assert (
        next(step for step in installed(fake_metabase, reader_url) if step.status is Status.UPDATED).title
        == "1 columns"
    )
    assert field["description"] == descriptions()["bi.funnel"]["entered"]


def test_a_new_address_or_password_reaches_the_connection(
    fake_metabase: FakeMetabase, synced: Account, admin: psycopg.Connection[Any], reader_url: str
) -> None:
    installed(fake_metabase, reader_url)
    admin.execute("ALTER ROLE metabase_test PASSWORD 'y'")
    other = reader_url.replace("metabase_test:x@127.0.0.1", "metabase_test:y@localhost")
    try:
        assert installed(fake_metabase, other)[0].status is Status.UPDATED
        assert installed(fake_metabase, other)[0].status is Status.UNCHANGED
        assert installed(fake_metabase, other, new_password=True)[0].status is Status.UPDATED
        assert fake_metabase.things["database"][1]["details"]["password"] == "y"
    finally:
        admin.execute("ALTER ROLE metabase_test PASSWORD 'x'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_superuser": False}, "no administrator's"),
        ({"api_key": "another"}, "401: Unauthenticated.*group Administrators"),
        ({"break_at": "POST /api/card"}, "POST /api/card: Metabase answered 500"),
    ],
)
def test_what_metabase_refuses_is_told_with_what_to_do(
    fake_metabase: FakeMetabase, synced: Account, reader_url: str, change: dict[str, Any], message: str
) -> None:
    with Metabase(fake_metabase.url, "mb_test") as metabase:
        for name, value in change.items():
            setattr(fake_metabase, name, value)
        with pytest.raises(MetabaseError, match=message) as refused:
            list(install(metabase, reader_url, sleep=lambda seconds: None))
    assert "mb_test" not in str(refused.value)


def test_tables_that_do_not_appear_are_named(fake_metabase: FakeMetabase, reader_url: str, postgres_url: str) -> None:
    elsewhere = reader_url.rpartition("/")[0] + "/postgres"
    waited: list[float] = []
    with (
        Metabase(fake_metabase.url, "mb_test") as metabase,
        pytest.raises(MetabaseError, match="does not see bi.main_bi"),
    ):
        list(install(metabase, elsewhere, sleep=waited.append))
    assert sum(waited) == 120


def test_no_answer_and_a_url_that_is_none_are_one_sentence() -> None:
    with Metabase("http://127.0.0.1:9", "k") as metabase, pytest.raises(MetabaseError, match="no answer from"):
        metabase.get("/api/user/current")
    with pytest.raises(ValueError, match="postgresql://reader:password@host:5432/name"):
        connection_details("mysql://x")
    assert connection_details("postgresql://r:p%40ss@db/x?sslmode=require") | {"ssl": True} == {
        "host": "db", "port": 5432, "dbname": "x", "user": "r", "password": "p@ss", "ssl": True, "ssl-mode": "require",
        "schema-filters-type": "inclusion", "schema-filters-patterns": "bi,pipedrive",
    }  # fmt: skip
