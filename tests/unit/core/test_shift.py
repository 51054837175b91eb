"""Shifts: reading a plan, nights, and the two days a year on which clocks are changed."""

from __future__ import annotations

import datetime
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.shift import ShiftPlan, find_span, parse_shift_plan

THREE = "early 06:00-14:00, late 14:00-22:00, night 22:00-06:00"
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: datetime.tzinfo = BERLIN) -> int:
    return round(datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


def plan(text: str = THREE, time_zone: str = "Europe/Berlin") -> ShiftPlan:
    return parse_shift_plan(text, time_zone)


@pytest.mark.parametrize(
    ("moment", "shift", "day"),
    [
        ("2026-11-25T06:00", "early", "2026-11-25"),
        ("2026-11-25T13:59:59", "early", "2026-11-25"),
        ("2026-11-25T14:00", "late", "2026-11-25"),
        ("2026-11-25T22:00", "night", "2026-11-25"),
        ("2026-11-26T00:00", "night", "2026-11-25"),
        ("2026-11-26T05:59:59", "night", "2026-11-25"),
        ("2026-11-26T06:00", "early", "2026-11-26"),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_began(moment: str, shift: str, day: str) -> None:
    span = plan().at(at(moment))
    assert span is not None
    assert (span.name, span.day.isoformat()) == (shift, day)


def test_the_night_in_which_clocks_go_forward_is_an_hour_shorter() -> None:
    span = plan().at(at("2026-03-29T04:00"))
    assert span is not None
    assert (span.name, span.day) == ("night", datetime.date(2026, 3, 28))
    assert span.ends_s - span.begins_s == 7 * 3_600


def test_the_night_in_which_clocks_go_back_is_an_hour_longer() -> None:
    span = plan().at(at("2026-10-25T04:00"))
    assert span is not None
    assert (span.name, span.day) == ("night", datetime.date(2026, 10, 24))
    assert span.ends_s - span.begins_s == 9 * 3_600


def test_the_hour_that_comes_twice_lies_in_the_night_both_times() -> None:
    first = at("2026-10-25T02:30")
    for moment in (first, first + 3_600):
        span = plan().at(moment)
        assert span is not None
        assert span.name == "night"


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_shift_that_begins_in_the_changed_hour_leaves_no_moment_to_two_or_none(day: str) -> None:
    odd = plan("a 02:30-10:30, b 10:30-18:30, c 18:30-02:30")
    midnight = at(f"{day}T00:00")
    spans = odd.spans(midnight, midnight + 86_400)
    for one, other in itertools.pairwise(spans):
        assert one.ends_s == other.begins_s


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000), st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"]))
def test_a_plan_without_gaps_has_one_shift_for_every_moment(moment_s: int, zone: str) -> None:
    three = parse_shift_plan(THREE, zone)
    holding = [
        span for span in three.spans(moment_s - 90_000, moment_s + 90_000) if span.begins_s <= moment_s < span.ends_s
    ]
    assert len(holding) == 1
    assert three.at(moment_s) == holding[0]


def test_spans_are_those_that_touch_the_stretch_in_order() -> None:
    spans = plan().spans(at("2026-11-25T13:00"), at("2026-11-26T06:00"))
    assert [(span.name, span.day.day) for span in spans] == [("early", 25), ("late", 25), ("night", 25)]


def test_between_shifts_there_is_none() -> None:
    day_only = plan("day 07:00-16:00")
    assert day_only.at(at("2026-11-25T06:59")) is None
    assert find_span(day_only.spans(at("2026-11-25T00:00"), at("2026-11-26T00:00")), at("2026-11-25T16:00")) is None


def test_a_plan_may_be_empty_or_one_shift_around_the_clock() -> None:
    assert plan("").at(at("2026-11-25T12:00")) is None
    always = plan("all 00:00-24:00").at(at("2026-11-25T23:59"))
    assert always is not None
    assert always.ends_s - always.begins_s == 86_400


def test_a_day_begins_at_midnight_of_the_wall_clock() -> None:
    berlin = plan()
    assert berlin.day_of(at("2026-11-25T00:30")) == datetime.date(2026, 11, 25)
    assert berlin.day_begins_s(datetime.date(2026, 10, 26)) - berlin.day_begins_s(datetime.date(2026, 10, 25)) == 90_000


def test_a_plan_is_said_as_it_is_read() -> None:
    assert str(plan(" late 14:00 - 22:00,early 6:00-14:00 , night 22:00-06:00")) == THREE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("early", "must be written like"),
        ("06:00-14:00", "must be written like"),
        ("early 6-14", "must be written like"),
        ("early 06:00-25:00", "from 00:00 to 24:00"),
        ("early 24:00-06:00", "from 00:00 to 24:00"),
        ("early 06:10-14:00", "a quarter of an hour"),
        ("a 06:00-14:00, a 14:00-22:00", "different names"),
        ("a 06:00-14:30, b 14:00-22:00", "got a and b"),
        ("a 06:00-14:00, b 22:00-06:15", "got b and a"),
        ("a 06:00-14:00, b 06:00-14:00", "end before the next begins"),
        ("x" * 33 + " 06:00-14:00", "at most 32"),
        (", ".join(f"s{n} {n:02d}:00-{n + 1:02d}:00" for n in range(13)), "at most 12"),
    ],
)
def test_a_plan_that_is_none_is_refused_with_the_rule(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        plan(text)
    assert said in str(raised.value)


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "x" * 300])
def test_a_time_zone_that_is_not_known_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInputError, match="IANA"):
        plan(THREE, zone)
