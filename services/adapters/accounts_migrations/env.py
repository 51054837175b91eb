"""Run by alembic; ``caseindex_database`` hands over the connection, already in a transaction that keeps others out."""

from __future__ import annotations

from alembic import context

from services.adapters.accounts_schema import ACCOUNTS, METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=ACCOUNTS.version_table,
    # All or nothing in SQLite too, whose alembic dialect leaves transactions out by default.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
