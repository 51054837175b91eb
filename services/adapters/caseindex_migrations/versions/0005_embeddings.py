"""Embeddings of frames and cases, for their neighbours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "embeddings",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("part_key", sa.BigInteger(), nullable=False),
        sa.Column("captured_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("predicted", sa.SmallInteger(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.Column("inspection", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_embeddings")),
        sa.UniqueConstraint("case_id", name=op.f("uq_embeddings")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_embeddings_alias_model_version_expires_at_ns"),
        "embeddings",
        ["alias", "model_version", "expires_at_ns"],
        unique=False,
    )
    op.create_index(
        op.f("ix_embeddings_alias_model_version_place"),
        "embeddings",
        ["alias", "model_version", "place"],
        unique=False,
    )
    op.create_index(op.f("ix_embeddings_expires_at_ns"), "embeddings", ["expires_at_ns"], unique=False)


def downgrade() -> None:
    """Drop it: the embeddings of cases can be read from the record again, the others come anew."""
    op.drop_table("embeddings")
