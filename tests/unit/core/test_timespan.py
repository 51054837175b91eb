"""Times as people write them."""

from __future__ import annotations

import datetime

import pytest

from services.core.errors import InvalidInputError
from services.core.timespan import TimeWindow, parse_moment, parse_window, shown

NOW_MS = 1_764_079_200_000  # 2025-11-25T14:00:00Z


@pytest.mark.parametrize(
    ("text", "ago_s"), [("45s", 45), ("90m", 5400), ("2h", 7200), ("1.5h", 5400), ("3d", 259_200), (" 1w ", 604_800)]
)
def test_a_duration_is_how_long_ago(text: str, ago_s: int) -> None:
    assert parse_moment(text, NOW_MS) == NOW_MS - ago_s * 1000


@pytest.mark.parametrize("text", ["2025-11-25T13:30:00Z", "2025-11-25T14:30+01:00", "20251125T133000Z"])
def test_iso_8601_with_an_offset_means_the_same_everywhere(text: str) -> None:
    assert parse_moment(text, NOW_MS) == NOW_MS - 30 * 60_000


def test_iso_8601_without_an_offset_is_the_machines_own_time() -> None:
    local = datetime.datetime(2025, 11, 25, 13, 30)
    assert parse_moment("2025-11-25T13:30", NOW_MS) == round(local.timestamp() * 1000)
    assert parse_moment("2025-11-25", NOW_MS) == round(datetime.datetime(2025, 11, 25).timestamp() * 1000)


@pytest.mark.parametrize("text", ["", "yesterday", "2 hours", "-2h", "2025-13-01", "h", "1e3h", "14:00"])
def test_anything_else_is_refused_with_the_rule_and_the_value(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"must be ISO 8601 .* or how long ago .*got ") as raised:
        parse_moment(text, NOW_MS)
    assert repr(text) in str(raised.value)


def test_a_time_before_1970_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="after 1970, got '9999w'"):
        parse_moment("9999w", NOW_MS)


def test_a_window_reaches_up_to_now_unless_an_end_is_said() -> None:
    assert parse_window("2h", "", NOW_MS) == TimeWindow(NOW_MS - 7_200_000, NOW_MS)
    assert parse_window("2h", "30m", NOW_MS) == TimeWindow(NOW_MS - 7_200_000, NOW_MS - 1_800_000)


def test_a_window_never_reaches_beyond_now() -> None:
    assert parse_window("2h", "2025-11-25T20:00Z", NOW_MS).until_ms == NOW_MS


def test_a_window_in_the_future_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"must begin in the past, got '2025-11-25T15:00Z'"):
        parse_window("2025-11-25T15:00Z", "", NOW_MS)


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="must begin before it ends, got 2025-11-25T13:00:00Z to 2025-11-25T12"):
        parse_window("1h", "2h", NOW_MS)


def test_the_beginning_belongs_to_a_window_and_the_end_does_not() -> None:
    window = TimeWindow(10, 20)
    assert [moment in window for moment in (9, 10, 19, 20)] == [False, True, True, False]


def test_a_moment_is_shown_in_utc() -> None:
    assert shown(NOW_MS) == "2025-11-25T14:00:00Z"


def test_a_moment_that_lies_beyond_the_calendar_in_utc_is_refused_like_any_other() -> None:
    with pytest.raises(InvalidInputError, match="which is after the year 9999"):
        parse_window("9999-12-31T23:59:59-23:59", "", NOW_MS)
