"""A real Prometheus and Pushgateway watch an account through good and bad days; every query is then asked of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import pytest
import stamina
from dagster._core.scheduler.instigation import TickStatus
from dagster._daemon.types import DaemonHeartbeat

from deploy.grafana.dashboard import PANELS
from pipeboard_assets.commands.monitoring import exporter
from pipeboard_assets.graph.outcome import AssetOutcome, Status
from pipeboard_assets.metrics.live import LivePush
from pipeboard_assets.metrics.series import ASSETS, LEDGER, LIVE
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_resources.embedded.processes import wait_until
from pipeboard_resources.pipedrive.breaker import FAULTS_TO_OPEN
from pipeboard_resources.pipedrive.standin import Server
from tests.graph.conftest import Account
from tests.graph.test_alerts import Ticking
from tests.metrics.conftest import deployment, sync
from tests.metrics.servers import Prometheus, prometheus, pushgateway
from tests.metrics.test_deployment import ALERTS

# Of the day below. Not among them what depends on this machine (disk) or on time that must pass (tested by promtool).
INDUCED = {
    "PipeboardFailing",
    "PipeboardRejects",
    "PipeboardChecksWarning",  # what refers to the rejected record
    "PipeboardBreakerOpen",
    "PipeboardTokens75",
    "PipeboardTokens90",
    "PipeboardTokensSpent",
    "PipeboardStopped",
}


NOBODY = "127.0.0.1:1"


@dataclass(frozen=True)
class Day:
    """What happened, and who saw it."""

    account: Account
    prometheus: Prometheus
    gateway: str
    began_at: float
    outcomes: tuple[dict[str, AssetOutcome], ...]


@pytest.fixture(scope="module")
def day(
    standin_factory: Callable[..., Server],
    database_url: str,
    empty_redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Day]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ("state", "gateway", "prometheus")}
    account = Account(standin_factory(deals=40, now=datetime.now(UTC)), database_url, folders["state"], empty_redis_url)
    with ExitStack() as stack:
        gateway = stack.enter_context(pushgateway(folders["gateway"]))
        account.settings = account.settings.model_copy(
            update={"pushgateway_address": gateway, "retry_attempts": 15, "token_reserve_percent": 0}
        )
        instance = stack.enter_context(deployment(account.settings))
        address, _ = stack.enter_context(exporter(account.settings, port=0, disk=folders["state"]))
        watching = stack.enter_context(prometheus(folders["prometheus"], address.removeprefix("http://"), gateway))
        assert wait_until(lambda: watching.query("pipeboard_database_up"), seconds=20)
        began_at = time.time()
        outcomes = tuple(events(account, instance))
        _wait_for_a_scrape(watching)
        yield Day(account, watching, gateway, began_at, outcomes)


def events(account: Account, instance: dg.DagsterInstance) -> Iterator[dict[str, AssetOutcome]]:
    """Rejects and a slow list, a 429, a spent day, a backfill, a failure, and Pipedrive out of order."""
    faults = account.server.faults
    faults.add("record_without_id", "/v1/activityTypes")
    faults.add("burst_429", "/api/v2/persons")
    faults.add("slow", "/api/v2/deals", seconds=1.5)
    yield sync(account, instance, full=True)
    account.server.faults.clear()
    sync(account, instance, assets=(DEAL_CHANGELOG.name,), deal_history=True)
    account.company.delete("organizations", account.company.ids("organizations")[0])
    faults.add("html_200", "/api/v2/pipelines", times=None)
    with without_waiting():
        yield sync(account, instance, assets=("pipelines", "organizations"), full=True)
    faults.clear()
    yield sync(account, instance, LivePush(NOBODY), assets=("deals",), first="2026-02", last="2026-03")
    faults.add("daily_429", "/api/v2/activities")
    yield sync(account, instance, assets=("activities",))
    account.server.standin.limits.spent = int(account.company.plan.daily_tokens * 0.95)  # by other programs
    faults.add("status_500", "/api/v2/persons", times=None)
    with without_waiting():
        yield sync(account, instance, assets=("persons",))
    Ticking(instance).tick(TickStatus.SKIPPED, datetime.now(UTC))
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "a-daemon", []))


@contextmanager
def without_waiting() -> Iterator[None]:
    """Retries follow each other at once."""
    with stamina.set_testing(True, attempts=15, cap=True):
        yield


def _wait_for_a_scrape(watching: Prometheus) -> None:
    """One that began from now on."""
    now = time.time()
    assert wait_until(lambda: watching.query(f"timestamp(pipeboard_database_up) > {now}"), seconds=20)


def test_what_was_to_go_wrong_went_wrong(day: Day) -> None:
    first, failed, backfill, spent, broken = day.outcomes
    assert {name: each.error for name, each in first.items() if each.error} == {}
    assert first["activity_types"].rejected == 1
    assert failed["pipelines"].status is Status.FAILED and failed["organizations"].deleted == 1
    assert backfill["deals"].status is Status.SUCCESS and spent["activities"].status is Status.STOPPED
    assert broken["persons"].status is Status.FAILED


def test_requests_and_tokens_are_those_that_pipedrive_counted(day: Day) -> None:
    log = day.account.server.requests
    value = day.prometheus.value
    assert value("sum(pipeboard_api_requests_total)") == len(log)
    assert value("sum(pipeboard_api_tokens_total)") == sum(each.tokens for each in log if each.status != 429)
    for status, is_such in {
        "2xx": lambda code: code // 100 == 2,
        "429": lambda code: code == 429,
        "5xx": lambda code: code >= 500,
    }.items():
        counted = sum(is_such(request.status) for request in log)
        assert counted and value(f'sum(pipeboard_api_requests_total{{status="{status}"}})') == counted
    assert (
        value('pipeboard_api_refusals_total{kind="burst"}') == value('pipeboard_api_refusals_total{kind="daily"}') == 1
    )
    assert (
        value("sum(pipeboard_api_retries_total)") == FAULTS_TO_OPEN - 1 + 2 + 1
    )  # the outage, malformed pages, the 429
    assert value("pipeboard_api_breaker_openings_total") == 1
    assert value("pipeboard_api_tokens_left") == day.account.server.standin.limits.left(day.account.company.plan)


# Of the calendar and of stored marts no outcome of a sync tells; what it says of the views is none of a load.
TOLD = f'asset=~"{"|".join(ASSETS)}"'


def test_rows_and_loads_are_those_of_the_runs(day: Day) -> None:
    value = day.prometheus.value
    ended = [outcome for outcomes in day.outcomes for outcome in outcomes.values() if outcome.asset in ASSETS]
    for outcome in ("inserted", "updated", "unchanged", "deleted", "restored", "rejected"):
        brought = sum(getattr(each, outcome) for each in ended)
        assert value(f'sum(pipeboard_rows_total{{outcome="{outcome}", {TOLD}}})') == brought
    for status in ("success", "failed", "stopped"):
        loads = value(f'sum(pipeboard_loads_total{{status="{status}", {TOLD}}})')
        assert loads == sum(each.status == status for each in ended)
    assert value('sum(pipeboard_loads_total{mode="backfill"})') == 1


def test_a_load_in_progress_was_seen_and_is_gone(day: Day) -> None:
    for series in LIVE:
        assert day.prometheus.values(f'{series.name}{{job="pipeboard_run", asset="deals"}}', since=day.began_at)
        assert day.prometheus.query(series.name) == []


def test_every_counter_was_moved_by_what_happened(day: Day) -> None:
    counters = [series.sample_names[-1] for series in LEDGER if series.kind != "gauge"]
    by_the_limit = {"pipeboard_api_wait_seconds_total"}  # test_figures.py moves it
    assert {name for name in counters if day.prometheus.value(f"sum({name})") == 0} <= by_the_limit


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_the_panel_has_data(day: Day, panel: object) -> None:
    for query in panel.targets.values():  # type: ignore[attr-defined]
        for macro, text in {
            "$account": ".*",
            "$asset": ".*",
            "$endpoint": ".*",
            "$__rate_interval": "1m",
            "$__range": "5m",
        }.items():
            query = query.replace(macro, text)
        assert day.prometheus.values(query, since=day.began_at), query


def test_every_rule_is_healthy_and_the_faults_fire_exactly_their_alerts(day: Day) -> None:
    assert wait_until(lambda: all(rule["health"] != "unknown" for rule in day.prometheus.rules()), seconds=10)
    assert {rule["name"]: rule["health"] for rule in day.prometheus.rules()} == {each["alert"]: "ok" for each in ALERTS}
    firing = {alert["alert"] for alert in ALERTS if day.prometheus.query(alert["expr"])}
    assert firing - {"PipeboardDiskFull"} == INDUCED


def test_a_gateway_that_is_away_costs_a_run_nothing(day: Day) -> None:
    backfill = day.outcomes[2]
    assert [outcome.status for outcome in backfill.values()] == [Status.SUCCESS]
