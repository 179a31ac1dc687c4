"""What a command stands on: servers (given or embedded) and the Dagster instance, opened and closed as one."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pydantic import SecretStr

from pipeboard_resources.embedded.postgres import postgres_server
from pipeboard_resources.embedded.redis import redis_server
from pipeboard_resources.settings import PROJECT_ROOT, SettingError, Settings

# What an empty DAGSTER_HOME gets; `dagster_home/dagster.yaml` of the checkout is the same text (kept so by a test).
DAGSTER_YAML = """\
# Dagster's instance. Run history and events live in PostgreSQL: at DATABASE_URL, schema "dagster", or embedded.
storage:
  custom:
    module: pipeboard_assets.instance_storage
    class: InstanceStorage
    config: {}
# What a run writes goes to the terminal or the container's log: capturing it takes four processes a run, which a
# Ctrl-C in a terminal reaches too. Events and messages of a run stand in the UI all the same.
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
telemetry:
  enabled: false
nux:
  enabled: false # the "join our community" window that covers the UI
# One run at a time reads Pipedrive, whose limits belong to the whole account: backfills queue behind a sync. A run counts,
# not a step, so that a command in a terminal never waits for a daemon.
concurrency:
  pools:
    granularity: run
    default_limit: 1
  runs:
    max_concurrent_runs: 4
run_monitoring:
  enabled: true
  start_timeout_seconds: 120
  max_runtime_seconds: 21600 # a run that hangs; what it had read is kept, and the next one goes on from there
# Only a run whose process died. A step that failed was tried again where that could help, and a refused key or a red
# check stays what it is; the sensor `refresh` starts the next sync.
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false
retention:
  schedule: {purge_after_days: 30}
  auto_materialize: {purge_after_days: 3}
  sensor:
    purge_after_days:
      skipped: 3
      failure: 30
      success: 30
"""

Say = Callable[[str], None]


def dagster_home(settings: Settings) -> Path:
    """DAGSTER_HOME if set; else the checkout's `dagster_home`, or one in the state folder where that was moved."""
    if settings.dagster_home is not None:
        return settings.dagster_home
    is_default = settings.state_dir == PROJECT_ROOT / ".pipeboard"
    return PROJECT_ROOT / "dagster_home" if is_default else settings.state_dir / "dagster_home"


def prepare_dagster_home(folder: Path) -> Path:
    """Make `folder` usable as DAGSTER_HOME; an existing dagster.yaml is left as it is. Raises SettingError."""
    config = folder / "dagster.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            config.write_text(DAGSTER_YAML, encoding="utf-8")
    except OSError as error:
        raise SettingError(
            f"DAGSTER_HOME: cannot write {folder} ({error.strerror}); make the folder yours or choose another"
        ) from error
    return folder.resolve()


def lacking_settings(folder: Path) -> list[str]:
    """Dotted names that today's dagster.yaml has and the one in `folder` has not, where an older release wrote it.

    Other values are a choice, and so are other places for history and captured output. Raises SettingError.
    """
    try:
        found = yaml.safe_load((folder / "dagster.yaml").read_text(encoding="utf-8")) or {}
        if not isinstance(found, dict):
            raise yaml.YAMLError("no mapping")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(
            f"DAGSTER_HOME: {folder / 'dagster.yaml'} cannot be read as YAML; mend or delete it"
        ) from error
    chosen = {"storage", "compute_logs"} & found.keys()
    wanted = yaml.safe_load(DAGSTER_YAML)
    return list(_lacking(found, {name: value for name, value in wanted.items() if name not in chosen}))


def _lacking(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in wanted.items():
        if name not in found:
            yield f"{path}{name}"
        elif isinstance(value, dict) and isinstance(found[name], dict):
            yield from _lacking(found[name], value, f"{path}{name}.")


@contextmanager
def servers(settings: Settings, say: Say) -> Iterator[Settings]:
    """The same settings with both URLs filled in, starting embedded servers where none is given.

    Raises EmbeddedServerError when PostgreSQL cannot start; without Redis there is no cache, and `say` is told.
    """
    with ExitStack() as stack:
        database_url, redis_url = settings.database_url, settings.redis_url
        if database_url is None:
            postgres = stack.enter_context(postgres_server(settings.state_dir))
            say(f"PostgreSQL: {postgres.source}")
            database_url = SecretStr(postgres.url)
        if redis_url is None:
            redis = stack.enter_context(redis_server(settings.state_dir))
            say(f"Redis: {redis.source}" if redis else "Redis: none found, so nothing is cached")
            redis_url = SecretStr(redis.url) if redis else None
        yield settings.model_copy(update={"database_url": database_url, "redis_url": redis_url})


def process_environment(settings: Settings) -> dict[str, str]:
    """Environment in which every process of Dagster reads these same settings. Prepares DAGSTER_HOME."""
    secrets = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "PIPEDRIVE_API_KEY": settings.pipedrive_api_key,
    }
    return {
        **{name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None},
        "PIPEDRIVE_BASE_URL": settings.pipedrive_base_url,
        "PIPEBOARD_STATE_DIR": str(settings.state_dir),
        "PIPEBOARD_HISTORY_START": settings.history_start,
        "DAGSTER_HOME": str(prepare_dagster_home(dagster_home(settings))),
    }


@contextmanager
def dagster_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance that the UI shows."""
    os.environ.update(process_environment(settings))
    with dg.DagsterInstance.get() as instance:
        yield instance
