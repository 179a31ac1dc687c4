"""A first load larger than the day's tokens: newest months first, over as many days as it takes, then like any other."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeboard_assets.commands.plan import plan
from pipeboard_assets.commands.reports import status
from pipeboard_assets.commands.syncing import perform
from pipeboard_assets.graph.launching import runs_of
from pipeboard_assets.graph.outcome import Status, SyncOutcome
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_assets.sync.history import progress
from pipeboard_assets.sync.months import month_of, months_between
from pipeboard_resources.pipedrive.standin import Server
from tests.graph.conftest import Account
from tests.graph.test_sync import assert_equals_truth

NEW = ("organizations", "persons", "deals", "activities")
START = months_between("2026-01", month_of(datetime.now(UTC)))[-3]  # two months before this one


@pytest.fixture
def poor(standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path) -> Account:
    """An account whose history costs more tokens than a day has: 420 of 30,000 are ours."""
    server = standin_factory(deals=150)
    server.company.set_plan("Lite", seats=1)
    account = Account(
        server,
        fresh_database,
        tmp_path,
        redis_url,
        page_size=20,
        token_reserve_percent=98.6,
        cache_fields_seconds=86400,
    )
    account.settings = account.settings.model_copy(update={"history_start": START})
    return account


def sync(account: Account) -> SyncOutcome:
    return perform(account.settings, SyncRequest())


def a_day_passes(account: Account) -> None:
    account.server.limits.reset()
    account.company.advance(86_400)


def newest(account: Account) -> set[str]:
    rows = account.warehouse.query("SELECT DISTINCT to_char(update_time, 'YYYY-MM') AS month FROM pipedrive.deals")
    return {row["month"] for row in rows}


def test_a_first_load_larger_than_the_days_tokens_is_spread_over_days(
    poor: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = sync(poor)
    assert outcome.status is Status.STOPPED
    assert max(newest(poor)) > START and START not in newest(poor)
    assert poor.warehouse.query("SELECT count(*) > 0 AS of_use FROM bi.main_bi") == [{"of_use": True}]
    told = progress(poor.warehouse, NEW, START, datetime.now(UTC))
    assert told is not None and told.left and told.left[-1] == START
    status(poor.settings, as_json=False)
    shown = capsys.readouterr().err
    (used,) = re.findall(r"API tokens: (\d+) used in the last 24 hours", shown)
    assert f"{3 - len(told.left)} of 3 months" in shown and 0 < int(used) <= poor.server.tokens_spent
    a_day_passes(poor)
    plan(poor.settings, SyncRequest(), as_json=False)
    shown = capsys.readouterr().out
    assert "months left" in shown and shown.count("what changed") == len(NEW)
    days = 1
    while outcome.status is not Status.SUCCESS:
        a_day_passes(poor)
        poor.company.update("deals", poor.company.ids("deals")[days], {"title": f"day {days}"})
        outcome, days = sync(poor), days + 1
        assert days < 12
    assert days > 2
    assert_equals_truth(poor, "deals", "persons", "organizations", "activities")
    a_day_passes(poor)
    assert len(runs_of(poor.settings, poor.warehouse, SyncRequest())) == 1
    poor.server.reset_log()
    assert sync(poor).status is Status.SUCCESS
    assert len(poor.server.requests) < 20


def test_a_history_that_is_cut_short_on_its_way_is_open_to_the_past_all_the_same(poor: Account) -> None:
    """What is older was not read by the month that is the first one now: it was not open to the past then."""
    assert sync(poor).status is Status.STOPPED
    poor.settings = poor.settings.model_copy(update={"history_start": month_of(datetime.now(UTC))})
    status = Status.STOPPED
    for _ in range(12):
        a_day_passes(poor)
        status = sync(poor).status
        if status is Status.SUCCESS:
            break
    assert status is Status.SUCCESS
    assert_equals_truth(poor, "deals", "persons", "organizations", "activities")


def test_a_list_that_the_key_may_not_see_holds_up_no_other_month(
    poor: Account, caplog: pytest.LogCaptureFixture
) -> None:
    poor.company.set_permission("activities", allowed=False)
    for _ in range(12):
        outcome = sync(poor)
        a_day_passes(poor)
        if not any(each.status is Status.STOPPED for each in outcome.assets):
            break
    assert "activities counts as empty in the forecast, and its own load will fail: " in caplog.text
    by_name = {each.asset: each for each in outcome.assets}
    assert {name for name, each in by_name.items() if each.status is not Status.SUCCESS} == {"activities", "main_bi"}
    assert "403" in str(by_name["activities"].error) and outcome.status is Status.FAILED
    assert_equals_truth(poor, "deals", "persons", "organizations")


def test_where_the_firewall_shuts_a_sync_out_no_further_month_is_asked_for(poor: Account) -> None:
    poor.server.faults.add("html_403", "/api/v2/activities", nth=2, times=None)  # the first one asks how many there are
    outcome = sync(poor)
    assert outcome.status is Status.FAILED
    assert poor.server.requests[-1].path.startswith("/api/v2/activities")


def test_rejected_records_are_read_once_while_a_first_load_goes_on(poor: Account) -> None:
    assert sync(poor).status is Status.STOPPED
    (run,) = runs_of(poor.settings, poor.warehouse, SyncRequest(assets=("deals",), retry_rejected=True))
    assert run.retry_rejected and not run.is_history


def test_a_first_load_that_broke_off_goes_on_whole_though_fewer_tokens_are_left(
    standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path
) -> None:
    """Month by month it would read again what is staged."""
    account = Account(standin_factory(deals=150), fresh_database, tmp_path, redis_url, page_size=20)
    account.server.faults.add("status_403", "/api/v2/deals", nth=6, times=None)
    assert sync(account).status is Status.FAILED
    account.server.faults.clear()
    account.server.company.set_plan("Lite", seats=1)
    account.server.limits.reset()
    account.settings = account.settings.model_copy(update={"token_reserve_percent": 99.2})
    (recent, *months) = runs_of(account.settings, account.warehouse, SyncRequest())
    assert recent.without_history == {"deals"} and "activities" not in recent.assets
    assert months and all("activities" in run.assets and "deals" not in run.assets for run in months)
    account.server.limits.reset()
    account.settings = account.settings.model_copy(update={"token_reserve_percent": 10.0})
    account.server.reset_log()
    assert sync(account).status is Status.SUCCESS
    assert_equals_truth(account, "deals", "activities")
    assert account.warehouse.query("SELECT 1 FROM pipeboard.load WHERE mode = 'history'") == []


def test_an_account_that_fits_is_read_in_one_run(fresh_account: Account) -> None:
    (run,) = runs_of(fresh_account.settings, fresh_account.warehouse, SyncRequest())
    assert run.without_history == frozenset(NEW) and not run.is_history


def test_the_months_of_a_history_are_every_one_once() -> None:
    assert months_between("2025-11", "2026-02") == ("2025-11", "2025-12", "2026-01", "2026-02")
