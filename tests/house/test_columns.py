"""What the README says of tables, columns and SQL holds in a database that was made by the real loader."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from pipeboard_assets.bi.main_bi import main_bi_load
from pipeboard_assets.bi.versions import as_of, versions_of
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.records.custom_fields import CustomFields, shape_of
from pipeboard_assets.records.frames import Framer
from pipeboard_io import Load, Warehouse
from tests.house.documents import READMES, Document, spans_in

EVERY_ENTITY = ("id", "synced_at", "deleted_at", "extra")

# Field types of the API, row by row of the table of custom fields; the last row is any type that we do not know.
FIELD_TYPES = (
    ("varchar", "text", "varchar_auto", "phone"),
    ("double", "int"),
    ("monetary",),
    ("date", "daterange"),
    ("time", "timerange"),
    ("enum",),
    ("set",),
    ("user", "org", "people", "deal"),
    ("address",),
    ("a type of next year",),
)


@pytest.fixture(scope="module")
def warehouse(database_url: str) -> Warehouse:
    """Every table, empty."""
    made = Warehouse(database_url)
    for entity in CATALOG:
        framer = Framer(entity, CustomFields(), now=datetime(2026, 11, 20, tzinfo=UTC))
        made.load(Load(table=framer.table, frames=[]))
    made.load(main_bi_load(made))
    made.fit(versions_of("deals").table)
    made.define_function(as_of("deals"))
    return made


@pytest.fixture(scope="module")
def columns(warehouse: Warehouse) -> dict[str, set[str]]:
    """Entity -> the columns of its table."""
    found: dict[str, set[str]] = {}
    query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'pipedrive'"
    for row in warehouse.query(query):
        found.setdefault(row["table_name"], set()).add(row["column_name"])
    return {entity.name: found[entity.name] for entity in CATALOG}


def queries() -> Iterator[str]:
    """Every SELECT of the READMEs; both languages have the same ones."""
    for document in READMES:
        yield from document.blocks("sql")
        yield from (span for span in document.spans if span.startswith("SELECT "))


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_every_query_of_the_readme_runs(warehouse: Warehouse, query: str) -> None:
    assert warehouse.query(query) == []


def test_every_entity_has_the_columns_that_the_readme_promises(columns: dict[str, set[str]]) -> None:
    assert set(columns) == {entity.name for entity in CATALOG}
    assert [name for name, present in columns.items() if not present.issuperset(EVERY_ENTITY)] == []


def test_contacts_and_addresses_have_the_columns_that_the_readme_promises(columns: dict[str, set[str]]) -> None:
    assert columns["persons"] >= {"emails", "phones", "email", "phone"}
    assert columns["organizations"] >= {"address", "address_locality", "address_country"}


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_readme_names_the_columns_promised(document: Document) -> None:
    promised = {"id bigint", *EVERY_ENTITY[1:], "email", "phone", "address_locality", "address_country"}
    assert promised <= set(document.spans)


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_columns_of_each_type_of_custom_field_are_the_ones_made(document: Document) -> None:
    table = next(table for table in document.tables if "_currency" in "".join(row[1] for row in table))
    assert len(table) == len(FIELD_TYPES)
    for row, types in zip(table, FIELD_TYPES, strict=True):
        made = [column for name in types for column in shape_of(name, {}).columns]
        suffixes = {suffix for suffix, _ in made if suffix}
        main = {kind.value for suffix, kind in made if not suffix}
        assert types == ("address",) or set(spans_in(row[1])) == suffixes, row
        assert all(kind in row[1] for kind in main), row
