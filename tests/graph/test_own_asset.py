"""The asset of one's own that README.md shows, run as it stands there below synced tables."""

import runpy
from pathlib import Path

import dagster as dg
import pytest

from tests.graph.conftest import Account
from tests.house.documents import ENGLISH


def test_an_asset_of_ones_own_below_deals_works_as_the_readme_shows_it(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    account.sync(assets=("users", "pipelines", "stages", "organizations", "persons", "deals"))
    url = account.settings.database_url
    assert url is not None
    monkeypatch.setenv("DATABASE_URL", url.get_secret_value())
    (source,) = ENGLISH.blocks("python")
    (tmp_path / "own.py").write_text(source, encoding="utf-8")
    defs: dg.Definitions = runpy.run_path(str(tmp_path / "own.py"))["defs"]

    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance).success
    query = account.warehouse.query
    got = query("SELECT owner_id, currency, deals, value FROM bi.won_by_owner ORDER BY 1, 2")
    assert len(got) > 1
    assert got == query(
        "SELECT owner_id, currency, count(*) AS deals, sum(value) AS value FROM pipedrive.deals "
        "WHERE status = 'won' AND deleted_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
    )
