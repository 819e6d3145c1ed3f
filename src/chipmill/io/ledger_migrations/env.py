"""How Alembic reaches the ledger: by the connection that `ledger_schema` hands over, locked."""

from alembic import context

from chipmill.io.ledger_tables import VERSION_TABLE, metadata

# Alembic runs this file by its path; it is the one module here that acts when it is loaded.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
