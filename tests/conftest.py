"""Fixture plugins: real servers and the stand-in, one of each per worker, one database per module."""

from pathlib import Path

import pytest

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.standin",
    "tests.fixtures.receivers",
    "tests.fixtures.metabase",
    "tests.fixtures.fault_table",
    "tests.fixtures.next_release",
]

UI = Path(__file__).parent / "ui"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", help="a folder of the checkout for pictures of Dagster's UI (default: none taken)"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests in a browser take minutes, so they run where they are asked for: `make test-ui`."""
    is_asked = any("tests/ui" in argument for argument in config.invocation_params.args)
    return True if collection_path == UI and not is_asked else None
