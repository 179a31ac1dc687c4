"""A load that broke off goes on from its last committed page; what moves between lists during a sweep is not lost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeboard_assets.graph.outcome import Status
from pipeboard_resources.pipedrive.standin import Company, Server
from tests.graph.conftest import Account
from tests.graph.test_sync import assert_equals_truth, assert_green

DEALS, ARCHIVED = "/api/v2/deals", "/api/v2/deals/archived"
PAGE_SIZE, READERS = 10, 3


@pytest.fixture
def paged(standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path) -> Account:
    """An account whose deals fill some fifteen pages."""
    server = standin_factory(deals=130)
    return Account(server, fresh_database, tmp_path, redis_url, page_size=PAGE_SIZE, readers=READERS)


@pytest.fixture(autouse=True)
def _undisturbed(paged: Account) -> Iterator[None]:
    yield
    paged.server.before_page = None


def pages_asked(account: Account, *paths: str) -> int:
    return sum(request.path in paths for request in account.server.requests)


def read_anew(account: Account, asset: str, **request: Any) -> int:
    """Requests for deals that one sync makes, which must be green."""
    account.server.reset_log()
    assert_green(account.sync(assets=(asset,), **request))
    return pages_asked(account, DEALS, ARCHIVED)


@pytest.mark.parametrize(("fault", "status"), [("daily_429", Status.STOPPED), ("status_403", Status.FAILED)])
def test_a_load_that_stops_goes_on_with_the_pages_that_are_left(paged: Account, fault: str, status: Status) -> None:
    paged.server.faults.add(fault, DEALS, nth=6, times=None)
    assert paged.sync(assets=("deals",))["deals"].status is status
    asked = pages_asked(paged, DEALS, ARCHIVED)
    paged.server.faults.clear()
    paged.server.limits.reset()
    assert paged.warehouse.watermark("deals") is None
    left = read_anew(paged, "deals")
    assert_equals_truth(paged, "deals")
    whole = read_anew(paged, "deals", full=True)
    assert asked >= 5 and asked + left <= whole + 2 * READERS + 1


def test_a_load_that_breaks_off_in_the_second_list_does_not_read_the_first_again(paged: Account) -> None:
    paged.server.faults.add("status_403", ARCHIVED, times=None)
    assert paged.sync(assets=("deals",))["deals"].status is Status.FAILED
    paged.server.faults.clear()
    paged.server.reset_log()
    assert_green(paged.sync(assets=("deals",)))
    assert pages_asked(paged, DEALS) <= 2  # what changed since, and what moved back meanwhile
    assert_equals_truth(paged, "deals")


def test_rows_staged_before_a_full_sync_do_not_bring_back_what_it_found_gone(paged: Account) -> None:
    assert_green(paged.sync(assets=("persons",)))
    paged.server.faults.add("status_403", "/api/v2/persons", nth=4, times=None)
    assert paged.sync(assets=("persons",), first="2026-01", last="2026-11")["persons"].status is Status.FAILED
    paged.server.faults.clear()
    for number in paged.company.ids("persons")[:5]:
        paged.company.remove("persons", number)
    assert_green(paged.sync(assets=("persons",), full=True))
    assert_green(paged.sync(assets=("persons",), first="2026-01", last="2026-11"))
    assert_equals_truth(paged, "persons")


def test_a_field_that_appears_while_a_load_is_broken_off_is_in_every_row(paged: Account) -> None:
    paged.server.faults.add("status_403", DEALS, nth=6, times=None)
    paged.sync(assets=("deals",))
    paged.server.faults.clear()
    field = paged.company.add_field("deals", "Safra", "varchar")
    deal = paged.company.ids("deals")[0]
    paged.company.update("deals", deal, {"custom_fields": {field.code: "2026"}})
    assert_green(paged.sync(assets=("deals",)))
    assert paged.rows("pipedrive.deals")[deal]["cf_safra"] == "2026"
    assert_equals_truth(paged, "deals")


def test_a_deal_that_is_taken_up_again_during_a_full_sync_is_not_gone(paged: Account) -> None:
    """It leaves the archived list before that is read, for the list that was read already."""
    assert_green(paged.sync(assets=("deals",)))
    archived = [record["id"] for record in paged.company.truth("deals") if record["is_archived"]]

    def unarchive(_company: Company, endpoint: str, _page: int) -> None:
        if endpoint == "deals/archived" and archived:
            paged.company.unarchive(archived.pop())

    paged.server.before_page = unarchive
    outcome = paged.sync(assets=("deals",), full=True)["deals"]
    assert (outcome.deleted, outcome.restored) == (0, 0) and outcome.updated >= 1
    paged.server.before_page = None
    assert_equals_truth(paged, "deals")


def test_a_full_sync_that_was_interrupted_marks_what_went_meanwhile(paged: Account) -> None:
    assert_green(paged.sync(assets=("persons",)))
    paged.server.faults.add("status_403", "/api/v2/persons", nth=5, times=None)
    assert paged.sync(assets=("persons",), full=True)["persons"].status is Status.FAILED
    paged.server.faults.clear()
    for number in paged.company.ids("persons")[:3]:
        paged.company.delete("persons", number)
    assert paged.sync(assets=("persons",), full=True)["persons"].deleted == 3
    assert_equals_truth(paged, "persons")


def test_a_deal_that_is_taken_up_again_into_an_empty_list_is_not_gone(paged: Account) -> None:
    for record in paged.company.truth("deals"):
        if not record["is_archived"]:
            paged.company.archive(record["id"])
    for record in paged.company.deleted("deals"):
        paged.company.remove("deals", record["id"])
    assert_green(paged.sync(assets=("deals",)))
    (last, *_) = paged.company.ids("deals")

    def unarchive(company: Company, endpoint: str, _page: int) -> None:
        if endpoint == "deals/archived" and company.get("deals", last)["is_archived"]:
            company.unarchive(last)

    paged.server.before_page = unarchive
    assert paged.sync(assets=("deals",), full=True)["deals"].deleted == 0
    paged.server.before_page = None
    assert_equals_truth(paged, "deals")
