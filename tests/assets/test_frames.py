"""Pages into frames: what becomes of every shape of value, of absent keys, of rubbish."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from pipeboard_assets.catalog import CATALOG, by_name, shapes
from pipeboard_assets.catalog.shapes import column_names
from pipeboard_assets.records.custom_fields import CustomColumns, CustomFields, shape_of
from pipeboard_assets.records.frames import Framed, Framer
from pipeboard_io import Column
from pipeboard_io.load import ABSENT

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HASH = "a" * 40


def complete(name: str, **values: Any) -> dict[str, Any]:
    """A record with every key of the entity, null where not given."""
    return {**dict.fromkeys(by_name(name).record.model_fields), "id": 1, "custom_fields": None, **values}


def framed(name: str, *records: dict[str, Any], custom: CustomFields | None = None) -> Framed:
    return Framer(by_name(name), custom or CustomFields(), now=NOW).frame(records)


def with_field(field_type: str, labels: dict[int, str] | None = None) -> CustomFields:
    shape = shape_of(field_type, labels or {})
    columns = tuple(
        Column(name, kind) for name, (_, kind) in zip(column_names("cf_x", shape), shape.columns, strict=True)
    )
    return CustomFields(
        (CustomColumns(HASH, shape, columns),),
        options={HASH: frozenset(labels or {})} if field_type in ("enum", "set") else {},
    )


def custom_row(field_type: str, value: Any, labels: dict[int, str] | None = None) -> dict[str, Any]:
    record = complete("deals", custom_fields={HASH: value})
    row = framed("deals", record, custom=with_field(field_type, labels)).frame.row(0, named=True)
    return {name: cell for name, cell in row.items() if name.startswith("cf_")}


@pytest.mark.parametrize(
    ("field_type", "value", "row"),
    [
        ("varchar", 'say "hi" \\N\n', {"cf_x": 'say "hi" \\N\n'}),
        ("double", Decimal("0.1"), {"cf_x": "0.1"}),
        ("double", 9007199254740993, {"cf_x": "9007199254740993"}),
        ("monetary", {"value": 10, "currency": "BRL"}, {"cf_x": "10", "cf_x_currency": "BRL"}),
        ("date", "1899-12-31", {"cf_x": date(1899, 12, 31)}),
        ("date", "0000-00-00", {"cf_x": None}),
        (
            "daterange",
            {"value": "2026-01-01", "until": "2026-02-01"},
            {"cf_x": date(2026, 1, 1), "cf_x_until": date(2026, 2, 1)},
        ),
        (
            "time",
            {"value": "09:30:00", "timezone_id": 318, "timezone_name": "Europe/London"},
            {"cf_x": time(9, 30), "cf_x_timezone": "Europe/London"},
        ),
        ("enum", 7, {"cf_x": "Sim", "cf_x_id": 7}),
        ("set", [7, 8], {"cf_x": ["Sim", "Não"], "cf_x_ids": [7, 8]}),
        ("user", 12, {"cf_x_id": 12}),
        ("org", 13, {"cf_x_id": 13}),
        ("something_new", {"a": [1]}, {"cf_x": '{"a":[1]}'}),
    ],
)
def test_every_custom_field_type_becomes_its_columns(field_type: str, value: Any, row: dict[str, Any]) -> None:
    assert custom_row(field_type, value, {7: "Sim", 8: "Não"}) == row


def test_an_option_that_nobody_knows_keeps_its_id_and_is_reported() -> None:
    custom = with_field("enum", {7: "Sim"})
    result = framed("deals", complete("deals", custom_fields={HASH: 9}), custom=custom)
    assert result.frame.select("cf_x", "cf_x_id").row(0) == (None, 9)
    assert result.unknown == {f"{HASH}=9"}


def test_a_label_that_nobody_knows_is_reported_too() -> None:
    known = CustomFields(options={"label_ids": frozenset({1})})
    found = framed("deals", complete("deals", label_ids=[1, 9]), complete("deals"), custom=known)
    assert found.unknown == {"label_ids=9"}


def test_an_unknown_field_is_kept_in_extra_and_reported() -> None:
    result = framed("deals", complete("deals", custom_fields={"b" * 40: "x"}, novelty=1))
    assert result.frame["extra"][0] == '{"novelty":1,"custom_fields":{"' + "b" * 40 + '":"x"}}'
    assert result.unknown == {"b" * 40}


def test_a_key_missing_in_every_record_leaves_no_column() -> None:
    record = complete("deals")
    del record["acv"]
    assert "acv" not in framed("deals", record).frame.columns


def test_a_key_missing_in_one_record_is_named_absent_there() -> None:
    record = complete("deals", id=2)
    del record["acv"]
    frame = framed("deals", complete("deals", acv=5), record).frame
    assert frame[ABSENT].to_list() == [None, ["acv"]]


def test_null_custom_fields_empty_every_column_but_a_missing_key_says_nothing() -> None:
    silent = complete("deals", id=2)
    del silent["custom_fields"]
    frame = framed("deals", complete("deals"), silent, custom=with_field("enum")).frame
    assert frame[ABSENT].to_list() == [None, ["cf_x", "cf_x_id"]]


def test_a_bad_value_is_rejected_alone_and_the_row_goes_on() -> None:
    result = framed("deals", complete("deals", value="a lot", title="kept"), complete("deals", id=2, value=3))
    assert result.frame.select("id", "title", "value").rows() == [(1, "kept", None), (2, None, "3")]
    assert [(reject.key, reject.column) for reject in result.rejects] == [("1", "value")]


def test_a_bad_custom_value_is_rejected_alone() -> None:
    record = complete("deals", custom_fields={HASH: {"value": "much"}})
    result = framed("deals", record, custom=with_field("monetary"))
    assert result.frame.select("cf_x", "cf_x_currency").row(0) == (None, None)
    assert [reject.column for reject in result.rejects] == [f"custom_fields.{HASH}"]


def test_an_impossible_date_is_rejected_with_its_text() -> None:
    result = framed("deals", complete("deals", expected_close_date="2026-02-30"))
    (reject,) = result.rejects
    assert (reject.column, reject.reason) == ("expected_close_date", "'2026-02-30' is no date")


def test_a_record_without_id_is_rejected_whole() -> None:
    result = framed("deals", complete("deals", id=None), complete("deals", id=2), "rubbish")  # type: ignore[arg-type]
    assert result.frame["id"].to_list() == [2]
    assert [(reject.key, reject.column) for reject in result.rejects] == [("", None), ("", None)]


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05Z", "2026-01-02 03:04:05", "2026-01-02T03:04:05.000Z", "2026-01-02T00:04:05-03:00"]
)
def test_every_spelling_of_an_instant_is_the_same_instant(text: str) -> None:
    assert framed("deals", complete("deals", add_time=text)).frame["add_time"][0] == datetime(
        2026, 1, 2, 3, 4, 5, tzinfo=UTC
    )


def test_the_primary_email_is_the_marked_one_and_an_empty_entry_is_none() -> None:
    emails = [{"value": "a@x", "primary": False}, {"value": "b@x", "primary": True}]
    phones = [{"value": "", "primary": True}]
    frame = framed("persons", complete("persons", emails=emails, phones=phones)).frame
    assert frame.select("email", "phone").row(0) == ("b@x", None)


def test_an_address_is_one_text_and_its_parts() -> None:
    address = {"value": "Rua A, 1", "locality": "São Paulo", "country": "Brasil", "lat": -23.5}
    row = framed("organizations", complete("organizations", address=address)).frame.row(0, named=True)
    assert (row["address"], row["address_locality"], row["address_route"]) == ("Rua A, 1", "São Paulo", None)


def test_deleted_at_is_the_time_of_the_deletion() -> None:
    gone = complete("deals", id=2, is_deleted=True, update_time="2026-11-01T00:00:00Z")
    frame = framed("deals", complete("deals", is_deleted=False), gone).frame
    assert frame["deleted_at"].to_list() == [None, datetime(2026, 11, 1, tzinfo=UTC)]


def test_the_newest_update_time_of_the_page_is_told() -> None:
    old, new = (complete("deals", id=i, update_time=f"2026-0{i}-01T00:00:00Z") for i in (1, 2))
    assert framed("deals", new, old, complete("deals", id=3)).newest == datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("entity", CATALOG, ids=lambda entity: entity.name)
def test_an_empty_page_has_no_rows_and_no_complaint(entity: Any) -> None:
    result = Framer(entity, CustomFields(), now=NOW).frame([])
    assert (result.frame.height, result.rejects, result.newest) == (0, (), None)


def test_the_shape_of_a_type_never_depends_on_its_options() -> None:
    assert shape_of("enum", {}).columns == shape_of("enum", {1: "x"}).columns
    assert shape_of("user", {}) is shapes.REFERENCE
