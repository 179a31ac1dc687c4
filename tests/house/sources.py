"""Reads our own Python: which modules there are, and what of a kind stands in one. No rule lives here."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeboard_resources.settings import PROJECT_ROOT

PACKAGES = ("pipeboard_assets", "pipeboard_resources", "pipeboard_io")
_LOG_METHODS = frozenset(("debug", "info", "warning", "error", "exception", "critical", "fatal", "log"))
_ENVIRONMENT = frozenset(("environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"))


@dataclass(frozen=True)
class Module:
    """One Python file. `name` is its path below the project."""

    name: str
    tree: ast.Module

    def __str__(self) -> str:
        return self.name


def module_of(source: str, name: str = "example.py") -> Module:
    """Source text as a module. Raises SyntaxError."""
    return Module(name, ast.parse(source, filename=name))


def modules_below(folder: Path) -> tuple[Module, ...]:
    """Every Python file in a folder and its folders, in order of name."""
    paths = sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
    return tuple(
        module_of(path.read_text(encoding="utf-8"), path.relative_to(PROJECT_ROOT).as_posix()) for path in paths
    )


MODULES = tuple(module for package in PACKAGES for module in modules_below(PROJECT_ROOT / package))


def prints(module: Module) -> list[int]:
    """Lines that call `print`."""
    calls = (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def built_log_messages(module: Module) -> list[int]:
    """Lines that log something whose event is not a constant text, or that put an f-string into the arguments."""
    return [call.lineno for call in _log_calls(module) if not _is_constant_event(call)]


def _log_calls(module: Module) -> Iterator[ast.Call]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOG_METHODS:
            receiver = ast.unparse(node.func.value).lower().rpartition(".")[2]
            if receiver.strip("_") in ("log", "logger", "logging") or receiver.startswith("getlogger("):
                yield node


def _is_constant_event(call: ast.Call) -> bool:
    assert isinstance(call.func, ast.Attribute)
    arguments = call.args[1:] if call.func.attr == "log" else call.args
    event = arguments[0] if arguments else None
    return (
        isinstance(event, ast.Constant)
        and isinstance(event.value, str)
        and not any(isinstance(argument, ast.JoinedStr) for argument in arguments)
    )


def broad_excepts(module: Module) -> list[int]:
    """Lines with `except:`, `except Exception` or `except BaseException`, alone or in a tuple.

    `except BaseException` that ends in `raise` is left out: it cleans up and swallows nothing.
    """
    handlers = (node for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler))
    return [handler.lineno for handler in handlers if _is_broad(handler.type) and not _is_cleanup(handler)]


def _is_cleanup(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    is_everything = handler.type is not None and ast.unparse(handler.type) == "BaseException"
    return is_everything and isinstance(last, ast.Raise) and last.exc is None


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_is_broad(item) for item in caught.elts)
    return caught is None or ast.unparse(caught).rpartition(".")[2] in ("Exception", "BaseException")


def environment_uses(module: Module) -> list[int]:
    """Lines that touch the process's environment through `os`, however it was imported."""
    return [
        node.lineno
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and node.attr in _ENVIRONMENT and ast.unparse(node.value) == "os")
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and _imports_environment(node))
    ]


def _imports_environment(node: ast.ImportFrom) -> bool:
    return any(name.name in _ENVIRONMENT for name in node.names)


def attributes_read(modules: Iterable[Module]) -> set[str]:
    """Every name that is read as an attribute anywhere."""
    nodes = (node for module in modules for node in ast.walk(module.tree))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def settings_reads(module: Module) -> list[int]:
    """Lines that build `Settings()` from the environment: a call without arguments."""
    calls = (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if ast.unparse(call) in ("Settings()", "settings.Settings()")]
