"""The program's own log on stderr: readable, or one JSON object a line for machines (PIPEBOARD_LOG_FORMAT).

Modules log with the standard library; structlog writes what they say, with what is being done beside it: run, asset,
mode, window. Values are names, counts and instants; neither keys nor what is in records.
"""

import logging
import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

PACKAGES = ("pipeboard_assets", "pipeboard_resources", "pipeboard_io")

# One for the process and not a context variable: lists are read by threads of their own, and a process carries out one
# asset after the other.
_doing: dict[str, Any] = {}


def doing(**facts: object) -> None:
    """What every line says from now on, in place of what it said before. None is left out."""
    _doing.clear()
    _doing.update({name: value for name, value in facts.items() if value is not None})


def is_for_machines() -> bool:
    """Whether stderr is a log as JSON, in which every line is an object, and not a terminal."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, _Stderr)]
    return any(each.is_json for each in handlers) and not sys.stderr.isatty()


def configure_logs(form: Literal["text", "json"]) -> None:
    """Write to stderr: warnings of everybody, and as JSON also what our packages and Dagster did. Again: replaces the form."""
    before: list[Processor] = [
        _add_doing,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    writer: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False, default=str)]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    )
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(processors=[remove, *writer], foreign_pre_chain=before)
    handler = _Stderr(is_json=form == "json")
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [*(each for each in root.handlers if not isinstance(each, _Stderr)), handler]
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO if form == "json" else logging.WARNING)
    logging.captureWarnings(form == "json")
    logging.setLoggerClass(_conforming(formatter) if form == "json" else logging.Logger)
    if form == "json":
        _leave_to_root()


def _conforming(formatter: logging.Formatter) -> type[logging.Logger]:
    """Loggers made from now on: Dagster makes one for each run, outside the hierarchy, with a handler of its own."""

    class Conforming(logging.Logger):
        def addHandler(self, hdlr: logging.Handler) -> None:
            if _is_terminal(hdlr):
                hdlr.setFormatter(formatter)
            super().addHandler(hdlr)

    return Conforming


def _leave_to_root() -> None:
    """Loggers made before, such as those of Dagster's processes, hand on to the root logger: what they write would be said twice."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.propagate:
            logger.handlers = [each for each in logger.handlers if not _is_terminal(each)]


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at that moment: a progress display puts itself in its place while it is shown."""

    def __init__(self, *, is_json: bool) -> None:
        super().__init__()
        self.is_json = is_json

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _add_doing(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {**event, **_doing}
