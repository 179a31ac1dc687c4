"""Every entity is served by the stand-in, and the recipe of CONTRIBUTING.md for a new one works as written."""

import runpy
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.entity import Entity
from pipeboard_assets.records.frames import base_attributes
from pipeboard_assets.sync.entity_sync import FULL, EntitySync, Policy
from pipeboard_io import LoadReport, Warehouse
from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
from pipeboard_resources.pipedrive.endpoint import Endpoint
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.pipedrive.standin.endpoints import find_route
from tests.house.documents import CONTRIBUTING


def endpoints() -> Iterator[Endpoint]:
    for entity in CATALOG:
        yield from entity.lists
        if entity.fields is not None:
            yield entity.fields


@pytest.mark.parametrize("endpoint", tuple(endpoints()), ids=lambda endpoint: endpoint.name)
def test_the_standin_serves_every_list_at_the_price_we_reckon_with(endpoint: Endpoint) -> None:
    route = find_route(endpoint.path)
    assert route is not None, f"give the stand-in a route for {endpoint.path} (standin/endpoints.py)"
    assert route.tokens == endpoint.tokens


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Entity:
    """The entity that CONTRIBUTING.md declares."""
    (source,) = CONTRIBUTING.blocks("python")
    module = tmp_path_factory.mktemp("recipe") / "currency.py"
    module.write_text(source, encoding="utf-8")
    (entity,) = (value for value in runpy.run_path(str(module)).values() if isinstance(value, Entity))
    return entity


@pytest.fixture(scope="module")
def client(standin: Server) -> Iterator[PipedriveClient]:
    with PipedriveClient(SecretStr(standin.api_key), ClientOptions(base_url=standin.url)) as client:
        yield client


@pytest.fixture(scope="module")
def warehouse(database_url: str) -> Warehouse:
    made = Warehouse(database_url)
    made.migrate()
    return made


def sync(entity: Entity, client: PipedriveClient, warehouse: Warehouse) -> LoadReport:
    """The entity's path as its asset goes it, from the list to the table."""
    path = EntitySync(entity=entity, window=FULL, client=client, warehouse=warehouse, policy=Policy())
    return warehouse.load(path.load())


def test_the_recipe_adds_an_entity_that_is_not_there_yet(recipe: Entity) -> None:
    assert recipe.name not in {entity.name for entity in CATALOG}, "choose another example for CONTRIBUTING.md"


def test_the_recipe_fills_a_table_once(recipe: Entity, client: PipedriveClient, warehouse: Warehouse) -> None:
    first, second = sync(recipe, client, warehouse), sync(recipe, client, warehouse)
    assert (first.inserted, first.rejected, second.is_unchanged) == (3, 0, True)


def test_the_recipe_declares_every_key_that_is_sent(
    recipe: Entity, client: PipedriveClient, warehouse: Warehouse
) -> None:
    sync(recipe, client, warehouse)
    rows = warehouse.query("SELECT code, extra FROM pipedrive.currencies ORDER BY id")
    assert [(row["code"], row["extra"]) for row in rows] == [("BRL", None), ("USD", None), ("EUR", None)]


def test_every_column_says_what_it_means() -> None:
    columns = {
        f"{entity.name}.{column.name}": column.comment
        for entity in CATALOG
        for each in base_attributes(entity)
        for column in each.columns
    }
    assert [name for name, words in columns.items() if not words] == []
