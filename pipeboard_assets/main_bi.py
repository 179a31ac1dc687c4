"""The mart `bi.main_bi`: its columns, described; the SELECT that fills them is `main_bi.sql`."""

from importlib.resources import files

from pipeboard_io import Column, ColumnType, Load, Table

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
}
SOURCES = {column.name: _SOURCES.get(column.name, [("deals", column.name)]) for column in MAIN_BI.columns}

UPSTREAM = ("users", "pipelines", "stages", "organizations", "persons", "deals", "activities")


def main_bi_load(run_id: str | None) -> Load:
    """The mart as a Load: computed inside PostgreSQL; only rows that changed are rewritten, rows that left go."""
    select = files("pipeboard_assets").joinpath("main_bi.sql").read_text(encoding="utf-8")
    return Load(table=MAIN_BI, select=select, mode="select", run_id=run_id)
