"""Commands and targets that the documents name exist as named, and none that exists is left out."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from pipeboard_assets import cli
from pipeboard_resources.settings import PROJECT_ROOT
from tests.house.documents import CONTRIBUTING, DOCUMENTS, ENGLISH, PORTUGUESE, READMES, Document, Row, spans_in

COMMANDS = dict(cli.main.commands)
TARGETS = re.findall(r"^([a-z-]+):.*## ", (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def commands_table(document: Document) -> list[Row]:
    return document.table_with("`make demo`")


def program_calls(document: Document) -> list[list[str]]:
    """Arguments of every `pipeboard <command> ...` in a document."""
    lines = (re.fullmatch(r"(?:\.venv/bin/)?pipeboard (.+)", line) for line in document.command_lines)
    return [shlex.split(match[1]) for match in lines if match]


def make_calls(document: Document) -> list[str]:
    """Targets of every `make <target> ...` in a document."""
    lines = (re.fullmatch(r"make (.+)", line) for line in document.command_lines)
    return [word for match in lines if match for word in shlex.split(match[1]) if "=" not in word]


def options_of(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield parameter.opts[-1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_documented_command_line_is_one_that_the_program_accepts(document: Document) -> None:
    for name, *arguments in program_calls(document):
        assert name in COMMANDS, f"{document} names `pipeboard {name}`, which does not exist"
        COMMANDS[name].make_context(name, arguments)  # click.UsageError: an option or a value that it does not take


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_documented_target_is_in_the_makefile(document: Document) -> None:
    assert set(make_calls(document)) <= set(TARGETS)


@pytest.mark.parametrize("document", READMES, ids=str)
def test_every_command_stands_in_the_table(document: Document) -> None:
    named = {span.split()[1] for row in commands_table(document) for span in spans_in(row[0]) if "pipeboard" in span}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("document", READMES, ids=str)
def test_every_option_is_documented(document: Document, name: str) -> None:
    used = {word for call in program_calls(document) if call[0] == name for word in call[1:]}
    alone = {span for span in document.spans if span.startswith("--")}
    assert set(options_of(COMMANDS[name])) - used - alone == set(), f"write how to use them into {document}"


def test_both_languages_name_the_same_commands_in_the_same_order() -> None:
    assert [row[0] for row in commands_table(PORTUGUESE)] == [row[0] for row in commands_table(ENGLISH)]


def test_every_target_stands_in_the_readme_or_in_contributing() -> None:
    assert set(TARGETS) - {*make_calls(ENGLISH), *make_calls(CONTRIBUTING)} == set()


@pytest.mark.parametrize("document", READMES, ids=str)
def test_every_exit_status_of_sync_is_explained(document: Document) -> None:
    explained = [int(row[0]) for row in document.table_with(str(cli.STOPPED))]
    assert explained == [cli.OK, cli.FAILED, cli.MISUSED, cli.STOPPED]


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_address_of_the_ui_is_the_one_it_listens_on(document: Document) -> None:
    port = next(parameter.default for parameter in COMMANDS["ui"].params if parameter.name == "port")
    assert f"<http://127.0.0.1:{port}>" in document.text
