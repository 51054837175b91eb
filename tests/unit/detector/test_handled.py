"""What was handled already, and the alarm on dead letters."""

from __future__ import annotations

import logging

import pytest

from services.adapters.ports import TopicPartition
from services.detector.handled import DeadLetterAlarm, HandledIds
from services.runtime import metrics

ONE, TWO = TopicPartition("frames", 0), TopicPartition("frames", 1)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_id_is_new_once_per_partition() -> None:
    handled = HandledIds(10)
    assert handled.add(ONE, "a")
    assert not handled.add(ONE, "a")
    assert handled.add(TWO, "a")


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    handled = HandledIds(2)
    for frame_id in "abc":
        handled.add(ONE, frame_id)
    assert not handled.add(ONE, "c")
    assert not handled.add(ONE, "b")
    assert handled.add(ONE, "a")


def test_a_partition_that_comes_back_begins_anew() -> None:
    handled = HandledIds(10)
    handled.add(ONE, "a")
    handled.forget([ONE])
    assert handled.add(ONE, "a")


def test_too_many_dead_letters_within_the_window_raise_the_alarm_until_it_has_passed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    alarm = DeadLetterAlarm(3, 60.0, clock)
    with caplog.at_level(logging.INFO):
        for at_s in (0.0, 10.0):
            clock.now_s = at_s
            alarm.note()
        assert not alarm.raised
        clock.now_s = 59.0
        alarm.note()
        assert alarm.raised
        assert metrics.DETECTOR_DEAD_LETTER_ALARM._value.get() == 1
        alarm.note()
        assert caplog.text.count("could not be used") == 1, "said once, not for each record"
        clock.now_s = 130.0
        alarm.check()
    assert not alarm.raised
    assert metrics.DETECTOR_DEAD_LETTER_ALARM._value.get() == 0
    assert "below the limit again" in caplog.text


def test_dead_letters_spread_over_more_than_the_window_raise_nothing() -> None:
    clock = Clock()
    alarm = DeadLetterAlarm(3, 60.0, clock)
    for number in range(10):
        clock.now_s = number * 31.0
        alarm.note()
    assert not alarm.raised
