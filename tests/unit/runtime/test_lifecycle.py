"""What a service does once between its start and its work."""

from __future__ import annotations

import gc

from services.runtime.lifecycle import set_aside_what_started


def test_what_started_is_out_of_the_collectors_rounds_and_what_is_new_is_not() -> None:
    started: list[object] = [[number] for number in range(1_000)]
    try:
        set_aside_what_started()

        assert gc.get_freeze_count() > 1_000
        seen = gc.get_objects()
        assert not any(item is started for item in seen)
        new: list[object] = []
        new.append(new)
        assert any(item is new for item in gc.get_objects())
        del new, seen
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()
