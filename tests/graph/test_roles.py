"""`deploy/roles.sql`: a sync needs no more than the loader has, and the loader has no more than a sync needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from dagster_postgres import PostgresRunStorage
from psycopg import sql
from pydantic import SecretStr

from pipeboard_assets import instance_storage
from pipeboard_assets.commands.doctor import Finding, examine
from pipeboard_assets.metrics.ledger import Ledger
from pipeboard_assets.metrics.series import CONNECTIONS, OTHER
from pipeboard_resources.pipedrive.standin import Server
from tests.graph.conftest import ROLES, Account
from tests.graph.test_sync import assert_green


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:pw@{parts.hostname}:{parts.port}"))


@pytest.fixture(scope="module")
def loaded(
    standin_factory: Callable[..., Server],
    admin: psycopg.Connection[Any],
    database_url: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Account:
    """A company synced by the loader, where nobody may connect by himself and the script ran twice."""
    admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(admin.info.dbname)))
    admin.execute(ROLES)
    admin.execute("ALTER ROLE pipeboard_loader LOGIN PASSWORD 'pw'; ALTER ROLE pipeboard_reader LOGIN PASSWORD 'pw'")
    url = as_role(database_url, "pipeboard_loader")
    account = Account(standin_factory(deals=30), url, tmp_path_factory.mktemp("roles"), redis_url)
    assert_green(account.sync())
    return account


def test_a_field_that_appears_later_is_loaded_and_read_with_these_roles(loaded: Account, database_url: str) -> None:
    field = loaded.company.add_field("deals", "Safra", "varchar")
    loaded.company.update("deals", loaded.company.ids("deals")[0], {"custom_fields": {field.code: "2026"}})
    assert_green(loaded.sync(assets=("deals",), full=True))
    with psycopg.connect(as_role(database_url, "pipeboard_reader")) as reader:
        assert reader.execute("SELECT count(*) FROM pipedrive.deals WHERE cf_safra = '2026'").fetchone() == (1,)


def test_the_loader_keeps_dagsters_history_in_its_schema(
    loaded: Account, admin: psycopg.Connection[Any], database_url: str
) -> None:
    url = as_role(database_url, "pipeboard_loader")
    PostgresRunStorage(instance_storage.storage_url(url)).dispose()
    query = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'dagster'"
    assert admin.execute(query).fetchall() == [("pipeboard_loader",)]


def test_doctor_says_which_schema_the_loader_lacks(loaded: Account, tmp_path: Path) -> None:
    def schemas(**settings: str) -> Finding:
        changed = loaded.settings.model_copy(update={"dagster_home": tmp_path, **settings})
        return next(each for each in examine(changed) if each.subject == "schemas")

    assert schemas().is_ok
    assert schemas(old_names_schema="antes").seen == "the role may not create schemas, and cannot fill antes"


def test_connections_of_other_roles_are_counted_though_their_state_is_hidden(
    loaded: Account, database_url: str
) -> None:
    def others() -> float:
        found = next(iter(Ledger(loaded.warehouse, loaded.settings).read().metrics([CONNECTIONS]))).samples
        return {sample.labels["state"]: sample.value for sample in found}[OTHER]

    before = others()
    with psycopg.connect(as_role(database_url, "pipeboard_reader")):
        assert others() == before + 1


def test_doctor_says_whose_the_run_history_is_that_the_loader_may_not_use(
    loaded: Account, admin: psycopg.Connection[Any], fresh_database: str, tmp_path: Path
) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute(ROLES)
        connection.execute("CREATE TABLE dagster.runs (id int)")
        (owner,) = connection.execute("SELECT current_user").fetchone() or ("",)
        url = SecretStr(as_role(fresh_database, "pipeboard_loader"))
        changed = loaded.settings.model_copy(update={"dagster_home": tmp_path, "database_url": url})
        seen = next(each for each in examine(changed) if each.subject == "run history")
    assert not seen.is_ok and f"belong to {owner}, and the role in DATABASE_URL may not use them" in seen.seen


def test_the_owner_looks_after_what_the_loader_made(loaded: Account, database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute("SET ROLE pipeboard_owner")
        owner.execute("ALTER TABLE pipedrive.users SET (fillfactor = 90)")
        owner.execute("ANALYZE pipedrive.users")


def test_a_company_beside_others_has_roles_of_its_own(fresh_database: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True, options="-c pipeboard.account=acme") as admin:
        admin.execute(ROLES)
        owner = "SELECT nspname, nspowner::regrole::text FROM pg_namespace WHERE nspname LIKE 'acme%' ORDER BY 1"
        schemas = [(f"acme_{name}", "acme_pipeboard_owner") for name in ("bi", "pipeboard", "pipedrive")]
        assert admin.execute(owner).fetchall() == schemas
        for role in ("loader", "owner", "reader"):
            admin.execute(f"DROP OWNED BY acme_pipeboard_{role} CASCADE".encode())
            admin.execute(f"DROP ROLE acme_pipeboard_{role}".encode())


def test_a_reader_sees_the_old_names_and_gets_no_right_that_everybody_has(fresh_database: str) -> None:
    options = "-c pipeboard.account=ancient -c pipeboard.old_names_schema=antigo"
    with psycopg.connect(fresh_database, autocommit=True, options=options) as admin:
        for _ in range(2):
            admin.execute(ROLES)
        admin.execute("SET ROLE ancient_pipeboard_loader")
        admin.execute("CREATE VIEW antigo.usuarios AS SELECT 1 AS id; CREATE TEMPORARY TABLE t (id int)")
        admin.execute("RESET ROLE; SET ROLE ancient_pipeboard_reader")
        assert admin.execute("SELECT id FROM antigo.usuarios").fetchone() == (1,)
        for statement in ("TEMPORARY TABLE t (id int)", "TABLE antigo.t (id int)", "TABLE public.t (id int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                admin.execute(f"CREATE {statement}".encode())
        admin.execute("RESET ROLE")
        for role in ("loader", "owner", "reader"):
            admin.execute(f"DROP OWNED BY ancient_pipeboard_{role} CASCADE".encode())
            admin.execute(f"DROP ROLE ancient_pipeboard_{role}".encode())


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("loader", "CREATE SCHEMA mine"),
        ("loader", "DROP SCHEMA bi CASCADE"),
        ("loader", "CREATE TABLE public.mine (id int)"),
        ("loader", "CREATE ROLE mine"),
        ("loader", "SELECT * FROM pg_authid"),
        ("loader", "COPY pipedrive.users TO PROGRAM 'true'"),
        ("loader", "ALTER ROLE pipeboard_reader NOLOGIN"),
        ("reader", "SELECT * FROM pipeboard.load"),
        ("reader", "SELECT * FROM dagster.runs"),
        ("reader", "UPDATE pipedrive.users SET name = ''"),
        ("reader", "CREATE TEMPORARY TABLE t (id int)"),
        ("reader", "CREATE TABLE bi.mine (id int)"),
    ],
)
def test_no_role_may_do_more_than_it_needs(loaded: Account, database_url: str, role: str, statement: str) -> None:
    url = as_role(database_url, f"pipeboard_{role}")
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())
