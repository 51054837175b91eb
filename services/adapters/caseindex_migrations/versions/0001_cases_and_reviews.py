"""Cases, their counts, reviews and claims.

A migration states the tables as they were then, not as ``caseindex_tables`` has them now.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "cases",
        sa.Column("case_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("frame_id", sa.String(36), nullable=False),
        sa.Column("line_id", sa.String(128), nullable=False),
        sa.Column("camera_id", sa.String(128), nullable=False),
        sa.Column("product", sa.String(128), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("alias", sa.String(128), nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("defect_class", sa.String(128), nullable=False),
        sa.Column("captured_at_ns", sa.BigInteger, nullable=False),
        sa.Column("rank", sa.Double, nullable=False),
        sa.Column("inspection", sa.LargeBinary, nullable=False),
        sa.Column("image_bucket", sa.String(63), nullable=False),
        sa.Column("image_key", sa.String(1024), nullable=False),
        sa.Column("image_size_bytes", sa.BigInteger, nullable=False),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("image_width_px", sa.Integer, nullable=False),
        sa.Column("image_height_px", sa.Integer, nullable=False),
        sa.Column("sampling_probability", sa.Double, nullable=False),
        sa.Column("explained_at_ns", sa.BigInteger, nullable=False),
        sa.Column("shown_method", sa.String(64), nullable=False),
        sa.Column("shown_grade", sa.String(1), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("settled_verdict", sa.String(16), nullable=False),
        sa.Column("wrong_reason", sa.Boolean, nullable=False),
    )
    op.create_index("ix_cases_rank", "cases", ["state", "rank", "case_id"])
    op.create_index("ix_cases_line", "cases", ["state", "line_id", "rank", "case_id"])
    op.create_index("ix_cases_camera", "cases", ["state", "camera_id", "rank", "case_id"])
    op.create_index("ix_cases_product", "cases", ["state", "product", "rank", "case_id"])
    op.create_index("ix_cases_verdict", "cases", ["state", "verdict", "rank", "case_id"])
    op.create_index("ix_cases_captured", "cases", ["captured_at_ns", "case_id"])
    op.create_index("ix_cases_class", "cases", ["defect_class", "captured_at_ns", "case_id"])
    op.create_table(
        "case_counts",
        sa.Column("line_id", sa.String(128), primary_key=True),
        sa.Column("camera_id", sa.String(128), primary_key=True),
        sa.Column("product", sa.String(128), primary_key=True),
        sa.Column("alias", sa.String(128), primary_key=True),
        sa.Column("model_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("verdict", sa.String(16), primary_key=True),
        sa.Column("state", sa.String(16), primary_key=True),
        sa.Column("settled_verdict", sa.String(16), primary_key=True),
        sa.Column("wrong_reason", sa.Boolean, primary_key=True),
        sa.Column("cases", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "reviews",
        sa.Column("review_id", sa.String(36), primary_key=True),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("reviewer", sa.String(64), nullable=False),
        sa.Column("reviewed_at_ns", sa.BigInteger, nullable=False),
        sa.Column("defect_class", sa.String(128), nullable=False),
        sa.Column("standing", sa.Boolean, nullable=False),
        sa.Column("published", sa.Boolean, nullable=False),
        sa.Column("review", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_reviews_case", "reviews", ["case_id", "reviewed_at_ns"])
    op.create_index("ix_reviews_time", "reviews", ["reviewed_at_ns", "review_id"])
    op.create_index("ix_reviews_reviewer", "reviews", ["reviewer", "reviewed_at_ns", "review_id"])
    op.create_index("ix_reviews_published", "reviews", ["published", "reviewed_at_ns", "review_id"])
    op.create_table(
        "claims",
        sa.Column("case_id", sa.String(36), primary_key=True),
        sa.Column("reviewer", sa.String(64), nullable=False),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
    )
