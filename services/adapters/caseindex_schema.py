"""The tables of the case index, as the newest migration leaves them.

Each case lies in one *bucket*: all cases that agree in everything by which a queue is filtered, state included. There
are few buckets (lines, cameras, products, classes, versions), however many cases there are, and each knows how many
cases it holds, and of which time. So counting is a sum over buckets, and a filtered page is read from the buckets that
match, in order: no filter needs an index of its own.
"""

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
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BUCKETS: Final = Table(
    "buckets",
    METADATA,
    Column("bucket_id", Integer, primary_key=True),
    Column("line_id", String, nullable=False),
    Column("camera_id", String, nullable=False),
    Column("product", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("model_version", Integer, nullable=False),
    # As the model names it.
    Column("defect_class", String, nullable=False),
    Column("state", String, nullable=False),
    # What people found: see ``caseindex.Outcome``.
    Column("outcome", String, nullable=False),
    Column("cases", BigInteger, nullable=False),
    # No case that lies in it was captured before or after these. They widen as cases come and stay as cases go.
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
)
#: What tells buckets apart.
BUCKET_KEY: Final = tuple(
    column for column in BUCKETS.columns if column.name not in {"bucket_id", "cases", "first_ns", "last_ns"}
)
BUCKETS.append_constraint(UniqueConstraint(*(column.name for column in BUCKET_KEY)))

CASES: Final = Table(
    "cases",
    METADATA,
    Column("case_id", String, primary_key=True),
    Column("bucket_id", Integer, nullable=False),
    # ``services.core.review.queue_rank``.
    Column("rank", Double, nullable=False),
    Column("captured_at_ns", BigInteger, nullable=False),
    Column("explained_at_ns", BigInteger, nullable=False),
    Column("settled_verdict", String),
    Column("inspection", LargeBinary, nullable=False),
    Column("image_bucket", String, nullable=False),
    Column("image_key", String, nullable=False),
    Column("image_size_bytes", BigInteger, nullable=False),
    Column("image_sha256", String, nullable=False),
    Column("image_width_px", Integer, nullable=False),
    Column("image_height_px", Integer, nullable=False),
    Column("sampling_probability", Double, nullable=False),
    Column("shown_method", String, nullable=False),
    Column("shown_grade", String),
    # One bucket in order, and all buckets in order. The last columns let a filter be decided within the index.
    Index(None, "bucket_id", "rank", "case_id", "captured_at_ns"),
    Index(None, "bucket_id", "captured_at_ns", "case_id"),
    Index(None, "rank", "case_id", "bucket_id", "captured_at_ns"),
    Index(None, "captured_at_ns", "case_id", "bucket_id"),
)

REVIEWS: Final = Table(
    "reviews",
    METADATA,
    Column("review_id", String, primary_key=True),
    Column("case_id", String, nullable=False),
    Column("reviewer", String, nullable=False),
    # Of its case; empty until the case is there.
    Column("line_id", String, nullable=False),
    Column("reviewed_at_ns", BigInteger, nullable=False),
    Column("standing", Boolean, nullable=False),
    Column("published", Boolean, nullable=False),
    Column("review", LargeBinary, nullable=False),
    Index(None, "case_id"),
    Index(None, "reviewed_at_ns", "review_id"),
    Index(None, "reviewer", "reviewed_at_ns", "review_id"),
    Index(None, "line_id", "reviewed_at_ns", "review_id"),
    Index(None, "published", "reviewed_at_ns", "review_id"),
)

#: By what standing answers a case is found: who gave one, and what they call the defect where the model does not.
NAMES: Final = Table(
    "standing_names",
    METADATA,
    Column("what", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", String, primary_key=True),
    Column("case_id", String, primary_key=True),
    Column("rank", Double, nullable=False),
    Column("captured_at_ns", BigInteger, nullable=False),
    Column("bucket_id", Integer, nullable=False),
    Index("ix_standing_names_by_rank", "what", "name", "rank", "case_id", "captured_at_ns", "bucket_id"),
    Index("ix_standing_names_by_time", "what", "name", "captured_at_ns", "case_id", "bucket_id"),
    Index(None, "case_id"),
)

#: Apart from the cases: claims are nowhere else, and outlive a rebuild.
CLAIMS: Final = Table(
    "claims",
    METADATA,
    Column("case_id", String, primary_key=True),
    Column("reviewer", String, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Index(None, "until_ns"),
)

#: Has a row while the index is being filled from the record, so that what was cut off is known to lack something.
FILLS: Final = Table("fills", METADATA, Column("fill_id", Integer, primary_key=True, autoincrement=False))
#: Of which part and frame a case is; see ``caseindex_parts``.
CASE_PARTS: Final = Table(
    "case_parts",
    METADATA,
    Column("case_id", String, primary_key=True),
    Column("part_key", LargeBinary, nullable=False),
    Column("frame_id", String, nullable=False),
    Column("captured_at_ns", BigInteger, nullable=False),
    Index(None, "part_key", "captured_at_ns", "case_id"),
    Index(None, "frame_id"),
)

#: What the model saw in frames and cases. A case's are in the record too, a frame's are nowhere else, and expire.
EMBEDDINGS: Final = Table(
    "embeddings",
    METADATA,
    # Rises with every row and is never used twice, so that whoever knows the last one knows what came since.
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # That the frame has, or would have.
    Column("case_id", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("model_version", Integer, nullable=False),
    # A digest: parts are only told apart.
    Column("part_key", BigInteger, nullable=False),
    Column("captured_at_ns", BigInteger, nullable=False),
    # 0 for a case.
    Column("expires_at_ns", BigInteger, nullable=False),
    # What the model takes it for: see ``embeddingindex.CLASS_KEYS``.
    Column("predicted", SmallInteger, nullable=False),
    # Little-endian half floats, of length 1 as a vector.
    Column("embedding", LargeBinary, nullable=False),
    Column("inspection", LargeBinary, nullable=False),
    UniqueConstraint("case_id"),
    Index(None, "alias", "model_version", "place"),
    Index(None, "alias", "model_version", "expires_at_ns"),
    Index(None, "expires_at_ns"),
    sqlite_autoincrement=True,
)

#: Values of ``NAMES.what``.
REVIEWER: Final = 1
CLASS: Final = 2
