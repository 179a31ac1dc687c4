"""Loads under way, so that one whose process was killed is told of: it can write no more itself."""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "load_in_progress",
        sa.Column("load_id", sa.Text, primary_key=True),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("started_at", instant, nullable=False),
        sa.Column("owner_pid", sa.Integer, comment="the backend that loads; NULL: unknown, behind a pooler"),
        sa.Column("owner_started_at", instant),
        schema=context.config.attributes["schema"],
        comment="Loads that began and did not say yet how they ended",
    )
