"""The documents agree with each other and with the project: languages, links, versions, changelog."""

import re
import tomllib
from collections import Counter

import pytest

from pipeboard_resources.embedded import postgres_binaries
from pipeboard_resources.settings import PROJECT_ROOT
from tests.house.documents import DOCUMENTS, ENGLISH, PORTUGUESE, READMES, Document


def test_both_languages_have_the_same_headings() -> None:
    assert PORTUGUESE.heading_levels == ENGLISH.heading_levels


def test_both_languages_have_the_same_code_blocks() -> None:
    assert PORTUGUESE.code == ENGLISH.code


def test_both_languages_name_the_same_things_in_code_marks() -> None:
    english, portuguese = Counter(ENGLISH.spans), Counter(PORTUGUESE.spans)
    assert (english - portuguese, portuguese - english) == (Counter(), Counter())


def test_both_languages_have_tables_of_the_same_size() -> None:
    assert [len(table) for table in PORTUGUESE.tables] == [len(table) for table in ENGLISH.tables]


def test_each_language_points_to_the_other() -> None:
    assert (PORTUGUESE.name in ENGLISH.links, ENGLISH.name in PORTUGUESE.links) == (True, True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_relative_link_leads_somewhere(document: Document) -> None:
    folder = (PROJECT_ROOT / document.name).parent
    relative = [link.split("#")[0] for link in document.links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in relative if not (folder / link).exists()] == []


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_python_versions_named_are_those_that_are_allowed(document: Document) -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest, above = re.findall(r"3\.(\d+)", project["requires-python"])
    assert re.search(rf"Python 3\.{lowest} (?:to|a) 3\.{int(above) - 1}\b", document.text)


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_oldest_postgresql_named_is_the_one_that_is_accepted(document: Document) -> None:
    assert f"PostgreSQL {postgres_binaries.OLDEST_MAJOR} " in document.text


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    changelog = (PROJECT_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert headings[0].strip("[]") == "Unreleased"
    assert all(re.fullmatch(r"\[?\d+\.\d+\.\d+\]? - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
