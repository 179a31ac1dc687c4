"""Rows that a lesser key does not see are not taken for gone."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.sync.entity_sync import FULL, Mode, Window
from pipeboard_assets.sync.sight import KeyUser, require_same_sight
from pipeboard_io.errors import MassDeleteError
from pipeboard_resources.pipedrive.standin import Company, Server
from tests.graph.company_life import MONTHS, World
from tests.graph.conftest import Account
from tests.graph.test_sync import assert_green
from tests.graph.test_time import begin, load, stored

SELECTED = ("organizations",)


@pytest.fixture
def synced(fresh_account: Account) -> Account:
    assert_green(fresh_account.sync(assets=SELECTED))
    return fresh_account


def with_key(account: Account, key: str) -> None:
    account.settings = account.settings.model_copy(update={"pipedrive_api_key": SecretStr(key)})


@pytest.fixture
def lesser(fresh_account: Account) -> Account:
    """Synced with the key of a user who never was an admin."""
    with_key(fresh_account, fresh_account.server.restricted_key)
    assert_green(fresh_account.sync(assets=SELECTED))
    return fresh_account


def test_a_full_sync_with_a_lesser_users_key_marks_nothing_deleted(synced: Account) -> None:
    before = synced.rows("pipedrive.organizations").keys()
    with_key(synced, synced.server.restricted_key)
    outcome = synced.sync(assets=SELECTED, full=True)["organizations"]
    assert outcome.status is Status.FAILED and outcome.error is not None
    assert "another user's" in outcome.error and "--allow-mass-delete" in outcome.error
    assert synced.rows("pipedrive.organizations").keys() == before


def test_a_short_list_of_which_a_key_sees_nothing_is_no_empty_one(fresh_account: Account) -> None:
    """Few rows are below what a reconciliation asks about."""
    assert all(each.is_never_empty for entity in CATALOG if not entity.is_incremental for each in entity.lists)
    lists = ("pipelines", "activity_types")
    fresh_account.settings = fresh_account.settings.model_copy(update={"retry_attempts": 1})
    assert_green(fresh_account.sync(assets=lists))
    before = {name: fresh_account.rows(f"pipedrive.{name}").keys() for name in lists}
    for name in lists:
        for number in before[name]:
            fresh_account.company.remove(name, number)
    outcomes = fresh_account.sync(assets=lists, full=True)
    for name in lists:
        assert "an empty list, where there is always something" in str(outcomes[name].error)
        assert fresh_account.rows(f"pipedrive.{name}").keys() == before[name] != set()


def test_who_knows_that_they_are_gone_may_say_so(synced: Account) -> None:
    with_key(synced, synced.server.restricted_key)
    outcome = synced.sync(assets=SELECTED, full=True, allow_mass_delete=True)["organizations"]
    assert outcome.status is Status.SUCCESS and outcome.deleted > 0


def test_an_admins_key_may_be_anybodys(lesser: Account) -> None:
    owners = {row["owner_id"] for row in lesser.rows("pipedrive.organizations").values()}
    require_same_sight(lesser.warehouse, "organizations", KeyUser(99, is_admin=True), owners_seen=())
    last = lesser.warehouse.query("SELECT facts FROM pipeboard.load WHERE entity = 'organizations'")[0]["facts"]
    same = KeyUser(last["key_user"], is_admin=False)
    require_same_sight(lesser.warehouse, "organizations", same, owners_seen=owners)


def test_an_owner_of_whom_nothing_is_met_any_more_is_named(lesser: Account) -> None:
    rows = lesser.rows("pipedrive.organizations")
    owners = {row["owner_id"] for row in rows.values()}
    lost, _ = Counter(row["owner_id"] for row in rows.values()).most_common(1)[0]
    last = lesser.warehouse.query("SELECT facts FROM pipeboard.load WHERE entity = 'organizations'")[0]["facts"]
    same = KeyUser(last["key_user"], is_admin=False)
    with pytest.raises(MassDeleteError, match=str(lost)) as refused:
        require_same_sight(lesser.warehouse, "organizations", same, owners_seen=owners - {lost})
    theirs = sorted(number for number, row in rows.items() if row["owner_id"] == lost)
    assert refused.value.count == len(theirs) > 1
    assert refused.value.ids == tuple(str(number) for number in theirs[:10])


def test_an_admin_who_is_none_any_more_is_noticed(synced: Account) -> None:
    owners = {row["owner_id"] for row in synced.rows("pipedrive.organizations").values()}
    last = synced.warehouse.query("SELECT facts FROM pipeboard.load WHERE entity = 'organizations'")[0]["facts"]
    assert last["key_is_admin"] is True
    with pytest.raises(MassDeleteError, match="was a global admin"):
        require_same_sight(synced.warehouse, "organizations", KeyUser(last["key_user"], is_admin=False), owners)


def demote(server: Server) -> None:
    """The key's user is no admin any more, and sees fewer rows."""
    caller = server.standin.callers[server.api_key]
    server.standin.callers[server.api_key] = replace(caller, sees_all=False)
    user = server.company.get("users", caller.user_id)
    rights = [{**right, "admin": False} for right in user["access"]]
    server.company.update("users", caller.user_id, {"is_admin": 0, "access": rights})


def test_rights_that_go_during_a_full_sync_take_no_row_along(fresh_account: Account) -> None:
    fresh_account.settings = fresh_account.settings.model_copy(update={"max_delete_percent": 60.0})
    both = ("organizations", "persons")
    assert_green(fresh_account.sync(assets=both))
    before = fresh_account.rows("pipedrive.persons").keys()

    def demote_in_between(_company: Company, endpoint: str, _page: int) -> None:
        if endpoint == "persons":
            demote(fresh_account.server)

    fresh_account.server.before_page = demote_in_between
    outcomes = fresh_account.sync(assets=both, full=True)
    fresh_account.server.before_page = None
    assert outcomes["organizations"].status is Status.SUCCESS
    assert "was a global admin" in str(outcomes["persons"].error)
    assert fresh_account.rows("pipedrive.persons").keys() == before


def test_a_first_load_spread_over_months_tells_the_first_full_sync_whose_key_saw_it(world: World) -> None:
    begin(world, deals=60, now=datetime(2026, 11, 20, 12, tzinfo=UTC))
    load(world, "organizations", Window(Mode.HISTORY, MONTHS[10]))
    load(world, "organizations", Window(Mode.HISTORY, None, MONTHS[10], moves_watermark=False))
    before = stored(world, "organizations").keys()
    callers = dict(world.server.standin.callers)
    demote(world.server)
    with pytest.raises(MassDeleteError, match="was a global admin"):
        load(world, "organizations", FULL, max_delete_percent=60)
    world.server.standin.callers.update(callers)
    assert stored(world, "organizations").keys() == before


def test_a_key_of_another_company_is_refused_by_every_kind_of_sync(
    synced: Account, standin_factory: Callable[..., Server]
) -> None:
    other = standin_factory(deals=10)
    other.company.company_id += 1
    before = synced.rows("pipedrive.organizations")
    synced.settings = synced.settings.model_copy(
        update={"pipedrive_base_url": other.url, "pipedrive_api_key": SecretStr(other.api_key)}
    )
    for request in ({}, {"full": True}):
        outcomes = synced.sync(assets=("users", "organizations"), **request)
        assert outcomes["users"].status is Status.FAILED
        assert "the tables hold company 4242424" in str(outcomes["users"].error)
    assert synced.sync(assets=SELECTED)["organizations"].status is Status.FAILED
    assert synced.rows("pipedrive.organizations") == before


def test_a_new_key_of_the_same_company_goes_on(synced: Account) -> None:
    with_key(synced, synced.server.restricted_key)
    assert_green(synced.sync(assets=SELECTED))
