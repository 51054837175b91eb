"""How large a case's picture is to whoever looks at it."""

from __future__ import annotations

from services.core.errors import ImageError
from services.core.review_mask import upright_size_px
from services.core.types import Case, Reason


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
