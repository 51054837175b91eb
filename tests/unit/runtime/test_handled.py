"""What was handled already is known, within bounds."""

from __future__ import annotations

from services.adapters.ports import TopicPartition
from services.runtime.handled import HandledIds

ONE, TWO = TopicPartition("frames", 0), TopicPartition("frames", 1)


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
