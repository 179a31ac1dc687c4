"""The mart `bi.main_bi`: its columns, described; the SELECT that fills them is `main_bi.sql`.

It is computed where something changed: every load of its sources notes what it wrote (`TOUCHES`), and the notes lead to
deals. A new day, in the company's time zone, concerns the open ones. All of it is computed when anything else that it
depends on differs from the last time: the SQL, exchange rates, label names, the account's currency.
"""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from pipeboard_assets.bi.label_views import labels_of
from pipeboard_io import Column, ColumnType, Load, Scope, Table, Touch, Warehouse

type_ = ColumnType

MAIN_BI = Table(
    schema="bi",
    name="main_bi",
    primary_key=("deal_id",),
    lifecycle=False,
    comment="One row per living deal, with its person, organization and activities. Deleted deals leave it.",
    indexes=(
        "status",
        "add_time",
        "user_id",
        "pipeline_id",
        "stage_id",
        "contact_name",
        "company_name",
        "update_time",
    ),
    columns=(
        Column("deal_id", type_.BIGINT, "pipedrive.deals.id", nullable=False),
        Column("title", type_.TEXT, "Title of the deal."),
        Column("status", type_.TEXT, "open, won or lost."),
        Column("value", type_.NUMERIC, "In `currency`."),
        Column("currency", type_.TEXT, "ISO code of the deal's currency."),
        Column("add_time", type_.TIMESTAMPTZ, "When the deal was created."),
        Column("update_time", type_.TIMESTAMPTZ, "When the deal last changed."),
        Column("close_time", type_.TIMESTAMPTZ, "When it was won or lost; NULL while open."),
        Column("expected_close_date", type_.DATE, "Expected close date."),
        Column("lost_time", type_.TIMESTAMPTZ, "When it was lost."),
        Column("won_time", type_.TIMESTAMPTZ, "When it was won."),
        Column("stage_change_time", type_.TIMESTAMPTZ, "When it last moved to another stage."),
        Column("creator_user_id", type_.BIGINT, "Who created it: pipedrive.users.id."),
        Column("user_id", type_.BIGINT, "Who owns it (owner_id): pipedrive.users.id."),
        Column("pipeline_id", type_.BIGINT, "pipedrive.pipelines.id"),
        Column("stage_id", type_.BIGINT, "pipedrive.stages.id"),
        Column("label_ids", type_.JSONB, "Ids of its labels, as a JSON list."),
        Column("contact_name", type_.TEXT, "Name of its person."),
        Column("contact_email", type_.TEXT, "Primary e-mail of its person."),
        Column("contact_phone", type_.TEXT, "Primary phone of its person."),
        Column("company_name", type_.TEXT, "Name of its organization."),
        Column("activity_count", type_.INTEGER, "Living activities of the deal, done and open; 0 if none."),
        Column("last_activity_due_date", type_.DATE, "Latest due date among them."),
        Column("deal_duration_days", type_.INTEGER, "Whole days from add_time to close_time; NULL while open."),
        Column("value_per_day", type_.NUMERIC, "value / deal_duration_days; NULL when that is 0 or NULL."),
        Column("owner_name", type_.TEXT, "Name of the owner (user_id)."),
        Column("creator_name", type_.TEXT, "Name of who created it."),
        Column("pipeline_name", type_.TEXT, "Name of its pipeline."),
        Column("stage_name", type_.TEXT, "Name of its stage."),
        Column("stage_order", type_.BIGINT, "Place of the stage in its pipeline."),
        Column("person_id", type_.BIGINT, "pipedrive.persons.id"),
        Column("org_id", type_.BIGINT, "pipedrive.organizations.id"),
        Column("lost_reason", type_.TEXT, "Why it was lost."),
        Column("is_archived", type_.BOOLEAN, "Hidden from Pipedrive's lists, not deleted."),
        Column("labels", type_.TEXT_ARRAY, "Names of its labels, in the order of label_ids."),
        Column("next_activity_due_date", type_.DATE, "Due date of its next open activity, be it overdue."),
        Column("next_activity_type", type_.TEXT, "Type of that activity: pipedrive.activity_types.key_string."),
        Column("done_activity_count", type_.INTEGER, "Living activities of the deal that are done."),
        Column("open_activity_count", type_.INTEGER, "Living activities of the deal that are not."),
        Column("days_since_last_activity", type_.INTEGER, "Days since one was last done; open deals only."),
        Column("days_in_stage", type_.INTEGER, "Days from entering its stage until today, or until it was closed."),
        Column("is_overdue", type_.BOOLEAN, "Open, and its expected close date is past."),
        Column(
            "weighted_value",
            type_.NUMERIC,
            "Open: value x probability of the deal, else of its stage; NULL without any. Won: the value. Lost: 0.",
        ),
        Column(
            "value_in_default_currency",
            type_.NUMERIC,
            "value in the default currency of the API key's user, at the rate of the closing day (today while open) "
            "in pipeboard.exchange_rate; NULL where it has none.",
        ),
        Column("org_city", type_.TEXT, "City of its organization."),
        Column("org_country", type_.TEXT, "Country of its organization."),
    ),
)

# Where each column comes from, as (entity, column); those that are not named are of the same name in deals.
_SOURCES = {
    "deal_id": [("deals", "id")],
    "user_id": [("deals", "owner_id")],
    "contact_name": [("persons", "name"), ("deals", "person_id")],
    "contact_email": [("persons", "email"), ("deals", "person_id")],
    "contact_phone": [("persons", "phone"), ("deals", "person_id")],
    "company_name": [("organizations", "name"), ("deals", "org_id")],
    "activity_count": [("activities", "deal_id")],
    "last_activity_due_date": [("activities", "due_date"), ("activities", "deal_id")],
    "deal_duration_days": [("deals", "add_time"), ("deals", "close_time")],
    "value_per_day": [("deals", "value"), ("deals", "add_time"), ("deals", "close_time")],
    "owner_name": [("users", "name"), ("deals", "owner_id")],
    "creator_name": [("users", "name"), ("deals", "creator_user_id")],
    "pipeline_name": [("pipelines", "name"), ("deals", "pipeline_id")],
    "stage_name": [("stages", "name"), ("deals", "stage_id")],
    "stage_order": [("stages", "order_nr"), ("deals", "stage_id")],
    "labels": [("deals", "label_ids")],
    "next_activity_due_date": [("activities", "due_date"), ("activities", "done"), ("activities", "deal_id")],
    "next_activity_type": [
        ("activities", "type"),
        ("activities", "due_date"),
        ("activities", "done"),
        ("activities", "deal_id"),
    ],
    "done_activity_count": [("activities", "done"), ("activities", "deal_id")],
    "open_activity_count": [("activities", "done"), ("activities", "deal_id")],
    "days_since_last_activity": [
        ("activities", "marked_as_done_time"),
        ("activities", "done"),
        ("activities", "deal_id"),
        ("deals", "status"),
    ],
    "days_in_stage": [("deals", "stage_change_time"), ("deals", "close_time"), ("deals", "status")],
    "is_overdue": [("deals", "expected_close_date"), ("deals", "status")],
    "weighted_value": [
        ("deals", "value"),
        ("deals", "status"),
        ("deals", "probability"),
        ("deals", "stage_id"),
        ("stages", "deal_probability"),
    ],
    "value_in_default_currency": [("deals", "value"), ("deals", "currency"), ("users", "default_currency")],
    "org_city": [("organizations", "address_locality"), ("deals", "org_id")],
    "org_country": [("organizations", "address_country"), ("deals", "org_id")],
}
SOURCES = {column.name: _SOURCES.get(column.name, [("deals", column.name)]) for column in MAIN_BI.columns}

EXCHANGE_RATE = Table(
    schema="pipeboard",
    name="exchange_rate",
    primary_key=("currency", "valid_from"),
    lifecycle=False,
    comment="Yours to fill: what one unit of a currency is worth in the account's default currency.",
    columns=(
        Column("currency", type_.TEXT, "ISO code, as in deals.currency.", nullable=False),
        Column("valid_from", type_.DATE, "First day of this rate; it holds until the next one.", nullable=False),
        Column("rate", type_.NUMERIC, "Value of one unit in the account's default currency.", nullable=False),
    ),
)

# By entity: the value that each written row is noted by, and the columns that the mart reads (none given: all).
TOUCHES: Mapping[str, Touch] = {
    "users": Touch("id", when=("name",)),
    "pipelines": Touch("id", when=("name",)),
    "stages": Touch("id", when=("name", "order_nr", "deal_probability")),
    "organizations": Touch("id", when=("name", "address_locality", "address_country")),
    "persons": Touch("id", when=("name", "email", "phone")),
    "deals": Touch("id"),
    "activities": Touch("deal_id", when=("deal_id", "type", "due_date", "due_time", "done", "marked_as_done_time")),
}

# The deals that the notes lead to, and on a new day the open ones.
_KEYS = """
SELECT value FROM touched WHERE table_name IN ('pipedrive.deals', 'pipedrive.activities')
UNION SELECT id FROM pipedrive.deals JOIN touched ON table_name = 'pipedrive.persons' AND person_id = touched.value
UNION SELECT id FROM pipedrive.deals JOIN touched ON table_name = 'pipedrive.organizations' AND org_id = touched.value
UNION SELECT id FROM pipedrive.deals JOIN touched ON table_name = 'pipedrive.users' AND owner_id = touched.value
UNION SELECT id FROM pipedrive.deals JOIN touched ON table_name = 'pipedrive.users' AND creator_user_id = touched.value
UNION SELECT id FROM pipedrive.deals JOIN touched ON table_name = 'pipedrive.pipelines' AND pipeline_id = touched.value
UNION SELECT id FROM pipedrive.deals JOIN touched ON table_name = 'pipedrive.stages' AND stage_id = touched.value
UNION SELECT id FROM pipedrive.deals
      WHERE status = 'open' AND (now() AT TIME ZONE :timezone)::date IS DISTINCT FROM :day
"""

# What else the rows depend on; read before they are computed, so that a change meanwhile is seen the next time.
_BASIS = """
SELECT (now() AT TIME ZONE %(timezone)s)::date::text AS day,
       concat_ws(';',
           (SELECT default_currency FROM pipedrive.users WHERE is_you ORDER BY id LIMIT 1),
           (SELECT string_agg(r::text, ',' ORDER BY currency, valid_from) FROM pipeboard.exchange_rate AS r),
           (SELECT string_agg(concat(option_id, label), ',' ORDER BY option_id) FROM pipeboard.custom_field_option
            WHERE entity = 'deals' AND field_key = 'label_ids' AND last_seen_at IS NULL)) AS basis
"""
_LAST = """
SELECT facts ->> 'basis' AS basis, facts ->> 'day' AS day FROM pipeboard.load
WHERE entity = 'main_bi' AND status = 'success' ORDER BY finished_at DESC LIMIT 1
"""

UPSTREAM = ("users", "pipelines", "stages", "organizations", "persons", "deals", "activities")


def main_bi_load(
    warehouse: Warehouse, *, timezone: str = "UTC", run_id: str | None = None, everything: bool = False
) -> Load:
    """The mart as a Load: computed inside PostgreSQL; only rows that changed are rewritten, rows that left go.

    `everything` computes all rows, for whoever changed the tables by hand.
    """
    warehouse.fit(EXCHANGE_RATE)
    zone = "'" + timezone.replace("'", "''") + "'"
    select = _select(zone, scope="true")
    facts = _facts(warehouse, select, timezone)
    last = next(iter(warehouse.query(_LAST)), {"basis": None, "day": None})
    is_same = last["basis"] == facts["basis"] and not everything
    scope = Scope(
        tables=tuple(f"pipedrive.{name}" for name in TOUCHES),
        keys=_KEYS.replace(":timezone", zone).replace(":day", f"DATE '{last['day']}'") if is_same else None,
        select=_select(zone, scope="id IN (SELECT deal_id FROM pg_temp.scope)"),
    )
    return Load(table=MAIN_BI, select=select, scope=scope, mode="select", run_id=run_id, facts=lambda: facts)


def _select(zone: str, *, scope: str) -> str:
    text = files("pipeboard_assets.bi").joinpath("main_bi.sql").read_text(encoding="utf-8")
    return text.replace(":timezone", zone).replace(":scope", scope).replace(":labels", labels_of("deals", "deal"))


def _facts(warehouse: Warehouse, select: str, timezone: str) -> dict[str, Any]:
    (now,) = warehouse.query(_BASIS, {"timezone": timezone})
    return {"day": now["day"], "basis": sha256(f"{select}\x1f{now['basis']}".encode()).hexdigest()}
