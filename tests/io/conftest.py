"""A warehouse per module, and a schema of its own per test."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from pipeboard_io import Warehouse
from tests.io.observer import Observer


@pytest.fixture(scope="module")
def warehouse(database_url: str) -> Warehouse:
    warehouse = Warehouse(database_url, lock_timeout_seconds=0.5)
    warehouse.migrate()
    return warehouse


@pytest.fixture
def schema() -> str:
    """A schema name that no other test uses; the loader creates it."""
    return f"s_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def observer(database_url: str) -> Iterator[Observer]:
    """Somebody else's connection: sees what readers see."""
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as connection:
        yield Observer(connection)
