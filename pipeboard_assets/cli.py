"""The `pipeboard` command: reads the settings, opens the environment, runs Dagster, tells what came of it.

Thin on purpose. Exit status: 0 all right; 1 something is wrong and the message says what to do; 2 wrong usage or
settings; 75 stopped early on purpose, run it again to go on; 130 interrupted by Ctrl-C or SIGTERM.
"""

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import click
from pydantic import ValidationError

from pipeboard_resources.embedded.errors import EmbeddedServerError
from pipeboard_resources.settings import SettingError, Settings

OK, FAILED, MISUSED, STOPPED, INTERRUPTED = 0, 1, 2, 75, 130

_MONTH = re.compile(r"[1-9][0-9]{3}-(0[1-9]|1[0-2])", re.ASCII)

P = ParamSpec("P")
R = TypeVar("R")

# Heavy modules (dagster takes 1-2 s) are imported inside the commands, so that --help and bad usage answer at once.


class Refusal(click.ClickException):
    """A sentence for the person at the terminal instead of a stack trace."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares a class variable and reads the instance

    def show(self, file: Any = None) -> None:
        from pipeboard_assets.commands.console import fail

        fail(self.message)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """The boundary of the program: errors that we know become one sentence; anything else keeps its trace.

    Inside `_told_as_json` too, so that a machine reads the same sentence.
    """
    from pipeboard_io.errors import WarehouseError
    from pipeboard_resources.pipedrive.errors import PipedriveError, TokenBudgetSpent

    try:
        yield
    except TokenBudgetSpent as spent:  # before a run was there to be stopped
        raise Refusal(str(spent), STOPPED) from spent
    except SettingError as error:
        raise Refusal(str(error), MISUSED) from error
    except (EmbeddedServerError, PipedriveError) as error:
        raise Refusal(str(error)) from error
    except WarehouseError as error:
        raise Refusal(f"{error} (Setting: DATABASE_URL.)") from error
    except KeyboardInterrupt:
        raise Refusal("Interrupted. Nothing is half done; run it again to go on.", INTERRUPTED) from None


@contextmanager
def _told_as_json(as_json: bool, failed: Callable[[click.ClickException], object]) -> Iterator[None]:
    """With --json, a refusal prints `failed(refusal)` on stdout besides: that too is one object and nothing else."""
    try:
        with _plain_errors():
            yield
    except click.ClickException as refusal:
        if as_json:
            click.echo(json.dumps(failed(refusal), ensure_ascii=False))
        raise


def _read_settings() -> Settings:
    from pipeboard_assets.logs import configure_logs

    try:
        settings = Settings()
    except ValidationError as invalid:
        lines = [f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in invalid.errors()]
        raise Refusal("Settings that cannot be used:\n  " + "\n  ".join(lines), MISUSED) from None
    configure_logs(settings.log_format)
    return settings


def _command(function: Callable[P, int]) -> Callable[P, None]:
    """A command's body returns the exit status."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with _plain_errors():
            _heed_signals()
            sys.exit(function(*args, **kwargs))

    return run


def _heed_signals() -> None:
    """SIGTERM stops a command as Ctrl-C does, so that servers are stopped too; what a shell had us ignore stays so."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pipeboard")
def main() -> None:
    """Keep a PostgreSQL database in step with a Pipedrive account. A green run means the table is right."""


def _month(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _MONTH.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no month; write YYYY-MM, for example 2026-03")
    return value


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on stdout.")
_WHAT_TO_SYNC = (
    click.option(
        "--select", "selected", multiple=True, metavar="ASSET", help="Only these; repeat, or separate by commas."
    ),
    click.option("--full", is_flag=True, help="Read everything again and mark what is gone."),
    click.option("--from", "first", callback=_month, metavar="YYYY-MM", help="First month of a backfill."),
    click.option("--to", "last", callback=_month, metavar="YYYY-MM", help="Last month of a backfill."),
    click.option(
        "--deal-history", is_flag=True, help="Read what deals said before the first sync: a call for each, once."
    ),
    _as_json,
)


def _what_to_sync(function: Callable[P, R]) -> Callable[P, R]:
    """The options that `sync` and `plan` share."""
    for option in reversed(_WHAT_TO_SYNC):
        function = option(function)
    return function


@main.command()
@_what_to_sync
@click.option("--retry-rejected", is_flag=True, help="Read again only the records of which something was rejected.")
@click.option(
    "--allow-mass-delete", is_flag=True, help="Let a full sync mark more rows deleted than the setting allows."
)
@_command
def sync(
    selected: tuple[str, ...],
    full: bool,
    first: str | None,
    last: str | None,
    deal_history: bool,
    as_json: bool,
    retry_rejected: bool,
    allow_mass_delete: bool,
) -> int:
    """Bring the tables up to date: what changed since the last sync, or a range of months, or everything."""
    from pipeboard_assets.graph.outcome import never_ran
    from pipeboard_assets.graph.request import ASSETS, asked_for

    assets = ASSETS
    with _told_as_json(
        as_json, lambda refusal: never_ran(assets, refusal.message, is_stopped=refusal.exit_code == STOPPED)
    ):
        settings = _read_settings()
        request = asked_for(
            selected,
            full=full,
            months=(first, last),
            allow_mass_delete=allow_mass_delete,
            retry_rejected=retry_rejected,
            deal_history=deal_history,
            history_start=settings.history_start,
            prefix=settings.prefix,
        )
        assets = request.assets
        from pipeboard_assets.commands import syncing

        return syncing.sync(settings, request, as_json=as_json)


@main.command()
@_what_to_sync
@_command
def plan(
    selected: tuple[str, ...], full: bool, first: str | None, last: str | None, deal_history: bool, as_json: bool
) -> int:
    """Tell what a sync would change in the schema and ask of the API. Changes no table."""
    from pipeboard_assets.graph.request import asked_for

    with _told_as_json(
        as_json, lambda refusal: {"ddl": [], "requests": None, "tokens": None, "error": refusal.message}
    ):
        settings = _read_settings()
        request = asked_for(
            selected,
            full=full,
            months=(first, last),
            deal_history=deal_history,
            history_start=settings.history_start,
            prefix=settings.prefix,
        )
        from pipeboard_assets.commands import plan as planning

        return planning.plan(settings, request, as_json=as_json)


@main.command()
@_as_json
@_command
def status(as_json: bool) -> int:
    """Rows, watermarks, freshness and rejected records of every table."""
    with _told_as_json(as_json, lambda refusal: {"assets": [], "tokens_left": None, "error": refusal.message}):
        settings = _read_settings()
        from pipeboard_assets.commands import reports

        return reports.status(settings, as_json=as_json)


@main.command()
@_command
def doctor() -> int:
    """Check every setting and permission, and say how to mend what is wrong."""
    settings = _read_settings()
    from pipeboard_assets.commands import doctor as examination

    return examination.doctor(settings)


_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@main.command()
@_file
@_command
def backup(file: Path) -> int:
    """Write tables, views and state into one file, with what is needed to prove a restore of it."""
    settings = _read_settings()
    from pipeboard_assets.commands import backup as keeping

    return keeping.backup(settings, file)


@main.command()
@_file
@_command
def restore(file: Path) -> int:
    """Put a backup into an empty database and prove that it is what was saved."""
    settings = _read_settings()
    from pipeboard_assets.commands import backup as keeping

    return keeping.restore(settings, file)


@main.command()
@_command
def demo() -> int:
    """Sync a made-up company into an embedded PostgreSQL. Needs no account and touches no data of yours."""
    settings = _read_settings()
    from pipeboard_assets.commands import demo as demonstration

    return demonstration.demo(settings)


@main.command()
@click.option("--port", default=3000, type=click.IntRange(1, 65535), show_default=True, help="Port on 127.0.0.1.")
@_command
def ui(port: int) -> int:
    """Open Dagster's UI on your data, or on the demo's while no API key is set."""
    settings = _read_settings()
    from pipeboard_assets.commands import ui as interface

    return interface.serve(settings, port=port)


_host = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 in a container."
)


@main.command()
@_host
@click.option(
    "--port", default=9808, type=click.IntRange(0, 65535), show_default=True, help="Its port; 0 takes a free one."
)
@click.option(
    "--disk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder on PostgreSQL's disk, whose free space is told; by itself that of the embedded server.",
)
@_command
def metrics(host: str, port: int, disk: Path | None) -> int:
    """Serve figures for Prometheus, read from the ledger and from Dagster."""
    settings = _read_settings()
    from pipeboard_assets.commands import monitoring

    return monitoring.metrics(settings, host=host, port=port, disk=disk)


@main.command()
@_host
@click.option(
    "--port", default=8765, type=click.IntRange(0, 65535), show_default=True, help="Its port; 0 takes a free one."
)
@click.option(
    "--deals",
    default=2000,
    type=click.IntRange(min=1),
    show_default=True,
    help="Number of deals; the rest is in proportion.",
)
@click.option("--seed", default=7, show_default=True, help="Same seed, same company.")
@click.option(
    "--now",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Stop its clock here (UTC): the same company after a restart. Default: its clock runs.",
)
@_command
def standin(host: str, port: int, deals: int, seed: int, now: datetime | None) -> int:
    """Run a local Pipedrive with a made-up company, for trying things out."""
    from pipeboard_resources.pipedrive import standin as pretend

    stopped_at = now.replace(tzinfo=UTC) if now else None
    return pretend.run(host=host, port=port, deals=deals, seed=seed, now=stopped_at)
