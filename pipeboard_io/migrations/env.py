"""Writes the migrations as SQL into the buffer that `state.migrate` hands over; there is no command-line use.

Offline, because our own transaction runs the SQL: one connection, one driver, one commit.
"""

from alembic import context

context.configure(
    dialect_name="postgresql",
    dialect_opts={"paramstyle": "named"},  # with another style a % in a name is doubled
    literal_binds=True,
    output_buffer=context.config.attributes["buffer"],
    transactional_ddl=False,  # no BEGIN and COMMIT of its own
    version_table="schema_version",
    version_table_schema=context.config.attributes["schema"],
)
context.run_migrations()
