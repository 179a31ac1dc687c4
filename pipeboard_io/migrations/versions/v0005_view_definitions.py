"""How PostgreSQL prints each of our views, so that one that somebody put in its place is told from it."""

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "view",
        sa.Column(
            "definition", sa.Text, comment="md5 of pg_get_viewdef() when it was made; NULL: made before this was kept"
        ),
        schema=context.config.attributes["schema"],
    )
