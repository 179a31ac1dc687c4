"""What our views were made of, so that a definition that did not change costs no DDL and a rename is told from a new column."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "view",
        sa.Column("view_name", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False, comment="of the declaration that was carried out"),
        sa.Column(
            "columns", JSONB, nullable=False, comment="[[key, name], ...] in the view's order; a key never changes"
        ),
        sa.Column("defined_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema=context.config.attributes["schema"],
        comment="Views that Pipeboard defines",
    )
