"""Two companies in one database and one Dagster instance: both right, and neither disturbs the other."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from pipeboard_assets.bi.marts import MARTS
from pipeboard_assets.catalog import CATALOG
from pipeboard_assets.commands.backup import backup
from pipeboard_assets.commands.reports import table_states
from pipeboard_assets.commands.runner import run_sync
from pipeboard_assets.definitions import build_defs
from pipeboard_assets.graph.automation import SYNC_ALL
from pipeboard_assets.graph.observer import Observer
from pipeboard_assets.graph.outcome import AssetOutcome, Status
from pipeboard_assets.graph.refresh import _runs
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_assets.metrics.live import LivePush
from pipeboard_io import archive
from pipeboard_resources.dagster_resources import open_pipedrive
from pipeboard_resources.pipedrive.standin import Server
from pipeboard_resources.settings import Settings
from tests.fixtures.receivers import Webhook
from tests.graph.conftest import Account
from tests.graph.test_alerts import Watch
from tests.graph.test_sync import assert_equals_truth, assert_green

NAMES = ("acme", "globex")


@dataclass
class Shared:
    """Two companies and what they share."""

    instance: dg.DagsterInstance
    acme: Account
    globex: Account

    def sync(self, account: Account, **request: Any) -> dict[str, AssetOutcome]:
        asked = SyncRequest(prefix=account.settings.prefix, **request)
        _, _, outcomes = run_sync(build_defs(account.settings), self.instance, asked)
        return {outcome.asset: outcome for outcome in outcomes}


@pytest.fixture(scope="module")
def shared(
    standin_factory: Callable[..., Server], database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    """Synced for the first time, acme in the middle of globex."""
    folder = tmp_path_factory.mktemp("accounts")
    acme, globex = (
        Account(
            standin_factory(deals=deals, seed=deals),
            database_url,
            folder,
            redis_url,
            account=name,
            old_names_schema=f"{name}_antes",
        )
        for name, deals in zip(NAMES, (30, 45), strict=True)
    )
    with dg.DagsterInstance.ephemeral() as instance:
        made, inner = Shared(instance, acme, globex), []

        def meanwhile(*_page: object) -> None:
            globex.server.before_page = None
            inner.append(made.sync(acme, full=True))

        globex.server.before_page = meanwhile
        assert_green(made.sync(globex, full=True))
        assert_green(*inner)
        yield made


def test_both_companies_are_right(shared: Shared) -> None:
    for account in (shared.acme, shared.globex):
        for entity in CATALOG:
            if entity.is_incremental:
                assert_equals_truth(account, entity.name)
        deals = {record["id"] for record in account.company.truth("deals")}
        assert {row["deal_id"] for row in account.warehouse.query("SELECT deal_id FROM bi.main_bi")} == deals
        for mart in MARTS:
            account.warehouse.query(f"SELECT * FROM {mart}")
        found = account.warehouse.query(f"SELECT count(*) AS n FROM {account.settings.account}_antes.negocios")
        assert found == [{"n": len(deals)}]


def test_every_schema_is_somebodys(shared: Shared) -> None:
    query = "SELECT nspname AS name FROM pg_namespace WHERE nspname !~ '^pg_|^information|^public' ORDER BY 1"
    wanted = [f"{name}_{schema}" for name in NAMES for schema in ("antes", "bi", "pipeboard", "pipedrive")]
    assert [row["name"] for row in shared.acme.warehouse.query(query)] == wanted


def test_a_change_in_one_company_writes_nothing_of_the_other(shared: Shared) -> None:
    before = shared.globex.warehouse.query("SELECT count(*) AS n, max(finished_at) AS at FROM pipeboard.load")
    deal = shared.acme.company.ids("deals")[0]
    shared.acme.company.update("deals", deal, {"title": "acme's own"})
    assert_green(shared.sync(shared.acme, assets=("deals", "main_bi")))
    assert shared.acme.rows("pipedrive.deals")[deal]["title"] == "acme's own"
    assert shared.globex.warehouse.query("SELECT count(*) AS n, max(finished_at) AS at FROM pipeboard.load") == before
    assert_equals_truth(shared.globex, "deals")


def test_one_company_that_fails_is_told_to_its_own_channel_and_holds_nobody_else_back(
    shared: Shared, webhook: Webhook
) -> None:
    watches = {
        account.settings.account: Watch(account, shared.instance, webhook) for account in (shared.acme, shared.globex)
    }
    shared.acme.server.faults.add("status_403", "/v1/users", times=None)
    assert shared.sync(shared.acme, assets=("users",))["users"].status is Status.FAILED
    shared.acme.server.faults.clear()
    (message,) = watches["acme"].look()
    assert message["title"].startswith("Pipeboard: something is wrong (acme: run ")
    assert watches["globex"].look() == []
    failures = [_runs(shared.instance, f"{name}_{SYNC_ALL}").failures for name in NAMES]
    assert failures == [1, 0]


def test_nothing_in_the_graphs_has_the_same_name(shared: Shared) -> None:
    one, two = (build_defs(account.settings) for account in (shared.acme, shared.globex))
    for kind in ("asset_check_keys", "get_all_asset_keys"):
        found = [getattr(each.resolve_asset_graph(), kind) for each in (one, two)]
        names = [set(each() if callable(each) else each) for each in found]
        assert all(names) and names[0].isdisjoint(names[1])
    pools = [
        {node.definition.pool for node in each.resolve_job_def(f"{name}_{SYNC_ALL}").nodes} - {None}
        for each, name in zip((one, two), NAMES, strict=True)
    ]
    assert pools == [{"acme_pipedrive"}, {"globex_pipedrive"}]


def test_what_a_load_pushes_is_grouped_by_company(shared: Shared) -> None:
    paths: list[str] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_DELETE = do_PUT

        def log_message(self, format: str, *args: object) -> None:
            """Keep still."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name in (*NAMES, ""):
            live = LivePush(f"127.0.0.1:{server.server_port}", account=name, every_seconds=0.01)
            with open_pipedrive(shared.acme.settings, None) as client:
                Observer(live=live).begin("deals", client)
                live.stop()
        server.shutdown()
        thread.join()
    groups = ["/account/acme/asset/deals", "/account/globex/asset/deals", "/asset/deals"]
    assert list(dict.fromkeys(paths)) == [f"/metrics/job/pipeboard_run{group}" for group in groups]


def test_status_and_backup_are_of_one_company(shared: Shared, tmp_path: Path) -> None:
    states = table_states(shared.acme.warehouse, shared.acme.settings, now=datetime.now(UTC))
    rows = {state["asset"]: state["rows"] for state in states}
    assert rows["deals"] == rows["main_bi"] == len(shared.acme.rows("pipedrive.deals"))
    backup(shared.acme.settings, tmp_path / "acme.backup")
    manifest = archive.read_manifest(tmp_path / "acme.backup")
    assert {name.partition("_")[0] for name in manifest.schemas} == {"acme"}
    assert manifest.findings["bi.main_bi sums_by_currency"] == 0


@pytest.mark.parametrize("name", ["Acme", "1a", "a-b", "a_", "_a", "x" * 33, "a.b"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is no short name"):
        Settings(_env_file=None, account=name)
