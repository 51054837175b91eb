"""The alarm on dead letters."""

from __future__ import annotations

import logging

import pytest

from services.detector.handled import DeadLetterAlarm
from services.runtime import metrics


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


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
