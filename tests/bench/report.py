"""The outcome of the bench in Markdown: figures, targets met or missed, where the time goes."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.bench.measuring import Cost

RESULTS = Path(__file__).parent / "RESULTS.md"
Costs = Mapping[tuple[str, float], Cost]


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about the medians: what is compared, the most it may be, and the figure where both sides were measured."""

    claim: str
    most: float
    figure: Callable[[Costs], float]


TARGETS = (
    Target("first sync, seconds against the floor's", 2.0, lambda c: _ratio(c, "first sync", "floor")),
    Target(
        "first sync, CPU against the floor's",
        2.0,
        lambda c: c["first sync", 0].cpu_seconds / c["floor", 0].cpu_seconds,
    ),
    Target("first sync, seconds against dlt's default", 0.2, lambda c: _ratio(c, "first sync", "dlt, INSERT")),
    Target("first sync, seconds against dlt by COPY", 1.0, lambda c: _ratio(c, "first sync", "dlt, COPY")),
    Target(
        "first sync at 200 ms, seconds against dlt by COPY",
        1 / 3,
        lambda c: c["first sync", 0.2].own_seconds / c["dlt, COPY", 0.2].own_seconds,
    ),
    Target("full, nothing changed, seconds against the first sync's", 1.0, lambda c: _ratio(c, *_AGAIN)),
    Target("full, nothing changed, WAL in MiB", 1.0, lambda c: c["full, nothing changed", 0].wal_bytes / 2**20),
    Target(
        "1 % changed, seconds beyond the floor's",
        0.5,
        lambda c: c["1 % changed", 0].own_seconds - c["floor, 1 % changed", 0].own_seconds,
    ),
    Target("first sync, MiB of the process tree", 300, lambda c: c["first sync", 0].memory_mebibytes),
    Target(
        "first sync, requests against the floor's", 1.02, lambda c: c["first sync", 0].requests / c["floor", 0].requests
    ),
)
_AGAIN = ("full, nothing changed", "first sync")


def _ratio(costs: Costs, one: str, other: str) -> float:
    return costs[one, 0].own_seconds / costs[other, 0].own_seconds


def progress(turn: int, latency: float, costs: Mapping[tuple[str, float], Sequence[Cost]]) -> None:
    """One line a turn, for whoever waits."""
    newest = {name: each[-1].own_seconds for (name, at), each in costs.items() if at == latency}
    told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in newest.items())
    print(f"turn {turn + 1}, {latency * 1000:.0f} ms: {told}", flush=True)


def written(records: int, costs: Costs, phases: Mapping[str, Sequence[float]], *, times: int) -> str:
    """A section of RESULTS.md."""
    return "\n".join(
        [
            f"## {records:,} records, {datetime.now(UTC):%Y-%m-%d}",
            "",
            f"{_machine()}; median of {times}.",
            "",
            *_table(costs),
            "",
            *_targets(costs),
            "",
            "Seconds of the first sync by phase, all tables together: "
            + ", ".join(f"{name} {median(seconds):.1f}" for name, seconds in phases.items())
            + ". Validation is in `decode`; phases of different threads overlap.",
            "",
            *_plot(costs),
            "",
        ]
    )


def add(text: str) -> None:
    """Put a section at the end of RESULTS.md."""
    RESULTS.write_text(RESULTS.read_text(encoding="utf-8").rstrip("\n") + "\n\n" + text, encoding="utf-8")


def _machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("polars", "psycopg", "dagster", "msgspec"))
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {versions}"


def _table(costs: Costs) -> list[str]:
    head = "| what | latency | seconds | with process start | CPU s | peak MiB | WAL MiB | requests | tokens | rows |"
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for (name, latency), cost in sorted(costs.items(), key=lambda pair: pair[0][1]):
        figures = (
            f"{latency * 1000:.0f} ms", f"{cost.own_seconds:.2f}", f"{cost.seconds:.2f}", f"{cost.cpu_seconds:.2f}",
            f"{cost.memory_mebibytes:.0f}", f"{cost.wal_bytes / 2**20:.1f}", f"{cost.requests:.0f}",
            f"{cost.tokens:.0f}", f"{cost.rows:,.0f}",
        )  # fmt: skip
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


def _targets(costs: Costs) -> list[str]:
    lines = ["| target | at most | measured | |", "|---|---:|---:|---|"]
    for target in TARGETS:
        try:
            figure = target.figure(costs)
        except KeyError:
            lines.append(f"| {target.claim} | {target.most:.2f} | not measured | |")
            continue
        lines.append(
            f"| {target.claim} | {target.most:.2f} | {figure:.2f} | {'met' if figure <= target.most else '**missed**'} |"
        )
    return lines


def _plot(costs: Costs) -> list[str]:
    shown = {name: cost.own_seconds for (name, latency), cost in costs.items() if latency == 0}
    names, seconds = (
        ", ".join(each) for each in ((f'"{name}"' for name in shown), map("{:.2f}".format, shown.values()))
    )
    return [
        "```mermaid",
        "xychart-beta horizontal",
        '    title "Seconds at no latency"',
        f"    x-axis [{names}]",
        f"    bar [{seconds}]",
        "```",
    ]
