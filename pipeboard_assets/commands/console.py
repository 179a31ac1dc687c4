"""What people see in a terminal: progress while a sync runs, tables when it is done. No logic, no settings."""

import logging
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeboard_assets.graph.outcome import AssetOutcome, Status
from pipeboard_assets.logs import is_for_machines
from pipeboard_io import LoadReport

logger = logging.getLogger(__name__)

_ENDLESS = 1000
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
    if is_for_machines():
        logger.info("%s", message)
        return
    Console(stderr=True, highlight=False).print(message, style="dim", soft_wrap=True)


def fail(message: str) -> None:
    """What went wrong and what to do, in red on a terminal."""
    if is_for_machines():
        logger.error("%s", message)
        return
    Console(stderr=True, highlight=False).print(message, style="bold red", markup=False, soft_wrap=True)


def show_outcomes(outcomes: Sequence[AssetOutcome]) -> None:
    """The table at the end of a sync; below it what went wrong, whole, and once where several assets say the same."""
    headings = ("asset", "", "rows", "inserted", "updated", "deleted", "rejected", "seconds")
    rows = [(outcome.asset, _MARKS[outcome.status], *_figures(outcome)) for outcome in outcomes]
    _print_table(headings, rows, numbers=range(2, len(headings)))
    console = _output()
    for assets, error in _told_once(outcomes).values():
        console.print(f"\n{', '.join(assets)}: {error}", markup=False, soft_wrap=True)
    if notes := [f"{outcome.asset} {note}" for outcome in outcomes for note in outcome.notes]:
        say(f"Noted by checks, with examples in the UI: {', '.join(notes)}")


def _told_once(outcomes: Sequence[AssetOutcome]) -> dict[str, tuple[list[str], str]]:
    """Assets and error by what the error says after the endpoint: a wrong key is refused by all endpoints alike."""
    told: dict[str, tuple[list[str], str]] = {}
    for outcome in outcomes:
        if outcome.error:
            essence = outcome.error.partition(" from Pipedrive: ")[2] or outcome.error
            told.setdefault(essence, ([], outcome.error))[0].append(outcome.asset)
    return told


def show_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table; columns of numbers to the right."""
    first = rows[0] if rows else headings
    numbers = {position for position, cell in enumerate(first) if isinstance(cell, int | float | Decimal)}
    _print_table(headings, [[escape(_text(cell)) for cell in row] for row in rows], numbers)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int]) -> None:
    """Two spaces between the columns, one where a narrow terminal would cut headings; a pipe has any width."""
    console = _output()
    for gap in (2, 1):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
        for position, heading in enumerate(headings):
            table.add_column(heading, justify="right" if position in numbers else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        if Measurement.get(console, console.options, table).maximum <= console.width:
            break
    console.print(table)


def _output() -> Console:
    """Results go to stdout; where that is no terminal, nothing may be cut to a width that nobody sees."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_ENDLESS)


def _figures(outcome: AssetOutcome) -> tuple[str, ...]:
    if outcome.status is not Status.SUCCESS:
        return ("",) * 6
    counts = (
        outcome.rows,
        outcome.inserted,
        outcome.updated + outcome.restored,
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
    return f"{cell:,}" if isinstance(cell, int | Decimal) else str(cell)


def show_finding(mark: str, subject: str, seen: str, advice: str) -> None:
    """One line of an examination, and what to do below it."""
    console = _output()
    styles = {"ok": "green", "note": "yellow", "wrong": "bold red"}
    console.print(f"[{styles[mark]}]{mark:<6}[/] {escape(f'{subject:<20} {seen}')}", soft_wrap=True)
    if advice:
        console.print(f"{'':27} -> {advice}", markup=False, soft_wrap=True)
