"""Settings that are secrets come from files, too."""

from pathlib import Path

import pytest

from pipeboard_resources.settings import SettingError, Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "PIPEBOARD_ALERT_URLS", "PIPEBOARD_MASK_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIPEBOARD_SECRETS_DIR", str(tmp_path))
    return tmp_path


def read() -> Settings:
    return Settings(_env_file=None)


def test_a_file_sets_what_it_is_named_after(folder: Path) -> None:
    (folder / "database_url").write_text("postgresql://of-a-file@db/x\n", encoding="utf-8")
    (folder / "pipeboard_alert_urls").write_text("json://a json://b\n", encoding="utf-8")
    settings = read()
    assert (
        settings.database_url is not None and settings.database_url.get_secret_value() == "postgresql://of-a-file@db/x"
    )
    assert [url.get_secret_value() for url in settings.alert_urls] == ["json://a", "json://b"]


def test_the_environment_goes_before_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "database_url").write_text("postgresql://of-a-file@db/x\n", encoding="utf-8")
    monkeypatch.setenv("DATABASE_URL", "postgresql://told@db/x")
    settings = read()
    assert settings.database_url is not None and settings.database_url.get_secret_value() == "postgresql://told@db/x"


def test_an_empty_file_sets_nothing(folder: Path) -> None:
    for name in ("pipeboard_mask_key", "pipeboard_alert_urls"):
        (folder / name).write_text("\n", encoding="utf-8")
    assert (read().mask_key, read().alert_urls) == (None, ())


def test_a_folder_that_is_not_there_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPEBOARD_SECRETS_DIR", str(folder / "away"))
    with pytest.raises(SettingError, match=r"away, which is no folder"):
        read()
