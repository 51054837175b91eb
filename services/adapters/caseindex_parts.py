"""Finding cases by the part that somebody has in their hands: the table beside the cases, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, insert, or_, select

from services.adapters.caseindex_schema import CASE_PARTS
from services.core.errors import InvalidInputError
from services.core.identity import MAX_ID_LENGTH, validate_frame_id, validate_id
from services.core.review import QueuedCase

#: Greater than any byte of an id.
_AFTER: Final = b"\xff"


def add_parts(connection: Connection, cases: Sequence[QueuedCase]) -> None:
    """Note of which part and frame cases are that are new to the index."""
    if cases:
        connection.execute(insert(CASE_PARTS), [_row(case) for case in cases])


def part_statement(text: str, most: int) -> Select[Any]:
    """Give ids of cases by what a person types or pastes, in the order in which they are shown.

    Args:
        text: The id of a case or a frame, or the beginning of a part's id, in capitals or not.
        most: Most of them.

    Raises:
        InvalidInputError: For a text that is the beginning of no id.
    """
    where: ColumnElement[bool]
    if _is_uuid(text):
        # A part may have such an id too.
        where = or_(
            CASE_PARTS.c.case_id == text.lower(),
            CASE_PARTS.c.frame_id == text.lower(),
            CASE_PARTS.c.part_key == _key(text),
        )
    else:
        key = _key(validate_id(text, "text"))
        where = (CASE_PARTS.c.part_key >= key) & (CASE_PARTS.c.part_key < key + _AFTER)
    order = (CASE_PARTS.c.part_key, CASE_PARTS.c.captured_at_ns, CASE_PARTS.c.case_id)
    return select(CASE_PARTS.c.case_id, *order[:2]).where(where).order_by(*order).limit(most)


def _is_uuid(text: str) -> bool:
    if len(text) > MAX_ID_LENGTH:
        return False
    try:
        validate_frame_id(text.lower())
    except InvalidInputError:
        return False
    return True


def _row(case: QueuedCase) -> dict[str, object]:
    seen = case.inspection
    return {
        "case_id": case.case_id,
        "part_key": _key(seen.part_id),
        "frame_id": seen.frame_id,
        "captured_at_ns": seen.captured_at_ns,
    }


def _key(part_id: str) -> bytes:
    # Bytes, so that every database orders them alike; small letters, since people do not type what is printed.
    return part_id.lower().encode()
