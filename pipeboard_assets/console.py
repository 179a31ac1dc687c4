"""What people see in a terminal: progress while a sync runs, tables when it is done. No logic, no settings."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeboard_assets.runner import AssetOutcome, Status
from pipeboard_io import LoadReport

_MARKS = {
    Status.SUCCESS: "[green]ok[/]",
    Status.FAILED: "[bold red]failed[/]",
    Status.SKIPPED: "[yellow]skipped[/]",
    Status.STOPPED: "[yellow]stopped[/]",
}


class PlainProgress:
    """One line when an asset is done; for logs, pipes and CI. Writes to stderr, so that stdout stays for results."""

    def started(self, asset: str) -> None:
        """Nothing to say yet: a line per asset is enough."""

    def page_read(self, entity: str, records: int) -> None:
        """Pages are too many for a log."""

    def loaded(self, asset: str, report: LoadReport) -> None:
        print(f"{asset}: {_changes(report)}", file=sys.stderr, flush=True)


class LiveProgress(PlainProgress):
    """One bar for the assets and the records read so far, redrawn in place."""

    def __init__(self, progress: Progress, assets: int) -> None:
        self._progress = progress
        self._records = 0
        self._task = progress.add_task("starting", total=assets, detail="")

    def started(self, asset: str) -> None:
        self._records = 0
        self._progress.update(self._task, description=asset, detail="")

    def page_read(self, entity: str, records: int) -> None:
        self._records += records
        self._progress.update(self._task, description=entity, detail=f"{self._records:,} read")

    def loaded(self, asset: str, report: LoadReport) -> None:
        self._progress.update(self._task, advance=1, detail="")
        self._progress.console.print(f"  [green]ok[/] {asset:<15} {_changes(report)}", highlight=False)


@contextmanager
def progress_display(assets: int) -> Iterator[PlainProgress]:
    """A live display on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainProgress()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<15}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield LiveProgress(progress, assets)


def say(message: str) -> None:
    """A remark beside the result."""
    Console(stderr=True, highlight=False).print(message, style="dim", soft_wrap=True)


def fail(message: str) -> None:
    """What went wrong and what to do, in red on a terminal."""
    Console(stderr=True, highlight=False).print(message, style="bold red", markup=False, soft_wrap=True)


def show_outcomes(outcomes: Sequence[AssetOutcome]) -> None:
    """The table at the end of a sync; errors below it, whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("asset", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("rows", "inserted", "updated", "unchanged", "deleted", "rejected", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        table.add_row(outcome.asset, _MARKS[outcome.status], *_figures(outcome))
    console = Console(highlight=False)
    console.print(table)
    for outcome in outcomes:
        if outcome.error and outcome.status is not Status.SKIPPED:
            console.print(f"\n{outcome.asset}: {outcome.error}", markup=False, soft_wrap=True)


def show_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table; numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, heading in enumerate(headings):
        is_number = bool(rows) and isinstance(rows[0][position], int | float)
        table.add_column(heading, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    Console(highlight=False).print(table)


def _figures(outcome: AssetOutcome) -> tuple[str, ...]:
    if outcome.status is not Status.SUCCESS:
        return ("",) * 7
    counts = (
        outcome.rows,
        outcome.inserted,
        outcome.updated + outcome.restored,
        outcome.unchanged,
        outcome.deleted,
        outcome.rejected,
    )
    return (*(f"{count:,}" for count in counts), f"{outcome.seconds:.1f}")


def _changes(report: LoadReport) -> str:
    parts = [
        f"{count:,} {word}"
        for word, count in (
            ("inserted", report.inserted),
            ("updated", report.updated),
            ("restored", report.restored),
            ("deleted", report.deleted),
            ("rejected", report.rejected),
        )
        if count
    ]
    return f"{report.rows:,} rows, " + (", ".join(parts) or "nothing changed")


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
