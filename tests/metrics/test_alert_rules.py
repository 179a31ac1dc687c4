"""Each alert rule as promtool sees it: it fires for the company that is in trouble, when it should, and for no other."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.fixtures.debian import program
from tests.metrics.test_deployment import ALERTS, DEPLOY

RULES = {rule["alert"]: rule for rule in ALERTS}

DEALS = 'asset="deals"'
LOADS = "pipeboard_loads_total{" + DEALS + ', mode="incremental", status='
ROWS = "pipeboard_rows_total{" + DEALS + ', mode="full", outcome='


@dataclass(frozen=True)
class Case:
    """Samples a minute of a company in trouble and of another that is not, by series, in promtool's notation.

    The alert is not there after `not_yet` minutes, and `at` it is, with these labels.
    """

    alert: str
    samples: Mapping[str, tuple[str, str]]
    not_yet: int
    at: int
    labels: Mapping[str, str] = field(default_factory=dict)


CASES = (
    Case("PipeboardExporterDown", {'up{job="pipeboard"}': ("1x10 0x20", "1x40")}, 15, 16, {"job": "pipeboard"}),
    Case("PipeboardDatabaseDown", {"pipeboard_database_up": ("1x10 0x20", "1x40")}, 12, 13),
    Case(  # what is down because PostgreSQL is down has its own alert
        "PipeboardDagsterDown",
        {"pipeboard_dagster_up": ("1x10 0x20", "0x40"), "pipeboard_database_up": ("1x40", "0x40")},
        15,
        16,
    ),
    Case(
        "PipeboardLate",
        {"pipeboard_freshness{" + DEALS + ', state="warn"}': ("0x10 1x20", "0x40")},
        20,
        21,
        {"asset": "deals", "state": "warn"},
    ),
    Case(
        "PipeboardStale",
        {"pipeboard_freshness{" + DEALS + ', state="fail"}': ("0x10 1x20", "0x40")},
        20,
        21,
        {"asset": "deals", "state": "fail"},
    ),
    Case(
        "PipeboardNeverLoaded",
        {"pipeboard_freshness{" + DEALS + ', state="missing"}': ("0x10 1x800", "0x900")},
        419,
        421,
        {"asset": "deals", "state": "missing"},
    ),
    Case("PipeboardFailing", {LOADS + '"failed"}': ("0x10 1x20", "5x40")}, 10, 11, {"asset": "deals"}),
    Case(  # a success of another company is none of this one
        "PipeboardFailingAgain",
        {LOADS + '"failed"}': ("0x5 1 2 3x40", "0x5 1 2 3x40"), LOADS + '"success"}': ("7x60", "7x9 8x40")},
        6,
        20,
        {"asset": "deals"},
    ),
    Case(  # one list that moves is enough
        "PipeboardWatermarkOld",
        {
            'pipeboard_watermark_timestamp_seconds{list="deals"}': ("0x4500", "0x4500"),
            'pipeboard_watermark_timestamp_seconds{list="persons"}': ("0x4500", "0+60x4500"),
        },
        4439,
        4441,
    ),
    *(
        Case(
            alert,
            {
                "pipeboard_api_tokens_per_day": ("1000x40", "1000x40"),
                "pipeboard_api_tokens_reserved": ("100x40", "100x40"),
                "pipeboard_api_tokens_left": (left, "330x40"),
            },
            10,
            11,
        )
        for alert, left in {
            "PipeboardTokens75": "330x10 325x20",
            "PipeboardTokens90": "195x10 190x20",
            "PipeboardTokensSpent": "105x10 100x20",
        }.items()
    ),
    Case(  # refused though tokens seem to be left
        "PipeboardTokensSpent",
        {'pipeboard_api_refusals_total{kind="daily"}': ("0x10 1x20", "1x40")},
        10,
        11,
    ),
    Case("PipeboardStopped", {LOADS + '"stopped"}': ("0x10 1x20", "1x40")}, 10, 11, {"asset": "deals"}),
    Case("PipeboardBreakerOpen", {"pipeboard_api_breaker_openings_total": ("0x10 1x20", "3x40")}, 10, 11),
    Case("PipeboardRefusals", {'pipeboard_api_refusals_total{kind="burst"}': ("0x10 30x20", "0x10 10x20")}, 10, 11),
    Case(
        "PipeboardRejects",
        {ROWS + '"rejected"}': ("0x10 5x20", "0x10 5x20"), ROWS + '"inserted"}': ("0x10 100x20", "0x10 1000x20")},
        10,
        11,
        {"asset": "deals"},
    ),
    Case(
        "PipeboardNoHeartbeat",
        {"pipeboard_run_heartbeat_timestamp_seconds{" + DEALS + "}": ("0+60x10 600x20", "0+60x40")},
        12,
        13,
        {"asset": "deals"},
    ),
    Case(
        "PipeboardChecksFailing",
        {
            "pipeboard_failing_checks{" + DEALS + ', severity="warn"}': ("1x40", "1x40"),
            "pipeboard_failing_checks{" + DEALS + ', severity="error"}': ("0x10 1x20", "0x40"),
        },
        10,
        11,
        {"asset": "deals"},
    ),
    Case(
        "PipeboardChecksWarning",
        {
            "pipeboard_failing_checks{" + DEALS + ', severity="warn"}': ("0x10 1x80", "0x90"),
            "pipeboard_failing_checks{" + DEALS + ', severity="error"}': ("1x90", "1x90"),
        },
        40,
        41,
        {"asset": "deals"},
    ),
    Case(
        "PipeboardQueueStuck",
        {'pipeboard_dagster_runs{status="queued"}': ("0x10 1x20", "0x20 1x20")},
        25,
        26,
        {"status": "queued"},
    ),
    Case(
        "PipeboardDaemonDown",
        {'pipeboard_dagster_daemon_heartbeat_timestamp_seconds{daemon="SENSOR"}': ("0+60x10 600x40", "0+60x60")},
        20,
        21,
        {"daemon": "SENSOR"},
    ),
    Case(
        "PipeboardDiskFull",
        {"pipeboard_disk_free_bytes": ("50x10 5x40", "50x60"), "pipeboard_disk_bytes": ("100x60", "100x60")},
        25,
        26,
    ),
)


def test_every_rule_has_its_case() -> None:
    assert {case.alert for case in CASES} == RULES.keys()


def test_each_alert_fires_for_the_company_in_trouble_and_for_no_other(tmp_path: Path) -> None:
    for is_long, every in ((False, "1m"), (True, "1h")):
        promtool([as_promtool(case) for case in CASES if (case.at > 60) is is_long], tmp_path, every=every)


def test_an_exporter_that_nobody_scrapes_is_down(tmp_path: Path) -> None:
    promtool([{"alert_rule_test": [expected("PipeboardExporterDown", 10, {"job": "pipeboard"})]}], tmp_path)


def promtool(tests: list[dict[str, Any]], folder: Path, *, every: str = "1m") -> None:
    rules = {"rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")], "evaluation_interval": every}
    (folder / "tests.yml").write_text(yaml.safe_dump({**rules, "tests": tests}), encoding="utf-8")
    command = [program("promtool"), "test", "rules", "tests.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def as_promtool(case: Case) -> dict[str, Any]:
    samples = [
        {"series": of_company(series, name), "values": values}
        for series, both in case.samples.items()
        for name, values in zip(("acme", "globex"), both, strict=True)
    ]
    return {
        "name": case.alert,
        "interval": "1m",
        "input_series": samples,
        "alert_rule_test": [
            {"alertname": case.alert, "eval_time": f"{case.not_yet}m", "exp_alerts": []},
            expected(case.alert, case.at, {"account": "acme", **case.labels}),
        ],
    }


def of_company(series: str, name: str) -> str:
    metric, _, labels = series.removesuffix("}").partition("{")
    return f'{metric}{{account="{name}"{", " * bool(labels)}{labels}}}'


def expected(alert: str, minutes: int, labels: Mapping[str, str]) -> dict[str, Any]:
    rule = RULES[alert]
    summary = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], rule["annotations"]["summary"])
    told = {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": {**rule["annotations"], "summary": summary}}
    return {"alertname": alert, "eval_time": f"{minutes}m", "exp_alerts": [told]}
