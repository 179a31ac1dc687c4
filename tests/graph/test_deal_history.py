"""`sync --deal-history`: moves from before the first sync, asked for once a deal, as far as the day's tokens go."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest

from pipeboard_assets.commands.plan import plan
from pipeboard_assets.commands.syncing import EXIT_CODES
from pipeboard_assets.graph.outcome import AssetOutcome, Status
from pipeboard_assets.graph.request import SyncRequest, asked_for
from pipeboard_assets.sync.deal_changelog import unread
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.pipedrive.standin.reports import history
from tests.graph.conftest import Account
from tests.graph.test_sync import assert_green

ASSET = "deal_changelog"
Visits = dict[int, list[tuple[int, datetime, datetime | None]]]


def complete(account: Account) -> AssetOutcome:
    """What `pipeboard sync --deal-history` runs."""
    return account.sync(assets=(ASSET,), deal_history=True)[ASSET]


def asked(account: Account) -> list[int]:
    """Deals that were asked for, in order."""
    paths = [request.path.split("/") for request in account.server.requests]
    return [int(path[-2]) for path in paths if path[-1] == "changelog"]


def move(account: Account, number: int, *stages: int) -> None:
    for stage in stages:
        account.company.advance(7200)
        account.company.update("deals", number, {"stage_id": stage})


def open_deals(account: Account) -> list[dict[str, Any]]:
    return [record for record in account.company.truth("deals") if record["status"] == "open"]


def stages_of(account: Account, deal: dict[str, Any]) -> list[int]:
    stages = account.company.truth("stages")
    return [stage["id"] for stage in stages if stage["pipeline_id"] == deal["pipeline_id"]]


def told(account: Account) -> Visits:
    """Stage, entered, left of every visit of the living deals, in order."""
    visits: Visits = {}
    for row in account.warehouse.query(
        """SELECT h.* FROM pipedrive.deal_stage_history AS h JOIN pipedrive.deals AS d ON d.id = deal_id
           WHERE deleted_at IS NULL ORDER BY deal_id, position"""
    ):
        visits.setdefault(row["deal_id"], []).append((row["stage_id"], row["entered_at"], row["left_at"]))
    return visits


def true_visits(account: Account) -> Visits:
    """The same as the company knows it."""
    visits: Visits = {}
    for deal in account.company.truth("deals"):
        moves = [change for change in reversed(history(account.company, deal["id"])) if change.field_key == "stage_id"]
        stages = [moves[0].old_value, *(each.new_value for each in moves)] if moves else [deal["stage_id"]]
        first = deal["add_time"] if moves else deal["stage_change_time"] or deal["add_time"]
        times = [datetime.fromisoformat(each) for each in (first, *(each.at for each in moves))]
        closed = None if deal["status"] == "open" else datetime.fromisoformat(deal["close_time"])
        visits[deal["id"]] = list(zip(stages, times, (*times[1:], closed), strict=True))
    return visits


def test_the_stage_history_reaches_back_before_the_first_sync(fresh_account: Account) -> None:
    deal = open_deals(fresh_account)[0]
    here, there = deal["stage_id"], next(s for s in stages_of(fresh_account, deal) if s != deal["stage_id"])
    move(fresh_account, deal["id"], there, here, there)
    assert_green(fresh_account.sync(assets=("deals",)))
    assert told(fresh_account) != true_visits(fresh_account)
    outcome = complete(fresh_account)
    assert (outcome.status, outcome.error, outcome.rejected) == (Status.SUCCESS, None, 0)
    assert told(fresh_account) == true_visits(fresh_account)
    assert [stage for stage, _, _ in told(fresh_account)[deal["id"]]][-4:] == [here, there, here, there]


def test_until_the_changelogs_are_read_a_warning_tells_how_many_deals_the_funnel_counts_too_little_of(
    fresh_account: Account,
) -> None:
    def lacking() -> int:
        checked = fresh_account.sync(assets=("pipelines",)).get("bi_views")
        notes = {} if checked is None else dict(note.rstrip(")").split(" (") for note in checked.notes)
        return int(notes.get("history", 0))

    assert_green(fresh_account.sync())
    moved = [
        deal for deal in fresh_account.company.truth("deals") if (deal["stage_change_time"] or "") > deal["add_time"]
    ]
    assert lacking() == len(moved) > 0
    fresh = fresh_account.company.create("deals", {"title": "seen from its first day"})
    assert_green(fresh_account.sync(assets=("deals",)))
    move(fresh_account, fresh, stages_of(fresh_account, fresh_account.company.get("deals", fresh))[1])
    assert_green(fresh_account.sync(assets=("deals",)))
    assert lacking() == len(moved)
    assert complete(fresh_account).status is Status.SUCCESS
    assert lacking() == 0


def test_what_happens_afterwards_is_told_by_the_syncs_and_costs_no_call(fresh_account: Account) -> None:
    assert_green(fresh_account.sync(assets=("deals",)))
    first, second = open_deals(fresh_account)[:2]
    move(fresh_account, first["id"], *stages_of(fresh_account, first)[:2])
    before = told(fresh_account)
    complete(fresh_account)
    told_between = {number: visits[-1][0] for number, visits in told(fresh_account).items()}
    assert told_between == {number: visits[-1][0] for number, visits in before.items()}, "as the rows say"
    assert_green(fresh_account.sync(assets=("deals",)))
    assert told(fresh_account) == true_visits(fresh_account)
    for stage in [each for each in stages_of(fresh_account, second) if each != second["stage_id"]][:2]:
        move(fresh_account, second["id"], stage)
        assert_green(fresh_account.sync(assets=("deals",)))
    fresh_account.server.reset_log()
    assert complete(fresh_account).status is Status.SUCCESS
    assert fresh_account.server.requests == []
    moves = {number: [stage for stage, _, _ in visits] for number, visits in told(fresh_account).items()}
    assert moves == {number: [stage for stage, _, _ in each] for number, each in true_visits(fresh_account).items()}


def test_a_run_that_stops_at_the_budget_goes_on_and_asks_no_deal_twice(
    standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path
) -> None:
    account = Account(standin_factory(deals=130), fresh_database, tmp_path, redis_url)
    assert_green(account.sync(assets=("deals",)))
    account.server.reset_log()
    account.server.faults.add("daily_429", "/v1/deals/*/changelog", nth=111, times=None)
    outcome = complete(account)
    assert outcome.status is Status.STOPPED and EXIT_CODES[outcome.status] == 75
    published = account.warehouse.query(
        "SELECT jsonb_array_length(facts -> 'deals_read') AS deals, (facts -> 'deals_left')::int AS left, status "
        "FROM pipeboard.load WHERE entity = %s ORDER BY id",
        [ASSET],
    )
    assert published == [
        {"deals": 100, "left": 30, "status": "success"},
        {"deals": 10, "left": 20, "status": "stopped"},
    ]
    (*answered, refused) = asked(account)
    account.server.faults.clear()
    account.server.limits.reset()
    account.server.reset_log()
    assert complete(account).status is Status.SUCCESS
    assert asked(account)[0] == refused
    living = account.company.truth("deals")
    living.sort(key=lambda deal: (deal["status"] == "open", deal["update_time"] or "", deal["id"]), reverse=True)
    assert [*answered, *asked(account)] == [deal["id"] for deal in living]
    assert told(account) == true_visits(account)


def test_a_plan_counts_what_is_left(fresh_account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    def planned() -> dict[str, Any]:
        capsys.readouterr()
        plan(fresh_account.settings, SyncRequest(assets=(ASSET,), deal_history=True), as_json=True)
        return json.loads(capsys.readouterr().out)

    assert_green(fresh_account.sync(assets=("deals",)))
    deals = len(fresh_account.company.truth("deals"))
    assert planned() == {"ddl": [], "requests": deals, "tokens": 20 * deals}
    fresh_account.server.faults.add("daily_429", "/v1/deals/*/changelog", nth=6, times=None)
    assert complete(fresh_account).status is Status.STOPPED
    fresh_account.server.faults.clear()
    fresh_account.server.limits.reset()
    assert planned() == {"ddl": [], "requests": deals - 5, "tokens": 20 * (deals - 5)}
    fresh_account.server.reset_log()
    complete(fresh_account)
    assert (len(fresh_account.server.requests), fresh_account.server.tokens_spent) == (deals - 5, 20 * (deals - 5))
    assert planned() == {"ddl": [], "requests": 0, "tokens": 0}


def test_a_deal_that_is_gone_is_passed_over_and_not_asked_for_again(fresh_account: Account) -> None:
    assert_green(fresh_account.sync(assets=("deals",)))
    gone = open_deals(fresh_account)[0]["id"]
    fresh_account.company.remove("deals", gone)
    fresh_account.server.reset_log()
    assert complete(fresh_account).status is Status.SUCCESS
    assert gone in asked(fresh_account) and unread(fresh_account.warehouse) == []


def test_an_address_where_nothing_is_found_is_no_sign_that_deals_are_gone(fresh_account: Account) -> None:
    assert_green(fresh_account.sync(assets=("deals",)))
    fresh_account.server.faults.add("status_404", "*", times=None)
    assert complete(fresh_account).status is Status.FAILED
    assert len(unread(fresh_account.warehouse)) == len(fresh_account.company.truth("deals"))


def test_a_key_that_may_not_read_changelogs_is_told_what_it_lacks(fresh_account: Account) -> None:
    assert_green(fresh_account.sync(assets=("deals",)))
    fresh_account.company.set_permission("deals/changelog", allowed=False)
    outcome = complete(fresh_account)
    assert outcome.status is Status.FAILED
    assert outcome.error is not None and "read access to deal_changelog" in outcome.error


def test_a_line_that_cannot_be_read_is_set_aside_with_its_reason(fresh_account: Account) -> None:
    assert_green(fresh_account.sync(assets=("deals",)))
    fresh_account.server.faults.add("malformed_record", "/v1/deals/*/changelog", field="field_key", value=None)
    outcome = complete(fresh_account)
    assert (outcome.status, outcome.rejected) == (Status.SUCCESS, 1)
    assert "rejected_records (1)" in outcome.notes


def test_a_move_that_the_changelog_lacks_is_told(fresh_account: Account) -> None:
    deal = open_deals(fresh_account)[0]
    here, there = deal["stage_id"], next(s for s in stages_of(fresh_account, deal) if s != deal["stage_id"])
    move(fresh_account, deal["id"], there, here, there)
    assert_green(fresh_account.sync(assets=("deals",)))
    changes = fresh_account.company.changes[deal["id"]]
    changes[:] = [change for change in changes if (change.field_key, change.new_value) != ("stage_id", here)]
    outcome = complete(fresh_account)
    assert (outcome.status, outcome.notes) == (Status.SUCCESS, ("moves_join (1)",))


def test_what_is_masked_in_deals_does_not_come_by_their_changelogs(
    standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path
) -> None:
    account = Account(standin_factory(deals=10), fresh_database, tmp_path, redis_url, mask=("deals.value=null",))
    deal = open_deals(account)[0]
    account.company.update("deals", deal["id"], {"value": 4321, "currency": "EUR"})
    assert_green(account.sync(assets=("deals",)))
    assert complete(account).status is Status.SUCCESS
    fields = {row["field"] for row in account.warehouse.query("SELECT field FROM pipedrive.deal_changelog")}
    assert "status" in fields and "value" not in fields


def test_a_mask_that_is_set_after_it_broke_off_hides_what_was_read_before(
    standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path
) -> None:
    account = Account(standin_factory(deals=10), fresh_database, tmp_path, redis_url)
    (deal, *_) = open_deals(account)
    account.company.update("deals", deal["id"], {"value": 4321, "currency": "EUR"})
    assert_green(account.sync(assets=("deals",)))
    account.server.faults.add("status_403", "/v1/deals/*/changelog", nth=8, times=None)
    assert complete(account).status is Status.FAILED
    account.server.faults.clear()
    account.settings = account.settings.model_copy(update={"mask": ("deals.value=null",)})
    odd = {"field": "field_key", "value": None}
    account.server.faults.add("malformed_record", "/v1/deals/*/changelog", **odd)
    account.server.reset_log()
    outcome = complete(account)
    assert (outcome.status, outcome.rejected, len(asked(account))) == (Status.SUCCESS, 1, 10)
    said = account.warehouse.query(
        "SELECT old_value AS value FROM pipedrive.deal_changelog WHERE field = 'value' UNION ALL "
        "SELECT raw::text FROM pipeboard.rejected_record WHERE entity = 'deal_changelog'"
    )
    assert [row["value"] for row in said] == ["{}"]


def test_before_the_first_sync_it_says_what_to_do(fresh_account: Account) -> None:
    outcome = complete(fresh_account)
    assert outcome.status is Status.FAILED
    assert outcome.error is not None and "run a sync first" in outcome.error


@pytest.mark.parametrize("other", [{"full": True}, {"months": ("2026-01", "2026-02")}, {"retry_rejected": True}])
def test_it_goes_with_no_other_option(other: dict[str, Any]) -> None:
    options = {"full": False, "months": (None, None), **other}
    with pytest.raises(click.UsageError, match="--deal-history"):
        asked_for((), deal_history=True, history_start="2026-01", **options)
