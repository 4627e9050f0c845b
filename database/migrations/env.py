"""What Alembic runs for every command: the migrations, in the transaction of the caller."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,  # SQLite can; a killed migration then leaves the old schema
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
