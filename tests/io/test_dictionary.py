"""Columns of custom fields: names that last, labels that follow, options with their dates, a budget that holds."""

import json
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeboard_io import Budget, Column, ColumnAssignment, ColumnType, Load, SourceField, Table, Warehouse
from pipeboard_resources.embedded.processes import wait_until
from tests.io.observer import Observer

T = ColumnType
TEXT = (("", T.TEXT),)
MONEY = (("", T.NUMERIC), ("_currency", T.TEXT))
ENUM = (("", T.TEXT), ("_id", T.BIGINT))
SET = (("", T.TEXT_ARRAY), ("_ids", T.BIGINT_ARRAY))


def field(key: str, label: str, columns: Any = TEXT, options: Any = ()) -> SourceField:
    return SourceField(key, label, "kind", columns, options)


def names(assignment: ColumnAssignment) -> dict[str, list[str]]:
    return {key: [column.name for column in found.columns] for key, found in assignment.fields.items()}


def assign(warehouse: Warehouse, entity: str, *fields: SourceField, reserved: Any = ("id",)) -> ColumnAssignment:
    return warehouse.assign_columns(entity, fields, reserved=reserved)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Valor", "cf_valor"),
        ("Ação é", "cf_acao_e"),
        ("Стоимость", "cf_stoimost"),
        ("🚀", "cf_rocket"),
        ("", "cf_k1"),
        ("!!!", "cf_k1"),
        ("select", "cf_select"),
        ("a  --  b", "cf_a_b"),
        ("é" * 100, "cf_" + "e" * 60),
        ('"; DROP TABLE x', "cf_drop_table_x"),
    ],
)
def test_a_label_becomes_a_plain_name(warehouse: Warehouse, schema: str, label: str, name: str) -> None:
    assert names(assign(warehouse, schema, field("k1", label))) == {"k1": [name]}


def test_names_are_unique_in_both_directions(warehouse: Warehouse, schema: str) -> None:
    fields = [
        field("a", "valor", MONEY), field("b", "Valor currency"), field("c", "VALOR"), field("d", "Title"), field("e", "prazo currency"),
        field("f", "Prazo", MONEY),
    ]  # fmt: skip
    assert names(assign(warehouse, schema, *fields, reserved=["id", "CF_Title"])) == {
        "a": ["cf_valor", "cf_valor_currency"],
        "b": ["cf_valor_currency_2"],
        "c": ["cf_valor_2"],
        "d": ["cf_title_2"],
        "e": ["cf_prazo_currency"],
        "f": ["cf_prazo_2", "cf_prazo_2_currency"],
    }


def test_names_do_not_depend_on_the_order_of_the_fields(warehouse: Warehouse, schema: str) -> None:
    fields = [field(f"k{number}", "same") for number in range(5)]
    forwards = assign(warehouse, f"{schema} a", *fields)
    backwards = assign(warehouse, f"{schema} b", *reversed(fields))
    assert names(forwards) == names(backwards)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.text(max_size=70) | st.sampled_from(["a", "A", "á", "a_currency", "x" * 80]), max_size=8))
def test_any_labels_give_short_unique_ascii_names(warehouse: Warehouse, schema: str, labels: list[str]) -> None:
    entity = f"{schema} {labels}"
    fields = [field(f"k{n}", label, (TEXT, MONEY, ENUM)[n % 3]) for n, label in enumerate(labels)]
    columns = [name for found in names(assign(warehouse, entity, *fields)).values() for name in found]
    assert len({name.lower() for name in columns}) == len(columns)
    assert all(name.isascii() and len(name) <= 63 and name.startswith("cf_") for name in columns)


def test_a_renamed_field_keeps_its_column(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    for label in ("Old", "New"):
        assignment = assign(warehouse, schema, field("k", label))
        warehouse.load(Load(Table(schema, "t", (Column("id", T.BIGINT), *assignment.columns)), frames=[]))
    assert names(assignment) == {"k": ["cf_old"]}
    assert observer.value("SELECT col_description(%s::regclass, 2)", f"{schema}.t") == "New (kind, k)"


def test_a_removed_field_is_retired_and_revived_with_its_column(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    retired = "SELECT retired_at IS NOT NULL FROM pipeboard.custom_field WHERE entity = %s AND field_key = 'k'"
    assign(warehouse, schema, field("k", "Same"))
    assign(warehouse, schema, field("other", "Same"))
    assert observer.value(retired, schema) is True
    assert names(assign(warehouse, schema, field("k", "Same"), field("other", "Same"))) == {
        "k": ["cf_same"],
        "other": ["cf_same_2"],
    }
    assert observer.value(retired, schema) is False


def test_an_unchanged_list_of_fields_writes_nothing(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    fields = [field("k", "K", ENUM, ((1, "one"),)), field("l", "L")]
    assign(warehouse, schema, *fields)
    places = (
        "SELECT ctid, xmin FROM pipeboard.custom_field UNION ALL SELECT ctid, xmin FROM pipeboard.custom_field_option"
    )
    before = observer.sql(places)
    assign(warehouse, schema, *fields)
    assert observer.sql(places) == before


def test_a_field_that_gets_another_column_keeps_the_first(warehouse: Warehouse, schema: str) -> None:
    assign(warehouse, schema, field("a", "Valor"), field("b", "Valor currency"))
    again = assign(warehouse, schema, field("a", "Valor", MONEY), field("b", "Valor currency"))
    assert names(again)["a"] == ["cf_valor", "cf_valor_currency_2"]
    assert again.fields["a"].column("_currency").type is T.TEXT


def people(schema: str, assignment: ColumnAssignment) -> Table:
    return Table(schema, "people", (Column("id", T.BIGINT), *assignment.columns), entity=schema)


def test_a_renamed_option_renews_the_stored_labels_in_one_statement(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    fields = [field("e", "Cor", ENUM, ((1, "red"), (2, "blue"))), field("s", "Tags", SET, ((1, "A"), (2, "B")))]
    made = people(schema, assign(warehouse, schema, *fields))
    rows = {"id": [1, 2, 3], "cf_cor": ["red", "blue", None], "cf_cor_id": [1, 2, None]}
    rows |= {"cf_tags": [["A", "B"], ["B"], None], "cf_tags_ids": [[1, 2], [2], None]}
    warehouse.load(Load(made, frames=[pl.DataFrame(rows)]))
    fields = [
        field("e", "Cor", ENUM, ((1, "RED"), (2, "blue"))),
        field("s", "Tags", SET, ((1, "A"), (2, "Bê"), (3, "C"))),
    ]
    made = people(schema, assign(warehouse, schema, *fields))
    places = dict(observer.sql(f"SELECT id, ctid FROM {schema}.people"))
    report = warehouse.load(Load(made, frames=[]))
    assert report.relabelled == 2
    found = {row["id"]: (row["cf_cor"], row["cf_tags"]) for row in observer.rows(made)}
    assert found == {1: ("RED", ["A", "Bê"]), 2: ("blue", ["Bê"]), 3: (None, None)}
    assert dict(observer.sql(f"SELECT id, ctid FROM {schema}.people"))[3] == places[3]
    assert warehouse.load(Load(made, frames=[])).relabelled == 0


def colours(warehouse: Warehouse, schema: str, *labels: str) -> Table:
    """The table as it is declared with these labels of the options 1, 2 ..."""
    return people(schema, assign(warehouse, schema, field("e", "Cor", ENUM, tuple(enumerate(labels, start=1)))))


def coloured(**label_by_row: str) -> pl.DataFrame:
    """Rows a1, b2 ...: the id of each is its letter's place, the option its number."""
    rows = [(ord(name[0]) - 96, label, int(name[1])) for name, label in label_by_row.items()]
    return pl.DataFrame(rows, schema=["id", "cf_cor", "cf_cor_id"], orient="row")


def labels(observer: Observer, made: Table) -> dict[int, str]:
    return {row["id"]: row["cf_cor"] for row in observer.rows(made)}


def test_an_option_renamed_while_labels_are_renewed_is_renewed_by_the_next_load(
    warehouse: Warehouse, observer: Observer, database_url: str, schema: str
) -> None:
    made = colours(warehouse, schema, "red", "blue")
    warehouse.load(Load(made, frames=[coloured(a1="red", b2="blue")]))
    colours(warehouse, schema, "RED", "blue")
    patient = Warehouse(database_url)
    with psycopg.connect(database_url) as reader:
        reader.execute(f"SELECT FROM {schema}.people WHERE id = 1 FOR UPDATE")
        load = Thread(target=patient.load, args=[Load(made, frames=[])])
        load.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        assert wait_until(lambda: observer.value(waits) == 1, seconds=10)
        colours(warehouse, schema, "RED", "BLUE")
    load.join()
    warehouse.load(Load(made, frames=[]))
    assert labels(observer, made) == {1: "RED", 2: "BLUE"}


def test_a_load_that_began_before_a_rename_brings_no_old_label_back(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made = colours(warehouse, schema, "red")

    def source() -> Iterator[pl.DataFrame]:
        yield coloured(a1="red")
        colours(warehouse, schema, "RED")
        warehouse.load(Load(made, frames=[coloured(b1="RED")]))

    assert warehouse.load(Load(made, frames=source())).relabelled == 1
    assert labels(observer, made) == {1: "RED", 2: "RED"}


def test_a_rename_waits_for_a_load_that_declares_its_column(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    made = colours(warehouse, schema, "red")
    warehouse.load(Load(made, frames=[coloured(a1="red")]))
    colours(warehouse, schema, "RED")
    observer.sql(
        "UPDATE pipeboard.custom_field_option SET first_seen_at = first_seen_at - interval '1 day' WHERE entity = %s",
        schema,
    )
    warehouse.load(Load(replace(made, columns=made.columns[:1]), frames=[]))
    assert warehouse.load(Load(made, frames=[])).relabelled == 1
    assert warehouse.load(Load(made, frames=[])).relabelled == 0


def test_an_option_that_disappears_keeps_its_last_label(warehouse: Warehouse, observer: Observer, schema: str) -> None:
    assign(warehouse, schema, field("e", "Cor", ENUM, ((1, "red"), (2, "blue"))))
    assign(warehouse, schema, field("e", "Cor", ENUM, ((1, "rouge"),)))
    assignment = assign(warehouse, schema, field("e", "Cor", ENUM, ((1, "rouge"),)))
    assert assignment.fields["e"].labels == {1: "rouge", 2: "blue"}
    dated = """SELECT option_id, label, last_seen_at IS NULL, retired_at IS NOT NULL FROM pipeboard.custom_field_option
               WHERE entity = %s ORDER BY option_id, first_seen_at"""
    assert observer.sql(dated, schema) == [(1, "red", False, False), (1, "rouge", True, False), (2, "blue", True, True)]


def test_two_thousand_filled_fields_load_and_stay_queryable(
    warehouse: Warehouse, observer: Observer, schema: str
) -> None:
    kinds = [TEXT, ENUM, MONEY, (("", T.DATE),)]
    fields = [field(f"key{n}", f"Field {n}", kinds[n % 4]) for n in range(2000)]
    assignment = assign(warehouse, schema, *fields)
    own = [column for column in assignment.columns if column.name.startswith("cf_")]
    overflow = {key: "value" for key, found in assignment.fields.items() if found.is_overflow}
    assert len(own) > 300
    assert overflow
    filled = {T.TEXT: "a text longer than a pointer to it", T.BIGINT: 7, T.NUMERIC: "123456.78", T.DATE: "2026-01-01"}
    row = {column.name: [filled[column.type]] for column in own}
    made = people(schema, assignment)
    report = warehouse.load(
        Load(made, frames=[pl.DataFrame({"id": [1], **row, "custom_fields": [json.dumps(overflow)]})])
    )
    assert (report.rows, report.rejected) == (1, 0)
    last = f"SELECT custom_fields ->> 'key1999', cf_field_0 FROM {schema}.people"
    assert observer.sql(last) == [("value", filled[T.TEXT])]


def test_a_budget_bounds_the_columns(database_url: str, schema: str) -> None:
    small = Warehouse(database_url, budget=Budget(columns=3))
    fields = [field("a", "A", MONEY), field("b", "B", MONEY), field("c", "C")]
    assignment = assign(small, schema, *fields)
    assert names(assignment) == {"a": ["cf_a", "cf_a_currency"], "b": [], "c": ["cf_c"]}
    assert [column.name for column in assignment.columns][-1] == "custom_fields"
    # Once in the overflow, always in the overflow: a field does not move when there is room again.
    assert names(assign(small, schema, field("b", "B", MONEY))) == {"b": []}
