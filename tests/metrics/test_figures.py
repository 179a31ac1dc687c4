"""What is scraped equals the truth: what the stand-in was asked for, and what the tables hold."""

import time
from collections.abc import Callable

import psycopg
import pytest
from pydantic import SecretStr

from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.ledger import Ledger
from pipeboard_assets.outcome import Status
from pipeboard_io import Warehouse
from tests.graph.conftest import Account
from tests.metrics.conftest import Scrape

Scraper = Callable[[], Scrape]


def test_figures_equal_the_truth_and_add_up_over_syncs(watched: Account, scrape: Scraper) -> None:
    outcomes = watched.sync()
    first, log = scrape(), list(watched.server.requests)
    assert {name: each.error for name, each in outcomes.items() if each.error} == {}
    assert first.total("pipeboard_api_requests_total", status="2xx") == len(log)
    assert first.total("pipeboard_api_pages_total") == len(log)
    assert first.total("pipeboard_api_tokens_total") == watched.server.tokens_spent
    assert first.total("pipeboard_api_tokens_left") == watched.server.standin.limits.left(watched.company.plan)
    for asset, outcome in outcomes.items():
        assert first.total("pipeboard_rows_total", asset=asset, outcome="inserted") == outcome.inserted
        assert first.total("pipeboard_table_rows", asset=asset) == outcome.rows
        assert first.total("pipeboard_loads_total", asset=asset, status="success") == 1
        assert first.total("pipeboard_freshness", asset=asset, state="pass") == 1

    watched.sync(assets=("users", "deals"))
    second = scrape()
    counted = [name for each in series.LEDGER if each.kind != "gauge" for name in each.sample_names]
    assert [name for name in counted if second.total(name) < first.total(name)] == []
    assert second.total("pipeboard_loads_total") == first.total("pipeboard_loads_total") + 2
    assert second.total("pipeboard_api_tokens_total") == watched.server.tokens_spent

    fresh = Ledger(watched.warehouse, lambda _: "pass").read()  # another process, which knows the database only
    again = Scrape(tuple(sample for metric in fresh.metrics(series.LEDGER) for sample in metric.samples))
    assert {name: again.total(name) for name in counted} == {name: second.total(name) for name in counted}


def test_a_failure_before_the_first_page_is_a_failed_load_with_its_requests(watched: Account, scrape: Scraper) -> None:
    watched.server.faults.add("status_403", "/api/v2/dealFields", times=None)
    assert watched.sync(assets=("deals",), full=True)["deals"].status is Status.FAILED
    found = scrape()
    assert found.total("pipeboard_loads_total", asset="deals", status="failed") == 1
    assert found.total("pipeboard_api_requests_total", endpoint="deal_fields", status="4xx") == 1


def test_a_spent_day_is_a_stopped_load_and_a_daily_refusal(watched: Account, scrape: Scraper) -> None:
    watched.server.faults.add("daily_429", "/api/v2/persons", times=None)
    assert watched.sync(assets=("persons",), full=True)["persons"].status is Status.STOPPED
    found = scrape()
    assert found.total("pipeboard_loads_total", asset="persons", status="stopped") == 1
    assert found.total("pipeboard_api_refusals_total", kind="daily") == 1
    assert found.total("pipeboard_api_tokens_left") == 0


def test_every_counter_stands_at_0_before_the_first_sync(scrape: Scraper) -> None:
    """Prometheus sees no increase in a series that appears with its first event."""
    found = scrape()
    for declared in series.LEDGER:
        if declared.kind == "counter":
            assert declared.name in found.names() and found.total(declared.name) == 0


@pytest.fixture
def long_ledger(fresh_database: str) -> Warehouse:
    """A hundred thousand loads, one of a hundred in the last two hours, each with the facts of a load of ten endpoints."""
    warehouse = Warehouse(fresh_database)
    warehouse.migrate()
    with psycopg.connect(fresh_database) as connection:
        connection.execute(
            """
            INSERT INTO pipeboard.load (load_id, entity, table_name, mode, status, started_at, finished_at, rows, inserted,
                                        seconds, facts)
            SELECT i, (ARRAY['users', 'deals', 'persons', 'main_bi'])[1 + i % 4], 'pipedrive.deals', 'incremental',
                   'success', now(), now() - (100000 - i) * interval '7 seconds', 10, 1,
                   '{"total": 2.5, "fetch": 1.5, "stage": 0.5, "publish": 0.5}',
                   '{"counters": {"[\\"pipeboard_api_tokens_total\\", \\"deals\\"]": 10}, "gauges": {}}'
            FROM generate_series(1, 100000) AS i
            """
        )
        connection.execute("ANALYZE pipeboard.load")
    return warehouse


def test_a_ledger_of_100_000_loads_is_read_in_less_than_300_milliseconds(long_ledger: Warehouse) -> None:
    ledger = Ledger(long_ledger, lambda _: "pass")
    ledger.read()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        figures = ledger.read()
        seconds.append(time.perf_counter() - started)
    found = Scrape(tuple(sample for metric in figures.metrics(series.LEDGER) for sample in metric.samples))
    assert found.total("pipeboard_loads_total") == 100_000
    assert found.total("pipeboard_api_tokens_total") == 1_000_000
    assert found.total("pipeboard_load_duration_seconds_bucket", le="5") == 100_000
    assert min(seconds) < 0.3, seconds


def test_while_postgresql_is_away_the_exporter_says_so_and_shows_no_counter(watched: Account) -> None:
    """A counter at 0 would look like one that began anew."""
    import dagster as dg

    from pipeboard_assets.monitoring import build_registry

    away = Warehouse("postgresql://u:p@127.0.0.1:1/x")
    settings = watched.settings.model_copy(update={"database_url": SecretStr("postgresql://u:p@127.0.0.1:1/x")})
    with dg.instance_for_test() as instance:
        found = Scrape.of(build_registry(settings, away, instance))
    assert found.total("pipeboard_database_up") == 0 and "pipeboard_database_up" in found.names()
    assert found.total("pipeboard_dagster_up") == 1
    assert [each.name for each in series.LEDGER if each.name in found.names()] == []
