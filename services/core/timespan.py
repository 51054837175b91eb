"""Moments and stretches of time as people write them: ISO 8601, or how long ago."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Final

from services.core.errors import InvalidInputError

_MS_PER_S: Final = 1000
#: What a calendar can name; a time zone behind UTC reaches beyond it.
_LAST_MS: Final = 253_402_300_799_999
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])\Z", re.ASCII)
_RULE: Final = "a time must be ISO 8601 (2026-11-25T14:00 or 2026-11-25T14:00:00Z) or how long ago (90m, 2h, 3d)"


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A stretch of time, in milliseconds since the epoch.

    Attributes:
        since_ms: Its beginning, which belongs to it.
        until_ms: Its end, which does not.
    """

    since_ms: int
    until_ms: int

    def __post_init__(self) -> None:
        if not 0 <= self.since_ms < self.until_ms:
            raise InvalidInputError(
                f"a window must begin before it ends, got {shown(self.since_ms)} to {shown(self.until_ms)}"
            )

    def __contains__(self, moment_ms: int) -> bool:
        return self.since_ms <= moment_ms < self.until_ms

    def __str__(self) -> str:
        return f"{shown(self.since_ms)} to {shown(self.until_ms)}"


def parse_window(since: str, until: str, now_ms: int) -> TimeWindow:
    """Read a window.

    Args:
        since: Where it begins, see :func:`parse_moment`.
        until: Where it ends; empty for now.
        now_ms: The present.

    Raises:
        InvalidInputError: If a time cannot be read, the window begins in the future, or it ends before it begins.
    """
    begins_ms = parse_moment(since, now_ms)
    if begins_ms >= now_ms:
        raise InvalidInputError(f"a window must begin in the past, got {since!r}, which is {shown(begins_ms)}")
    # What lies ahead has not been seen; a window up to this evening is one up to now.
    ends_ms = min(parse_moment(until, now_ms), now_ms) if until else now_ms
    return TimeWindow(begins_ms, ends_ms)


def parse_moment(text: str, now_ms: int) -> int:
    """Read a moment.

    Args:
        text: ISO 8601 (a date, or date and time; without an offset the machine's own time zone), or how long ago:
            a number and one of ``s``, ``m``, ``h``, ``d``, ``w``.
        now_ms: The present, milliseconds since the epoch.

    Returns:
        Milliseconds since the epoch.

    Raises:
        InvalidInputError: If it is neither, or lies before the epoch.
    """
    ago = _DURATION.match(text.strip())
    if ago is not None:
        moment_ms = now_ms - round(float(ago[1]) * _SECONDS[ago[2]] * _MS_PER_S)
    else:
        try:
            moment_ms = round(datetime.datetime.fromisoformat(text.strip()).timestamp() * _MS_PER_S)
        except (ValueError, OverflowError, OSError):
            raise InvalidInputError(f"{_RULE}, got {text[:80]!r}") from None
    if moment_ms < 0:
        raise InvalidInputError(f"{_RULE} after 1970, got {text[:80]!r}")
    return moment_ms


def shown(moment_ms: int) -> str:
    """A moment for people, in UTC, to the second."""
    if moment_ms > _LAST_MS:
        return "after the year 9999"
    at = datetime.datetime.fromtimestamp(moment_ms // _MS_PER_S, tz=datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
