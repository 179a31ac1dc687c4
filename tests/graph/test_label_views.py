"""The views of the tables: the names that Pipedrive shows, those of earlier dashboards, and what people build on them stays."""

from copy import copy
from typing import Any

import psycopg
import pytest

from pipeboard_assets.bi.label_views import Dictionary, LabelledField, label_view, label_views, read_dictionary
from pipeboard_assets.bi.old_names import old_views
from pipeboard_assets.catalog import CATALOG, by_name
from pipeboard_assets.commands.syncing import perform
from pipeboard_assets.graph.checks import Verdict, verdicts
from pipeboard_assets.graph.outcome import Status
from pipeboard_assets.graph.request import SyncRequest
from pipeboard_assets.graph.view_checks import view_checks
from pipeboard_io import ViewStatus
from tests.graph.conftest import Account

# Column names of then, by table; what a run of the earlier program made, without what today's API no longer has.
OLD_COLUMNS = {
    "usuarios": "id name email lang locale timezone_name is_admin role_id default_currency active_flag last_login created",
    "pipelines": "id name order_nr add_time update_time is_deal_probability_enabled is_deleted is_selected",
    "etapas_funil": "id name pipeline_id order_nr deal_probability is_deal_rot_enabled days_to_rotten pipeline_name",
    "organizacoes": "id owner_id name label_ids endereco_principal_formatted_address endereco_principal_country owner_name",
    "pessoas": "id first_name org_id email_contatos_list email_contatos_primary_value email_contatos_primary_label "
    "telefone_contatos_primary_value endereco_contato_postal_code owner_name org_name",
    "negocios": "id title creator_user_id status value currency user_id owner_id pipeline_id stage_id person_id org_id "
    "is_archived origin lost_reason won_time owner_name creator_user_name person_name stage_name pipeline_name",
    "atividades": "id user_id done type subject due_date deal_id busy_flag created_by_user_id user_name person_name",
    "atividade_tipos": "id name key_string icon_key color is_custom_flag order_nr",
    "negocios_etapas_historico": "deal_id stage_id change_time user_id",
    "main_bi": "deal_id title user_id label_ids contact_name activity_count value_per_day",
    "old_columns": "old_table old_column column_today field",
}


@pytest.fixture(scope="module")
def synced(account: Account) -> Account:
    account.settings = account.settings.model_copy(update={"old_names_schema": "antigo"})
    assert {outcome.status for outcome in account.sync().values()} == {Status.SUCCESS}
    return account


def execute(account: Account, statement: str) -> None:
    url = account.settings.database_url
    assert url is not None
    with psycopg.connect(url.get_secret_value(), autocommit=True) as connection:
        connection.execute(statement)


def shown(account: Account, view: str) -> list[dict[str, Any]]:
    return account.warehouse.query(f"SELECT * FROM bi.{view} ORDER BY id")


def test_every_entity_has_a_view_with_its_living_rows(synced: Account) -> None:
    for entity in CATALOG:
        alive = {record["id"] for record in synced.company.truth(entity.name)}
        assert [row["id"] for row in shown(synced, entity.name)] == sorted(alive)


def test_custom_fields_stand_under_the_labels_that_pipedrive_shows(synced: Account) -> None:
    labels = {field.v2()["field_name"] for field in synced.company.fields("deals", custom_only=True)}
    columns = shown(synced, "deals")[0].keys()
    missing = {label for label in labels if label not in columns}
    assert {"Status"} == {label for label in missing if len(label.encode()) <= 63} and "Status (2)" in columns
    assert all(any(label.startswith(column) for column in columns) for label in missing - {"Status"})


def test_names_stand_beside_ids(synced: Account) -> None:
    users = {row["id"]: row["name"] for row in synced.rows("pipedrive.users").values()}
    persons = {row["id"]: row["name"] for row in synced.rows("pipedrive.persons").values()}
    for row in shown(synced, "deals"):
        assert row["owner_name"] == users.get(row["owner_id"])
        assert row["person_name"] == persons.get(row["person_id"])
    labelled = [row for row in shown(synced, "deals") if row["label_ids"]]
    assert labelled and all(len(row["labels"]) == len(row["label_ids"]) for row in labelled)


def test_a_rename_reaches_the_view_by_itself_and_a_view_on_it_stays(synced: Account) -> None:
    company = synced.company
    field = company.add_field("deals", 'Diz "oi" 100%', "varchar")
    deal = company.ids("deals")[0]
    company.advance(3600)
    company.update("deals", deal, {"custom_fields": {field.code: "sim"}})
    synced.sync(assets=("deals",))
    execute(synced, 'CREATE VIEW public.mine AS SELECT id, "Diz ""oi"" 100%" AS answer FROM bi.deals')
    company.rename_field("deals", field.code, "Resposta ção")
    company.advance(3600)
    company.add_field("deals", "resposta ÇÃO", "monetary")
    assert {outcome.status for outcome in synced.sync(assets=("deals",)).values()} == {Status.SUCCESS}
    row = next(row for row in shown(synced, "deals") if row["id"] == deal)
    assert row["Resposta ção"] == "sim"
    assert {"resposta ÇÃO (2)", "resposta ÇÃO (currency)"} <= row.keys()
    assert synced.warehouse.query("SELECT answer FROM public.mine WHERE answer IS NOT NULL") == [{"answer": "sim"}]


def test_a_view_that_needs_no_change_is_not_touched(synced: Account) -> None:
    reports = [synced.warehouse.define(view) for view in label_views(read_dictionary(synced.warehouse))]
    assert [report.status for report in reports] == [ViewStatus.UNCHANGED] * len(CATALOG)


def test_the_tables_and_columns_of_earlier_dashboards_are_there(synced: Account) -> None:
    query = synced.warehouse.query
    for table, columns in OLD_COLUMNS.items():
        row = query(f"SELECT * FROM antigo.{table} LIMIT 1")[0]
        assert set(columns.split()) <= row.keys(), table
    (mapped,) = query(
        """SELECT * FROM antigo.old_columns WHERE column_today LIKE 'deals.%%' AND old_column LIKE '%%_moeda' ORDER BY 2 LIMIT 1"""
    )
    then = query(f'SELECT id, "{mapped["old_column"]}" AS value FROM antigo.negocios ORDER BY id')
    entity, column = mapped["column_today"].split(".")
    assert then == query(f"SELECT id, {column} AS value FROM pipedrive.{entity} WHERE deleted_at IS NULL ORDER BY id")


def test_who_moved_a_deal_is_told_under_the_old_name_as_far_as_its_changelog_was_read(synced: Account) -> None:
    query = """SELECT h.deal_id, h.user_id FROM antigo.negocios_etapas_historico AS h JOIN pipedrive.deals AS d
               ON d.id = h.deal_id WHERE h.change_time = d.stage_change_time ORDER BY 1"""
    before = synced.warehouse.query(query)
    assert before and {row["user_id"] for row in before} == {None}
    moved = before[0]["deal_id"]
    line = "SELECT id, 1, 'stage_id', (stage_id + 1)::text, stage_id::text, stage_change_time, 7 FROM pipedrive.deals"
    execute(synced, f"INSERT INTO pipedrive.deal_changelog {line} WHERE id = {moved}")
    try:
        assert synced.warehouse.query(query)[0] == {"deal_id": moved, "user_id": 7}
    finally:
        execute(synced, "DELETE FROM pipedrive.deal_changelog")


def test_a_view_under_an_old_name_that_loses_rows_makes_the_sync_red(synced: Account) -> None:
    try:
        execute(synced, "ALTER VIEW antigo.usuarios RENAME TO u")
        execute(synced, "CREATE VIEW antigo.usuarios AS SELECT * FROM antigo.u LIMIT 1")
        notes = {each.check.name: each for each in verdicts_of(synced, "antigo.usuarios")}
        assert "1 rows here" in notes["one_row_per_living_record"].seen
    finally:
        execute(synced, "DROP VIEW antigo.usuarios; ALTER VIEW antigo.u RENAME TO usuarios")


def verdicts_of(account: Account, view: str) -> list[Verdict]:
    return verdicts(account.warehouse, view, view_checks((), account.settings.old_names_schema)[view])


def test_a_view_of_the_users_own_in_the_place_of_ours_fails_the_sync_and_keeps_none_of_the_others(
    synced: Account,
) -> None:
    execute(synced, "CREATE SCHEMA taken; CREATE VIEW taken.usuarios AS SELECT 1 AS mine")
    other = copy(synced)
    other.settings = synced.settings.model_copy(update={"old_names_schema": "taken"})
    outcomes = other.sync(assets=("pipelines",))
    assert (outcomes["pipelines"].status, outcomes["bi_views"].status) == (Status.SUCCESS, Status.FAILED)
    assert "taken.usuarios exists" in (outcomes["bi_views"].error or "")
    assert synced.warehouse.query("SELECT * FROM taken.usuarios") == [{"mine": 1}]
    assert synced.warehouse.query("SELECT count(*) > 0 AS found FROM taken.main_bi") == [{"found": True}]


def test_a_view_put_in_the_place_of_ours_is_replaced_and_told(synced: Account) -> None:
    execute(synced, "CREATE OR REPLACE VIEW bi.velocity AS SELECT v.* FROM (SELECT * FROM bi.velocity LIMIT 0) AS v")
    assert "as_declared (1)" in synced.sync(assets=("pipelines",))["bi_views"].notes
    assert "as_declared (1)" not in synced.sync(assets=("pipelines",))["bi_views"].notes
    assert synced.warehouse.query("SELECT * FROM bi.velocity")


def test_a_stored_mart_that_was_changed_by_hand_makes_the_sync_red_until_a_full_one(synced: Account) -> None:
    execute(synced, "DELETE FROM pipeboard.mart_funnel WHERE won > 0")
    outcome = synced.sync(assets=("pipelines",))["bi_views"]
    assert outcome.status is Status.FAILED and "check adds_up" in (outcome.error or "")
    assert "`pipeboard sync --full`" in (outcome.error or "")
    said = {each.asset: each.error for each in perform(synced.settings, SyncRequest(assets=("pipelines",))).assets}
    assert said == {"pipelines": None, "bi_views": outcome.error}, "as the command tells it"
    assert synced.sync(assets=("pipelines",), full=True)["bi_views"].status is Status.SUCCESS


def test_views_wait_for_the_tables_that_they_need(fresh_account: Account) -> None:
    assert fresh_account.sync(assets=("users", "pipelines")).keys() == {"users", "pipelines"}
    assert shown(fresh_account, "pipelines")
    assert {view.name for view in label_views(read_dictionary(fresh_account.warehouse))} == {"users", "pipelines"}


def field(key: str, label: str, kind: str = "varchar", *suffixes: str, is_retired: bool = False) -> LabelledField:
    return LabelledField(key, label, kind, tuple((s, f"cf_{key}{s}") for s in suffixes or ("",)), is_retired)


def named(*fields: LabelledField) -> dict[str, str]:
    """Key -> column name of the custom columns of bi.deals."""
    columns = {column for each in fields for _, column in each.columns}
    view = label_view(by_name("deals"), fields, columns=columns, tables={"users"})
    return {column.key: column.name for column in view.columns if column.key.startswith("f")}


def test_labels_become_unique_names_that_postgresql_takes() -> None:
    assert named(field("f1", " Status "), field("f2", "STATUS"), field("f3", ""), field("f4", "é" * 40)) == {
        "f1": "Status (2)",
        "f2": "STATUS (3)",
        "f3": "f3",
        "f4": "é" * 31,
    }


def test_parts_of_a_field_are_told_apart() -> None:
    found = named(
        field("f1", "Valor", "monetary", "", "_currency"),
        field("f2", "Vendedor", "user", "_id"),
        field("f3", "Sede", "org", "_id"),
        field("f4", "x" * 70, "daterange", "", "_until"),
        field("f5", "Valor", is_retired=True),
    )
    assert found == {
        "f1": "Valor",
        "f1_currency": "Valor (currency)",
        "f2_name": "Vendedor",
        "f2_id": "Vendedor (id)",
        "f3_id": "Sede (id)",  # no table of organizations yet, so no name
        "f4": "x" * 63,
        "f4_until": "x" * 55 + " (until)",
        "f5": "Valor (2)",
    }


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (("Origem do lead?", "varchar", ("",)), ["origem_do_lead_text"]),
        (("Comissão (%)", "double", ("",)), ["comissão_value"]),
        (("Extra", "monetary", ("", "_currency")), ["extra_valor", "extra_moeda"]),
        (("Canal", "enum", ("", "_id")), ["canal_label"]),
        (("Vendedor", "user", ("_id",)), ["vendedor_user_id"]),
        (("!", "time", ("", "_timezone")), ["k_time"]),
        (("Outro", "a type of next year", ("",)), []),
    ],
)
def test_a_custom_column_is_called_as_then(field: tuple[str, str, tuple[str, ...]], expected: list[str]) -> None:
    label, kind, suffixes = field
    known = LabelledField("k", label, kind, tuple((suffix, f"cf_k{suffix}") for suffix in suffixes))
    columns: dict[str, Any] = {name: {"id"} for name in ("users", "pipelines", "stages", "organizations", "persons")}
    dictionary = Dictionary({**columns, "deals": {column for _, column in known.columns}}, {"deals": [known]})
    (view,) = (view for view in old_views("antigo", dictionary) if view.name == "negocios")
    assert [column.name for column in view.columns if column.key.startswith("k")] == expected
