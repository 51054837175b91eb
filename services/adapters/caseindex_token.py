"""Page tokens: the place of a page's last row, bound to the order that it was read in."""

from __future__ import annotations

import base64
import json
import math
from typing import Final

from services.adapters.ports import QueueOrder
from services.core.errors import InvalidInputError
from services.core.review import validate_case_id, validate_review_id

_MOST_CHARACTERS: Final = 256
_MAX_NS: Final = (1 << 63) - 1
_REVIEWS: Final = "reviews"


def case_token(order: QueueOrder, place: float, case_id: str) -> str:
    """The token of a page whose last case has this place in the order."""
    return _token(order.value, place, case_id)


def case_position(order: QueueOrder, token: str) -> tuple[float, str] | None:
    """Read the place that a page of cases begins after.

    Raises:
        InvalidInputError: If the token is none, or of another order.
    """
    if not token:
        return None
    place, case_id = _read(order.value, token)
    try:
        if order is QueueOrder.BY_GAIN:
            if not isinstance(place, float) or not math.isfinite(place):
                raise _refused(order.value)
        else:
            _check_ns(order.value, place)
        return place, validate_case_id(case_id)
    except InvalidInputError:
        raise _refused(order.value) from None


def review_token(reviewed_at_ns: int, review_id: str) -> str:
    """The token of a page whose last review is this one."""
    return _token(_REVIEWS, reviewed_at_ns, review_id)


def review_position(token: str) -> tuple[int, str] | None:
    """Read the place that a page of reviews begins after.

    Raises:
        InvalidInputError: If the token is none, or of cases.
    """
    if not token:
        return None
    place, review_id = _read(_REVIEWS, token)
    _check_ns(_REVIEWS, place)
    try:
        return int(place), validate_review_id(review_id)
    except InvalidInputError:
        raise _refused(_REVIEWS) from None


def _token(order: str, place: float, row_id: str) -> str:
    # Written as JSON, a float comes back as the same float.
    text = json.dumps([order, place, row_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(order: str, token: str) -> tuple[float, str]:
    if len(token) > _MOST_CHARACTERS:
        raise _refused(order)
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        read = json.loads(data)
    except (ValueError, RecursionError):
        raise _refused(order) from None
    if not isinstance(read, list) or len(read) != 3 or read[0] != order or not isinstance(read[2], str):
        raise _refused(order)
    return read[1], read[2]


def _check_ns(order: str, place: object) -> None:
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place <= _MAX_NS:
        raise _refused(order)


def _refused(order: str) -> InvalidInputError:
    # What came in is opaque by promise, so the message does not show it.
    return InvalidInputError(f"a page token must come from an earlier page of the order {order!r}, got another one")
