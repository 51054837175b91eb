"""Shifts as a plan says them: names with times of the day in a time zone, and which shift a moment belongs to.

The times are those of the clock on the wall. On the two days a year on which clocks are changed a shift that spans the
change is an hour shorter or longer, and every moment still belongs to one shift.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.core.errors import InvalidInputError

#: Shifts begin at quarters of an hour, since old counts are kept by the quarter (``docs/statistics.md``).
QUARTER_S: Final = 900
MAX_SHIFTS: Final = 12
MAX_NAME_LENGTH: Final = 32

_MINUTES_OF_DAY: Final = 24 * 60
_RULE: Final = "shifts must be written like 'early 06:00-14:00, late 14:00-22:00, night 22:00-06:00'"
_SHIFT: Final = re.compile(r"(\S(?:.*\S)?)\s+(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shift:
    """A shift of the plan."""

    name: str
    begins_min: int
    """Minutes after midnight, 0 to 1439."""
    ends_min: int
    """Likewise; at or before the beginning means on the next day."""

    @property
    def minutes(self) -> int:
        """Its length on a day on which no clock is changed; 1 to 1440."""
        return (self.ends_min - self.begins_min - 1) % _MINUTES_OF_DAY + 1


@dataclass(frozen=True, slots=True)
class ShiftSpan:
    """A shift of one day."""

    name: str
    day: datetime.date
    """On which it began: a night belongs to the evening."""
    begins_s: int
    """Seconds since the epoch."""
    ends_s: int
    """Seconds since the epoch; not part of it."""


@dataclass(frozen=True, slots=True)
class ShiftPlan:
    """The shifts of every day. What lies between two shifts belongs to none."""

    shifts: tuple[Shift, ...]
    """In order of their beginnings."""
    time_zone: str
    """A name of the IANA time zone database."""

    def __post_init__(self) -> None:
        _zone(self.time_zone)
        if len(self.shifts) > MAX_SHIFTS:
            raise InvalidInputError(f"a plan must have at most {MAX_SHIFTS} shifts, got {len(self.shifts)}")
        names = [shift.name for shift in self.shifts]
        if len(set(names)) != len(names):
            raise InvalidInputError(f"shifts must have different names, got {', '.join(names)}")
        for one, other in zip(self.shifts, (*self.shifts[1:], *self.shifts[:1]), strict=True):
            room_min = (other.begins_min - one.begins_min) % _MINUTES_OF_DAY if one is not other else _MINUTES_OF_DAY
            if one.minutes > room_min:
                raise InvalidInputError(f"a shift must end before the next begins, got {one.name} and {other.name}")

    def spans(self, since_s: int, until_s: int) -> list[ShiftSpan]:
        """The shifts that have any moment in a stretch of time, in order.

        Args:
            since_s: Its beginning, seconds since the epoch.
            until_s: Its end, which does not belong to it.
        """
        zone = _zone(self.time_zone)
        day = self.day_of(since_s) - datetime.timedelta(days=1)
        last = self.day_of(until_s)
        found: list[ShiftSpan] = []
        while day <= last:
            for shift in self.shifts:
                begins_s = _moment_s(day, shift.begins_min, zone)
                over_night = shift.begins_min + shift.minutes >= _MINUTES_OF_DAY
                ends_s = _moment_s(day + datetime.timedelta(days=over_night), shift.ends_min, zone)
                if begins_s < until_s and ends_s > since_s and begins_s < ends_s:
                    found.append(ShiftSpan(shift.name, day, begins_s, ends_s))
            day += datetime.timedelta(days=1)
        return sorted(found, key=lambda span: span.begins_s)

    def at(self, moment_s: int) -> ShiftSpan | None:
        """The shift that a moment belongs to; None between shifts."""
        return find_span(self.spans(moment_s, moment_s + 1), moment_s)

    def day_of(self, moment_s: int) -> datetime.date:
        """The date that a calendar on the wall shows."""
        return datetime.datetime.fromtimestamp(moment_s, _zone(self.time_zone)).date()

    def day_begins_s(self, day: datetime.date) -> int:
        """When a date begins, seconds since the epoch."""
        return _moment_s(day, 0, _zone(self.time_zone))

    def __str__(self) -> str:
        return ", ".join(f"{shift.name} {_clock(shift.begins_min)}-{_clock(shift.ends_min)}" for shift in self.shifts)


def find_span(spans: Sequence[ShiftSpan], moment_s: int) -> ShiftSpan | None:
    """The span that a moment lies in; None where there is none.

    Args:
        spans: In order, as :meth:`ShiftPlan.spans` gives them.
        moment_s: Seconds since the epoch.
    """
    index = bisect_right(spans, moment_s, key=lambda span: span.begins_s) - 1
    return spans[index] if index >= 0 and moment_s < spans[index].ends_s else None


def parse_shift_plan(text: str, time_zone: str) -> ShiftPlan:
    """Read a plan.

    Args:
        text: Names with times, separated by commas; empty for no shifts.
        time_zone: A name of the IANA time zone database, for example ``Europe/Berlin``.

    Raises:
        InvalidInputError: If it is none: a name twice, times that are none or off a quarter of an hour, shifts that
            overlap, or a time zone that is not known.
    """
    shifts = [_parse_shift(one.strip()) for one in text.split(",") if one.strip()]
    return ShiftPlan(tuple(sorted(shifts, key=lambda shift: shift.begins_min)), time_zone)


def _parse_shift(text: str) -> Shift:
    found = _SHIFT.match(text)
    if found is None:
        raise InvalidInputError(f"{_RULE}, got {text[:80]!r}")
    name, *numbers = found.groups()
    from_h, from_min, to_h, to_min = (int(number) for number in numbers)
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidInputError(
            f"a shift's name must have at most {MAX_NAME_LENGTH} printable characters, got {text!r}"
        )
    if from_h > 23 or from_min > 59 or to_min > 59 or to_h * 60 + to_min > _MINUTES_OF_DAY:
        raise InvalidInputError(f"{_RULE} with times from 00:00 to 24:00, got {text!r}")
    shift = Shift(name, from_h * 60 + from_min, (to_h * 60 + to_min) % _MINUTES_OF_DAY)
    if shift.begins_min * 60 % QUARTER_S or shift.ends_min * 60 % QUARTER_S:
        raise InvalidInputError(f"a shift must begin and end at a quarter of an hour, got {text!r}")
    return shift


def _moment_s(day: datetime.date, minutes: int, zone: datetime.tzinfo) -> int:
    # Of a time that comes twice the first is meant, and one that does not come is an hour later.
    at = datetime.datetime.combine(day, datetime.time(minutes // 60, minutes % 60), zone)
    return round(at.timestamp())


def _zone(name: str) -> datetime.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInputError(
            f"a time zone must be one of the IANA database, like Europe/Berlin, got {name[:80]!r}"
        ) from None


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
