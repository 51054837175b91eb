"""The tables of the case index. A change here needs a migration in ``caseindex_migrations/versions``."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

METADATA: Final = MetaData()

#: A case: what is filtered and ordered by as columns, the verdict whole as its protobuf message.
CASES: Final = Table(
    "cases",
    METADATA,
    Column("case_id", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("frame_id", String(36), nullable=False),
    Column("line_id", String(128), nullable=False),
    Column("camera_id", String(128), nullable=False),
    Column("product", String(128), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("alias", String(128), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("defect_class", String(128), nullable=False),
    Column("captured_at_ns", BigInteger, nullable=False),
    Column("rank", Double, nullable=False),
    Column("inspection", LargeBinary, nullable=False),
    Column("image_bucket", String(63), nullable=False),
    Column("image_key", String(1024), nullable=False),
    Column("image_size_bytes", BigInteger, nullable=False),
    Column("image_sha256", String(64), nullable=False),
    Column("image_width_px", Integer, nullable=False),
    Column("image_height_px", Integer, nullable=False),
    Column("sampling_probability", Double, nullable=False),
    Column("explained_at_ns", BigInteger, nullable=False),
    Column("shown_method", String(64), nullable=False),
    Column("shown_grade", String(1), nullable=False),
    Column("state", String(16), nullable=False),
    Column("settled_verdict", String(16), nullable=False),
    Column("wrong_reason", Boolean, nullable=False),
    # A queue is a state in the order of its rank, alone or of one line, camera, product or verdict.
    Index("ix_cases_rank", "state", "rank", "case_id"),
    Index("ix_cases_line", "state", "line_id", "rank", "case_id"),
    Index("ix_cases_camera", "state", "camera_id", "rank", "case_id"),
    Index("ix_cases_product", "state", "product", "rank", "case_id"),
    Index("ix_cases_verdict", "state", "verdict", "rank", "case_id"),
    Index("ix_cases_captured", "captured_at_ns", "case_id"),
    Index("ix_cases_class", "defect_class", "captured_at_ns", "case_id"),
)

#: How many cases there are of each kind, kept with every change: nobody waits while a million are counted.
COUNTS: Final = Table(
    "case_counts",
    METADATA,
    Column("line_id", String(128), primary_key=True),
    Column("camera_id", String(128), primary_key=True),
    Column("product", String(128), primary_key=True),
    Column("alias", String(128), primary_key=True),
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),
    Column("verdict", String(16), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("settled_verdict", String(16), primary_key=True),
    Column("wrong_reason", Boolean, primary_key=True),
    Column("cases", BigInteger, nullable=False),
)

REVIEWS: Final = Table(
    "reviews",
    METADATA,
    Column("review_id", String(36), primary_key=True),
    Column("case_id", String(36), nullable=False),
    Column("reviewer", String(64), nullable=False),
    Column("reviewed_at_ns", BigInteger, nullable=False),
    Column("defect_class", String(128), nullable=False),
    Column("standing", Boolean, nullable=False),
    Column("published", Boolean, nullable=False),
    Column("review", LargeBinary, nullable=False),
    Index("ix_reviews_case", "case_id", "reviewed_at_ns"),
    Index("ix_reviews_time", "reviewed_at_ns", "review_id"),
    Index("ix_reviews_reviewer", "reviewer", "reviewed_at_ns", "review_id"),
    Index("ix_reviews_published", "published", "reviewed_at_ns", "review_id"),
)

CLAIMS: Final = Table(
    "claims",
    METADATA,
    Column("case_id", String(36), primary_key=True),
    Column("reviewer", String(64), nullable=False),
    Column("until_ns", BigInteger, nullable=False),
)
