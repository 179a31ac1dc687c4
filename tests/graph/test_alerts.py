"""Alerts as people get them: by a real webhook and real mail, once a trouble, grouped by run, in the end delivered."""

import logging.config
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.error import SerializableErrorInfo
from pydantic import SecretStr

from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.alert_sensor import build_alert_sensor
from pipeboard_assets.graph.alerts import Level, Memory, News, message_about
from pipeboard_assets.graph.news import tick_news
from pipeboard_assets.graph.request import ASSETS, SyncRequest
from pipeboard_resources.notifier import Notifier, Tone
from tests.fixtures.receivers import Mailbox, Webhook
from tests.graph.conftest import Account

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def trouble(level: Level = Level.ERROR, key: str = "asset deals") -> News:
    return News(key=key, level=level, text="deals: broken. Mend it.")


@pytest.fixture
def memory() -> Memory:
    return Memory(seen_until=NOW)


def test_a_trouble_is_told_once_a_day_until_it_is_over(memory: Memory) -> None:
    def told(news: News, hours: float) -> bool:
        return memory.fresh([news], now=NOW + timedelta(hours=hours)) == [news]

    assert not told(trouble(Level.OVER), 0), "it never began"
    assert told(trouble(), 0)
    assert not told(trouble(), 1)
    assert told(trouble(Level.WARN), 2) and told(trouble(), 3), "better or worse is news"
    assert told(trouble(), 27)
    assert told(trouble(Level.OVER), 28) and not told(trouble(Level.OVER), 29)


def test_a_message_puts_the_worst_first_and_links_to_the_run() -> None:
    message = message_about(
        "run 1", [trouble(Level.OVER, "a"), trouble(Level.WARN, "b"), trouble()], link="http://ui/1"
    )
    assert [line.split(":")[0] for line in message.body.splitlines()] == ["ERROR", "WARN", "OVER", "http"]
    assert (message.title, message.tone) == ("Pipeboard: something is wrong (run 1)", Tone.FAILURE)
    assert message_about("x", [trouble(Level.OVER)], link=None).tone is Tone.SUCCESS


def test_a_message_of_a_hundred_troubles_stays_short() -> None:
    body = message_about("run 1", [trouble(key=str(n)) for n in range(100)], link=None).body
    assert len(body.splitlines()) == 21 and body.endswith("... and 80 more.")


def test_a_channel_that_is_down_gets_its_message_later_and_the_other_one_at_once(
    memory: Memory, webhook: Webhook, mailbox: Mailbox
) -> None:
    notifier = Notifier([SecretStr(webhook.url), SecretStr(mailbox.url)])
    webhook.status = 503
    memory.post(message_about("run 1", [trouble()], link=None), notifier.channels, now=NOW)
    assert memory.deliver(notifier, now=NOW) == (1, 1, 0)
    assert len(mailbox.received) == 1
    webhook.status = 200
    memory = Memory.model_validate_json(memory.model_dump_json())
    assert memory.deliver(notifier, now=NOW + timedelta(seconds=30)) == (0, 1, 0), "not so soon"
    assert memory.deliver(notifier, now=NOW + timedelta(minutes=2)) == (1, 0, 0)
    assert len(mailbox.received) == 1 and len(webhook.received) == 1
    (mail,) = mailbox.received
    assert mail["Subject"] == webhook.received[0]["title"] == "Pipeboard: something is wrong (run 1)"
    assert "ERROR: deals: broken. Mend it." in mail.get_body().get_content()  # type: ignore[union-attr]


def test_a_message_that_nobody_takes_is_given_up_after_a_day(memory: Memory, webhook: Webhook) -> None:
    notifier = Notifier([SecretStr(webhook.url)])
    webhook.status = 500
    memory.post(message_about("run 1", [trouble()], link=None), notifier.channels, now=NOW)
    after = [memory.deliver(notifier, now=NOW + timedelta(hours=hours)) for hours in (0, 24, 25)]
    assert after == [(0, 1, 0), (0, 1, 0), (0, 0, 1)] and memory.outbox == []


def test_a_url_that_apprise_does_not_know_is_named_by_its_number_only(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier([SecretStr("nonsense://hunter2@x")])
    memory.post(message_about("run 1", [trouble()], link=None), notifier.channels, now=NOW)
    assert memory.deliver(notifier, now=NOW) == (0, 1, 0)
    assert "PIPEBOARD_ALERT_URLS number 1 is no URL" in caplog.text
    assert "hunter2" not in caplog.text + memory.model_dump_json()
    assert list(notifier.unknown()) == ["number 1 (nonsense://)"]
    assert list(Notifier([SecretStr("hunter2")]).unknown()) == ["number 1 (without a scheme)"]


@pytest.mark.parametrize("status", [200, 503])
def test_no_secret_of_a_channel_reaches_a_log_at_any_level(
    webhook: Webhook, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    # As Dagster does when it configures its loggers: whatever was disabled is enabled again.
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "incremental": False})
    webhook.status = status
    refused = "json://127.0.0.1:1/hunter2"
    notifier = Notifier([SecretStr(f"{webhook.url}hunter2"), SecretStr(refused), SecretStr("nonsense://hunter2@x")])
    with caplog.at_level(logging.DEBUG):
        message = message_about("run 1", [trouble()], link=None)
        sent = notifier.send([(channel, message) for channel in notifier.channels])
        logging.getLogger("urllib3.connectionpool").warning("of somebody else")
    assert sent == [status == 200, False, False]
    assert "hunter2" not in caplog.text + "".join(capfd.readouterr()) and "of somebody else" in caplog.text


class Watch:
    """An account with alerts to a webhook; `sync` is a run, `look` a tick of the sensor."""

    def __init__(self, account: Account, instance: dg.DagsterInstance, webhook: Webhook) -> None:
        self.account, self.instance, self.webhook = account, instance, webhook
        month = f"{datetime.now(UTC):%Y-%m}"
        update = {"alert_urls": (SecretStr(webhook.url),), "history_start": month}
        self.settings = account.settings.model_copy(update=update)
        self.defs = build_defs(self.settings)
        self.ahead = timedelta()
        self.sensor = build_alert_sensor(self.settings, now=lambda: datetime.now(UTC) + self.ahead)
        self.cursor: str | None = None
        self.look()

    def sync(self, *assets: str, full: bool = False) -> str:
        request = SyncRequest(assets=assets or ASSETS, full=full, without_history=frozenset({"deals"}))
        run_id, _, _ = run_sync(self.defs, self.instance, request)
        return run_id

    def look(self) -> list[dict[str, str]]:
        """Messages that arrive because of this tick."""
        before = len(self.webhook.received)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, definitions=self.defs) as context:
            self.cursor = self.sensor.evaluate_tick(context).cursor
        return self.webhook.received[before:]


@pytest.fixture
def watch(fresh_account: Account, webhook: Webhook) -> Iterator[Watch]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watch(fresh_account, instance, webhook)


def test_a_failed_sync_is_told_once_with_the_reason_and_so_is_its_end(watch: Watch) -> None:
    watch.account.server.faults.add("status_403", "/v1/users", times=None)
    run_id = watch.sync()
    (message,) = watch.look()
    assert message["title"] == f"Pipeboard: something is wrong (run {run_id[:8]})" and message["type"] == "failure"
    assert "ERROR: users: " in message["message"] and "403" in message["message"]
    assert message["message"].endswith(f"http://127.0.0.1:3000/runs/{run_id}")
    watch.sync()
    assert watch.look() == watch.look() == [], "the same trouble once more is no news"
    watch.account.server.faults.clear()
    watch.sync()
    (message,) = [each for each in watch.look() if "users is up to date" in each["message"]]
    assert "OVER: users is up to date again." in message["message"]


def test_a_failed_check_is_told_by_its_own_words_and_only_once_in_the_message(watch: Watch) -> None:
    company = watch.account.company
    for number in company.ids("deals")[:10]:
        company.update("deals", number, {"title": None})
    watch.sync()
    (message,) = watch.look()
    assert message["message"].count("required_columns") == 1
    assert "ERROR: deals, required_columns: 10 exceptions: id 1 lacks title; " in message["message"]


def test_what_is_wrong_with_one_view_is_not_taken_back_by_another_that_is_well(watch: Watch) -> None:
    watch.sync()
    (message,) = watch.look()
    assert "WARN: bi.funnel, history: " in message["message"]
    url = watch.account.settings.database_url
    assert url is not None
    with psycopg.connect(url.get_secret_value()) as connection:
        connection.execute("DELETE FROM pipeboard.mart_funnel WHERE won > 0")
    watch.sync("pipelines")
    (message,) = watch.look()
    assert "ERROR: bi.funnel, adds_up: " in message["message"] and "OVER" not in message["message"]


def test_columns_that_come_and_rows_that_would_go_by_the_score_are_told(watch: Watch) -> None:
    company = watch.account.company
    watch.sync("deals")
    watch.look()
    company.add_field("deals", "Competitor", "varchar")
    watch.sync("deals")
    (message,) = watch.look()
    assert "WARN: deals, columns: 1 exception: new column cf_competitor." in message["message"]
    for number in company.ids("deals")[:30]:
        company.remove("deals", number)
    watch.sync("deals", full=True)
    (message,) = watch.look()
    assert "ERROR: deals: reconciling pipedrive.deals would delete 30 of 40 rows" in message["message"]


def test_the_days_api_tokens_are_told_at_75_and_at_100_percent_of_what_may_be_spent(watch: Watch) -> None:
    limits, per_day = watch.account.server.limits, watch.account.company.plan.daily_tokens

    def told_after(spent_percent: float) -> list[str]:
        limits.spent = int(per_day * spent_percent / 100)
        watch.sync("deals")
        lines = [line for message in watch.look() for line in message["message"].splitlines()]
        return [line.partition(" of")[0] for line in lines if "API tokens" in line]

    assert told_after(10) == [], "nothing to tell; and the stand-in's day has begun, which empties its count"
    assert told_after(70) == ["WARN: 78 %"], "10 percent are the reserve"
    assert told_after(95) == ["ERROR: 100 %"]
    assert told_after(0) == ["OVER: 0 %"]


class Ticking:
    """The sensor `refresh` as the daemon keeps it: its state, and the ticks that a test writes."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("pipeboard"), "__repository__")
        origin = RemoteInstigatorOrigin(repository, "refresh")
        running, data = InstigatorStatus.DECLARED_IN_CODE, SensorInstigatorData()
        self.instance = instance
        self.state = instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, running, data))

    def tick(self, status: TickStatus, at: datetime) -> None:
        data = TickData(
            instigator_origin_id=self.state.instigator_origin_id,
            selector_id=self.state.selector_id,
            instigator_name="refresh",
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=at.timestamp(),
            error=SerializableErrorInfo("unreachable", [], None) if status is TickStatus.FAILURE else None,
        )
        self.instance.create_tick(data)

    def told(self, after: timedelta = timedelta()) -> str:
        (news,) = tick_news(self.instance, {"refresh"}, now=NOW + after)
        assert list(tick_news(self.instance, {"of another location"}, now=NOW)) == []
        return f"{news.level}: {news.text}"


def test_a_sensor_that_fails_or_falls_silent_or_was_stopped_is_told() -> None:
    with dg.instance_for_test() as instance:
        sensor = Ticking(instance)
        assert sensor.told().startswith("OVER"), "its first tick is still to come"
        for minute in range(3):
            assert sensor.told().startswith("OVER"), "it may be a database that restarts"
            sensor.tick(TickStatus.FAILURE, NOW + timedelta(minutes=minute))
        assert sensor.told() == (
            "ERROR: The sensor `refresh` failed 3 times in a row. Its page in the UI, under Automation, shows the error."
        )
        sensor.tick(TickStatus.SKIPPED, NOW + timedelta(minutes=4))
        assert sensor.told(timedelta(minutes=5)) == "OVER: The sensor `refresh` ticks again."
        assert sensor.told(timedelta(minutes=20)).startswith("ERROR: The sensor `refresh` last ticked 16 min ago")
        instance.update_instigator_state(sensor.state.with_status(InstigatorStatus.STOPPED))
        assert sensor.told().startswith("WARN: The sensor `refresh` was stopped.")


def test_a_table_past_its_fail_window_is_told_and_so_is_its_return(watch: Watch) -> None:
    watch.sync()
    watch.look()
    watch.ahead = timedelta(hours=6, minutes=1)
    (message,) = watch.look()
    assert "ERROR: deals was last synced 6 h 1 min ago." in message["message"]
    assert "mart_" not in message["message"] and "calendar" not in message["message"]  # computed on change only
    assert watch.look() == []
    watch.ahead = timedelta()
    (message,) = watch.look()
    assert message["type"] == "success" and "OVER: deals was last synced" in message["message"]


def test_a_run_that_dagster_starts_again_is_told_by_its_last_attempt_only(watch: Watch) -> None:
    job = watch.defs.resolve_job_def("sync_all")
    failed: Callable[..., dg.DagsterRun] = lambda **tags: watch.instance.create_run_for_job(job, tags=tags)
    watch.instance.report_run_failed(failed(**{"dagster/will_retry": "true"}), "killed")
    assert watch.look() == []
    watch.instance.report_run_failed(failed(), "killed")
    assert "ERROR: sync_all: killed" in watch.look()[0]["message"]


def test_without_channels_the_sensor_says_that_nobody_is_told(fresh_account: Account) -> None:
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        said = build_alert_sensor(fresh_account.settings).evaluate_tick(context).skip_message
    assert said is not None and "PIPEBOARD_ALERT_URLS is empty" in said
