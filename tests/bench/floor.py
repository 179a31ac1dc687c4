"""The floor: fetch every page, decode it, COPY each record as raw jsonb. Nothing is checked, nothing can be continued.

python -m tests.bench.floor URL KEY DATABASE_URL [--since 2026-11-01T00:00:00Z]: prints {"rows", "seconds"}.
"""

import argparse
import json
from time import perf_counter

import httpx
import msgspec
import psycopg

LISTS = ("users", "pipelines", "stages", "organizations", "persons", "deals", "deals/archived", "activities")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "key", "database"):
        arguments.add_argument(name)
    arguments.add_argument("--since")
    asked = arguments.parse_args()
    began, rows = perf_counter(), 0
    with (
        httpx.Client(base_url=asked.url, headers={"x-api-token": asked.key}, trust_env=False) as client,
        psycopg.connect(asked.database) as connection,
    ):
        connection.execute("DROP SCHEMA IF EXISTS floor CASCADE; CREATE SCHEMA floor")
        for name in LISTS:
            table = name.replace("/", "_")
            connection.execute(f"CREATE UNLOGGED TABLE floor.{table} (record jsonb)".encode())
            with connection.cursor().copy(f"COPY floor.{table} FROM STDIN".encode()) as copy:
                rows += _copy_list(client, name, asked.since, copy)
    print(json.dumps({"rows": rows, "seconds": perf_counter() - began}))


def _copy_list(client: httpx.Client, name: str, since: str | None, copy: psycopg.Copy) -> int:
    path = "/v1/users" if name == "users" else f"/api/v2/{name}"
    query = {"limit": "500"} if name != "users" else {}
    if name.startswith("deals"):
        query["status"] = "open,won,lost,deleted"
    if since is not None and name not in ("users", "pipelines", "stages"):
        query["updated_since"] = since
    decoder, encoder, rows = msgspec.json.Decoder(), msgspec.json.Encoder(), 0
    while True:
        page = decoder.decode(client.get(path, params=query).raise_for_status().content)
        lines = (encoder.encode(record).replace(b"\\", b"\\\\") for record in page["data"] or ())
        copy.write(b"".join([line + b"\n" for line in lines]))
        rows += len(page["data"] or ())
        cursor = (page.get("additional_data") or {}).get("next_cursor")
        if cursor is None:
            return rows
        query["cursor"] = cursor


if __name__ == "__main__":
    main()
