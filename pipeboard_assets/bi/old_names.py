"""Views with the Portuguese names of earlier dashboards over today's tables, for questions that were written for those.

Opt-in, in a schema of one's choice. Base columns keep their names; a custom column is called as it was then, after the
label that the field has now: `<slug>_text`, `_valor`, `_moeda`, `_label` ... Living rows only. No Dagster here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeboard_assets.bi.label_views import Dictionary, Joins, LabelledField, Wanted, base_columns, named
from pipeboard_assets.bi.main_bi import MAIN_BI
from pipeboard_assets.catalog import by_name
from pipeboard_io import View, ViewColumn
from pipeboard_io.schema import quote

# Columns of the mart that earlier dashboards know.
_MART_COLUMNS = MAIN_BI.columns[:25]

_ADDRESS_PARTS = [
    "formatted_address",
    "street_number",
    "route",
    "sublocality",
    "subpremise",
    "locality",
    "admin_area_level_1",
    "admin_area_level_2",
    "country",
    "postal_code",
]


@dataclass(frozen=True, slots=True)
class _OldTable:
    """`renamed`: old column -> column of ours; `prefixed`: old prefix -> address of ours; `names`: old -> (id, entity)."""

    name: str
    entity: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    contacts: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)


_TABLES = (
    _OldTable("usuarios", "users"),
    _OldTable("pipelines", "pipelines"),
    _OldTable("etapas_funil", "stages"),
    _OldTable("organizacoes", "organizations", addresses={"endereco_principal": "address"}),
    _OldTable(
        "pessoas",
        "persons",
        addresses={"endereco_contato": "postal_address"},
        contacts={"email_contatos": "emails", "telefone_contatos": "phones"},
    ),
    _OldTable(
        "negocios",
        "deals",
        renamed={"user_id": "owner_id"},
        names={"creator_user_name": ("creator_user_id", "users")},
    ),
    _OldTable(
        "atividades",
        "activities",
        renamed={"user_id": "owner_id", "created_by_user_id": "creator_user_id", "busy_flag": "busy"},
        names={"user_name": ("owner_id", "users"), "created_by_user_name": ("creator_user_id", "users")},
    ),
    _OldTable("atividade_tipos", "activity_types"),
)

OLD_NAMES: Mapping[str, str] = {old.name: old.entity for old in _TABLES}
"""Table of then -> entity."""

# By field type: suffix of ours -> suffix of then.
_TEXT, _NUMBER, _LABEL = {"": "_text"}, {"": "_value"}, {"": "_label"}
_SUFFIXES: Mapping[str, Mapping[str, str]] = {
    "varchar": _TEXT,
    "varchar_auto": _TEXT,
    "text": _TEXT,
    "phone": {"": "_primary_value"},
    "double": _NUMBER,
    "int": _NUMBER,
    "monetary": {"": "_valor", "_currency": "_moeda"},
    "enum": _LABEL,
    "set": _LABEL,
    "date": {"": "_date"},
    "daterange": {"": "_daterange", "_until": "_daterange_until"},
    "time": {"": "_time"},
    "timerange": {"": "_timerange", "_until": "_timerange_until"},
    "user": {"_id": "_user_id"},
    "people": {"_id": "_person_id"},
    "org": {"_id": "_org_id"},
    "deal": {"_id": "_deal_id"},
    "address": {f"_{part}": f"_{part}" for part in _ADDRESS_PARTS},
}


_MOVED_BY = """(SELECT l.user_id FROM pipedrive.deal_changelog AS l
          WHERE l.deal_id = h.deal_id AND l.field = 'stage_id' AND l.changed_at = h.entered_at ORDER BY l.position LIMIT 1)"""


def lineage() -> dict[str, tuple[str, ...]]:
    """Every view of these, with what it reads."""
    return {
        **{old.name: (f"pipedrive.{old.entity}",) for old in _TABLES},
        "old_columns": tuple(f"pipedrive.{old.entity}" for old in _TABLES),
        MAIN_BI.name: (str(MAIN_BI),),
        "negocios_etapas_historico": ("pipedrive.deal_stage_history", "pipedrive.deal_changelog"),
    }


def old_views(schema: str, dictionary: Dictionary) -> Iterator[View]:
    """The views whose tables are there; they stand on tables alone, so that nothing of ours stands on them."""
    columns: list[tuple[str, str, str, str]] = []
    for old in _TABLES:
        if dictionary.has_tables_for(by_name(old.entity)):
            custom = list(_custom(old, dictionary))
            columns += [(old.name, column.name, f"{old.entity}.{ours}", words) for column, ours, words in custom]
            yield _view(schema, old, [column for column, _, _ in custom], dictionary)
    if columns:
        yield _column_map(schema, columns)


def mart_views(schema: str) -> Iterator[View]:
    """The views over marts: `main_bi` with the columns of then, and the history of stages."""
    yield View(
        schema=schema,
        name="main_bi",
        columns=tuple(ViewColumn(c.name, f"b.{quote(c.name)}", c.comment) for c in _MART_COLUMNS),
        body="FROM bi.main_bi AS b",
        comment="bi.main_bi with its first 25 columns.",
    )
    yield View(
        schema=schema,
        name="negocios_etapas_historico",
        columns=(
            ViewColumn("deal_id", "h.deal_id", "pipedrive.deals.id"),
            ViewColumn("stage_id", "h.stage_id", "pipedrive.stages.id"),
            ViewColumn("change_time", "h.entered_at", "When the deal entered the stage."),
            ViewColumn("user_id", _MOVED_BY, "Who moved it, as far as the deal's changelog was read."),
        ),
        body="FROM pipedrive.deal_stage_history AS h",
        comment="pipedrive.deal_stage_history under its old name.",
    )


def _view(schema: str, old: _OldTable, custom: Sequence[ViewColumn], dictionary: Dictionary) -> View:
    entity = by_name(old.entity)
    joins = Joins()
    wanted = [*base_columns(entity, joins), *_extra(old, joins)]
    return View(
        schema=schema,
        name=old.name,
        columns=(*named(wanted), *custom),
        body=f"FROM pipedrive.{entity.name} AS t{joins.sql()}\nWHERE t.deleted_at IS NULL",
        comment=f"pipedrive.{entity.name} under its old name. Living rows only.",
    )


def _extra(old: _OldTable, joins: Joins) -> Iterator[Wanted]:
    """Columns that are called otherwise today."""
    for name, ours in old.renamed.items():
        yield Wanted(name, name, "", f"t.{quote(ours)}", f"Today: {ours}.")
    for name, (ours, target) in old.names.items():
        yield Wanted(name, name, "", joins.name_of(ours, target), f"What {ours} is called in {target}.")
    for prefix, ours in old.addresses.items():
        for part in _ADDRESS_PARTS:
            yield Wanted(f"{prefix}_{part}", f"{prefix}_{part}", "", f"t.{ours}_{part}", f"Today: {ours}_{part}.")
    for prefix, ours in old.contacts.items():
        primary = f"jsonb_path_query_first(t.{ours}, '$[*] ? (@.primary == true)')"
        yield Wanted(f"{prefix}_list", f"{prefix}_list", "", f"t.{ours}", f"Today: {ours}.")
        yield Wanted(f"{prefix}_primary_value", f"{prefix}_primary_value", "", f"t.{ours[:-1]}", f"Today: {ours[:-1]}.")
        yield Wanted(f"{prefix}_primary_label", f"{prefix}_primary_label", "", f"{primary} ->> 'label'", "Its label.")


def _custom(old: _OldTable, dictionary: Dictionary) -> Iterator[tuple[ViewColumn, str, str]]:
    """(old column, column of ours, comment) for every custom field of a type that was known then."""
    ours: dict[str, tuple[str, str]] = {}
    wanted: list[Wanted] = []
    for custom in dictionary.fields.get(old.entity, ()):
        for suffix, column in custom.columns:
            then = _SUFFIXES.get(custom.kind, {}).get(suffix)
            if then is not None and column in dictionary.columns[old.entity]:
                key = custom.key + suffix
                ours[key] = (column, custom.comment())
                wanted.append(Wanted(key, _slug(custom), then, f"t.{quote(column)}", custom.comment()))
    for made in named(wanted, taken=_base_names(old)):
        column, words = ours[made.key]
        yield made, column, words


def _base_names(old: _OldTable) -> set[str]:
    joins = Joins()
    return {each.head for each in (*base_columns(by_name(old.entity), joins), *_extra(old, joins))}


def _slug(custom: LabelledField) -> str:
    """As then: lower case, accents kept, anything but letters and digits an underscore."""
    return re.sub(r"\W+", "_", custom.label.lower()).strip("_") or custom.key


def _column_map(schema: str, columns: Sequence[tuple[str, str, str, str]]) -> View:
    def literal(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    rows = ",\n       ".join(f"({', '.join(map(literal, row))})" for row in columns)
    meanings = {
        "old_table": "Table of then.",
        "old_column": "Custom column of then.",
        "column_today": "Column of today, below the schema pipedrive.",
        "field": "The custom field: label, type, key.",
    }
    return View(
        schema=schema,
        name="old_columns",
        columns=tuple(ViewColumn(name, f"m.{name}", words) for name, words in meanings.items()),
        body=f"FROM (VALUES {rows}) AS m ({', '.join(meanings)})",
        comment="Which column of today each custom column of then is.",
    )
