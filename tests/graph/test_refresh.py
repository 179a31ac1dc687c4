"""The refresh sensor: when it starts a sync, when it does not, and what it says; the week's reconciliation."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.launching import without_history
from pipeboard_assets.graph.refresh import Situation, build_refresh_sensor, decide, first_to_start, pause
from pipeboard_assets.graph.request import ASSETS, MONTHLY, SyncRequest
from pipeboard_assets.graph.run_process import COMMAND, HOST, PID, signature
from pipeboard_assets.graph.view_assets import view_keys
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import Settings
from tests.graph.conftest import Account

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FOUR_HOURS = timedelta(hours=4)
_MONTHS_READ_TWICE = """
SELECT entity, facts ->> 'month' AS month, count(*) AS times FROM pipeboard.load
WHERE mode = 'history' AND status = 'success' GROUP BY 1, 2 HAVING count(*) > 1
"""


def synced(**hours_ago: float) -> dict[str, datetime]:
    return {name: NOW - timedelta(hours=hours_ago.get(name, 1)) for name in ASSETS}


def told(**situation: object) -> tuple[bool, str]:
    decision = decide(Situation(**situation), late_after=FOUR_HOURS, now=NOW)  # type: ignore[arg-type]
    return decision.starts, decision.why


def test_fresh_tables_start_nothing_and_the_next_time_is_told() -> None:
    assert told(successes=synced(deals=2.5)) == (
        False,
        "Every table is fresh. The oldest, deals, was synced 2 h 30 min ago; the next sync is due at 2026-11-24 13:30 UTC.",
    )


def test_a_late_table_starts_a_sync_at_the_minute_at_which_it_is_late() -> None:
    assert told(successes=synced(deals=4)) == (True, "deals was synced 4 h 0 min ago.")
    assert told(successes=synced(deals=3.99))[0] is False


def test_a_table_that_was_never_synced_starts_the_first_sync() -> None:
    assert told(successes={}) == (True, "users was never synced. 8 more are late too.")


def test_no_sync_starts_while_one_is_under_way() -> None:
    assert told(successes={}, under_way=["0123456789"]) == (False, "A sync is under way already (run 01234567).")


@pytest.mark.parametrize(("failures", "minutes"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (500, 60)])
def test_syncs_that_fail_are_tried_again_ever_later(failures: int, minutes: int) -> None:
    assert pause(failures) == timedelta(minutes=minutes)
    failed_at = NOW - timedelta(minutes=minutes)
    assert told(successes={}, failures=failures, failed_at=failed_at)[0]
    starts, why = told(successes={}, failures=failures, failed_at=failed_at + timedelta(seconds=90))
    assert not starts and "failed; the next try is at 12:01 UTC" in why


class Sensor:
    """The sensor on a real instance, its clock moved by the test (a run ends at the true time); `launch` carries out what it asked for."""

    def __init__(self, account: Account, instance: dg.DagsterInstance, *, history_start: str | None = None) -> None:
        self.account, self.instance, self.now = account, instance, datetime.now(UTC)
        settings = account.settings.model_copy(update={"history_start": history_start or f"{self.now:%Y-%m}"})
        self.defs = build_defs(settings)
        self.job = self.defs.resolve_job_def("sync_all")
        partitions = self.job.partitions_def
        assert partitions is not None
        self.sensor = build_refresh_sensor(settings, partitions, view_keys(self.defs), now=lambda: self.now)

    def tick(self) -> dg.RunRequest | str:
        with dg.build_sensor_context(instance=self.instance, definitions=self.defs) as context:
            result = self.sensor.evaluate_tick(context)
        return result.run_requests[0] if result.run_requests else result.skip_message or ""

    def launch(self) -> bool:
        request = self.tick()
        assert isinstance(request, dg.RunRequest), request
        return self.job.execute_in_process(
            instance=self.instance,
            run_config={**request.run_config, **QUIET},
            tags=request.tags,
            asset_selection=request.asset_selection,
            raise_on_error=False,
        ).success


@pytest.fixture
def sensor(fresh_account: Account) -> Iterator[Sensor]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Sensor(fresh_account, instance)


def test_an_empty_database_is_filled_whole_then_left_alone_until_it_is_late(sensor: Sensor) -> None:
    assert sensor.launch()
    account = sensor.account
    assert account.rows("pipedrive.deals").keys() == {deal["id"] for deal in account.company.truth("deals")}
    modes = account.warehouse.query("SELECT DISTINCT mode FROM pipeboard.load WHERE entity = 'deals'")
    assert modes == [{"mode": "full"}]
    said = sensor.tick()
    assert isinstance(said, str) and said.startswith("Every table is fresh")

    sensor.now += timedelta(hours=4, minutes=1)
    request = sensor.tick()
    assert isinstance(request, dg.RunRequest)
    assert "dagster/partition" in request.tags and request.tags["pipeboard/why"].endswith("8 more are late too.")
    assert {op["config"]["mode"] for op in request.run_config["ops"].values()} == {"incremental"}


def test_while_the_api_is_down_syncs_are_tried_ever_later_and_once_more_when_it_is_up(sensor: Sensor) -> None:
    account = sensor.account
    account.server.faults.add("status_403", "/v1/users", times=None)
    assert not sensor.launch()
    said = sensor.tick()
    assert isinstance(said, str) and "But the last sync failed" in said
    sensor.now += timedelta(minutes=6)
    assert not sensor.launch()
    said = sensor.tick()
    assert isinstance(said, str) and "But the last 2 syncs failed" in said
    account.server.faults.clear()
    sensor.now += timedelta(minutes=6)
    assert sensor.launch()


def test_a_first_sync_that_cannot_ask_how_large_the_account_is_waits_and_says_so(sensor: Sensor) -> None:
    sensor.account.server.faults.add("status_401", "*", times=None)
    said = sensor.tick()
    assert isinstance(said, str) and said.startswith(
        "users was never synced. 8 more are late too. But no sync starts, "
    )
    assert "Personal preferences > API" in said


def test_a_run_whose_process_was_killed_does_not_keep_the_next_one_from_starting(sensor: Sensor) -> None:
    job = sensor.job

    def begun(**tags: str) -> str:
        run = sensor.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
        return run.run_id

    mine = signature()
    alive = begun(**mine)
    assert sensor.tick() == f"A sync is under way already (run {alive[:8]})."
    dead = [begun(**{**mine, COMMAND: "another"}), begun(**{**mine, PID: "999999999"})]
    elsewhere = begun(**{**mine, HOST: "elsewhere", PID: "999999999"})
    sensor.tick()
    found = {run.run_id for run in sensor.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))}
    assert found == set(dead) and elsewhere not in found


@pytest.fixture
def poor_sensor(
    standin_factory: Callable[..., Server], fresh_database: str, redis_url: str, tmp_path: Path
) -> Iterator[Sensor]:
    """Of an account whose history costs more tokens than a day has, and of which the organizations alone are there."""
    now = datetime.now(UTC)
    server = standin_factory(deals=100, now=now)
    server.company.set_plan("Lite", seats=1)
    account = Account(server, fresh_database, tmp_path, redis_url, page_size=20, token_reserve_percent=98.8)
    account.sync(assets=("organizations",))
    server.limits.reset()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Sensor(account, instance, history_start=f"{now.replace(day=1) - timedelta(days=1):%Y-%m}")


def test_a_run_of_the_sensor_makes_no_table_of_what_it_was_not_to_read(poor_sensor: Sensor) -> None:
    account = poor_sensor.account
    assert tables(poor_sensor.tick()) == {"users", "pipelines", "stages", "activity_types", "organizations"}
    assert poor_sensor.launch()
    assert modes(account) == [("organizations", "full"), ("organizations", "incremental")]
    assert "organizations" not in tables(poor_sensor.tick())
    for _ in range(8):
        if isinstance(poor_sensor.tick(), str):
            break
        poor_sensor.launch()
        account.server.limits.reset()
        poor_sensor.now = datetime.now(UTC) + timedelta(hours=1)
    assert account.rows("pipedrive.deals").keys() == {deal["id"] for deal in account.company.truth("deals")}
    assert account.rows("pipedrive.activities").keys() == set(account.company.ids("activities"))
    assert account.warehouse.query(_MONTHS_READ_TWICE) == []


def test_the_weekly_reconciliation_leaves_a_first_load_by_months_alone(poor_sensor: Sensor) -> None:
    schedule = poor_sensor.defs.get_repository_def().get_schedule_def("weekly_reconciliation")

    def reconciled() -> set[str]:
        (request,) = schedule.evaluate_tick(dg.build_schedule_context()).run_requests or ()
        return tables(request)

    assert {"organizations", "persons"} <= reconciled()
    poor_sensor.launch()
    poor_sensor.launch()
    loading = {name for name, mode in modes(poor_sensor.account) if mode == "history"}
    assert "persons" in loading
    assert "organizations" in reconciled() and not reconciled() & loading


@pytest.mark.parametrize("refused", ["/api/v2/activities", "/v1/activityTypes"])
def test_months_of_a_first_load_do_not_wait_for_a_list_that_fails(poor_sensor: Sensor, refused: str) -> None:
    account = poor_sensor.account
    account.server.faults.add("status_403", refused, times=None)
    left = frozenset({"deals", "persons"})
    for _ in range(12):
        if not isinstance(poor_sensor.tick(), str):
            poor_sensor.launch()
        poor_sensor.now += timedelta(minutes=11)
        account.server.limits.reset()
        left = without_history(account.warehouse, SyncRequest()) - {"activities"}
        if not left:
            break
    assert not left
    assert account.rows("pipedrive.deals").keys() == {deal["id"] for deal in account.company.truth("deals")}


@pytest.mark.parametrize(("minutes_of_the_month", "is_history"), [(40, False), (80, True)])
def test_in_a_new_month_what_changed_is_read_before_the_history_goes_on(
    minutes_of_the_month: int, is_history: bool
) -> None:
    """All was synced an hour ago and nothing is late: in the first case that was last month."""
    now = datetime(2026, 12, 1, tzinfo=UTC) + timedelta(minutes=minutes_of_the_month)
    successes = dict.fromkeys(ASSETS, now - timedelta(hours=1))
    runs = (SyncRequest(), SyncRequest(first="2026-12", last="2026-12", is_history=True))
    chosen = first_to_start(runs, successes, late_after=FOUR_HOURS, now=now)
    assert chosen is not None and chosen.is_history is is_history


def tables(request: dg.RunRequest | str) -> set[str]:
    assert isinstance(request, dg.RunRequest), request
    return {key.path[-1] for key in request.asset_selection or () if key.path[0] == "pipedrive"} & set(ASSETS)


def modes(account: Account) -> list[tuple[str, str]]:
    """How the lists were read that can be read in part."""
    found = account.warehouse.query(
        "SELECT DISTINCT entity, mode FROM pipeboard.load WHERE entity = ANY(%s) ORDER BY 1, 2", [list(MONTHLY)]
    )
    return [(row["entity"], row["mode"]) for row in found]


def test_the_current_month_alone_of_what_was_never_read_is_read_whole(sensor: Sensor) -> None:
    account, partition = sensor.account, sensor.job.partitions_def
    assert partition is not None
    result = sensor.job.execute_in_process(
        instance=sensor.instance,
        run_config=QUIET,
        partition_key=partition.get_partition_keys()[-1],
        asset_selection=[dg.AssetKey(["pipedrive", "organizations"])],
    )
    assert result.success and modes(account) == [("organizations", "full")]
    assert account.rows("pipedrive.organizations").keys() == set(account.company.ids("organizations"))


def test_without_a_key_the_sensor_says_where_it_is_found() -> None:
    settings = Settings(_env_file=None)
    partitions = build_defs(settings).resolve_job_def("sync_all").partitions_def
    assert partitions is not None
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        said = build_refresh_sensor(settings, partitions, ()).evaluate_tick(context).skip_message
    assert said is not None and "Personal preferences > API" in said


def test_the_weekly_reconciliation_reads_every_month_in_full() -> None:
    defs = build_defs(Settings(_env_file=None, history_start="2026-01"))
    schedule = defs.get_repository_def().get_schedule_def("weekly_reconciliation")
    (request,) = schedule.evaluate_tick(dg.build_schedule_context()).run_requests or ()
    assert request.tags["dagster/asset_partition_range_start"] == "2026-01-01"
    assert {op["config"]["mode"] for op in request.run_config["ops"].values()} == {"full"}


def test_sensors_and_schedule_run_without_anybody_starting_them() -> None:
    defs = build_defs(Settings(_env_file=None))
    repository = defs.get_repository_def()
    assert {sensor.default_status for sensor in repository.sensor_defs} == {dg.DefaultSensorStatus.RUNNING}
    assert {schedule.default_status for schedule in repository.schedule_defs} == {dg.DefaultScheduleStatus.RUNNING}
