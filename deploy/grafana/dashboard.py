"""Writes dashboards/pipeboard.json: `make dashboard`. Every panel is one entry of ROWS; a test compares file and code.

Queries name only series that pipeboard_assets/metrics/series.py declares, and `up`, which Prometheus makes itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import bargauge, gauge, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import common as shared
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).parent / "dashboards" / "pipeboard.json"
UID = "pipeboard"
SOURCE = DataSourceRef("prometheus", "${datasource}")

# How wide and high a panel is on Grafana's grid of 24 columns.
SMALL, HALF, WIDE = 6, 12, 24
HEIGHT = 7

_BUILDERS: dict[str, Any] = {
    "stat": stat.Panel,
    "gauge": gauge.Panel,
    "bars": bargauge.Panel,
    "lines": timeseries.Panel,
    "table": table.Panel,
}
_COLOURS = ("green", "yellow", "red")


@dataclass(frozen=True)
class Panel:
    """`queries`: PromQL by legend. `limits`: where yellow and red begin; falling ones mean that less is worse."""

    title: str
    kind: str
    unit: str
    meaning: str
    queries: dict[str, str]
    width: int = SMALL
    limits: tuple[float, float] | None = None
    maximum: float | None = None

    @property
    def targets(self) -> dict[str, str]:
        """The queries, and their legends, of the chosen companies, which are nowhere added up."""
        return {f"{{{{account}}}} {legend}": _by_account(query) for legend, query in self.queries.items()}


def _by_account(query: str) -> str:
    query = re.sub(r"(pipeboard_\w+)\{", r'\1{account=~"$account", ', query)
    query = re.sub(r"(pipeboard_\w+)(?![\w{])", r'\1{account=~"$account"}', query)
    return query.replace("sum by (", "sum by (account, ").replace("sum(", "sum by (account) (")


A = 'asset=~"$asset"'
E = 'endpoint=~"$endpoint"'

ROWS: dict[str, tuple[Panel, ...]] = {
    "Is the data right and fresh?": (
        Panel(
            "Time since last success", "bars", "s", "Age of each table's last successful load.",
            {"{{asset}}": f"time() - pipeboard_last_success_timestamp_seconds{{{A}}}"}, HALF, (4 * 3600, 6 * 3600),
        ),
        Panel(
            "Freshness", "table", "none", "The state that each table is in, as `pipeboard status` says it.",
            {"{{asset}} {{state}}": f"pipeboard_freshness{{{A}}} == 1"},
        ),
        Panel(
            "Watermark age", "bars", "s", "How old the newest change is that was read.",
            {"{{list}}": "time() - pipeboard_watermark_timestamp_seconds"},
        ),
        Panel(
            "Rejected records", "bars", "short", "Values and records set aside: SELECT * FROM pipeboard.rejected_record.",
            {"{{asset}}": f"pipeboard_rejected_records{{{A}}}"}, limits=(1, 100),
        ),
        Panel(
            "Reject share", "stat", "percent", "Rejected of all rows read, in the time shown.",
            {"rejected": (
                f'100 * sum(increase(pipeboard_rows_total{{{A}, outcome="rejected"}}[$__range]))'
                f" / clamp_min(sum(increase(pipeboard_rows_total{{{A}}}[$__range])), 1)"
            )}, limits=(0.5, 1),
        ),
        Panel(
            "Rows deleted", "lines", "short", "Rows marked deleted, and rows that came back.",
            {
                "deleted {{asset}}": f'sum by (asset) (increase(pipeboard_rows_total{{{A}, outcome="deleted"}}[$__rate_interval]))',
                "restored {{asset}}": f'sum by (asset) (increase(pipeboard_rows_total{{{A}, outcome="restored"}}[$__rate_interval]))',
            },
        ),
        Panel(
            "Checks that fail", "bars", "short", "Asset checks that fail now.",
            {"{{asset}} {{severity}}": f"sum by (asset, severity) (pipeboard_failing_checks{{{A}}})"}, limits=(1, 5),
        ),
    ),
    "API": (
        Panel(
            "Tokens left today", "gauge", "short", "As last told by Pipedrive; the reserve is among them, and left to other programs.",
            {"left": "pipeboard_api_tokens_left", "reserve": "pipeboard_api_tokens_reserved"},
        ),
        Panel(
            "Tokens used today", "gauge", "percent", "Share of the day's tokens without the reserve, whoever spent them.",
            {"used": (
                "100 * (pipeboard_api_tokens_per_day - pipeboard_api_tokens_left)"
                " / (pipeboard_api_tokens_per_day - pipeboard_api_tokens_reserved)"
            )}, limits=(75, 90), maximum=100,
        ),
        Panel(
            "Tokens spent", "stat", "short", "By Pipeboard, in the time shown.",
            {"spent": "sum(increase(pipeboard_api_tokens_total[$__range]))"},
        ),
        Panel(
            "Tokens by endpoint", "bars", "short", "By Pipeboard, in the time shown.",
            {"{{endpoint}}": f"sum by (endpoint) (increase(pipeboard_api_tokens_total{{{E}}}[$__range]))"},
        ),
        Panel(
            "Requests by endpoint and answer", "lines", "reqps", "Classes of status codes; `none` is no answer at all.",
            {"{{endpoint}} {{status}}": f"sum by (endpoint, status) (rate(pipeboard_api_requests_total{{{E}}}[$__rate_interval]))"},
            HALF,
        ),
        Panel(
            "Latency", "lines", "s", "From sending a request to the end of its answer.",
            {
                "p50": f"histogram_quantile(0.5, sum by (le) (rate(pipeboard_api_request_duration_seconds_bucket{{{E}}}[$__rate_interval])))",
                "p95": f"histogram_quantile(0.95, sum by (le) (rate(pipeboard_api_request_duration_seconds_bucket{{{E}}}[$__rate_interval])))",
                "mean": (
                    f"sum(rate(pipeboard_api_request_duration_seconds_sum{{{E}}}[$__rate_interval]))"
                    f" / sum(rate(pipeboard_api_request_duration_seconds_count{{{E}}}[$__rate_interval]))"
                ),
            }, HALF,
        ),
        Panel(
            "Circuit breaker", "stat", "short", "Times that it opened in the time shown, because Pipedrive failed in a row.",
            {"openings": "sum(increase(pipeboard_api_breaker_openings_total[$__range]))"}, limits=(1, 3),
        ),
        Panel(
            "State of the circuit", "table", "none", "As all runs share it in Redis.",
            {"{{state}}": "pipeboard_api_breaker == 1"},
        ),
        Panel(
            "Pages read", "bars", "short", "How far the cursors went, in the time shown.",
            {"{{endpoint}}": f"sum by (endpoint) (increase(pipeboard_api_pages_total{{{E}}}[$__range]))"},
        ),
        Panel(
            "Retries", "lines", "short", "Requests that were a further try.",
            {"{{endpoint}}": f"sum by (endpoint) (increase(pipeboard_api_retries_total{{{E}}}[$__rate_interval]))"},
        ),
        Panel(
            "Rate limit", "stat", "short", "Requests per two seconds: what the plan allows, and what was left when last told.",
            {"limit": "pipeboard_api_burst_limit_requests", "remaining": "pipeboard_api_burst_remaining_requests"},
        ),
        Panel(
            "Rate limit by endpoint", "table", "short", "Answers 429 in the time shown.",
            {"{{endpoint}}": f'sum by (endpoint) (increase(pipeboard_api_requests_total{{{E}, status="429"}}[$__range]))'},
        ),
        Panel(
            "Refusals by limit", "stat", "short", "Two-second limit and day's budget, in the time shown.",
            {"{{kind}}": "sum by (kind) (increase(pipeboard_api_refusals_total[$__range]))"}, limits=(1, 100),
        ),
        Panel(
            "Waiting for the limit", "lines", "s", "Seconds per second that requests waited before they left.",
            {"waiting": "rate(pipeboard_api_wait_seconds_total[$__rate_interval])"},
        ),
        Panel(
            "Received", "lines", "Bps", "JSON, decompressed.",
            {"{{endpoint}}": f"sum by (endpoint) (rate(pipeboard_api_received_bytes_total{{{E}}}[$__rate_interval]))"},
        ),
    ),
    "Loads": (
        Panel(
            "Loads", "bars", "short", "By asset, in the time shown.",
            {"{{asset}}": f"sum by (asset) (increase(pipeboard_loads_total{{{A}}}[$__range]))"},
        ),
        Panel(
            "Loads under way", "bars", "short", "Began and did not end yet; one whose process was killed fails when the next look at it is taken.",
            {"{{asset}}": f"sum by (asset) (pipeboard_loads_started_total{{{A}}}) - sum by (asset) (pipeboard_loads_total{{{A}}})"},
        ),
        Panel(
            "Failures", "lines", "short", "Loads that failed.",
            {"{{asset}}": f'sum by (asset) (increase(pipeboard_loads_total{{{A}, status="failed"}}[$__rate_interval]))'},
        ),
        Panel(
            "Failures by mode", "lines", "short", "The same by what was read; stopped: the day's tokens were spent.",
            {"{{mode}} {{status}}": f'sum by (mode, status) (increase(pipeboard_loads_total{{{A}, status!="success"}}[$__rate_interval]))'},
        ),
        Panel(
            "Rows", "bars", "short", "What became of the rows read, in the time shown.",
            {"{{outcome}}": f"sum by (outcome) (increase(pipeboard_rows_total{{{A}}}[$__range]))"},
        ),
        Panel(
            "Mean duration", "stat", "s", "Of loads, in the time shown.",
            {"{{asset}}": (
                f"sum by (asset) (increase(pipeboard_load_duration_seconds_sum{{{A}}}[$__range]))"
                f" / (sum by (asset) (increase(pipeboard_load_duration_seconds_count{{{A}}}[$__range])) > 0)"
            )}, HALF,
        ),
        Panel(
            "Duration, slowest of twenty", "lines", "s", "95th percentile.",
            {"{{asset}}": f"histogram_quantile(0.95, sum by (asset, le) (rate(pipeboard_load_duration_seconds_bucket{{{A}}}[$__rate_interval])))"},
        ),
        Panel(
            "Seconds by phase", "bars", "s", "Where loads spent their time, in the time shown.",
            {"{{phase}}": f"sum by (phase) (increase(pipeboard_load_phase_seconds_total{{{A}}}[$__range]))"},
        ),
        Panel(
            "Throughput", "bars", "short", "Rows per second of the last successful load.",
            {"{{asset}}": f"pipeboard_load_rows_per_second{{{A}}}"},
        ),
        Panel(
            "Mean batch duration", "stat", "s", "From one page to the next.",
            {"{{asset}}": (
                f"sum by (asset) (increase(pipeboard_batch_duration_seconds_sum{{{A}}}[$__range]))"
                f" / (sum by (asset) (increase(pipeboard_batch_duration_seconds_count{{{A}}}[$__range])) > 0)"
            )},
        ),
        Panel(
            "Mean batch size", "stat", "short", "Records in a page.",
            {"{{asset}}": (
                f"sum by (asset) (increase(pipeboard_batch_rows_sum{{{A}}}[$__range]))"
                f" / (sum by (asset) (increase(pipeboard_batch_rows_count{{{A}}}[$__range])) > 0)"
            )},
        ),
        Panel(
            "Staged", "lines", "Bps", "Bytes sent to staging tables.",
            {"{{asset}}": f"sum by (asset) (rate(pipeboard_staged_bytes_total{{{A}}}[$__rate_interval]))"},
        ),
        Panel(
            "Schema changes", "lines", "short", "Statements that changed columns or indexes.",
            {"{{asset}}": f"sum by (asset) (increase(pipeboard_ddl_statements_total{{{A}}}[$__rate_interval]))"},
        ),
        Panel(
            "CPU of loads", "bars", "s", "Seconds, in the time shown.",
            {"{{asset}}": f"sum by (asset) (increase(pipeboard_load_cpu_seconds_total{{{A}}}[$__range]))"},
        ),
        Panel(
            "Cache", "stat", "short", "Hits against misses and errors, in the time shown.",
            {"{{result}}": f"sum by (result) (increase(pipeboard_cache_reads_total{{{A}}}[$__range]))"},
        ),
    ),
    "Runs in progress": (
        Panel(
            "Time since last heartbeat", "table", "s", "Of loads in progress; empty while nothing is read.",
            {"{{asset}}": f"time() - pipeboard_run_heartbeat_timestamp_seconds{{{A}}}"}, limits=(30, 120),
        ),
        Panel(
            "Running for", "lines", "s", "Of loads in progress.",
            {"{{asset}}": f"time() - pipeboard_run_start_timestamp_seconds{{{A}}}"},
        ),
        Panel(
            "Progress", "lines", "short", "What the load in progress has read.",
            {
                "records {{asset}}": f"pipeboard_run_records{{{A}}}",
                "pages {{asset}}": f"pipeboard_run_pages{{{A}}}",
                "requests {{asset}}": f"pipeboard_run_requests{{{A}}}",
                "tokens {{asset}}": f"pipeboard_run_tokens{{{A}}}",
            },
        ),
        Panel(
            "Memory", "lines", "bytes", "Resident memory: now, and the greatest of the last load.",
            {
                "now {{asset}}": f"pipeboard_run_memory_bytes{{{A}}}",
                "peak {{asset}}": f"pipeboard_load_memory_peak_bytes{{{A}}}",
            },
        ),
        Panel("CPU", "lines", "percent", "100 is one core.", {"{{asset}}": f"pipeboard_run_cpu_percent{{{A}}}"}),
        Panel("Threads", "lines", "short", "Of the run's process.", {"{{asset}}": f"pipeboard_run_threads{{{A}}}"}),
    ),
    "Backfill": (
        Panel(
            "Months left", "bars", "short", "Months of the history that were never read.",
            {"{{asset}}": f'pipeboard_partitions{{{A}, state="missing"}}'},
        ),
        Panel(
            "Months read", "bars", "short", "Months of the history that were read.",
            {"{{asset}}": f'pipeboard_partitions{{{A}, state="read"}}'},
        ),
        Panel(
            "Deals left", "stat", "short", "Whose changelog `sync --deal-history` has yet to read; empty where it never ran.",
            {"deals": "pipeboard_deal_history_left_deals"},
        ),
        Panel(
            "Rows saved by backfills", "stat", "short", "Inserted, updated and restored, in the time shown.",
            {"rows": f'sum(increase(pipeboard_rows_total{{{A}, mode="backfill", outcome=~"inserted|updated|restored"}}[$__range]))'},
        ),
        Panel(
            "Rows that a backfill found unchanged", "stat", "short", "In the time shown.",
            {"rows": f'sum(increase(pipeboard_rows_total{{{A}, mode="backfill", outcome="unchanged"}}[$__range]))'},
        ),
    ),
    "Dagster, database and machine": (
        Panel("Runs by status", "bars", "short", "In Dagster's history.", {"{{status}}": "pipeboard_dagster_runs"}),
        Panel("Queue", "stat", "short", "Runs that wait.", {"queued": 'pipeboard_dagster_runs{status="queued"}'}),
        Panel(
            "Daemons", "table", "s", "Time since each daemon's last sign of life.",
            {"{{daemon}}": "time() - pipeboard_dagster_daemon_heartbeat_timestamp_seconds"}, limits=(120, 600),
        ),
        Panel(
            "Sensors", "table", "s", "Time since the last tick, and how it ended.",
            {"{{sensor}} {{status}}": "time() - pipeboard_dagster_tick_timestamp_seconds"},
        ),
        Panel("Connections", "bars", "short", "To the database, by state.", {"{{state}}": "pipeboard_database_connections"}),
        Panel("Table sizes", "bars", "bytes", "With indexes.", {"{{asset}}": f"pipeboard_table_bytes{{{A}}}"}),
        Panel("Table rows", "bars", "short", "Alive.", {"{{asset}}": f"pipeboard_table_rows{{{A}}}"}),
        Panel("Database size", "stat", "bytes", "All of it.", {"size": "pipeboard_database_bytes"}),
        Panel(
            "Disk used", "gauge", "percent", "PostgreSQL's: `pipeboard metrics --disk`.",
            {"used": "100 * (1 - pipeboard_disk_free_bytes / pipeboard_disk_bytes)"}, limits=(80, 90), maximum=100,
        ),
        Panel(
            "Uptime of the exporter", "stat", "s", "Since `pipeboard metrics` started.",
            {"uptime": "time() - pipeboard_exporter_start_timestamp_seconds"},
        ),
        Panel(
            "What answers", "stat", "none", "1 is up: exporter, Pushgateway, PostgreSQL, Dagster's storage.",
            {
                "exporter": 'up{job="pipeboard"}',
                "Pushgateway": 'up{job="pushgateway"}',
                "PostgreSQL": "pipeboard_database_up",
                "Dagster": "pipeboard_dagster_up",
            }, HALF,
        ),
    ),
}  # fmt: skip

PANELS = tuple(panel for panels in ROWS.values() for panel in panels)


def dashboard_json() -> str:
    """The dashboard as Grafana imports it."""
    board = (
        grafana.Dashboard("Pipeboard")
        .uid(UID)
        .tags(["pipeboard", "pipedrive"])
        .refresh("30s")
        .time("now-24h", "now")
        .timezone("browser")
        .readonly()
        .with_variable(grafana.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("account", "pipeboard_loads_total"))
        .with_variable(_variable("asset", "pipeboard_loads_total"))
        .with_variable(_variable("endpoint", "pipeboard_api_requests_total"))
    )
    for place, (title, panels) in enumerate(ROWS.items()):
        board = board.with_row(grafana.Row(title).id(place + 1))
        for panel in panels:
            board = board.with_panel(_built(panel).id(len(ROWS) + PANELS.index(panel) + 1))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _variable(label: str, series: str) -> grafana.QueryVariable:
    return (
        grafana.QueryVariable(label)
        .label(label.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _built(panel: Panel) -> Any:
    built = _BUILDERS[panel.kind]().title(panel.title).description(panel.meaning).unit(panel.unit).datasource(SOURCE)
    built = built.span(panel.width).height(HEIGHT).min(0)
    if panel.maximum is not None:
        built = built.max(panel.maximum)
    if panel.kind in ("stat", "gauge", "bars"):
        built = built.reduce_options(shared.ReduceDataOptions().calcs(["lastNotNull"]))
    if panel.kind == "bars":
        built = built.orientation(common.VizOrientation.HORIZONTAL)
    steps = zip((None, *panel.limits), _COLOURS, strict=True) if panel.limits else [(None, "green")]
    built = built.thresholds(
        grafana.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(at, colour) for at, colour in steps])
    )
    for place, (legend, query) in enumerate(panel.targets.items()):
        target = prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + place))
        if panel.kind == "table":
            target = target.format(PromQueryFormat.TABLE)
        built = built.with_target(target.range() if panel.kind == "lines" else target.instant())
    return built


if __name__ == "__main__":
    FILE.write_text(dashboard_json(), encoding="utf-8")
