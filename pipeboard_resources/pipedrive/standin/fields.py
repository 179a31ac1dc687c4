"""Field definitions: the built-in fields of each entity, the seeded custom ones, and how they look in v2 and v1.

Custom-field keys are 40 hex characters derived from the seed, so that a company has the same keys each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

CREATABLE_TYPES = (
    "varchar",
    "varchar_auto",
    "text",
    "double",
    "monetary",
    "set",
    "enum",
    "user",
    "org",
    "people",
    "phone",
    "time",
    "timerange",
    "date",
    "daterange",
    "address",
)

ADDRESS_PARTS = (
    "country",
    "admin_area_level_1",
    "admin_area_level_2",
    "locality",
    "sublocality",
    "route",
    "street_number",
    "subpremise",
    "postal_code",
)

# api.md 5.1: address has the parts, monetary has value+currency, ranges have value+until (+timezone).
_SUBFIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "address": (("value", "varchar"), *((part, "varchar") for part in ADDRESS_PARTS)),
    "monetary": (("value", "double"), ("currency", "varchar")),
    "daterange": (("value", "date"), ("until", "date")),
    "time": (("value", "time"), ("timezone_id", "int"), ("timezone_name", "varchar")),
    "timerange": (("value", "time"), ("until", "time"), ("timezone_id", "int"), ("timezone_name", "varchar")),
}

FIELD_ENTITIES = ("deals", "persons", "organizations", "activities", "products", "projects")


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of an enum or set. Ids are integers for custom fields and may be strings for built-in ones."""

    id: int | str
    label: str
    color: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field definition. `code` is the key in records; `name` is the label that people see and need not be unique."""

    code: str
    name: str
    type: str
    options: tuple[Option, ...] | None = None
    is_custom: bool = False
    is_optional: bool = False
    description: str | None = None

    def v2(self) -> dict[str, Any]:
        """The object of `/api/v2/*Fields`."""
        shown: dict[str, Any] = {"field_name": self.name, "field_code": self.code}
        if self.description is not None:
            shown["description"] = self.description
        return shown | {
            "field_type": self.type,
            "options": None if self.options is None else [_option(option) for option in self.options],
            "subfields": _subfields(self),
            "is_custom_field": self.is_custom,
            "is_optional_response_field": self.is_optional,
        }

    def v1(self, number: int) -> dict[str, Any]:
        """The object of `/v1/*Fields`: `key`, `name`, `edit_flag` (true = custom) and a numeric id."""
        flags = ("index_visible_flag", "details_visible_flag", "add_visible_flag", "bulk_edit_allowed", "sortable_flag")
        return {
            "id": number,
            "key": self.code,
            "name": self.name,
            "order_nr": number,
            "field_type": self.type,
            "add_time": "2019-02-04 13:58:03",
            "update_time": "2019-02-04 13:58:03",
            "last_updated_by_user_id": None,
            "created_by_user_id": None,
            "active_flag": True,
            "edit_flag": self.is_custom,
            "mandatory_flag": False,
            "important_flag": False,
            "searchable_flag": False,
            "filtering_allowed": True,
            **dict.fromkeys(flags, True),
            "options": None if self.options is None else [_option(option) for option in self.options],
        }


def _option(option: Option) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": option.id, "label": option.label}
    if option.color is not None:
        shown["color"] = option.color
    return shown


def _subfields(field: Field) -> list[dict[str, str]] | None:
    parts = _SUBFIELDS.get(field.type)
    if parts is None:
        return None
    return [
        {"field_code": code, "field_name": f"{code} of {field.name}", "field_type": field_type}
        for code, field_type in parts
    ]


def custom_key(seed: object, entity: str, number: int) -> str:
    """A 40-hex field key, the same for the same seed, entity and number."""
    return hashlib.sha1(f"{seed}/{entity}/{number}".encode(), usedforsecurity=False).hexdigest()


def choices(labels: Iterable[str]) -> tuple[Option, ...]:
    """Options of a built-in field whose ids are the labels themselves (status, activity type)."""
    return tuple(Option(label, label.capitalize()) for label in labels)


def _built_in(spec: str, optional: str = "") -> list[Field]:
    """`code:type` words into fields; the label is the code in words, as the account's English catalogue shows it."""
    fields = []
    for word in f"{spec} {optional}".split():
        code, _, field_type = word.partition(":")
        name = code.replace("_", " ").capitalize()
        fields.append(Field(code, name, field_type or "varchar", is_optional=word in optional.split()))
    return fields


def _with_options(fields: list[Field], code: str, options: tuple[Option, ...]) -> list[Field]:
    return [Field(f.code, f.name, f.type, options) if f.code == code else f for f in fields]


_PROJECT_STATUS = choices(("open", "completed", "canceled", "deleted"))
_ACTIVITY_KEYS = ("call", "meeting", "task", "deadline", "email", "lunch", "visita_tecnica")
_DEAL_LABELS = (Option(1, "Quente", "red"), Option(2, "Morno", "yellow"), Option(3, "Frio", "blue"))
_CONTACT_LABELS = (
    Option(11, "Cliente", "green"),
    Option(12, "Fornecedor", "purple"),
    Option(13, "Não perturbe", "dark-gray"),
)


def built_in_fields() -> dict[str, list[Field]]:
    """Every entity's own fields. Types are as loose as the real ones: pipeline_id is a double, e-mails are text (api.md 5.1)."""
    deals = _built_in(
        "id:int title creator_user_id:user owner_id:user value:monetary currency person_id:people org_id:org pipeline_id:double "
        "stage_id:stage status:status probability:int lost_reason:varchar_options visible_to:visible_to add_time:date update_time:date "
        "stage_change_time:date close_time:date won_time:date lost_time:date local_won_date:date local_lost_date:date "
        "local_close_date:date expected_close_date:date label_ids:set origin origin_id channel:enum channel_id is_deleted:boolean "
        "is_archived:boolean archive_time:date acv:monetary arr:monetary mrr:monetary",
        "next_activity_id:activity last_activity_id:activity activities_count:int done_activities_count:int products_count:int",
    )
    persons = _built_in(
        "id:int name first_name last_name owner_id:user org_id:org add_time:date update_time:date emails phones:phone "
        "is_deleted:boolean visible_to:visible_to label_ids:set picture_id:picture im postal_address:address notes:text birthday:date "
        "job_title",
        "open_deals_count:int activities_count:int",
    )
    organizations = _built_in(
        "id:int name owner_id:user add_time:date update_time:date is_deleted:boolean visible_to:visible_to label_ids:set "
        "address:address website linkedin industry:enum annual_revenue:double employee_count:int",
        "people_count:int open_deals_count:int",
    )
    activities = _built_in(
        "id:int subject type:enum owner_id:user creator_user_id:user is_deleted:boolean add_time:date update_time:date deal_id:deal "
        "lead_id:lead person_id:people org_id:org project_id:text due_date:date due_time:time duration:time busy:boolean done:boolean "
        "marked_as_done_time:date location:address participants conference_meeting_client conference_meeting_url "
        "conference_meeting_id public_description:text priority:enum note:text",
        "attendees",
    )
    return {
        "deals": _with_options(
            _with_options(deals, "label_ids", _DEAL_LABELS), "status", choices(("open", "won", "lost", "deleted"))
        ),
        "persons": _with_options(persons, "label_ids", _CONTACT_LABELS),
        "organizations": _with_options(
            _with_options(organizations, "label_ids", _CONTACT_LABELS),
            "industry",
            (Option(21, "Varejo"), Option(22, "Indústria")),
        ),
        "activities": _with_options(
            _with_options(activities, "type", choices(_ACTIVITY_KEYS)),
            "priority",
            (Option(261, "Baixa"), Option(262, "Média"), Option(263, "Alta")),
        ),
        "products": _built_in(
            "id:int name code description:text unit tax:double category:enum owner_id:user add_time:date"
        ),
        "projects": _with_options(
            _built_in("id:int title:text status:status start_date:date end_date:date"), "status", _PROJECT_STATUS
        ),
    }


LONG_LABEL = "Observações do atendimento pós-venda registradas pela equipe de relacionamento com o cliente na última reunião trimestral"

# label, type, labels of the options. Several are traps: see the comments.
Blueprint = tuple[str, str, tuple[str, ...]]

CUSTOM_FIELDS: dict[str, tuple[Blueprint, ...]] = {
    "deals": (
        ("Origem da campanha", "varchar", ()),
        ("Concorrente", "varchar_auto", ()),
        (LONG_LABEL, "text", ()),
        ("Comissão (%)", "double", ()),
        ("Valor", "monetary", ()),
        (
            "Produtos de interesse",
            "set",
            ("Licença", "Implantação", "Suporte técnico", "Treinamento", "Integração, sob medida"),
        ),
        ("Prioridade", "enum", ("Alta", "Média", "Baixa", "Não definida")),
        ("Gerente responsável", "user", ()),
        ("Parceiro", "org", ()),
        ("Indicado por", "people", ()),
        ("Telefone de cobrança", "phone", ()),
        ("Horário preferido", "time", ()),
        ("Janela de atendimento", "timerange", ()),
        ("Data de assinatura", "date", ()),
        ("Vigência do contrato", "daterange", ()),
        ("Endereço de entrega", "address", ()),
        ("valor_currency", "varchar", ()),  # beside the monetary "Valor", whose column pair ends in _currency
        ("Prioridade", "varchar", ()),  # the same label as the enum above
        ("🔥🚀", "varchar", ()),  # no letter to make a name of
        ("title", "varchar", ()),  # named like a base column
        ("Status", "enum", ("Em análise", "Aprovado", "Recusado")),  # the same, in another case
        ("Regiao", "varchar", ()),
        ("Região", "varchar", ()),  # differs from the one before by accents only
    ),
    "persons": (
        ("CPF", "varchar", ()),
        ("Origem do contato", "enum", ("Indicação", "Feira", "Site", "LinkedIn")),
        ("Interesses", "set", ("Preço", "Qualidade", "Prazo", "Assistência")),
        ("Limite de crédito", "monetary", ()),
        ("Cliente desde", "date", ()),
        ("WhatsApp", "phone", ()),
        ("Endereço residencial", "address", ()),
        ("name", "varchar", ()),
    ),
    "organizations": (
        ("CNPJ", "varchar", ()),
        ("Segmento", "enum", ("Varejo", "Indústria", "Serviços", "Governo")),
        ("Certificações", "set", ("ISO 9001", "ISO 14001", "Orgânico")),
        ("Faturamento anual", "monetary", ()),
        ("Funcionários", "double", ()),
        ("Contato financeiro", "people", ()),
        ("Matriz", "org", ()),
        ("Horário de recebimento", "timerange", ()),
        ("Endereço de cobrança", "address", ()),
    ),
    "activities": (("Resultado", "enum", ("Positivo", "Negativo")),),
}

_EXTRA_LABELS = (
    "Indicador",
    "Observação",
    "Código",
    "Métrica",
    "Classificação",
    "Previsão",
    "Referência",
    "Condição",
)


def extra_blueprints(count: int) -> list[Blueprint]:
    """`count` further fields, going round the creatable types, for tests of wide tables."""
    made: list[Blueprint] = []
    for number in range(count):
        field_type = CREATABLE_TYPES[number % len(CREATABLE_TYPES)]
        labels = ("Sim", "Não", "Talvez") if field_type in {"enum", "set"} else ()
        made.append((f"{_EXTRA_LABELS[number % len(_EXTRA_LABELS)]} {number + 1:03d}", field_type, labels))
    return made


class OptionIds:
    """Hands out option ids: integers, unique in the company and never used twice, as in Pipedrive."""

    def __init__(self, first: int = 301) -> None:
        self._next = first

    def options(self, labels: Sequence[str]) -> tuple[Option, ...]:
        """One option per label, in order."""
        made = tuple(Option(self._next + offset, label) for offset, label in enumerate(labels))
        self._next += len(made)
        return made
