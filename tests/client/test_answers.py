"""One answer at a time: bytes -> values, and status + headers -> the error of the tree."""

from __future__ import annotations

import email.utils
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeboard_resources.pipedrive import errors
from pipeboard_resources.pipedrive.classify import error_for, rate_headers
from pipeboard_resources.pipedrive.decode import BodyNotJsonError, decode_json
from pipeboard_resources.pipedrive.endpoint import Request
from pipeboard_resources.pipedrive.transport import Answer

NOW = 1_790_000_000.0
PAGE_3 = Request("deals", "/api/v2/deals", {}, 10, page=3, has_cursor=True)
PAGE_1 = Request("deals", "/api/v2/deals", {}, 10)


def answer(status, body=None, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


@pytest.mark.parametrize("text", ["0.30000000000000004", "9007199254740993.5", "1E+400", "0.1000", "-12.50"])
def test_a_decimal_keeps_every_digit(text):
    value = decode_json(text.encode())
    assert isinstance(value, Decimal)
    assert str(value) == str(Decimal(text))


def test_a_whole_number_of_any_size_is_exact():
    assert decode_json(b"123456789012345678901234567890") == 123456789012345678901234567890


@pytest.mark.parametrize(
    ("body", "looks_like"),
    [
        (b"", "an empty body"),
        (b"  \n", "an empty body"),
        (b"<html></html>", "HTML of 13 bytes"),
        (b'{"data": [{"id": 1}, {"i', "broken JSON of 24 bytes"),
        (b'{"a": 1} {', "broken JSON"),
        (b'{"a": NaN}', "broken JSON"),
        (b'"\xff"', "invalid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1e99999999999999999999]", "a number beyond all bounds"),
    ],
)
def test_a_body_that_is_not_one_json_value_is_refused(body, looks_like):
    with pytest.raises(BodyNotJsonError, match=looks_like):
        decode_json(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_json_says_is_decoded_as_it_is(value):
    assert decode_json(json.dumps(value).encode()) == value


@given(st.binary(min_size=1, max_size=40), st.integers(0, 400))
def test_a_body_cut_anywhere_is_never_a_value(tail, place):
    whole = json.dumps({"success": True, "data": [{"id": 1, "title": 'ü\n"' * 20}]}).encode()
    with pytest.raises(BodyNotJsonError):
        decode_json(whole[: min(place, len(whole) - 1)])
    with pytest.raises(BodyNotJsonError):
        decode_json(whole + b"\x00" + tail)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb'"Deal \ud83d"', "Deal \N{REPLACEMENT CHARACTER}"),
        (rb'"\ude00 x"', "\N{REPLACEMENT CHARACTER} x"),
        (rb'"\ud83d\ude00 \ud83d"', "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"),
        (rb'"\\ud83d \ud83d"', "\\ud83d \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_half_an_emoji_does_not_stop_the_list(body, text):
    assert decode_json(body) == text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.UnauthorizedError),
        (402, errors.PaymentRequiredError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (408, errors.ServerError),
        (409, errors.UnexpectedStatusError),
        (410, errors.GoneError),
        (422, errors.BadRequestError),
        (429, errors.RateLimitedError),
        (500, errors.ServerError),
        (501, errors.UnexpectedStatusError),
        (502, errors.ServerError),
        (503, errors.ServerError),
        (504, errors.ServerError),
        (524, errors.ServerError),
        (204, errors.UnexpectedStatusError),
        (206, errors.UnexpectedStatusError),
        (301, errors.UnexpectedRedirectError),
        (304, errors.UnexpectedRedirectError),
    ],
)
def test_a_status_has_its_error(status, kind):
    error = error_for(answer(status, {"error": "no"}), PAGE_1, now=NOW)
    assert type(error) is kind
    assert (error.endpoint, error.page, error.status) == ("deals", 1, status)
    assert "page 1 of deals" in str(error)


def test_400_on_a_cursor_is_about_the_cursor():
    assert type(error_for(answer(400), PAGE_3, now=NOW)) is errors.CursorRefusedError


def test_403_names_what_is_missing():
    refused = error_for(answer(403, {"error": "You do not have permissions to do this."}), PAGE_1, now=NOW)
    assert "read access to deals" in str(refused)
    scope = error_for(answer(403, {"error": "Scope and URL mismatch"}), PAGE_1, now=NOW)
    assert "scope" in scope.permission


def test_403_with_html_is_a_hard_stop():
    page = Answer(403, {"content-type": "text/html"}, b"<!DOCTYPE html>")
    assert type(error_for(page, PAGE_1, now=NOW)) is errors.BlockedError


@pytest.mark.parametrize(
    "told",
    [
        answer(429, {"error": "daily request budget exceeded"}),
        answer(429, {}, x_daily_ratelimit_token_remaining="0"),
        answer(429, {}, retry_after="3939"),
    ],
)
def test_a_daily_429_is_told_apart_by_any_of_its_signs(told):
    assert type(error_for(told, PAGE_1, now=NOW)) is errors.TokenBudgetSpent


def test_a_daily_429_says_when_the_budget_is_full_again():
    spent = error_for(answer(429, {}, retry_after="3600"), PAGE_1, now=NOW)
    assert spent.resets_at.timestamp() == NOW + 3600


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x_ratelimit_reset": "1"}, 1),
        ({"retry_after": "7", "x_ratelimit_reset": "1"}, 7),
        ({}, 2),
        ({"x_ratelimit_reset": "soon"}, 2),
        ({"x_ratelimit_reset": str(int(NOW) + 5)}, 5),
    ],
)
def test_a_burst_429_waits_what_the_headers_say(headers, seconds):
    assert error_for(answer(429, {}, **headers), PAGE_1, now=NOW).retry_after_seconds == seconds


def test_retry_after_may_be_a_date():
    told = answer(503, {}, retry_after=email.utils.formatdate(NOW + 15, usegmt=True))
    assert error_for(told, PAGE_1, now=NOW).retry_after_seconds == 15


@pytest.mark.parametrize("rubbish", ["", "many", "nan", "inf", "-5", "1e999"])
def test_rate_headers_that_are_rubbish_count_as_absent(rubbish):
    rates = rate_headers({"x-ratelimit-limit": rubbish, "x-daily-ratelimit-token-remaining": rubbish}, now=NOW)
    assert (rates.burst_limit, rates.daily_remaining) == (None, None)


def test_a_redirect_does_not_repeat_the_query():
    error = error_for(answer(302, {}, location="https://evil.example/x?api_token=secret"), PAGE_1, now=NOW)
    assert "evil.example" in str(error)
    assert "secret" not in str(error)


def test_the_tree_is_drawn_as_it_is():
    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in errors.__all__)
