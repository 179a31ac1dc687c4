"""What a Python user would write with dlt: each v2 list as a resource, merged by id into PostgreSQL. Runs in dlt's own venv.

python dlt_pipeline.py URL KEY DATABASE_URL FOLDER [--file-format csv]: prints {"rows", "seconds"}.
"""

import argparse
import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import dlt  # type: ignore[import-not-found]
from dlt.sources.helpers import requests  # type: ignore[import-not-found]

LISTS = ("pipelines", "stages", "organizations", "persons", "deals", "deals/archived", "activities")


def pages(url: str, key: str, name: str) -> Iterator[list[dict[str, Any]]]:
    query = {"limit": "500"} | ({"status": "open,won,lost,deleted"} if name.startswith("deals") else {})
    while True:
        answer = requests.get(f"{url}/api/v2/{name}", params=query, headers={"x-api-token": key})
        page = answer.json()
        yield page["data"]
        if (cursor := page["additional_data"]["next_cursor"]) is None:
            return
        query["cursor"] = cursor


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "key", "database", "folder"):
        arguments.add_argument(name)
    arguments.add_argument("--file-format", default=None, help="csv: by COPY; default: INSERT statements")
    asked = arguments.parse_args()
    began = perf_counter()
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.postgres(asked.database), dataset_name="dlt", pipelines_dir=asked.folder
    )
    resources = [
        dlt.resource(
            pages(asked.url, asked.key, name),
            name=name.replace("/", "_"),
            primary_key="id",
            write_disposition="merge",
            max_table_nesting=0,
        )
        for name in LISTS
    ]
    pipeline.run(resources, loader_file_format=asked.file_format)
    counted = pipeline.last_trace.last_normalize_info.row_counts
    rows = sum(count for name, count in counted.items() if name in {each.replace("/", "_") for each in LISTS})
    print(json.dumps({"rows": rows, "seconds": perf_counter() - began}))


if __name__ == "__main__":
    main()
