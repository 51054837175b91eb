"""How a case comes on record, whoever found it."""

from __future__ import annotations

from dataclasses import replace

from services.adapters.caserecord import CaseRecord, queued_case
from services.core.review import QueuedCase
from services.core.types import ExplainedCase
from services.feedback.picture import shown_size_px


def keep_case(record: CaseRecord, explained: ExplainedCase, image: bytes) -> QueuedCase:
    """Put a case and its picture on record; the same again changes nothing.

    Args:
        record: Where to.
        explained: The case, wherever its picture lies until now.
        image: The picture, encoded.

    Returns:
        The case as a queue shows it.

    Raises:
        InvalidInputError: When the picture is empty.
        UnavailableError: When the object store does not answer.
    """
    width_px, height_px = shown_size_px(explained.case, image)
    image_ref = record.add_image(image)
    # The original may expire; the record's own copy stays.
    kept = replace(explained, case=replace(explained.case, image=None, image_ref=image_ref))
    record.add_case(kept)
    return queued_case(kept, width_px, height_px)
