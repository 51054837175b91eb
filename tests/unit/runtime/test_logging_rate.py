"""Libraries that tell every failed attempt are heard now and then."""

from __future__ import annotations

import logging

from services.runtime.logging import RateLimit


def record(name: str, at_s: float, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "levelno": level, "created": at_s, "msg": "refused"})


def test_one_line_of_a_kind_passes_per_interval_and_says_how_many_were_held_back() -> None:
    limit = RateLimit(10.0)
    assert limit.filter(record("kafka.net.manager", 100.0))
    assert not any(limit.filter(record("kafka.net.connection", 100.0 + number)) for number in range(9))
    late = record("kafka.net.manager", 111.0)
    assert limit.filter(late)
    assert late.held_back == 9  # type: ignore[attr-defined]


def test_other_kinds_and_levels_have_intervals_of_their_own() -> None:
    limit = RateLimit(10.0)
    assert limit.filter(record("kafka.net.manager", 100.0))
    assert limit.filter(record("kafka.cluster", 100.0))
    assert limit.filter(record("kafka.net.manager", 100.0, logging.WARNING))
