"""By what a person finds a case who has the part in their hands: its part's id and its frame's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sightline.v1 import events_pb2

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROWS = 1_000


def upgrade() -> None:
    """Make the table, and fill it with the cases that are there."""
    parts = op.create_table(
        "case_parts",
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("part_key", sa.LargeBinary(), nullable=False),
        sa.Column("frame_id", sa.String(), nullable=False),
        sa.Column("captured_at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_case_parts")),
    )
    cases = sa.table(
        "cases", sa.column("case_id", sa.String), sa.column("inspection", sa.LargeBinary), sa.column("captured_at_ns")
    )
    connection = op.get_bind()
    last = ""
    while True:
        some = sa.select(cases).where(cases.c.case_id > last).order_by(cases.c.case_id).limit(_ROWS)
        rows = connection.execute(some).all()
        if not rows:
            break
        last = rows[-1].case_id
        connection.execute(sa.insert(parts), [_row(*row) for row in rows])
    op.create_index(
        op.f("ix_case_parts_part_key_captured_at_ns_case_id"), "case_parts", ["part_key", "captured_at_ns", "case_id"]
    )
    op.create_index(op.f("ix_case_parts_frame_id"), "case_parts", ["frame_id"])


def _row(case_id: str, inspection: bytes, captured_at_ns: int) -> dict[str, object]:
    message = events_pb2.Inspection.FromString(inspection)
    return {
        "case_id": case_id,
        "part_key": message.part_id.lower().encode(),
        "frame_id": message.frame_id,
        "captured_at_ns": captured_at_ns,
    }


def downgrade() -> None:
    """Drop it: it is made from the cases."""
    op.drop_table("case_parts")
