"""Stages that a later load may continue outlive a crash of PostgreSQL, with their checkpoints and rejects.

`live_stage` stays unlogged: a crash empties it, and with it the claim of every load that was staging. So a load that goes
on behind a pooler, over a new connection, cannot publish a stage that the crash has emptied.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    name = op.get_context().dialect.identifier_preparer.quote(schema)
    op.create_table(
        "live_stage",
        sa.Column("stage", sa.Text, primary_key=True),
        schema=schema,
        prefixes=["UNLOGGED"],
        comment="Staging tables claimed since PostgreSQL last started after a crash",
    )
    # Loads of the release before take the two in either order, so one of us may have to let go of both.
    op.execute(
        f"""
        DO $body$ BEGIN LOOP
            BEGIN
                LOCK TABLE {name}.checkpoint, {name}.staged_reject IN ACCESS EXCLUSIVE MODE;
                RETURN;
            EXCEPTION WHEN deadlock_detected THEN NULL;
            END;
        END LOOP; END $body$
        """
    )
    # What is staged now is unlogged: a crash would empty it and leave its checkpoint. It is read anew, which is harmless.
    op.execute(f"DELETE FROM {name}.checkpoint")
    op.execute(f"DELETE FROM {name}.staged_reject")
    op.execute(f"ALTER TABLE {name}.checkpoint SET LOGGED")
    op.execute(f"ALTER TABLE {name}.staged_reject SET LOGGED")
    # No default: a process of the release before, which would go on making unlogged stages, can claim none.
    op.add_column(
        "checkpoint", sa.Column("is_kept", sa.Boolean, nullable=False, comment="outlives a crash"), schema=schema
    )
