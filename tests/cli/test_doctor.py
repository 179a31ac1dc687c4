"""What `pipeboard doctor` says of settings that only show later that they are wrong."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeboard_assets.commands.doctor import Finding, examine
from pipeboard_assets.commands.environment import prepare_dagster_home
from pipeboard_resources.settings import Settings


def _finding(subject: str, **settings: object) -> Finding:
    return next(each for each in examine(Settings(_env_file=None, **settings)) if each.subject == subject)


def test_alert_urls_that_apprise_does_not_know_are_named_without_their_secrets(tmp_path: Path) -> None:
    urls = tuple(map(SecretStr, ("json://hunter2@127.0.0.1/", "slak://hunter2/", "hunter2")))
    finding = _finding("PIPEBOARD_ALERT_URLS", dagster_home=tmp_path, alert_urls=urls)
    assert not finding.is_ok
    assert finding.seen == "apprise does not know number 2 (slak://), number 3 (without a scheme)"
    assert _finding("PIPEBOARD_ALERT_URLS", dagster_home=tmp_path, alert_urls=urls[:1]).is_ok


@pytest.mark.parametrize(
    ("address", "is_ok"),
    [
        ("127.0.0.1:9091", True),
        ("gateway.example:9091", True),
        ("[::1]:9091", True),
        ("http://gateway:9091", True),
        ("gateway", False),
        ("gateway:port", False),
        ("gateway:99999", False),
        (":9091", False),
    ],
)
def test_the_address_of_a_pushgateway_is_a_host_and_a_port(tmp_path: Path, address: str, is_ok: bool) -> None:
    assert _finding("PUSHGATEWAY_ADDRESS", dagster_home=tmp_path, pushgateway_address=address).is_ok is is_ok


def test_settings_that_an_older_dagster_yaml_lacks_are_named(tmp_path: Path) -> None:
    prepare_dagster_home(tmp_path)
    assert _finding("DAGSTER_HOME", dagster_home=tmp_path).mark == "ok"
    (tmp_path / "dagster.yaml").write_text("storage: {sqlite: {base_dir: x}}\nretention: {schedule: 7}\n")
    finding = _finding("DAGSTER_HOME", dagster_home=tmp_path)
    assert (finding.mark, "lacks compute_logs, telemetry, nux, concurrency" in finding.seen) == ("note", True)
    assert "retention.sensor" in finding.seen and "storage" not in finding.seen and "schedule" not in finding.seen


@pytest.mark.parametrize("text", ["storage: [", "- storage", "\x00"])
def test_a_dagster_yaml_that_is_none_is_wrong(tmp_path: Path, text: str) -> None:
    (tmp_path / "dagster.yaml").write_text(text)
    finding = _finding("DAGSTER_HOME", dagster_home=tmp_path)
    assert (finding.mark, "cannot be read as YAML" in finding.seen) == ("wrong", True)
