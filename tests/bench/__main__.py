"""An API to PostgreSQL, measured: Pipeboard, the floor below anybody, and what else a Python user would pick.

python -m tests.bench [--records 100000] [--latencies 0 0.05 0.2] [--times 5] [--peer-python PATH] [--write]

Everybody reads the same fast Pipedrive on loopback and writes to the same embedded PostgreSQL, one after the other, so that
the ratios hold on a machine that is not quiet. The median of all turns counts. With --write the outcome is added to
RESULTS.md beside this file.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg

from pipeboard_resources.embedded import postgres_server, redis_server
from tests.bench import report
from tests.bench.measuring import Api, Cost, Server, cost_of, running
from tests.fixtures.servers import temporary_database, temporary_state_dir

HERE = Path(__file__).parent

# As deploy/compose.yaml gives it; the defaults are for a machine with 128 MB.
TUNED = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}
_PHASES = """
SELECT key AS phase, sum(value::numeric) AS seconds FROM pipeboard.load, jsonb_each_text(seconds)
WHERE key <> 'total' GROUP BY key ORDER BY seconds DESC
"""


@dataclass(slots=True)
class Bench:
    """One size of company: who was measured, at which latency, how often."""

    records: int
    costs: dict[tuple[str, float], list[Cost]] = field(default_factory=lambda: defaultdict(list))
    phases: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def medians(self) -> Mapping[tuple[str, float], Cost]:
        """Of every figure by itself."""
        return {what: _middle(costs) for what, costs in self.costs.items()}


def _middle(costs: list[Cost]) -> Cost:
    figures = {each.name: [getattr(cost, each.name) for cost in costs] for each in fields(Cost) if each.name != "told"}
    return Cost(**{name: median(values) for name, values in figures.items()}, told={})


@dataclass(frozen=True, slots=True)
class Bed:
    """What the programs run on."""

    api: Api
    postgres_url: str
    redis_url: str
    folder: Path

    @contextmanager
    def pipeboard(self) -> Iterator["Pipeboard"]:
        """A warehouse of its own, empty."""
        with temporary_database(self.postgres_url, name="bench") as url, _watching(url) as server:
            yield Pipeboard(self, url, server)

    def measure(self, command: list[str | Path]) -> Cost:
        """Of a program that takes a database's URL at `DATABASE` in its command."""
        with temporary_database(self.postgres_url, name="bench") as url, _watching(url) as server:
            told = [url if part == "DATABASE" else part for part in command]
            return cost_of(told, {}, server=server, api=self.api, folder=self.folder)

    def floor(self, *more: str) -> Cost:
        """The least that anybody could do."""
        return self.measure([sys.executable, HERE / "floor.py", self.api.url, self.api.key, "DATABASE", *more])


@contextmanager
def _watching(url: str) -> Iterator[Server]:
    server = Server(url)
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True, slots=True)
class Pipeboard:
    """`pipeboard sync` as people run it."""

    bed: Bed
    database_url: str
    server: Server

    def sync(self, *options: str) -> Cost:
        """One run of the command, from start to exit."""
        environment = {
            "PIPEDRIVE_API_KEY": self.bed.api.key,
            "PIPEDRIVE_BASE_URL": self.bed.api.url,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.bed.redis_url,
            "DAGSTER_HOME": str(self.bed.folder / "dagster_home"),
            "PIPEBOARD_HISTORY_START": "2024-01",
        }
        command = [sys.executable, "-m", "pipeboard_assets", "sync", "--json", *options]
        return cost_of(command, environment, server=self.server, api=self.bed.api, folder=self.bed.folder)

    def phases(self) -> Mapping[str, float]:
        """Where the time of all loads so far went, in seconds."""
        with psycopg.connect(self.database_url) as connection:
            return {name: float(seconds) for name, seconds in connection.execute(_PHASES).fetchall()}


def first_sync(bench: Bench, bed: Bed, latency: float, peer: Path | None) -> None:
    """Everybody from nothing."""
    bed.api.answer_after(latency)
    bench.costs["floor", latency].append(bed.floor())
    with bed.pipeboard() as pipeboard:
        bench.costs["first sync", latency].append(pipeboard.sync())
        for phase, seconds in pipeboard.phases().items():
            bench.phases[phase].append(seconds)
        if latency == 0:
            later_syncs(bench, bed, pipeboard)
    if peer is not None:
        asked = [peer, HERE / "dlt_pipeline.py", bed.api.url, bed.api.key, "DATABASE"]
        for name, options in {"dlt, INSERT": (), "dlt, COPY": ("--file-format", "csv")}.items():
            folder = bed.folder / name.replace(", ", "-")
            bench.costs[name, latency].append(bed.measure([*asked, folder, *options]))


def later_syncs(bench: Bench, bed: Bed, pipeboard: Pipeboard) -> None:
    """What a warehouse that is there costs."""
    bench.costs["nothing changed", 0].append(pipeboard.sync())
    bench.costs["full, nothing changed", 0].append(pipeboard.sync("--full"))
    before = datetime.now(UTC)
    bed.api.change(0.01)
    bench.costs["1 % changed", 0].append(pipeboard.sync())
    bench.costs["floor, 1 % changed", 0].append(bed.floor("--since", f"{before:%Y-%m-%dT%H:%M:%SZ}"))
    bench.costs["12 months again", 0].append(pipeboard.sync("--from", "2025-01", "--to", "2025-12"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--records", type=int, default=100_000)
    arguments.add_argument("--latencies", type=float, nargs="+", default=[0.0, 0.05, 0.2], help="seconds a request")
    arguments.add_argument("--times", type=int, default=5, help="turns; the median counts")
    arguments.add_argument("--peer-python", type=Path, help="a Python with dlt[postgres] (RESULTS.md says how)")
    arguments.add_argument("--write", action="store_true", help="add the outcome to RESULTS.md")
    asked = arguments.parse_args()
    bench = Bench(asked.records)
    with ExitStack() as stack:
        folders = [stack.enter_context(temporary_state_dir()) for _ in range(3)]
        postgres = stack.enter_context(postgres_server(folders[0], options=TUNED))
        redis = stack.enter_context(redis_server(folders[1]))
        if redis is None:
            sys.exit("The bench cannot start: no Redis on this machine.")
        command = [sys.executable, "-m", "tests.bench.fast_pipedrive", "--records", str(asked.records)]
        bed = Bed(stack.enter_context(running(command)), postgres.url, redis.url, folders[2])
        for turn in range(asked.times):
            for latency in asked.latencies:
                first_sync(bench, bed, latency, asked.peer_python)
                report.progress(turn, latency, bench.costs)
    text = report.written(bench.records, bench.medians(), bench.phases, times=asked.times)
    print(text)
    if asked.write:
        report.add(text)


if __name__ == "__main__":
    main()
