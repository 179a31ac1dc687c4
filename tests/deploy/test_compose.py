"""What deploy/compose.yaml promises, read from the file. An engine that brings it up is not part of these tests."""

import re
from typing import Any

import pytest
import yaml

from pipeboard_resources.pipedrive.standin import DEMO_API_KEY
from pipeboard_resources.settings import PROJECT_ROOT, Settings

DEPLOY = PROJECT_ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def variables(name: str) -> set[str]:
    """What an env file sets, comments included."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    return set(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", text, re.MULTILINE))


def test_nothing_but_the_proxy_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_limited_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] or name == "metabase"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert "healthcheck" in service or name == "code", "the image has the code location's own"


def test_only_the_code_location_holds_the_api_key() -> None:
    assert [name for name, service in SERVICES.items() if "PIPEDRIVE_API_KEY" in service.get("environment", {})] == [
        "code"
    ]


def test_settings_handed_to_containers_exist() -> None:
    known = {str(field.alias) for field in Settings.model_fields.values()}
    for name in ("code", "webserver", "webserver-readonly", "daemon", "metrics"):
        assert set(SERVICES[name]["environment"]) <= known


def test_the_example_and_the_demo_set_every_variable_that_is_required() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert used <= variables(".env.example")
    required = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))
    assert required <= variables("demo.env")


def test_the_demo_is_reached_from_this_machine_only_and_its_key_opens_nothing_else() -> None:
    demo = (DEPLOY / "demo.env").read_text(encoding="utf-8")
    assert "BIND_ADDRESS=127.0.0.1\n" in demo and f"PIPEDRIVE_API_KEY={DEMO_API_KEY}\n" in demo


def test_every_mounted_file_exists() -> None:
    mounts = re.findall(r"\./([\w./-]+)", TEXT)
    assert mounts and [mount for mount in mounts if not (DEPLOY / mount).exists()] == []


def test_prometheus_in_containers_has_the_rules_and_jobs_of_the_one_without() -> None:
    alone, contained = (
        yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))
        for path in ("prometheus/prometheus.yml", "compose/prometheus.yml")
    )
    assert contained["rule_files"] == alone["rule_files"]
    assert [job["job_name"] for job in contained["scrape_configs"]] == [
        job["job_name"] for job in alone["scrape_configs"]
    ]
