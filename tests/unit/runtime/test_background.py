"""Work beside the consumer's thread: what ends it is not swallowed."""

from __future__ import annotations

import threading

import pytest

from services.core.errors import InvalidInputError
from services.runtime.background import BackgroundThread


def test_what_ends_the_work_is_raised_to_whoever_checks_each_time() -> None:
    def work() -> None:
        raise InvalidInputError("it must go on, got an end")

    thread = BackgroundThread("work", work)
    thread.check()
    thread.start()
    assert thread.join(10)
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="must go on"):
            thread.check()


def test_work_that_ends_well_leaves_nothing_to_raise() -> None:
    done = threading.Event()
    thread = BackgroundThread("work", lambda: done.wait(10) and None)
    thread.start()
    assert thread.alive
    assert not thread.join(0.01)
    done.set()
    assert thread.join(10)
    assert not thread.alive
    thread.check()


def test_a_thread_that_never_began_has_nothing_left_to_do() -> None:
    assert BackgroundThread("work", lambda: None).join(0)
