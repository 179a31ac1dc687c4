"""Views with the names of earlier dashboards: a question that was written for those finds its tables and columns."""

from typing import Any

import pytest

from pipeboard_assets.label_views import Dictionary, LabelledField
from pipeboard_assets.old_names import old_views
from pipeboard_assets.outcome import Status
from tests.graph.conftest import Account

# Column names of then, by table; what a run of the earlier program made, without what today's API no longer has.
COLUMNS = {
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


def test_the_tables_and_columns_of_then_are_there(fresh_account: Account) -> None:
    fresh_account.settings = fresh_account.settings.model_copy(update={"old_names_schema": "antigo"})
    outcomes = fresh_account.sync()
    assert {outcome.status for outcome in outcomes.values()} == {Status.SUCCESS}
    query = fresh_account.warehouse.query
    for table, columns in COLUMNS.items():
        row = query(f"SELECT * FROM antigo.{table} LIMIT 1")[0]
        assert set(columns.split()) <= row.keys(), table
    (mapped,) = query("SELECT * FROM antigo.old_columns WHERE old_column LIKE '%%_moeda' AND old_table = 'negocios'")
    entity, column = mapped["column_today"].split(".")
    then = query(f'SELECT id, "{mapped["old_column"]}" AS value FROM antigo.negocios ORDER BY id')
    assert then == query(f"SELECT id, {column} AS value FROM pipedrive.{entity} WHERE deleted_at IS NULL ORDER BY id")


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
