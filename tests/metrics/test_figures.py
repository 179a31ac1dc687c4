"""What is scraped equals the truth: what the stand-in was asked for, and what the tables hold."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from pipeboard_assets.commands.monitoring import build_registry, exporter
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.metrics import instance as instance_figures
from pipeboard_assets.metrics import series
from pipeboard_assets.metrics.figures import Figures
from pipeboard_assets.metrics.instance import History
from pipeboard_assets.metrics.ledger import Ledger
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_io import Warehouse
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import SettingError, Settings
from tests.fixtures.servers import temporary_database
from tests.graph.conftest import Account
from tests.metrics.conftest import Scrape, sync

Scraper = Callable[[], Scrape]


class Verdict(dg.Config):
    """How the check of a test ends."""

    passed: bool


def test_figures_equal_the_truth_and_add_up_over_syncs(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    outcomes = sync(watched, instance, assets=("users", "deals"), full=True)
    first, log = scrape(), list(watched.server.requests)
    assert {name: each.error for name, each in outcomes.items() if each.error} == {}
    assert first.total("pipeboard_api_requests_total", status="2xx") == len(log)
    assert first.total("pipeboard_api_pages_total") == len(log)
    assert first.total("pipeboard_api_tokens_total") == watched.server.tokens_spent
    assert first.total("pipeboard_api_tokens_reserved") == watched.company.plan.daily_tokens * 0.1
    assert first.total("pipeboard_api_tokens_left") == watched.server.standin.limits.left(watched.company.plan)
    for asset, outcome in outcomes.items():
        assert first.total("pipeboard_rows_total", asset=asset, outcome="inserted") == outcome.inserted
        assert first.total("pipeboard_table_rows", asset=asset) == outcome.rows
        assert first.total("pipeboard_loads_total", asset=asset, status="success") == 1
        assert first.total("pipeboard_freshness", asset=asset, state="pass") == 1

    sync(watched, instance, assets=("users", "deals"), full=True)
    second = scrape()
    counted = [name for each in series.LEDGER if each.kind != "gauge" for name in each.sample_names]
    assert [name for name in counted if second.total(name) < first.total(name)] == []
    assert second.total("pipeboard_loads_total") == first.total("pipeboard_loads_total") + 2
    assert second.total("pipeboard_api_tokens_total") == watched.server.tokens_spent

    fresh = Ledger(watched.warehouse, watched.settings).read()  # another process, which knows the database only
    again = Scrape(tuple(sample for metric in fresh.metrics(series.LEDGER) for sample in metric.samples))
    assert {name: again.total(name) for name in counted} == {name: second.total(name) for name in counted}


def test_every_label_has_a_value_that_is_declared(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    """One that appears with its first event has no increase: the first failure of a stored mart would alert nobody."""
    first = scrape()
    sync(watched, instance, full=True)
    sync(watched, instance, assets=(DEAL_CHANGELOG.name,), deal_history=True)
    for samples in (first.samples, scrape().samples):
        for each in series.SERIES:
            for label, values in each.labels.items():
                found = {sample.labels[label] for sample in samples if sample.name in each.sample_names}
                assert values is series.ANY or found <= set(values), each.name
    for asset in ("deal_changelog", "mart_funnel", "calendar"):
        labels = {"asset": asset, "mode": "select", "status": "failed"}
        assert labels in [sample.labels for sample in first.samples if sample.name == "pipeboard_loads_total"]
        assert scrape().total("pipeboard_loads_total", asset=asset) >= 1
        assert scrape().total("pipeboard_table_bytes", asset=asset) > 0


def test_tokens_left_are_those_that_whatever_load_was_told_last_until_that_is_a_day_ago(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    """The history of deals spends most of them."""
    sync(watched, instance, assets=("users", "deals"), full=True)
    sync(watched, instance, assets=(DEAL_CHANGELOG.name,), deal_history=True)
    assert scrape().total("pipeboard_api_tokens_left") == watched.server.standin.limits.left(watched.company.plan)
    with psycopg.connect(url_of(watched.settings), autocommit=True) as database:
        database.execute("UPDATE pipeboard.load SET finished_at = finished_at - interval '1 day'")
    found = scrape()
    assert "pipeboard_api_tokens_left" not in found.names()
    assert found.total("pipeboard_api_tokens_per_day") == watched.company.plan.daily_tokens


def test_a_table_that_is_being_rewritten_holds_no_scrape_up(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    sync(watched, instance, assets=("users", "pipelines"), full=True)
    with psycopg.connect(url_of(watched.settings)) as rewriting:
        rewriting.execute("LOCK TABLE pipedrive.users IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        found = scrape()
        assert time.monotonic() - started < watched.settings.lock_timeout_seconds / 2
    assert found.total("pipeboard_database_up") == 1
    sized = {sample.labels["asset"] for sample in found.samples if sample.name == "pipeboard_table_bytes"}
    assert "pipelines" in sized and "users" not in sized


def test_a_killed_load_counts_as_failed_and_has_no_duration(watched: Account, scrape: Scraper) -> None:
    with psycopg.connect(url_of(watched.settings), autocommit=True) as database:
        database.execute(
            """INSERT INTO pipeboard.load_in_progress (load_id, entity, table_name, mode, started_at, owner_pid, owner_started_at)
               VALUES ('x', 'users', 'pipedrive.users', 'full', now(), 999999, now())"""
        )
    assert watched.warehouse.note_killed_loads() == 1
    found = scrape()
    assert found.total("pipeboard_loads_total", asset="users", status="failed") == 1
    assert found.total("pipeboard_load_duration_seconds_bucket") == 0
    assert found.total("pipeboard_load_duration_seconds_count") == 0


def test_nothing_is_said_of_the_circuit_while_redis_does_not_answer(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    assert scrape().total("pipeboard_api_breaker", state="closed") == 1
    away = watched.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    assert "pipeboard_api_breaker" not in Scrape.of(build_registry(away, watched.warehouse, instance)).names()


def url_of(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def test_a_failure_before_the_first_page_is_a_failed_load_with_its_requests(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    watched.server.faults.add("status_403", "/api/v2/dealFields", times=None)
    assert sync(watched, instance, assets=("deals",), full=True)["deals"].status is Status.FAILED
    found = scrape()
    assert found.total("pipeboard_loads_total", asset="deals", status="failed") == 1
    assert found.total("pipeboard_api_requests_total", endpoint="deal_fields", status="4xx") == 1


def test_a_history_of_deals_that_cannot_begin_is_a_failed_load(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    outcome = sync(watched, instance, assets=(DEAL_CHANGELOG.name,), deal_history=True)[DEAL_CHANGELOG.name]
    assert outcome.status is Status.FAILED and "run a sync first" in str(outcome.error)
    assert scrape().total("pipeboard_loads_total", asset="deal_changelog", mode="changelog", status="failed") == 1


def test_what_requests_waited_for_the_limit_is_counted_in_seconds(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper
) -> None:
    """One reader, one record a page: more requests than two seconds take, so it waits for about as long as it lasts."""
    watched.settings = watched.settings.model_copy(update={"page_size": 1, "readers": 1})
    watched.company.set_plan("Lite")
    started = time.monotonic()
    outcome = sync(watched, instance, assets=("deals",), full=True)["deals"]
    lasted = time.monotonic() - started
    assert outcome.status is Status.SUCCESS
    sent, found = len(watched.server.requests), scrape()
    seconds = found.total("pipeboard_api_wait_seconds_total")
    assert sent > watched.company.plan.burst_requests
    assert 1 < seconds < lasted
    assert found.total("pipeboard_api_refusals_total", kind="burst") == 0


def test_a_gauge_at_0_is_a_figure_and_a_counter_at_0_is_none() -> None:
    figures = Figures()
    figures.set(series.TOKENS_LEFT, value=0)
    figures.add(series.API_REFUSALS, "daily", amount=0)
    assert figures.as_json() == {'["pipeboard_api_tokens_left"]': 0}


def test_every_counter_stands_at_0_before_the_first_sync(scrape: Scraper) -> None:
    """Prometheus sees no increase in a series that appears with its first event."""
    found = scrape()
    for declared in series.LEDGER:
        if declared.kind == "counter":
            assert declared.name in found.names() and found.total(declared.name) == 0


@pytest.fixture
def long_ledger(postgres_url: str) -> Iterator[Warehouse]:
    """A hundred thousand loads, one of a hundred in the last two hours, each with the facts of a load of ten endpoints."""
    with temporary_database(postgres_url) as url, psycopg.connect(url) as connection:
        warehouse = Warehouse(url)
        warehouse.migrate()
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
        connection.commit()
        yield warehouse


def test_a_ledger_of_100_000_loads_is_read_in_less_than_300_milliseconds(
    long_ledger: Warehouse, watched: Account
) -> None:
    """Or, on a machine that is busy now, in three times what an empty one takes there."""
    ledgers = [Ledger(warehouse, Settings(_env_file=None)) for warehouse in (watched.warehouse, long_ledger)]
    empty, full = (fastest(ledger.read) for ledger in ledgers)
    assert full < max(0.3, 3 * empty)
    figures = ledgers[1].read()
    found = Scrape(tuple(sample for metric in figures.metrics(series.LEDGER) for sample in metric.samples))
    assert found.total("pipeboard_loads_total") == 100_000
    assert found.total("pipeboard_api_tokens_total") == 1_000_000
    assert found.total("pipeboard_load_duration_seconds_bucket", le="5") == 100_000


def test_a_long_history_of_dagster_is_looked_through_only_when_something_was_written(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year of hourly syncs has a million verdicts of checks."""

    key, looks = dg.AssetKey("deals"), []
    months = {"deals": (key, ["2026-01", "2026-02"])}
    look = dg.DagsterInstance.get_materialized_partitions
    monkeypatch.setattr(
        dg.DagsterInstance, "get_materialized_partitions", lambda *asked: (looks.append(1), look(*asked))[1]
    )
    monkeypatch.setattr(instance_figures, "_REST", 0)
    history = History()

    def read() -> float:
        (metric,) = history.read(instance, months, []).metrics([series.PARTITIONS])
        return Scrape(tuple(metric.samples)).total("pipeboard_partitions", state="read")

    assert [read() for _ in range(3)] == [0, 0, 0] and len(looks) == 1
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2026-01"))
    assert [read() for _ in range(3)] == [1, 1, 1] and len(looks) == 2


def fastest(read: Callable[[], object]) -> float:
    """Seconds of the quickest of five, after one that adds up what is old."""
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def test_an_exporter_outlives_a_restart_of_postgresql(
    watched: Account, deployed: dg.DagsterInstance, postgres_url: str
) -> None:
    """Meanwhile it says so and shows no counter: one at 0 would look as if it had begun anew."""
    with psycopg.connect(postgres_url, autocommit=True) as server, exporter(watched.settings, port=0) as (address, _):
        port = int(address.rpartition(":")[2])
        with (
            pytest.raises(SettingError, match=f"127.0.0.1:{port} cannot be used"),
            exporter(watched.settings, port=port),
        ):
            pass  # a second exporter on the same port says so in a sentence
        before = Scrape.at(address)
        with shut(server, watched.settings):
            found = Scrape.at(address)
        after = Scrape.at(address)
    assert found.total("pipeboard_database_up") == found.total("pipeboard_dagster_up") == 0
    assert {
        "pipeboard_database_up",
        "pipeboard_dagster_up",
        "pipeboard_exporter_start_timestamp_seconds",
    } <= found.names()
    assert [each.name for each in (*series.LEDGER, *series.INSTANCE) if each.name in found.names()] == []
    assert after.names() == before.names() and after.total("pipeboard_database_up") == 1


@contextmanager
def shut(server: psycopg.Connection[Any], settings: Settings) -> Iterator[None]:
    """The database ends every connection and takes none, as while its server starts again."""
    name = urlsplit(url_of(settings)).path.strip("/")
    server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
    server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])
    yield
    server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))


def test_every_figure_bears_the_company_s_name(
    standin_factory: Callable[..., Server], fresh_database: str, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    acme = Account(standin_factory(deals=5), fresh_database, tmp_path, account="acme")
    found = Scrape.of(build_registry(acme.settings, acme.warehouse, instance, tmp_path))
    assert found.samples and {sample.labels.get("account") for sample in found.samples} == {"acme"}


def test_the_disk_is_that_of_the_folder_named_and_of_nobody_s_where_none_is(
    watched: Account, instance: dg.DagsterInstance, scrape: Scraper, tmp_path: Path
) -> None:
    """Of a server elsewhere the exporter cannot know it, and its own disk would be mistaken for it."""
    assert "pipeboard_disk_bytes" not in scrape().names()
    folder = tmp_path / "postgres"
    folder.mkdir()
    registry = build_registry(watched.settings, watched.warehouse, instance, folder)
    assert Scrape.of(registry).total("pipeboard_disk_bytes") == shutil.disk_usage(folder).total
    folder.rmdir()  # unmounted, say
    found = Scrape.of(registry)
    assert "pipeboard_disk_bytes" not in found.names() and found.total("pipeboard_database_up") == 1


def test_checks_that_fail_now_are_counted_by_severity(instance: dg.DagsterInstance) -> None:
    """Also while the next run has not come to them yet, and no more when they pass again."""

    @dg.asset_check(asset=dg.AssetKey(["bi", "funnel"]))
    def amounts(config: Verdict) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=config.passed, severity=dg.AssetCheckSeverity.WARN)

    def failing() -> float:
        figures = History().read(instance, {}, list(amounts.check_keys))
        found = Scrape(tuple(sample for metric in figures.metrics([series.CHECKS]) for sample in metric.samples))
        warnings = found.total("pipeboard_failing_checks", asset="funnel", severity="warn")
        assert found.total("pipeboard_failing_checks") == warnings
        return warnings

    job = dg.Definitions(asset_checks=[amounts]).resolve_implicit_global_asset_job_def()
    for passed in (False, True):
        config = {"ops": {"bi__funnel_amounts": {"config": {"passed": passed}}}}
        instance.create_run_for_job(job, run_config=config)  # its check is planned from now on
        assert failing() == passed
        job.execute_in_process(instance=instance, run_config=config)
        assert failing() == (not passed)
