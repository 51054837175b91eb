from __future__ import annotations

import asyncio

import pytest

from services.adapters.processimage import (
    MAX_NOTES,
    NOTES_PER_WINDOW,
    UNREADABLE,
    WINDOW_S,
    LoopThread,
    MalformedNotes,
    readable_text,
)
from services.core.errors import UnavailableError
from services.core.plc import MAX_TEXT


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", ""),
        ("gear", "gear"),
        ("gear\0\0\0\0", "gear"),
        ("gear\0old rest", "gear"),
        ("  gear   ", "gear"),
        ("g\xe4r", f"g{UNREADABLE}r"),
        ("a\nb", f"a{UNREADABLE}b"),
        ("x" * MAX_TEXT, "x" * MAX_TEXT),
        ("x" * (MAX_TEXT + 1), "x" * (MAX_TEXT - 1) + UNREADABLE),
        ("x" * 100_000, "x" * (MAX_TEXT - 1) + UNREADABLE),
    ],
)
def test_a_text_is_read_without_its_padding_and_never_as_another_name(written: str, read: str) -> None:
    assert readable_text(written) == read


class Clock:
    """Seconds that pass when they are told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_peer_that_sends_much_garbage_is_told_of_a_few_times_and_counted() -> None:
    clock = Clock()
    notes = MalformedNotes(clock)
    for number in range(NOTES_PER_WINDOW + 37):
        notes.note("10.0.0.9", f"bad {number}")
    notes.note("10.0.0.8", "bad too")
    told = notes.take()
    assert told == [*(f"10.0.0.9: bad {number}" for number in range(NOTES_PER_WINDOW)), "10.0.0.8: bad too"]
    assert notes.take() == []
    clock.now_s = WINDOW_S
    assert notes.take() == ["10.0.0.9: 37 more within 10 s"]
    notes.note("10.0.0.9", "again")
    assert notes.take() == ["10.0.0.9: again"]


def test_notes_that_nobody_takes_are_bounded_and_the_rest_is_counted() -> None:
    notes = MalformedNotes(Clock())
    for number in range(MAX_NOTES + 5):
        notes.note(f"10.0.0.{number}", "bad")
    told = notes.take()
    assert len(told) == MAX_NOTES + 1
    assert told[-1] == "5 more were not kept"
    assert notes.take() == []


async def _never() -> None:
    await asyncio.Event().wait()


def test_what_takes_too_long_on_a_loops_thread_is_given_up() -> None:
    thread = LoopThread("test")
    with pytest.raises(UnavailableError, match=r"within 0\.01 s"):
        thread.run(_never(), 0.01)
    thread.close()
    thread.close()
    with pytest.raises(UnavailableError, match="closed"):
        thread.run(_never(), 1.0)
    thread.soon(lambda: None)
