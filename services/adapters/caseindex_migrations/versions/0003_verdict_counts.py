"""Verdicts counted by spans of time, and how far they are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "inspected",
        sa.Column("inspected_id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.String(), nullable=False),
        sa.Column("camera_id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("inspected_id", name=op.f("pk_inspected")),
        sa.UniqueConstraint("line_id", "camera_id", "product", "alias", "model_version", name=op.f("uq_inspected")),
    )
    op.create_table(
        "verdict_counts",
        sa.Column("begins_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("inspected_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("passed", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("review", sa.BigInteger(), nullable=False),
        sa.Column("late", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("begins_s", "inspected_id", name=op.f("pk_verdict_counts")),
    )
    op.create_table(
        "counted_positions",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", name=op.f("pk_counted_positions")),
    )


def downgrade() -> None:
    """Drop them: what the topic still keeps can be counted again."""
    for table in ("counted_positions", "verdict_counts", "inspected"):
        op.drop_table(table)
