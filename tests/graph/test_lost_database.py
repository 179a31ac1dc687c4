"""PostgreSQL that goes away in the middle of a sync, for Dagster's storage as well."""

from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from pipeboard_assets.commands.syncing import sync
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_io.errors import DatabaseUnavailableError
from pipeboard_resources.pipedrive.standin import Company
from tests.graph.conftest import Account


def test_a_database_that_goes_away_is_told_in_one_sentence(fresh_account: Account, postgres_url: str) -> None:
    name = urlsplit(fresh_account.settings.database_url.get_secret_value()).path[1:]  # type: ignore[union-attr]
    with psycopg.connect(postgres_url, autocommit=True) as administrator:

        def let_in(is_let: bool) -> None:
            administrator.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(is_let))
            )

        def cut(_company: Company, endpoint: str, _page: int) -> None:
            if endpoint == "deals":
                let_in(False)
                administrator.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
                )

        fresh_account.server.before_page = cut
        try:
            with pytest.raises(DatabaseUnavailableError, match="Nothing is half done; run it again"):
                sync(fresh_account.settings, SyncRequest(assets=("deals",)), as_json=True)
        finally:
            fresh_account.server.before_page = None
            let_in(True)
