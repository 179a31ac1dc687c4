"""Every fault of the stand-in x every kind of list x first, middle, last page x once and for ever: complete or an error."""

from __future__ import annotations

import itertools

import pytest
from pydantic import SecretStr

from pipeboard_resources.pipedrive import errors
from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging
from pipeboard_resources.pipedrive.standin import FAULTS
from tests.fixtures.fault_table import FAULT

PAGE_SIZE = 12
DEALS = Endpoint("deals", "/api/v2/deals", is_filterable_by_time=True)
LISTS = {
    "v2 cursor": Endpoint("persons", "/api/v2/persons"),
    "v1 offset": Endpoint("deal_fields_v1", "/v1/dealFields", Paging.OFFSET, tokens=20, is_never_empty=True),
    "v1 whole": Endpoint("users", "/v1/users", Paging.NONE, tokens=20, is_never_empty=True),
    "v2 by time": DEALS,
    "side by side": DEALS,
}
HEAL = {"burst_429", "status_408", "status_500", "status_502", "status_503", "status_504", "status_524"}
HEAL |= {"success_false", "html_200", "empty_body", "null_body", "truncated_json", "gzip_garbage", "connection_cut"}
HEAL |= {"connection_reset", "timeout", "data_object", "data_string", "missing_data", "record_not_an_object"}
HARMLESS = {"slow", "missing_next_cursor", "nested_pagination", "duplicate_records", "malformed_record"}
HARMLESS |= {"record_without_id", "extra_key", "zero_dates", "other_spelling"}
FINAL = {
    "daily_429": errors.TokenBudgetSpent,
    "html_403": errors.BlockedError,
    "status_400": errors.BadRequestError,
    "status_401": errors.UnauthorizedError,
    "status_402": errors.PaymentRequiredError,
    "status_403": errors.ForbiddenError,
    "status_404": errors.NotFoundError,
    "status_410": errors.GoneError,
    "redirect_302": errors.UnexpectedRedirectError,
}
# These end the one way or the other, by the kind of list and the page they strike; never in a short list.
EITHER = {"data_null", "repeated_cursor", "refused_cursor", "missing_additional_data"}

# These strike where there is a cursor to refuse, or at an end that should say so.
OF_SOME_PAGES = {"refused_cursor", "missing_next_cursor", "missing_additional_data"}

CASES = list(itertools.product(LISTS, (1, 2, "last"), ("once", "for ever")))


@pytest.fixture(scope="module")
def standin(standin_factory):
    return standin_factory(deals=45)


@pytest.fixture(scope="module")
def truths(standin):
    with PipedriveClient(SecretStr(standin.api_key), ClientOptions(base_url=standin.url)) as client:
        return {kind: read(client, kind) for kind in LISTS}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_list_under_a_fault_is_complete_or_an_error(fault, standin, truths, client_for, record_property):
    struck_somewhere = False
    for kind, page, times in CASES:
        standin.reset()
        options = {"seconds": 0.02} if fault == "slow" else {}
        standin.faults.add(fault, LISTS[kind].path, page=page, times=1 if times == "once" else None, **options)
        client = client_for(standin, page_size=PAGE_SIZE, timeout_seconds=0.1)
        try:
            end, records = "complete", read(client, kind)
        except errors.PipedriveError as error:
            end, records = type(error).__name__, None
            assert_says_what_to_do(error, LISTS[kind])
        if records is not None:
            assert_equal(fault, records, truths[kind])
        struck = any(fault in (entry.fault or "") for entry in standin.requests)
        has_page = (kind, page) != ("v1 whole", 2)
        assert struck or not has_page or fault in OF_SOME_PAGES
        if struck:
            struck_somewhere = True
            assert_expected(fault, times, end, client)
            record_property(FAULT, (fault, kind, str(page), times, end))
    assert struck_somewhere


def read(client, kind):
    endpoint = LISTS[kind]
    if kind == "side by side":
        return [record for page in client.pages_by_time(endpoint) for record in page.records]
    params = {"sort_by": "update_time"} if kind == "v2 by time" else {}
    return [record for page in client.pages(endpoint, params=params) for record in page.records]


def assert_equal(fault, records, truth):
    """Nobody is missing; and where the fault leaves the records alone, every value is the truth."""
    key = "id" if "id" in truth[0] else "field_code"
    expected = {record[key]: record for record in truth}
    got = {record.get(key): record for record in records}
    if fault == "record_without_id":
        assert len(got) >= 1
        return
    assert got.keys() == expected.keys()
    if FAULTS[fault].family != "records" or fault == "duplicate_records":
        assert got == expected


def assert_expected(fault, times, end, client):
    assert fault in HEAL | HARMLESS | EITHER or fault in FINAL
    if fault in HARMLESS or (fault in HEAL and times == "once"):
        assert end == "complete"
    elif fault in HEAL:
        assert issubclass(getattr(errors, end), errors.RetriablePipedriveError) or end == "CircuitOpenError"
        assert client.usage.retries >= 2
    elif fault in FINAL:
        assert issubclass(getattr(errors, end, errors.ServerError), FINAL[fault]) or fault == "status_400"
        assert client.usage.retries == 0


def assert_says_what_to_do(error, endpoint):
    assert error.endpoint == endpoint.name
    assert error.page >= 1
    assert endpoint.name in str(error)
    assert str(error).endswith(".")
