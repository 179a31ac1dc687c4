"""Speed and memory of pipeboard_io against a bare COPY of the same frames. Not a test: run it by hand.

    python -m tests.bench.io_bench [--rows 1000000] [--url postgresql://...]

Prints seconds and ratios for staging, first publish, unchanged and 1 % changed loads, WAL written, and the peak memory
of a process that loads 100k and one that loads all rows. A bare COPY goes before every load,
loads that can be repeated are, and the best of each counts: a busy minute of the machine then meets both sides. Without --url an embedded PostgreSQL is started.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from time import perf_counter

import polars as pl
import psycopg

from pipeboard_io import Column, ColumnType, Load, LoadReport, Table, Warehouse
from tests.fixtures.servers import temporary_database, temporary_state_dir

FRAME_ROWS = 20_000
START = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = {
    "bigint": ColumnType.BIGINT, "text": ColumnType.TEXT, "numeric": ColumnType.NUMERIC,
    "at": ColumnType.TIMESTAMPTZ, "is": ColumnType.BOOLEAN, "double": ColumnType.DOUBLE, "json": ColumnType.JSONB,
}  # fmt: skip
NAMES = (
    *(f"bigint_{n}" for n in range(4)), *(f"text_{n}" for n in range(6)), *(f"numeric_{n}" for n in range(2)),
    *(f"at_{n}" for n in range(3)), *(f"is_{n}" for n in range(2)), "double_0", "json_0",
)  # fmt: skip
TABLE = Table(
    "bench", "wide", (Column("id", ColumnType.BIGINT), *(Column(name, KINDS[name.split("_")[0]]) for name in NAMES))
)


def frame(first: int, rows: int, *, changed_share: float = 0.0) -> pl.DataFrame:
    """Rows `first` and following, the same for the same numbers; every 1/changed_share-th one differs."""
    number = pl.col("id")
    values = [
        (number * 7919 % 100_003 + index).alias(name) if name.startswith("bigint")
        else (pl.lit(f"text {index} ") + (number * 31 % 9973).cast(pl.String) + ' "quoted", été').alias(name)
        if name.startswith("text")
        else (number % 1_000_000).cast(pl.Decimal(18, 2)).alias(name) if name.startswith("numeric")
        else (pl.lit(START) + pl.duration(seconds=number % 31_536_000 + index)).alias(name) if name.startswith("at")
        else (number % (index % 3 + 2) == 0).alias(name) if name.startswith("is")
        else (number / 7).alias(name) if name.startswith("double")
        else (pl.lit('{"number": ') + number.cast(pl.String) + ', "tags": ["a", "b"], "nested": {"x": null}}').alias(name)
        for index, name in enumerate(NAMES)
    ]  # fmt: skip
    made = pl.DataFrame({"id": pl.int_range(first, first + rows, eager=True)}).with_columns(values)
    if changed_share:
        is_changed = number % round(1 / changed_share) == 0
        made = made.with_columns(pl.when(is_changed).then(pl.lit("changed")).otherwise("text_0").alias("text_0"))
    return made


def frames(rows: int, *, changed_share: float = 0.0) -> Iterator[pl.DataFrame]:
    for first in range(0, rows, FRAME_ROWS):
        yield frame(first, min(FRAME_ROWS, rows - first), changed_share=changed_share)


def bare_copy(connection: psycopg.Connection, made: list[pl.DataFrame]) -> float:
    """Seconds of the simplest COPY of these frames into an unlogged table."""
    columns = ", ".join(f"{column.name} {column.type.value}" for column in TABLE.columns)
    connection.execute(f"DROP TABLE IF EXISTS bare; CREATE UNLOGGED TABLE bare ({columns})".encode())
    began = perf_counter()
    with connection.transaction(), connection.cursor().copy("COPY bare FROM STDIN (FORMAT csv)") as copy:
        for each in made:
            buffer = BytesIO()
            each.write_csv(buffer, include_header=False, quote_style="non_numeric")
            copy.write(buffer.getvalue())
    spent = perf_counter() - began
    connection.execute("DROP TABLE bare")
    return spent


@contextmanager
def wal(connection: psycopg.Connection) -> Iterator[list[int]]:
    written: list[int] = []
    before = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    yield written
    after = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", before).fetchone()
    written.append(int(after[0]) if after else 0)


def timed(connection: psycopg.Connection, warehouse: Warehouse, made: list[pl.DataFrame]) -> tuple[LoadReport, int]:
    with wal(connection) as written:
        report = warehouse.load(Load(TABLE, frames=made))
    return report, written[0]


def show(name: str, seconds: float, bare: float, *, limit: float, rest: str = "") -> None:
    print(f"{name:<28}{seconds:7.2f} s  {seconds / bare:5.2f} x bare (limit {limit:.1f})  {rest}", flush=True)


LIMITS = {"first": 2.5, "unchanged": 1.5, "1 % changed": 1.7}


def run(url: str, rows: int) -> None:
    made, changed = list(frames(rows)), list(frames(rows, changed_share=0.01))
    warehouse = Warehouse(url)
    warehouse.migrate()
    bare: list[float] = []
    loads: dict[str, list[tuple[LoadReport, int]]] = {name: [] for name in LIMITS}
    turns = (("first", made), *[("unchanged", made), ("1 % changed", changed), ("1 % changed", made)] * 2)
    with psycopg.connect(url, autocommit=True) as connection:
        for name, frames_ in turns:
            bare.append(bare_copy(connection, made))
            loads[name].append(timed(connection, warehouse, frames_))
    best = min(bare)
    print(f"{rows} rows x {len(TABLE.columns)} columns; bare COPY {best:.2f} to {max(bare):.2f} s")
    for name, limit in LIMITS.items():
        report, written = min(loads[name], key=lambda load: load[0].seconds["total"])
        phases = ", ".join(f"{phase} {spent:.2f}" for phase, spent in report.seconds.items() if spent > 0.005)
        if name == "first":
            show("staging", report.seconds["stage"], best, limit=1.3)
        rest = f"{written / 1e6:.2f} MB WAL; +{report.inserted} ~{report.updated} ={report.unchanged} ({phases})"
        show(name, report.seconds["total"], best, limit=limit, rest=rest)


def memory(url: str, rows: int) -> int:
    """Peak resident MiB of a process of its own that loads so many rows."""
    code = f"from tests.bench import io_bench; io_bench.load_and_tell({url!r}, {rows})"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def load_and_tell(url: str, rows: int) -> None:
    Warehouse(url).load(Load(TABLE, frames=frames(rows)))
    print(peak_mebibytes())


def peak_mebibytes() -> int:
    """Peak resident memory. Not getrusage(), which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", help="a PostgreSQL on which databases may be made and dropped")
    arguments = parser.parse_args()
    if arguments.url:
        measure(arguments.url, arguments.rows)
        return
    from pipeboard_resources.embedded import postgres_server

    with temporary_state_dir() as folder, postgres_server(folder) as server:
        print(server.source)
        measure(server.url, arguments.rows)


def measure(server_url: str, rows: int) -> None:
    with temporary_database(server_url, name="bench") as url:
        run(url, rows)
    with temporary_database(server_url, name="bench") as url:
        small, large = memory(url, 100_000), memory(url, rows)
    print(f"peak memory {small} MiB at 100k rows, {large} MiB at {rows}: {large - small:+d} MiB (limit 20)")


if __name__ == "__main__":
    main()
