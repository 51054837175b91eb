"""Run by alembic; ``caseindex_database`` hands over the connection, already in a transaction that keeps others out."""

from __future__ import annotations

from alembic import context

from services.adapters.caseindex_schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # All or nothing in SQLite too, whose alembic dialect leaves transactions out by default.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
