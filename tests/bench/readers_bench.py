"""Side by side against one after the other: a list of 100 pages at 200 ms a request, with a plan that has room and one that has not.

python -m tests.bench.readers_bench [--latency 0.2] [--readers 4]
"""

import argparse
from time import perf_counter

from pydantic import SecretStr

from pipeboard_assets.catalog import by_name
from pipeboard_resources.pipedrive.client import ClientOptions, PipedriveClient
from pipeboard_resources.pipedrive.standin import Company, Server, serve

PAGES, PAGE_SIZE = 100, 20


def seconds_to_read(server: Server, readers: int) -> tuple[float, int, int]:
    """Seconds, requests, and how many of them were refused with a 429."""
    server.reset_log()
    server.limits.reset()
    options = ClientOptions(server.url, page_size=PAGE_SIZE, readers=readers)
    with PipedriveClient(SecretStr(server.api_key), options) as client:
        began = perf_counter()
        met = {record["id"] for page in client.pages_by_time(by_name("persons").lists[0]) for record in page.records}
        seconds = perf_counter() - began
    assert len(met) == PAGES * PAGE_SIZE, "somebody was not met"
    refused = sum(request.status == 429 for request in server.requests)
    return seconds, len(server.requests), refused


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--latency", type=float, default=0.2, help="seconds a request")
    arguments.add_argument("--readers", type=int, default=4)
    asked = arguments.parse_args()
    company = Company.generate(deals=100, persons=PAGES * PAGE_SIZE)
    with serve(company) as server:
        server.latency_seconds = asked.latency
        alone, requests, _ = seconds_to_read(server, 1)
        print(f"1 reader:  {alone:6.2f} s, {requests} requests")
        seconds, requests, refused = seconds_to_read(server, asked.readers)
        print(
            f"{asked.readers} readers: {seconds:6.2f} s, {requests} requests, {refused} refused: {seconds / alone:.3f} of it"
        )
        company.set_plan("Lite", seats=1)
        seconds, requests, refused = seconds_to_read(server, asked.readers)
        print(
            f"{asked.readers} readers at 20 requests per 2 s: {seconds:.2f} s, {requests} requests, {refused} refused"
        )


if __name__ == "__main__":
    main()
