"""Buckets, cases, reviews, the names by which standing answers find a case, and claims."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "buckets",
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.String(), nullable=False),
        sa.Column("camera_id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("defect_class", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("cases", sa.BigInteger(), nullable=False),
        sa.Column("first_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", name=op.f("pk_buckets")),
        sa.UniqueConstraint(
            "line_id",
            "camera_id",
            "product",
            "verdict",
            "kind",
            "alias",
            "model_version",
            "defect_class",
            "state",
            "outcome",
            name=op.f("uq_buckets"),
        ),
    )
    op.create_table(
        "cases",
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("captured_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("explained_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("settled_verdict", sa.String(), nullable=True),
        sa.Column("inspection", sa.LargeBinary(), nullable=False),
        sa.Column("image_bucket", sa.String(), nullable=False),
        sa.Column("image_key", sa.String(), nullable=False),
        sa.Column("image_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("image_sha256", sa.String(), nullable=False),
        sa.Column("image_width_px", sa.Integer(), nullable=False),
        sa.Column("image_height_px", sa.Integer(), nullable=False),
        sa.Column("sampling_probability", sa.Double(), nullable=False),
        sa.Column("shown_method", sa.String(), nullable=False),
        sa.Column("shown_grade", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_cases")),
    )
    op.create_index(
        op.f("ix_cases_bucket_id_captured_at_ns_case_id"),
        "cases",
        ["bucket_id", "captured_at_ns", "case_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_cases_bucket_id_rank_case_id_captured_at_ns"),
        "cases",
        ["bucket_id", "rank", "case_id", "captured_at_ns"],
        unique=False,
    )
    op.create_index(
        op.f("ix_cases_captured_at_ns_case_id_bucket_id"),
        "cases",
        ["captured_at_ns", "case_id", "bucket_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_cases_rank_case_id_bucket_id_captured_at_ns"),
        "cases",
        ["rank", "case_id", "bucket_id", "captured_at_ns"],
        unique=False,
    )
    op.create_table(
        "claims",
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_claims")),
    )
    op.create_index(op.f("ix_claims_until_ns"), "claims", ["until_ns"], unique=False)
    op.create_table(
        "reviews",
        sa.Column("review_id", sa.String(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("line_id", sa.String(), nullable=False),
        sa.Column("reviewed_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("standing", sa.Boolean(), nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.Column("review", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("review_id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_case_id"), "reviews", ["case_id"], unique=False)
    op.create_index(
        op.f("ix_reviews_line_id_reviewed_at_ns_review_id"),
        "reviews",
        ["line_id", "reviewed_at_ns", "review_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_reviews_published_reviewed_at_ns_review_id"),
        "reviews",
        ["published", "reviewed_at_ns", "review_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_reviews_reviewed_at_ns_review_id"), "reviews", ["reviewed_at_ns", "review_id"], unique=False
    )
    op.create_index(
        op.f("ix_reviews_reviewer_reviewed_at_ns_review_id"),
        "reviews",
        ["reviewer", "reviewed_at_ns", "review_id"],
        unique=False,
    )
    op.create_table(
        "standing_names",
        sa.Column("what", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("captured_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("what", "name", "case_id", name=op.f("pk_standing_names")),
    )
    op.create_index(op.f("ix_standing_names_case_id"), "standing_names", ["case_id"], unique=False)
    op.create_index(
        op.f("ix_standing_names_by_time"),
        "standing_names",
        ["what", "name", "captured_at_ns", "case_id", "bucket_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_standing_names_by_rank"),
        "standing_names",
        ["what", "name", "rank", "case_id", "captured_at_ns", "bucket_id"],
        unique=False,
    )


def downgrade() -> None:
    """Drop them: what was in them can be built anew, but for claims."""
    for table in ("claims", "standing_names", "reviews", "cases", "buckets"):
        op.drop_table(table)
