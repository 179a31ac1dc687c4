"""The dashboard, the alert rules and the runbook fit the declared series and each other; their programs accept them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.dashboard import FILE, PANELS, SOURCE, dashboard_json
from pipeboard_assets.metrics.series import SERIES
from pipeboard_resources.settings import PROJECT_ROOT
from tests.fixtures.debian import program

DEPLOY = PROJECT_ROOT / "deploy"
PROVISIONING = DEPLOY / "grafana" / "provisioning"
ALERTS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))[
    "groups"
][0]["rules"]
SAMPLES = {name for series in SERIES for name in series.sample_names}
QUERIES = [query for panel in PANELS for query in panel.targets.values()]
EXPRESSIONS = [alert["expr"] for alert in ALERTS]


def named_in(queries: list[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"pipeboard_\w+", query)}


def test_the_dashboard_is_what_its_code_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == dashboard_json(), "run: make dashboard"


def test_panels_and_alerts_name_declared_series_only() -> None:
    assert named_in(QUERIES + EXPRESSIONS) - SAMPLES == set()


def test_no_panel_and_no_alert_adds_companies_up() -> None:
    """Each has its own label `account`, which every aggregation and every match keeps."""
    grouping = re.compile(r"\b(?:sum|max|on)\b(?: by)? ?\((?!account\b)")
    assert [query for query in QUERIES + EXPRESSIONS if grouping.search(query)] == []
    assert [query for query in QUERIES if "up{" not in query and 'account=~"$account"' not in query] == []


def test_every_series_is_shown_somewhere() -> None:
    shown = named_in(QUERIES + EXPRESSIONS)
    assert [series.name for series in SERIES if not shown.intersection(series.sample_names)] == []


def test_names_end_in_their_unit_and_every_series_explains_itself() -> None:
    assert len({series.name for series in SERIES}) == len(SERIES)
    assert [series.name for series in SERIES if (series.kind == "counter") != series.name.endswith("_total")] == []
    assert [series.name for series in SERIES if not series.help.endswith(".")] == []


def test_panels_have_ids_of_their_own_and_the_provisioned_source() -> None:
    panels = json.loads(FILE.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["type"] for panel in panels if panel["type"] != "row"} == {SOURCE.type_val}
    source = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))
    assert [each["type"] for each in source["datasources"]] == [SOURCE.type_val]


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)$", (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [alert["alert"] for alert in ALERTS]
    for alert in ALERTS:
        assert alert["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("info", "warning", "critical") and alert["annotations"]["summary"]


@pytest.mark.parametrize(
    "command",
    [
        ("promtool", "check", "config", "deploy/prometheus/prometheus.yml"),
        ("promtool", "check", "rules", "deploy/prometheus/alerts.yml"),
        ("amtool", "check-config", "deploy/prometheus/alertmanager.yml"),
        ("amtool", "check-config", "deploy/compose/alertmanager.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_and_alertmanager_accept_our_files(command: tuple[str, ...]) -> None:
    called = [program(command[0]), *command[1:]]
    done = subprocess.run(called, cwd=PROJECT_ROOT, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_its_files_as_compose_mounts_them(tmp_path: Path) -> None:
    for file in ("compose/prometheus.yml", "prometheus/alerts.yml"):
        shutil.copy(DEPLOY / file, tmp_path)
    called = [program("promtool"), "check", "config", "prometheus.yml"]
    done = subprocess.run(called, cwd=tmp_path, capture_output=True, check=False, text=True)
    assert done.returncode == 0 and f"{len(ALERTS)} rules found" in done.stdout, done.stdout + done.stderr
