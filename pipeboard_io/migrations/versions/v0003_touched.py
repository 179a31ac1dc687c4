"""Notes of what loads wrote, so that a mart can compute only the rows that it concerns.

Append-only and without a key: a note that is not committed yet can then neither hide nor block another one.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "touched",
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("value", sa.BigInteger, comment="what a written row held or holds; NULL = every row of the table"),
        schema=context.config.attributes["schema"],
        comment="Rows written since the marts that read them were last computed",
    )
