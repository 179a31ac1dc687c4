"""The first state schema: ledger, watermarks, checkpoints, rejects, tombstones and the column dictionary.

`checkpoint` and `staged_reject` are UNLOGGED like the staging tables they describe: a crash of PostgreSQL empties all
three alike, so a checkpoint never survives the rows that it stands for.
"""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None

INSTANT = sa.DateTime(timezone=True)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, INSTANT, nullable=False, server_default=sa.func.now())


def _count(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    _create_ledger(schema)
    _create_progress(schema)
    _create_findings(schema)
    _create_dictionary(schema)
    _create_fit_function(schema)


def _create_ledger(schema: str) -> None:
    counts = "staged inserted updated unchanged outdated deleted restored relabelled rejected bytes"
    op.create_table(
        "load",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("load_id", sa.Text, nullable=False, unique=True),
        _text("entity"),
        _text("table_name"),
        _text("mode"),
        sa.Column("status", sa.Text, nullable=False, comment="success, failed or stopped"),
        sa.Column("run_id", sa.Text),
        sa.Column("started_at", INSTANT, nullable=False),
        _now("finished_at"),
        sa.Column("rows", sa.BigInteger, comment="rows in the table afterwards, alive; NULL when the load failed"),
        *(_count(name) for name in counts.split()),
        sa.Column("columns_added", ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("columns_widened", ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("columns_narrower", ARRAY(sa.Text), nullable=False, server_default="{}"),
        _count("ddl"),
        sa.Column("seconds", JSONB, nullable=False, server_default="{}", comment="by phase"),
        sa.Column("watermarks", JSONB, nullable=False, server_default="{}"),
        sa.Column("facts", JSONB, nullable=False, server_default="{}", comment="what the caller counted: requests ..."),
        sa.Column("error_class", sa.Text),
        sa.Column("error", sa.Text),
        schema=schema,
        comment="One row per load: the durable history that metrics, status and alerts read",
    )
    op.create_index("load_entity_finished_at", "load", ["entity", "finished_at"], schema=schema)
    op.create_index("load_run_id", "load", ["run_id"], schema=schema)


def _create_progress(schema: str) -> None:
    op.create_table(
        "watermark",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", INSTANT, nullable=False),
        _now("advanced_at"),
        _text("load_id"),
        schema=schema,
        comment="Greatest instant safely loaded, per list; moves only forward, in the transaction that publishes the rows",
    )
    op.create_table(
        "checkpoint",
        sa.Column("stage", sa.Text, primary_key=True, comment="staging table in this schema"),
        sa.Column("resume_key", sa.Text, unique=True),
        _text("table_name"),
        _text("load_id"),
        sa.Column("shape", sa.Text, nullable=False, comment="fingerprint of the staged columns and of the code"),
        _now("started_at"),
        _now("touched_at"),
        sa.Column(
            "owner_pid", sa.Integer, comment="backend that stages; NULL behind a pooler, where it cannot be known"
        ),
        sa.Column("owner_started_at", INSTANT),
        _count("next_order"),
        _count("bytes"),
        sa.Column("absent", ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column(
            "is_ascending", sa.Boolean, nullable=False, server_default=sa.true(), comment="keys came in order, once"
        ),
        sa.Column(
            "has_deleted", sa.Boolean, nullable=False, server_default=sa.false(), comment="some rows say deleted"
        ),
        sa.Column("state", JSONB, comment="where in the source the staged rows end"),
        schema=schema,
        prefixes=["UNLOGGED"],
        comment="One row per staging table, committed together with its rows",
    )
    op.create_table(
        "staged_reject",
        sa.Column("stage", sa.Text, nullable=False, index=True),
        _text("record_key"),
        sa.Column("column_name", sa.Text),
        _text("reason"),
        _text("raw"),
        schema=schema,
        prefixes=["UNLOGGED"],
        comment="Rejects of loads that are not published yet",
    )


def _create_findings(schema: str) -> None:
    op.create_table(
        "rejected_record",
        _text("entity"),
        _text("record_key"),
        sa.Column("column_name", sa.Text, nullable=False, server_default="", comment="'' = the whole record"),
        _text("reason"),
        sa.Column("raw", sa.Text, nullable=False, comment="the record as JSON text"),
        _now("first_seen_at"),
        _now("last_seen_at"),
        sa.Column("resolved_at", INSTANT, comment="when the record loaded clean, or was gone; NULL = still rejected"),
        _text("load_id"),
        sa.Column("run_id", sa.Text),
        sa.PrimaryKeyConstraint("entity", "record_key", "column_name", "reason"),
        schema=schema,
        comment="Values and records set aside, with the reason: nothing is dropped",
    )
    op.create_table(
        "tombstone",
        _text("entity"),
        _text("id"),
        _now("noticed_at"),
        sa.Column("reason", sa.Text, nullable=False, comment="deleted, merged or vanished"),
        _text("load_id"),
        sa.Column("restored_at", INSTANT, comment="when the row came back; NULL = still gone"),
        sa.PrimaryKeyConstraint("entity", "id", "noticed_at"),
        schema=schema,
        comment="Rows gone at the source",
    )


def _create_dictionary(schema: str) -> None:
    op.create_table(
        "custom_field",
        _text("entity"),
        sa.Column("field_key", sa.Text, nullable=False, comment="the source's own key, which never changes"),
        _text("label"),
        _text("kind"),
        sa.Column("base_name", sa.Text, comment="first part of its columns' names, chosen once; NULL = overflow"),
        sa.Column("columns", JSONB, nullable=False, comment="[{suffix, name, type}], in order"),
        _now("first_seen_at"),
        _now("changed_at"),
        sa.Column("retired_at", INSTANT, comment="when the source no longer had it; NULL = in use"),
        sa.PrimaryKeyConstraint("entity", "field_key"),
        schema=schema,
        comment="Which columns a custom field has, for ever",
    )
    op.create_table(
        "custom_field_option",
        _text("entity"),
        _text("field_key"),
        sa.Column("option_id", sa.BigInteger, nullable=False),
        _now("first_seen_at"),
        _text("label"),
        sa.Column("last_seen_at", INSTANT, comment="until when the option had this label; NULL = it still has"),
        sa.Column("retired_at", INSTANT, comment="when the source no longer had the option; NULL = in use"),
        sa.Column(
            "relabel", sa.Boolean, nullable=False, server_default=sa.false(), comment="stored rows await this label"
        ),
        sa.PrimaryKeyConstraint("entity", "field_key", "option_id", "first_seen_at"),
        schema=schema,
        comment="Labels of options with their dates; the row without last_seen_at is the current label",
    )
    op.create_index(
        "custom_field_option_current",
        "custom_field_option",
        ["entity", "field_key", "option_id"],
        unique=True,
        postgresql_where=sa.text("last_seen_at IS NULL"),
        schema=schema,
    )
    op.create_table(
        "declared_comment",
        _text("table_name"),
        sa.Column("column_name", sa.Text, nullable=False, server_default="", comment="'' = the table itself"),
        _text("comment"),
        sa.PrimaryKeyConstraint("table_name", "column_name"),
        schema=schema,
        comment="Comments that we set: one that differs is the user's and is left alone",
    )


def _create_fit_function(schema: str) -> None:
    # pg_input_is_valid() is the same idea, but PostgreSQL 16 and later only, and a varchar(3) would cut without a word.
    name = op.get_context().dialect.identifier_preparer.quote(schema)
    op.execute(
        sa.text(
            rf"""
            CREATE FUNCTION {name}.why_not(value text, wanted text, declared text) RETURNS text
            LANGUAGE plpgsql STABLE STRICT AS $body$
            DECLARE is_same boolean; detail text;
            BEGIN
                EXECUTE format('SELECT ($1\:\:%1$s)\:\:text\:\:%2$s IS NOT DISTINCT FROM $1\:\:%2$s', wanted, declared)
                   INTO is_same USING value;
                RETURN CASE WHEN NOT is_same THEN format('changes its value as %s', wanted) END;
            EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
                GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
                RETURN concat_ws('. ', sqlerrm, nullif(detail, ''));
            END $body$
            """
        )
    )
    op.execute(
        sa.text(
            f"COMMENT ON FUNCTION {name}.why_not(text, text, text) IS "
            "'Why a value does not fit a column type; NULL when it does'"
        )
    )
