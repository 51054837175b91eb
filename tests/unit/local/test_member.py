"""A member of the line: restarted with growing delays, and honest about what it waits for."""

from __future__ import annotations

import time
from pathlib import Path

from services.local.member import Member, metric_total
from services.local.process import ChildProcess

METRICS = """# HELP sightline_detector_verdicts_total Verdicts acknowledged by Kafka.
# TYPE sightline_detector_verdicts_total counter
sightline_detector_verdicts_total{camera="a",verdict="pass"} 3.0
sightline_detector_verdicts_total{camera="b",verdict="fail"} 2.0
sightline_detector_verdicts_created{camera="a"} 1.7e+09
sightline_detector_verdicts_total_other 9.0
sightline_plain 4.0
"""


def test_a_metric_is_summed_over_its_labels_and_not_over_its_namesakes() -> None:
    assert metric_total(METRICS, "sightline_detector_verdicts_total") == 5
    assert metric_total(METRICS, "sightline_plain") == 4
    assert metric_total(METRICS, "sightline_missing") == 0


def member(tmp_path: Path, program: str) -> Member:
    found = Member("detector", {"KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}, logs=tmp_path)
    found.process = ChildProcess("detector", ["/bin/sh", "-c", program], log_path=tmp_path / "detector.log")
    return found


def test_a_member_that_dies_is_told_of_once_and_started_again_after_its_delay(tmp_path: Path) -> None:
    failing = member(tmp_path, "exit 7")
    failing.start()
    assert failing.process.wait(5)
    told = failing.watch()
    assert told is not None
    assert (told.name, told.returncode) == ("detector", 7)
    assert 0 < told.again_in_s <= 0.5
    first_pid = failing.process.pid
    end_s = time.monotonic() + 5
    while failing.process.pid == first_pid and time.monotonic() < end_s:
        assert failing.watch() is None or failing.process.pid != first_pid
        time.sleep(0.02)
    assert failing.process.pid != first_pid


def test_the_delay_before_a_restart_grows(tmp_path: Path) -> None:
    failing = member(tmp_path, "exit 1")
    delays = []
    failing.start()
    end_s = time.monotonic() + 20
    while len(delays) < 3 and time.monotonic() < end_s:
        told = failing.watch()
        if told is not None:
            delays.append(told.again_in_s)
        time.sleep(0.01)
    # Doubling, each drawn between half and all of its value: 0.5, 1, 2.
    assert delays[2] > delays[0]


def test_a_member_that_does_not_answer_is_not_ready_and_says_so(tmp_path: Path) -> None:
    silent = member(tmp_path, "sleep 60")
    silent.start()
    assert not silent.ready()
    assert silent.waiting_for() == "not answering yet"
    assert silent.metrics() == ""
    assert silent.stop()
