"""The settings tables and .env.example say what `Settings` says."""

import re
from pathlib import Path

import pytest

from pipeboard_resources.settings import PROJECT_ROOT, Settings
from tests.house.documents import DOCUMENTS, ENGLISH, PORTUGUESE, READMES, Document, Row
from tests.house.sources import MODULES, attributes_read

FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}
EXAMPLE = PROJECT_ROOT / ".env.example"

_LIKE_A_SETTING = re.compile(r"\b(?:PIPEBOARD|PIPEDRIVE|DATABASE|REDIS|DAGSTER|PUSHGATEWAY)_[A-Z_]+\b")


def default_text(alias: str) -> str:
    """The default as a person writes it; empty when there is none."""
    default = FIELDS[alias].get_default(call_default_factory=True)
    if isinstance(default, Path):
        return default.relative_to(PROJECT_ROOT).as_posix()
    return "" if default in (None, ()) else str(default)


def expected_row(alias: str) -> Row:
    default = default_text(alias)
    return (f"`{alias}`", f"`{default}`" if default else "", FIELDS[alias].description or "")


def settings_table(document: Document) -> list[Row]:
    return document.table_with("`PIPEDRIVE_API_KEY`")


def example_lines() -> dict[str, str]:
    """Variable -> line of .env.example, without the comment sign."""
    found = re.findall(r"^(?:# )?([A-Z][A-Z_]+)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == len(dict(found)), "a variable stands twice in .env.example"
    return dict(found)


def test_the_english_table_is_made_of_the_settings_own_words() -> None:
    wanted = [expected_row(alias) for alias in FIELDS]
    lines = "\n".join("| " + " | ".join(row) + " |" for row in wanted)
    assert settings_table(ENGLISH) == wanted, f"write into README.md:\n{lines}"


def test_the_portuguese_table_has_the_same_variables_and_defaults() -> None:
    wanted = [expected_row(alias)[:2] for alias in FIELDS]
    assert [row[:2] for row in settings_table(PORTUGUESE)] == wanted


def test_every_meaning_is_translated() -> None:
    english = {row[2] for row in settings_table(ENGLISH)}
    assert [row[0] for row in settings_table(PORTUGUESE) if not row[2] or row[2] in english] == []


@pytest.mark.parametrize("document", READMES, ids=str)
def test_the_settings_table_stands_between_its_markers(document: Document) -> None:
    between = document.text.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert "`PIPEDRIVE_API_KEY`" in between


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_no_document_names_a_setting_that_does_not_exist(document: Document) -> None:
    assert set(_LIKE_A_SETTING.findall(document.text)) - set(FIELDS) == set()


def test_the_example_has_every_setting_with_its_default() -> None:
    # The default of the state folder is an absolute path of whoever runs it, so the example leaves it empty.
    assert example_lines() == {alias: default_text(alias) for alias in FIELDS} | {"PIPEBOARD_STATE_DIR": ""}


def test_the_example_sets_nothing_but_the_api_key() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["PIPEDRIVE_API_KEY="]


def test_the_example_explains_each_setting_in_its_own_words() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for alias, field in FIELDS.items():
        block = f"# {field.description}\n" + ("" if alias == "PIPEDRIVE_API_KEY" else "# ") + f"{alias}="
        assert block in text, f"write into .env.example:\n{block}{default_text(alias)}"


def test_every_line_of_the_example_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for alias in FIELDS:
        monkeypatch.delenv(alias, raising=False)
    uncommented = "".join(f"{alias}={value}\n" for alias, value in example_lines().items())
    (tmp_path / "all.env").write_text(uncommented, encoding="utf-8")
    assert Settings(_env_file=tmp_path / "all.env") == Settings(_env_file=None)


def test_every_setting_does_something() -> None:
    idle = set(Settings.model_fields) - attributes_read(MODULES)
    assert idle == set(), "a setting that nobody reads is a false promise"


def test_a_setting_has_a_meaning_and_a_name_in_capitals() -> None:
    assert [alias for alias, field in FIELDS.items() if not field.description or alias != alias.upper()] == []
