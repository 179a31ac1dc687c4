"""House rules for the code of the three packages. Style that ruff, mypy and import-linter do not know."""

import ast
import re
from collections.abc import Callable, Collection
from pathlib import PurePosixPath

import pytest

from pipeboard_resources.settings import PROJECT_ROOT
from tests.house import sources
from tests.house.sources import MODULES, PACKAGES, Module

# Names that say nothing of what is inside; the drawer that they open is never closed again.
DRAWERS = frozenset(["util", "utils", "helper", "helpers", "common", "base", "core", "misc", "manager", "managers"])
DRAWERS_ALLOWED = frozenset(("io_manager",))  # Dagster's own word

FACES_PEOPLE = {
    "pipeboard_assets/cli.py": "the program",
    "pipeboard_assets/commands/console.py": "what it shows",
    "pipeboard_assets/commands/demo.py": "tells the demo's question and answer",
    "pipeboard_resources/pipedrive/standin/server.py": "tells its address and key to who started it",
}

TOUCHES_ENVIRONMENT = {
    "pipeboard_assets/commands/environment.py": "sets DAGSTER_HOME, which Dagster reads from nowhere else",
    "pipeboard_assets/commands/demo.py": "hands the environment on to the stand-in's process",
    "pipeboard_assets/commands/ui.py": "hands the environment on to Dagster's processes",
    "pipeboard_assets/instance_storage.py": "sets a size that Dagster reads from nowhere else",
    "pipeboard_io/dumping.py": "hands the environment on to pg_dump, with the password that no command line may show",
}

READS_SETTINGS = {
    "pipeboard_assets/cli.py": "composition root for people",
    "pipeboard_assets/definitions.py": "composition root for Dagster",
    "pipeboard_assets/instance_storage.py": "Dagster makes it from dagster.yaml, where no secret may stand",
}


def lines_of(find: Callable[[Module], list[int]], *, allowed: Collection[str] = ()) -> list[str]:
    """`file:line` of everything found outside the allowed modules."""
    return [f"{module}:{line}" for module in MODULES if module.name not in allowed for line in find(module)]


def test_there_are_modules_in_every_package() -> None:
    assert {module.name.split("/")[0] for module in MODULES} == set(PACKAGES)


def test_no_module_or_folder_is_a_drawer() -> None:
    parts = {part for module in MODULES for part in PurePosixPath(module.name).with_suffix("").parts}
    drawers = {part for part in parts - DRAWERS_ALLOWED if DRAWERS.intersection(part.split("_"))}
    assert drawers == set(), "name a module after what lives in it"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_says_what_lives_in_it(module: Module) -> None:
    assert ast.get_docstring(module.tree), f"{module} has no docstring: 1-8 lines, what lives here and what must not"


def test_only_modules_that_face_people_print() -> None:
    assert lines_of(sources.prints, allowed=FACES_PEOPLE) == []


def test_log_events_are_constant_and_their_arguments_lazy() -> None:
    assert lines_of(sources.built_log_messages) == [], 'write logger.info("what happened: %s", value)'


def test_nothing_catches_every_exception() -> None:
    assert lines_of(sources.broad_excepts) == [], "name the errors that are expected"


def test_the_environment_is_touched_only_where_there_is_a_reason() -> None:
    assert lines_of(sources.environment_uses, allowed=TOUCHES_ENVIRONMENT) == [], "take a value from Settings instead"


def test_settings_are_read_at_the_roots_only() -> None:
    assert lines_of(sources.settings_reads, allowed=READS_SETTINGS) == [], "take Settings as an argument"


@pytest.mark.parametrize("allowed", [FACES_PEOPLE, TOUCHES_ENVIRONMENT, READS_SETTINGS])
def test_an_exception_to_a_rule_names_a_module_that_exists(allowed: Collection[str]) -> None:
    assert set(allowed) - {module.name for module in MODULES} == set()


def test_whoever_may_touch_the_environment_still_does() -> None:
    assert set(TOUCHES_ENVIRONMENT) == {module.name for module in MODULES if sources.environment_uses(module)}


def test_the_dagster_yaml_that_an_empty_home_gets_is_the_checkouts() -> None:
    from pipeboard_assets.commands.environment import DAGSTER_YAML

    assert (PROJECT_ROOT / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8") == DAGSTER_YAML


def test_the_flow_names_files_that_exist() -> None:
    import pipeboard_assets

    names = re.findall(r"[\w/]+\.(?:py|sql)\b", pipeboard_assets.__doc__ or "")
    places = (PROJECT_ROOT, PROJECT_ROOT / "pipeboard_assets")
    assert names
    assert [name for name in names if not any((place / name).exists() for place in places)] == []
