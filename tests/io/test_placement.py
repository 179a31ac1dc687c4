"""A prefix puts schemas elsewhere, in SQL and declarations, and touches nobody's words."""

import polars as pl
import pytest

from pipeboard_io import Column, ColumnType, Load, Placement, Table, Warehouse
from pipeboard_io.functions import Function
from pipeboard_io.versions import Versions

WHERE = Placement("acme_", ("crm", "bi", "pipeboard"))


@pytest.mark.parametrize(
    ("text", "placed"),
    [
        ("SELECT * FROM crm.deals AS d", "SELECT * FROM acme_crm.deals AS d"),
        ("JOIN bi.x ON bi.x.id = crm.y.id", "JOIN acme_bi.x ON acme_bi.x.id = acme_crm.y.id"),
        ("'crm.deals'::regclass", "'acme_crm.deals'::regclass"),
        ("n.nspname IN ('bi', 'crm')", "n.nspname IN ('acme_bi', 'acme_crm')"),
        ('FROM crm."Odd"', 'FROM acme_crm."Odd"'),
        ("SELECT scrm.x, t.bi.y, crm, bi", "SELECT scrm.x, t.bi.y, crm, bi"),
        ('SELECT 1 AS "crm.deals"', 'SELECT 1 AS "crm.deals"'),
        ("'status.crm.example'", "'status.crm.example'"),
        ('FROM "crm".d, CRM.d, crm . d', 'FROM "acme_crm".d, acme_CRM.d, acme_crm . d'),
        ('"crm" . "d", t . bi . y, t."bi".y', '"acme_crm" . "d", t . bi . y, t."bi".y'),
        ('to_regclass(\'"crm"."Odd"\')', 'to_regclass(\'"acme_crm"."Odd"\')'),
        ("SELECT 'see crm.d', 'it''s crm.d', E'it\\'s crm.d'", "SELECT 'see crm.d', 'it''s crm.d', E'it\\'s crm.d'"),
        (
            "-- a deal's own\nFROM crm.d /* isn't\n */ , bi.x",
            "-- a deal's own\nFROM acme_crm.d /* isn't\n */ , acme_bi.x",
        ),
        ("1.5, crm.*, crm.{table}, 'crm.{table}'", "1.5, crm.*, acme_crm.{table}, 'acme_crm.{table}'"),
    ],
)
def test_schemas_are_prefixed_and_nothing_else(text: str, placed: str) -> None:
    assert WHERE.sql(text) == placed
    assert Placement().sql(text) == text


def test_two_prefixes_share_a_database_and_see_their_own_only(fresh_database: str) -> None:
    table = Table("crm", "t", (Column("id", ColumnType.BIGINT), Column("name", ColumnType.TEXT)))
    one, two = (
        Warehouse(fresh_database, placement=Placement(prefix, WHERE.schemas)) for prefix in ("acme_", "globex_")
    )
    one.load(Load(table, frames=[pl.DataFrame({"id": [1], "name": ["a"]})]))
    two.load(Load(table, frames=[pl.DataFrame({"id": [1], "name": ["b"]})]))
    assert [each.query("SELECT name FROM crm.t") for each in (one, two)] == [[{"name": "a"}], [{"name": "b"}]]
    assert [each.query("SELECT count(*) AS n FROM pipeboard.load") for each in (one, two)] == [[{"n": 1}]] * 2
    assert one.read("crm.t")["name"].to_list() == ["a"] and one.ddl(table) == []
    schemas = "SELECT nspname AS name FROM pg_namespace WHERE nspname !~ '^pg_|^information|^public' ORDER BY 1"
    assert [row["name"] for row in one.query(schemas)] == [
        "acme_crm",
        "acme_pipeboard",
        "globex_crm",
        "globex_pipeboard",
    ]


def test_versions_and_functions_lie_where_their_table_does(fresh_database: str) -> None:
    acme = Warehouse(fresh_database, placement=Placement("acme_", WHERE.schemas))
    table = Table("crm", "t", (Column("id", ColumnType.BIGINT), Column("at", ColumnType.TIMESTAMPTZ)))
    versions = Versions("crm", "t_version", "id", ("at",))
    for moment in ("2026-11-20T01:00:00Z", "2026-11-20T02:00:00Z"):
        acme.load(Load(table, frames=[pl.DataFrame({"id": [1], "at": [moment]})], versions=versions))
    acme.define_function(Function("crm", "kept", "", "SETOF crm.t_version", "SELECT * FROM crm.t_version", "Words."))
    assert (
        acme.query("SELECT count(*) AS n FROM crm.kept()")
        == acme.query("SELECT count(*) AS n FROM acme_crm.t_version")
        == [{"n": 1}]
    )
