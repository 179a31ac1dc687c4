"""The log: what is being done stands on every line, and a machine can read it."""

import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Thread

import dagster as dg
import pytest
from dagster._utils.log import configure_loggers

from pipeboard_assets.logs import PACKAGES, configure_logs, doing
from pipeboard_assets.sync.entity_sync import Mode

LOGGER = logging.getLogger("pipeboard_resources.example")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    loggers = [logging.getLogger(), *map(logging.getLogger, (*PACKAGES, "dagster", "dagit", "dagster-webserver"))]
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    yield
    doing()
    configure_logs("text")
    for logger, handlers, level in before:
        logger.handlers = handlers
        logger.setLevel(level)


def test_a_line_for_machines_is_an_object_with_run_asset_and_window(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    doing(run_id="r1", asset="deals", mode=Mode.BACKFILL, lower=datetime(2026, 1, 1, tzinfo=UTC), upper=None)
    thread = Thread(target=LOGGER.info, args=["read %d of %s", 3, 'a "list"'])  # lists are read by threads
    thread.start()
    thread.join()
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": 'read 3 of a "list"',
        "level": "info",
        "logger": "pipeboard_resources.example",
        "run_id": "r1",
        "asset": "deals",
        "mode": "backfill",
        "lower": "2026-01-01 00:00:00+00:00",
    }


def test_an_exception_stays_on_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        LOGGER.exception("It failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "two\nlines" in json.loads(line)["exception"]


def test_text_shows_warnings_only_and_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    configure_logs("text")
    doing(asset="deals")
    LOGGER.info("not shown")
    LOGGER.warning("Redis is not usable")
    (line,) = capsys.readouterr().err.splitlines()
    assert "Redis is not usable" in line and "asset=deals" in line


def test_what_libraries_warn_of_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    logging.getLogger("dagster.example").warning("Retrying")
    assert json.loads(capsys.readouterr().err)["event"] == "Retrying"


def test_lines_of_one_asset_say_nothing_of_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    doing(asset="deals", mode="full")
    doing(asset="main_bi")
    LOGGER.info("on")
    line = json.loads(capsys.readouterr().err)
    assert line["asset"] == "main_bi" and "mode" not in line


def test_what_dagster_says_of_a_run_is_json_with_its_error_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")

    @dg.asset
    def broken(context: dg.AssetExecutionContext) -> None:
        context.log.info("forecast: %d requests", 3)
        warnings.warn("an old way", UserWarning, stacklevel=1)
        raise ValueError("two\nlines")

    with pytest.raises(ValueError), warnings.catch_warnings():
        warnings.simplefilter("always")
        dg.materialize([broken])
    said = [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    for part in ("RUN_START", "forecast: 3 requests", "an old way", "two\nlines", "RUN_FAILURE"):
        assert any(part in event for event in said), part


def test_a_process_of_dagster_that_loads_our_code_writes_json_from_then_on(capfd: pytest.CaptureFixture[str]) -> None:
    """`dagster api grpc` sets its own handlers up before it loads the code location."""
    configure_loggers()
    configure_logs("json")
    logging.getLogger("dagster.code_server").info("Started")
    (line,) = "".join(capfd.readouterr()).splitlines()
    assert json.loads(line)["event"] == "Started"
