"""Every series that Pipeboard shows, once: name with its unit, kind, labels with the values they can take, help.

A counter only grows: it is a sum over the ledger. Where all label values are known it starts at 0, because Prometheus
sees no increase in a series that appears with its first event. Buckets belong to a name: other buckets, another name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from pipeboard_assets.bi.calendar import CALENDAR
from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.sync.deal_changelog import DEAL_CHANGELOG
from pipeboard_assets.sync.deal_changelog import ENDPOINT as CHANGELOG
from pipeboard_assets.sync.entity_sync import Mode
from pipeboard_assets.sync.freshness import Freshness

Values = tuple[str, ...]

ENTITIES: Values = tuple(entity.name for entity in CATALOG)
ASSETS: Values = (*ENTITIES, MAIN_BI.name)
# What loads read from Pipedrive, and all that they write: by the names that the ledger has for it.
SOURCES: Values = (*ENTITIES, DEAL_CHANGELOG.entity)
LOADED: Values = (
    *SOURCES,
    MAIN_BI.entity,
    CALENDAR.entity,
    *(mart.store.rpartition(".")[2] for mart in MARTS if mart.key),
)
MONTHLY: Values = tuple(entity.name for entity in CATALOG if entity.is_incremental)
OTHER = "other"
ENDPOINTS: Values = (
    *dict.fromkeys(
        endpoint.name for entity in CATALOG for endpoint in (*entity.lists, entity.fields) if endpoint is not None
    ),
    CHANGELOG.name,
    OTHER,
)
NO_ANSWER = "none"
STATUSES: Values = ("2xx", "3xx", "4xx", "429", "5xx", NO_ANSWER)
MODES: Values = (*Mode, "select")
OUTCOMES: Values = ("inserted", "updated", "unchanged", "outdated", "deleted", "restored", "rejected")
PHASES: Values = ("fetch", "decode", "stage", "ddl", "settle", "lock", "publish")
ANY: Values = ()
"""Values that are known at run time only, such as the names of a deployment's own sensors."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One metric. `labels`: name to the values it can take. `buckets`: upper bounds of a histogram, without +Inf."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, Values] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    @property
    def bounds(self) -> Values:
        """The values of `le`."""
        return (*(f"{bound:g}" for bound in self.buckets), "+Inf")

    @property
    def sample_names(self) -> Values:
        """The names that queries use."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))

    def known_labels(self) -> Iterator[Values]:
        """Every combination of label values; none where some are known at run time only."""
        return product(*self.labels.values())


def _counter(name: str, help: str, **labels: Values) -> Series:
    return Series(f"pipeboard_{name}_total", "counter", help, labels)


def _gauge(name: str, help: str, **labels: Values) -> Series:
    return Series(f"pipeboard_{name}", "gauge", help, labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], **labels: Values) -> Series:
    return Series(f"pipeboard_{name}", "histogram", help, labels, buckets)


# What a load asked of Pipedrive: counted by the load, summed over the ledger.
API_REQUESTS = _counter(
    "api_requests", "Requests sent to Pipedrive, by class of the answer.", endpoint=ENDPOINTS, status=STATUSES
)
API_SECONDS = _histogram(
    "api_request_duration_seconds",
    "Seconds from sending a request to the end of its answer.",
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    endpoint=ENDPOINTS,
)
API_TOKENS = _counter("api_tokens", "API tokens spent.", endpoint=ENDPOINTS)
API_RETRIES = _counter("api_retries", "Requests that were a further try.", endpoint=ENDPOINTS)
API_PAGES = _counter("api_pages", "Answers with status 200: pages of lists.", endpoint=ENDPOINTS)
API_BYTES = _counter("api_received_bytes", "Bytes of JSON received, decompressed.", endpoint=ENDPOINTS)
API_REFUSALS = _counter(
    "api_refusals",
    "Answers 429, by the limit that was met: two seconds (burst) or day (daily).",
    kind=("burst", "daily"),
)
API_WAITING = _counter("api_wait_seconds", "Seconds that requests waited for the burst limit before they left.")
BREAKER_OPENINGS = _counter("api_breaker_openings", "Times that the circuit opened because Pipedrive failed in a row.")
CACHE = _counter("cache_reads", "Reads of the Redis cache.", asset=SOURCES, result=("hit", "miss", "error"))
BATCH_ROWS = _histogram("batch_rows", "Records in a page.", (1, 10, 50, 100, 200, 500), asset=SOURCES)
BATCH_SECONDS = _histogram(
    "batch_duration_seconds",
    "Seconds from one page to the next: answer, validation and staging.",
    (0.1, 0.5, 1, 2, 5, 10, 30, 60),
    asset=SOURCES,
)
CPU = _counter("load_cpu_seconds", "CPU seconds of the process while it loaded.", asset=SOURCES)

# What the newest load saw.
TOKENS_LEFT = _gauge("api_tokens_left", "API tokens left today when last told, the reserve included.")
TOKENS_RESERVED = _gauge("api_tokens_reserved", "API tokens of a day that Pipeboard leaves to other programs.")
TOKENS_PER_DAY = _gauge("api_tokens_per_day", "API tokens that the plan allows per day.")
BURST_LIMIT = _gauge("api_burst_limit_requests", "Requests that the plan allows per two seconds.")
BURST_LEFT = _gauge("api_burst_remaining_requests", "Requests left in those two seconds when last told.")
MEMORY_PEAK = _gauge("load_memory_peak_bytes", "Greatest resident memory of the process so far.", asset=SOURCES)

# What the ledger says of loads.
LOADS = _counter(
    "loads",
    "Loads that ended, by what they read and how they ended.",
    asset=LOADED,
    mode=MODES,
    status=("success", "failed", "stopped"),
)
LOADS_STARTED = _counter(
    "loads_started", "Loads that began; those that did not end yet are in progress.", asset=LOADED, mode=MODES
)
LOAD_SECONDS = _histogram(
    "load_duration_seconds",
    "Seconds that a load took.",
    (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
    asset=LOADED,
)
ROWS = _counter("rows", "Rows that loads brought, by what became of them.", asset=LOADED, mode=MODES, outcome=OUTCOMES)
PHASE_SECONDS = _counter("load_phase_seconds", "Seconds of loads by phase.", asset=LOADED, phase=PHASES)
STAGED_BYTES = _counter("staged_bytes", "Bytes sent to staging tables.", asset=LOADED)
DDL = _counter("ddl_statements", "Statements that changed a table's columns or indexes.", asset=LOADED)
ROWS_PER_SECOND = _gauge("load_rows_per_second", "Rows per second of the last successful load.", asset=LOADED)
LAST_SUCCESS = _gauge("last_success_timestamp_seconds", "When a load last brought the table up to date.", asset=ASSETS)
DEALS_LEFT = _gauge("deal_history_left_deals", "Deals whose changelog `sync --deal-history` has yet to read.")
WATERMARK = _gauge("watermark_timestamp_seconds", "Greatest update_time loaded.", list=ANY)
FRESHNESS = _gauge("freshness", "1 for the state that the asset is in.", asset=ASSETS, state=(*Freshness,))
REJECTED = _gauge("rejected_records", "Values and records set aside and not resolved since.", asset=LOADED)
TABLE_ROWS = _gauge("table_rows", "Living rows after the last successful load.", asset=LOADED)
TABLE_BYTES = _gauge("table_bytes", "Size of the table with its indexes.", asset=LOADED)

# The database and the machine of the exporter.
DATABASE_UP = _gauge("database_up", "1 while PostgreSQL answers; at 0 its figures are left out.")
DATABASE_BYTES = _gauge("database_bytes", "Size of the database.")
CONNECTIONS = _gauge(
    "database_connections",
    "Connections to the database by state; `other`: also those of other roles, whose state is hidden.",
    state=("active", "idle", "idle in transaction", OTHER),
)
DISK_FREE = _gauge("disk_free_bytes", "Space left on PostgreSQL's disk, where `pipeboard metrics` can see it.")
DISK = _gauge("disk_bytes", "Size of that disk.")
BREAKER = _gauge(
    "api_breaker",
    "1 for the state of the circuit, as all runs share it in Redis.",
    state=("closed", "open", "half-open"),
)
STARTED = _gauge("exporter_start_timestamp_seconds", "When the exporter started.")

# Dagster.
DAGSTER_UP = _gauge("dagster_up", "1 while Dagster's storage answers; at 0 its figures are left out.")
RUNS = _gauge(
    "dagster_runs",
    "Runs in Dagster's history by status; `queued` is the length of the queue.",
    status=("queued", "not_started", "starting", "started", "success", "failure", "canceling", "canceled"),
)
DAEMON = _gauge("dagster_daemon_heartbeat_timestamp_seconds", "Last sign of life of a daemon.", daemon=ANY)
TICK = _gauge(
    "dagster_tick_timestamp_seconds", "Last tick of a sensor or schedule, by its end.", sensor=ANY, status=ANY
)
CHECKS = _gauge("failing_checks", "Asset checks that fail now.", asset=ANY, severity=("warn", "error"))
PARTITIONS = _gauge(
    "partitions", "Months of an asset that were read, and that were not.", asset=MONTHLY, state=("read", "missing")
)

# Pushed while a load runs, and removed when it ends.
RUN_HEARTBEAT = _gauge("run_heartbeat_timestamp_seconds", "Last sign of life of a load in progress.", asset=SOURCES)
RUN_STARTED = _gauge("run_start_timestamp_seconds", "When the load in progress started.", asset=SOURCES)
RUN_RECORDS = _gauge("run_records", "Records read so far.", asset=SOURCES)
RUN_PAGES = _gauge("run_pages", "Pages read so far.", asset=SOURCES)
RUN_REQUESTS = _gauge("run_requests", "Requests sent so far.", asset=SOURCES)
RUN_TOKENS = _gauge("run_tokens", "API tokens spent so far.", asset=SOURCES)
RUN_MEMORY = _gauge("run_memory_bytes", "Resident memory of the process.", asset=SOURCES)
RUN_CPU = _gauge("run_cpu_percent", "CPU of the process since the last push; 100 is one core.", asset=SOURCES)
RUN_THREADS = _gauge("run_threads", "Threads of the process.", asset=SOURCES)

SERIES = tuple(value for value in list(globals().values()) if isinstance(value, Series))
LIVE = tuple(series for series in SERIES if series.name.startswith("pipeboard_run_"))
INSTANCE = (RUNS, DAEMON, TICK, CHECKS, PARTITIONS)
EXPORTER = (DATABASE_UP, DAGSTER_UP, STARTED, BREAKER)
DISKS = (DISK_FREE, DISK)
LEDGER = tuple(series for series in SERIES if series not in (*LIVE, *INSTANCE, *EXPORTER, *DISKS))
