"""How a case looks to people: the size of its picture, and what a queue shows of it."""

from __future__ import annotations

from collections.abc import Callable

from services.adapters.caserecord import CaseRecord, queued_case
from services.core.errors import ImageError, InvalidInputError, NotFoundError, SightlineError
from services.core.review import QueuedCase
from services.core.review_mask import upright_size_px
from services.core.types import Case, ExplainedCase, Reason


def shown_size_px(case: Case, image: bytes) -> tuple[int, int]:
    """Give the size in which people see a case's picture.

    Args:
        case: The case.
        image: Its picture, encoded.

    Returns:
        Width and height; 0, 0 where it cannot be decoded. A header may promise a picture that is not there, so what the
        detector could not read counts as unreadable.
    """
    if case.inspection.reason is Reason.UNREADABLE_IMAGE:
        return 0, 0
    try:
        return upright_size_px(image)
    except ImageError:
        return 0, 0


def shown_case(
    record: CaseRecord,
    explained: ExplainedCase,
    on_damaged: Callable[[str, SightlineError], None] = lambda _key, _error: None,
) -> QueuedCase:
    """Give a case of the record as a queue shows it.

    Args:
        record: Has its picture.
        explained: The case.
        on_damaged: Told of a picture that cannot be read, with its key. The case stays: what was said of it holds
            without its picture.

    Raises:
        UnavailableError: If the record does not answer.
    """
    ref = explained.case.image_ref
    size_px = (0, 0)
    if ref is not None:
        try:
            size_px = shown_size_px(explained.case, record.image(ref))
        except (NotFoundError, InvalidInputError) as error:
            on_damaged(ref.key, error)
    return queued_case(explained, *size_px)
