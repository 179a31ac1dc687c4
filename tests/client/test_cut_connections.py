"""Connections that end at random bytes: every read is complete and equal, or an error of the tree."""

from __future__ import annotations

import itertools
import time

import pytest
from pydantic import SecretStr

from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
from pipeboard_resources.pipedrive.endpoint import Endpoint
from pipeboard_resources.pipedrive.errors import (
    CircuitOpenError,
    NoAnswerError,
    PipedriveError,
    RetriablePipedriveError,
)
from pipeboard_resources.pipedrive.retry import RetryPolicy
from tests.client.cutting_proxy import FRAMINGS, Weather, cutting
from tests.fixtures.listening import listening

DEALS = Endpoint("deals", "/api/v2/deals", is_filterable_by_time=True)
READS = {"pages": PipedriveClient.pages, "pages_by_time": PipedriveClient.pages_by_time}
SHARES_CUT = (0.0, 0.1, 0.3, 0.6, 1.0)


@pytest.fixture(scope="module")
def standin(standin_factory):
    return standin_factory(deals=45)


def read(client, pages):
    return {record["id"]: record for page in pages(client, DEALS) for record in page.records}


@pytest.mark.parametrize("kind", READS)
def test_a_read_over_connections_cut_anywhere_is_complete_and_equal_or_an_error(kind, standin, clock):
    """60 reads: every framing of a body x how many exchanges are cut x two seeds."""
    with PipedriveClient(SecretStr(standin.api_key), ClientOptions(base_url=standin.url)) as direct:
        truth = read(direct, PipedriveClient.pages)
    ends, cuts = [], 0
    for number, (framing, share_cut, seed) in enumerate(itertools.product(FRAMINGS, SHARES_CUT, range(2))):
        standin.reset()
        with cutting(standin.url, Weather(number * 10 + seed, share_cut, framing)) as (proxy, url):
            options = ClientOptions(
                base_url=url, page_size=6 + 5 * seed, timeout_seconds=5, retry=RetryPolicy(attempts=3)
            )
            with PipedriveClient(SecretStr(standin.api_key), options, clock=clock) as client:
                try:
                    assert read(client, READS[kind]) == truth
                    ends.append("complete")
                except PipedriveError as error:
                    assert isinstance(error, RetriablePipedriveError | CircuitOpenError)
                    assert share_cut > 0
                    ends.append("error")
            cuts += proxy.cuts
            if share_cut == 1:
                assert ends[-1] == "error"
    assert cuts > 80
    assert min(ends.count("complete"), ends.count("error")) > 15


@pytest.mark.parametrize("framing", [b"content-length: 100000", b"transfer-encoding: chunked", b"connection: close"])
def test_a_body_that_drips_ends_with_the_timeout_and_not_with_its_last_byte(framing):
    def drip(client):
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        while True:
            client.sendall(b"1\r\n \r\n")
            time.sleep(0.01)  # the server's pace, far below the timeout of httpx for one read

    with listening(drip) as port:
        options = ClientOptions(base_url=f"http://127.0.0.1:{port}", timeout_seconds=0.3, retry=RetryPolicy(attempts=1))
        with PipedriveClient(SecretStr("key"), options) as client:
            started = time.monotonic()
            with pytest.raises(NoAnswerError, match=r"after 0\.3 s"):
                read(client, PipedriveClient.pages)
    assert time.monotonic() - started < 2
