"""A mark that the index is being filled from the record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "fills",
        sa.Column("fill_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("fill_id", name=op.f("pk_fills")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("fills")
