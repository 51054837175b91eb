"""The tables of the counted verdicts, in the case index's database.

What is counted lies nowhere else for longer than the topic keeps it, so a rebuild of the index leaves these alone.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, String, Table, UniqueConstraint

from services.adapters.caseindex_schema import METADATA

#: What counts agree in; few, and a count names them by number.
INSPECTED: Final = Table(
    "inspected",
    METADATA,
    Column("inspected_id", Integer, primary_key=True),
    Column("line_id", String, nullable=False),
    Column("camera_id", String, nullable=False),
    Column("product", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("model_version", Integer, nullable=False),
    UniqueConstraint("line_id", "camera_id", "product", "alias", "model_version"),
)

COUNTS: Final = Table(
    "verdict_counts",
    METADATA,
    # Seconds since the epoch; a multiple of 300, and of 900 where old spans were merged.
    Column("begins_s", BigInteger, primary_key=True, autoincrement=False),
    Column("inspected_id", Integer, primary_key=True, autoincrement=False),
    Column("passed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("review", BigInteger, nullable=False),
    Column("late", BigInteger, nullable=False),
)

#: How far each partition is counted; written with the counts or not at all.
POSITIONS: Final = Table(
    "counted_positions",
    METADATA,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("timestamp_ms", BigInteger, nullable=False),
)
