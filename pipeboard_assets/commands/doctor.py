"""`pipeboard doctor`: every setting and permission tried in earnest, each failure with what mends it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeboard_assets import instance_storage
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.catalog.schemas import schemas_of
from pipeboard_assets.commands.console import show_finding
from pipeboard_assets.commands.environment import dagster_home, lacking_settings, prepare_dagster_home, servers
from pipeboard_assets.graph.resources import open_warehouse
from pipeboard_assets.sync.sight import KeyUser
from pipeboard_io import WarehouseError
from pipeboard_resources.dagster_resources import open_database_url, open_pipedrive, open_redis
from pipeboard_resources.embedded import EmbeddedServerError
from pipeboard_resources.notifier import Notifier
from pipeboard_resources.pipedrive.client import PipedriveClient
from pipeboard_resources.pipedrive.endpoint import Endpoint
from pipeboard_resources.pipedrive.errors import PipedriveError
from pipeboard_resources.settings import MissingSettingError, SettingError, Settings

_OLDEST_POSTGRES = 140000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `advice` says what to do when `is_ok` is False, or what to know when `is_warning`."""

    subject: str
    is_ok: bool
    seen: str
    advice: str = ""
    is_warning: bool = False

    @property
    def mark(self) -> str:
        return "note" if self.is_warning else "ok" if self.is_ok else "wrong"


def doctor(settings: Settings) -> int:
    """Examine everything, show it; 0 when nothing is wrong (warnings allowed)."""
    is_sound = True
    for finding in examine(settings):
        is_sound = is_sound and finding.is_ok
        show_finding(finding.mark, finding.subject, finding.seen, finding.advice)
    return 0 if is_sound else 1


def examine(settings: Settings) -> Iterator[Finding]:
    """Findings in the order of dependence: folders, servers, key, what the key may see."""
    yield _dagster_home(settings)
    if settings.alert_urls:
        yield _alerts(Notifier(settings.alert_urls))
    if settings.pushgateway_address is not None:
        yield _pushgateway(settings.pushgateway_address)
    with ExitStack() as stack:
        told: list[str] = []
        try:
            ready = stack.enter_context(servers(settings, told.append))
        except EmbeddedServerError as error:
            yield Finding("embedded servers", False, str(error))
            return
        yield from _postgres(ready, told)
        yield from _redis(ready, told)
        yield from _pipedrive(ready)


def _dagster_home(settings: Settings) -> Finding:
    folder = dagster_home(settings)
    try:
        prepare_dagster_home(folder)
        lacking = lacking_settings(folder)
    except SettingError as error:
        return Finding("DAGSTER_HOME", False, str(error))
    if lacking:
        seen = f"{folder / 'dagster.yaml'} lacks {', '.join(lacking)}"
        advice = "An older release wrote it. Add these, or delete the file: the next command writes today's."
        return Finding("DAGSTER_HOME", True, seen, advice, is_warning=True)
    return Finding("DAGSTER_HOME", True, str(folder))


def _alerts(notifier: Notifier) -> Finding:
    """Sends nothing."""
    unknown = list(notifier.unknown())
    if unknown:
        advice = "Look up how its channel is written: https://appriseit.com/services"
        return Finding("PIPEBOARD_ALERT_URLS", False, f"apprise does not know {', '.join(unknown)}", advice)
    return Finding("PIPEBOARD_ALERT_URLS", True, f"{len(notifier.channels)} to send to")


def _pushgateway(address: str) -> Finding:
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        is_address = bool(parts.hostname and parts.port)
    except ValueError:  # a port that is no number
        is_address = False
    if not is_address:
        return Finding("PUSHGATEWAY_ADDRESS", False, "not of the form host:port", "Write it as 127.0.0.1:9091.")
    return Finding("PUSHGATEWAY_ADDRESS", True, "host:port")


def _postgres(settings: Settings, told: list[str]) -> Iterator[Finding]:
    source = next((line for line in told if line.startswith("PostgreSQL")), "DATABASE_URL")
    try:
        with open_warehouse(settings) as warehouse:
            (row,) = warehouse.query(
                "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number, "
                "current_user AS role, current_database() AS name, "
                "has_database_privilege(current_database(), 'CREATE') AS may_create, ARRAY(SELECT name FROM "
                "unnest(%s::text[]) AS name LEFT JOIN pg_namespace ON nspname = name "
                "WHERE has_schema_privilege(pg_namespace.oid, 'CREATE') IS NOT TRUE) AS lacking",
                [[*schemas_of(settings), instance_storage.SCHEMA]],
            )
    except WarehouseError as error:
        yield Finding("DATABASE_URL", False, str(error))
        return
    if row["number"] < _OLDEST_POSTGRES:
        yield Finding("PostgreSQL", False, f"version {row['version']}", "Use PostgreSQL 14 or newer.")
    else:
        yield Finding(
            "PostgreSQL", True, f"{source}; version {row['version']}, database {row['name']}, role {row['role']}"
        )
    if row["may_create"] or not row["lacking"]:
        yield Finding("schemas", True, "may be created and filled")
    else:
        seen = f"the role may not create schemas, and cannot fill {', '.join(row['lacking'])}"
        remedy = f'Run deploy/roles.sql, or GRANT CREATE ON DATABASE "{row["name"]}" TO "{row["role"]}".'
        yield Finding("schemas", False, seen, remedy)
    yield _run_history(settings)


def _run_history(settings: Settings) -> Finding:
    """Tables load through PgBouncer in transaction mode; Dagster's own do not."""
    try:
        with open_database_url(settings) as url, instance_storage.connect(url):
            return Finding("run history", True, f"Dagster's schema {instance_storage.SCHEMA}")
    except WarehouseError as error:
        return Finding("run history", False, str(error))


def _redis(settings: Settings, told: list[str]) -> Iterator[Finding]:
    with open_redis(settings) as shared:
        answers = shared is not None and shared.attempt(lambda server: bool(server.ping()), False)
    source = next((line for line in told if line.startswith("Redis")), "REDIS_URL")
    if answers:
        yield Finding("Redis", True, source)
    elif settings.redis_url is None:
        yield Finding(
            "Redis", True, source, "Install redis-server to keep field metadata between runs.", is_warning=True
        )
    else:
        yield Finding("REDIS_URL", True, "no answer; syncs go on without a cache", "Check the URL.", is_warning=True)


def _pipedrive(settings: Settings) -> Iterator[Finding]:
    try:
        with open_pipedrive(settings, None) as client:
            yield from _account(client)
            for endpoint in _endpoints():
                yield _tried(client, endpoint)
            yield _limits(client)
    except MissingSettingError as error:
        yield Finding("PIPEDRIVE_API_KEY", False, "not set", str(error))
    except PipedriveError as error:
        yield Finding("PIPEDRIVE_API_KEY", False, str(error))


def _account(client: PipedriveClient) -> Iterator[Finding]:
    user = client.current_user()
    company = f"{user.get('company_name')} ({user.get('company_domain')}), time zone {user.get('timezone_name')}"
    yield Finding("Pipedrive account", True, company)
    if KeyUser.of(user).is_admin:
        yield Finding("key's user", True, f"user {user.get('id')}, an admin: sees the whole company")
    else:
        advice = "Use the key of a global admin, or know that rows are missing: Pipedrive hides them without an error."
        yield Finding("key's user", True, f"user {user.get('id')}, not a global admin", advice, is_warning=True)


def _endpoints() -> Iterator[Endpoint]:
    for entity in CATALOG:
        yield from entity.lists
        if entity.fields is not None:
            yield entity.fields


def _tried(client: PipedriveClient, endpoint: Endpoint) -> Finding:
    """Any single refusal is a finding, not the end of the examination."""
    try:
        client.probe(endpoint)
    except PipedriveError as error:
        return Finding(endpoint.name, False, str(error))
    return Finding(endpoint.name, True, "may be read")


def _limits(client: PipedriveClient) -> Finding:
    plan = client.plan
    left = "unknown" if plan.tokens_left is None else f"{plan.tokens_left:,} of {plan.tokens_per_day or 0:,}"
    seen = f"{plan.requests_per_two_seconds} requests in 2 s; tokens left today: {left}, kept back: {plan.tokens_reserved:,}"
    return Finding("API limits", True, seen)
