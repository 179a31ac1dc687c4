"""The picture of the graph and the lists of tables and columns are those of the catalogue."""

import inspect
import re
from itertools import product

import pytest

from pipeboard_assets import instance_storage
from pipeboard_assets.bi.main_bi import MAIN_BI, UPSTREAM
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.catalog import CATALOG
from pipeboard_io import Warehouse
from tests.house.documents import ENGLISH, READMES, Document, spans_in

ENTITIES = {entity.name for entity in CATALOG}


def drawn_edges(document: Document) -> list[tuple[str, str]]:
    """Arrows of the picture; `a & b --> c & d` draws all four."""
    (picture,) = document.blocks("mermaid")
    arrows = re.findall(r"^ *([\w &]+) --> ([\w &]+)$", picture, re.MULTILINE)
    assert len(arrows) == len(picture.strip().splitlines()) - 1, "a line that this test cannot read"
    return [edge for sources, targets in arrows for edge in product(sources.split(" & "), targets.split(" & "))]


def declared_edges() -> set[tuple[str, str]]:
    to_entities = {(name, entity.name) for entity in CATALOG for name in entity.upstream}
    return to_entities | {(name, MAIN_BI.name) for name in UPSTREAM}


def schema_row(document: Document, schema: str) -> list[str]:
    row = next(row for row in document.table_with(f"`{schema}`") if row[0] == f"`{schema}`")
    return spans_in(row[1])


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_picture_has_every_dependency_once_and_no_other(document: Document) -> None:
    edges = drawn_edges(document)
    assert sorted(edges) == sorted(declared_edges())


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_tables_named_are_those_of_the_catalogue(document: Document) -> None:
    assert sorted(schema_row(document, "pipedrive")) == sorted(ENTITIES)


@pytest.mark.parametrize("document", READMES, ids=str)
def test_every_schema_that_is_made_is_named(document: Document) -> None:
    own = inspect.signature(Warehouse).parameters["state_schema"].default
    named = [span for row in document.table_with("`pipedrive`") for span in spans_in(row[0])]
    assert named == ["pipedrive", MAIN_BI.schema, own, instance_storage.SCHEMA]


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_mart_is_named_in_its_schema(document: Document) -> None:
    assert schema_row(document, MAIN_BI.schema) == [MAIN_BI.name]


@pytest.mark.parametrize("document", READMES, ids=str)
def test_every_column_of_the_mart_is_listed_once(document: Document) -> None:
    listing = document.text.split("`bi.main_bi` ")[1].split("```")[0]
    columns = spans_in(re.sub(r"\([^)]*\)", "", listing).replace("\n", " "))
    assert sorted(columns) == sorted(column.name for column in MAIN_BI.columns)


def test_our_columns_of_the_mart_are_described_in_their_own_words() -> None:
    wanted = [(f"`{column.name}`", column.comment) for column in MAIN_BI.columns[25:]]
    assert ENGLISH.table_with("`weighted_value`") == wanted


def test_the_25_columns_of_earlier_dashboards_come_first() -> None:
    names = [column.name for column in MAIN_BI.columns]
    assert (names[0], names[24], len({*names})) == ("deal_id", "value_per_day", len(names))


def test_every_view_for_dashboards_is_listed_with_what_it_tells() -> None:
    wanted = [(f"`{mart}`", mart.description) for mart in MARTS]
    assert ENGLISH.table_with("`bi.funnel`") == wanted
