"""What follows a materialization that somebody asked for: everything downstream, once. What a sync brings is followed by
nothing, because it carried all along; nor is what failed."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.automation import SYNC_ALL
from pipeboard_assets.graph.entity_assets import asset_key
from pipeboard_assets.graph.launching import run_config, run_tags, without_history
from pipeboard_assets.graph.request import SyncRequest
from tests.graph.conftest import Account

# Dagster's own tester selects with a parameter of Dagster's that is marked beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `include_sources`")

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Graph:
    """A synced account of two months, and the automation conditions as the daemon evaluates them tick by tick."""

    def __init__(self, account: Account, instance: dg.DagsterInstance) -> None:
        self.account, self.instance, self.cursor = account, instance, None
        now = datetime.now(UTC)
        before = now.replace(year=now.year - 1, month=12) if now.month == 1 else now.replace(month=now.month - 1)
        self.defs = build_defs(account.settings.model_copy(update={"history_start": f"{before:%Y-%m}"}))
        partitions = self.defs.resolve_job_def(SYNC_ALL).partitions_def
        assert partitions is not None
        self.partitions = partitions
        self.months = partitions.get_partition_keys()

    def sync(self) -> None:
        request = SyncRequest(without_history=without_history(self.account.warehouse, SyncRequest()))
        self._run(SYNC_ALL, {**run_config(request), **QUIET}, dict(run_tags(request, self.partitions)))

    def materialize(self, *names: str, month: int | None = -1) -> bool:
        """By hand, as the UI does it; `month` is an index of the months."""
        tags = {"dagster/partition": self.months[month]} if month is not None else {}
        return self._run("__ASSET_JOB", QUIET, tags, names)

    def _run(self, job: str, config: object, tags: dict[str, str], names: tuple[str, ...] = ()) -> bool:
        return (
            self.defs.resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                run_config=config,
                tags=tags,
                asset_selection=[dg.AssetKey(name.split(".")) if "." in name else asset_key(name, "") for name in names]
                or None,
                raise_on_error=False,
            )
            .success
        )

    def requested(self) -> dict[str, set[str | None]]:
        """What the next tick asks for: partitions by asset ("schema.name", or the name of a table), None for an asset that
        has none."""
        result = dg.evaluate_automation_conditions(defs=self.defs, instance=self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        found: dict[str, set[str | None]] = {}
        for key in (node.key for node in self.defs.resolve_asset_graph().asset_nodes):
            if partitions := result.get_requested_partitions(key):
                name = key.path[-1]
                found[name if key == asset_key(name, "") else ".".join(key.path)] = partitions
        return found


@pytest.fixture
def graph(fresh_account: Account) -> Iterator[Graph]:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(fresh_account, instance)
        graph.requested()
        graph.sync()
        yield graph


def test_only_the_downstream_of_what_was_materialized_by_hand_follows_and_only_once(graph: Graph) -> None:
    assert graph.requested() == {}, "a sync brings everything along"
    latest = {graph.months[-1]}

    assert graph.materialize("pipelines", month=None)
    views = ("pipelines", "stages", "deals", "funnel", "closed_deals")  # others when the months have landed
    tables = {"stages": {None}, "deals": latest, "activities": latest, "main_bi": {None}}
    assert graph.requested() == {**tables, **{f"bi.{name}": {None} for name in views}}
    assert graph.requested() == {}, "asked for once"

    assert graph.materialize("activities", month=0)
    stored = {"bi.activities": {None}, "bi.activity_by_user": {None}, "bi.closed_deals": {None}}
    assert graph.requested() == {"main_bi": {None}, **stored}, "any month is enough"


def test_a_stored_mart_follows_what_was_materialized_by_hand(graph: Graph) -> None:
    graph.requested()
    company = graph.account.company
    number = next(each["id"] for each in company.truth("activities") if each["done"])
    before = graph.account.warehouse.query("SELECT sum(done) AS done FROM bi.activity_by_user")
    company.advance(3600)
    company.update("activities", number, {"done": False})
    assert graph.materialize("activities")
    assert "bi.activity_by_user" in graph.requested()
    assert graph.materialize("bi.activity_by_user", month=None)
    after = graph.account.warehouse.query("SELECT sum(done) AS done FROM bi.activity_by_user")
    assert (before[0]["done"] - after[0]["done"], graph.requested()) == (1, {})


def test_nothing_follows_what_failed(graph: Graph) -> None:
    graph.requested()
    graph.account.server.faults.add("status_403", "/api/v2/activities", times=None)
    assert not graph.materialize("activities")
    assert graph.materialize("persons")
    assert "main_bi" not in graph.requested()
    graph.account.server.faults.clear()
    assert graph.materialize("activities")
    assert graph.requested()["main_bi"] == {None}
