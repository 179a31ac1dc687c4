"""A newer release starts while a sync of this one runs: the sync ends as it should, and nothing is lost."""

from pathlib import Path

from pipeboard_assets.graph.outcome import Status
from tests.fixtures.next_release import NEXT, start_next_release, version
from tests.graph.conftest import Account


def test_a_sync_that_runs_while_another_process_upgrades_is_whole_or_says_why(
    fresh_account: Account, fresh_database: str, next_release: Path
) -> None:
    def upgrade(*_page: object) -> None:
        fresh_account.server.before_page = None
        start_next_release(fresh_database, next_release)

    fresh_account.server.before_page = upgrade
    first = fresh_account.sync(assets=("pipelines",))["pipelines"]
    assert (first.status, version(fresh_database)) == (Status.SUCCESS, NEXT)
    second = fresh_account.sync(assets=("pipelines",))["pipelines"]
    assert second.status is Status.FAILED and "upgrade this program" in str(second.error)
    assert [*fresh_account.rows("pipedrive.pipelines")] == fresh_account.company.ids("pipelines")
