"""Runs the migrations of the case index on the connection that it is given; see ``services.adapters.caseindex``."""

from __future__ import annotations

from alembic import context

from services.adapters.caseindex_tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite changes a table by copying it.
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
