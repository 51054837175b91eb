from __future__ import annotations

import threading
import time

import pytest
from prometheus_client import REGISTRY

from services.core.errors import BusyError, NotFoundError
from services.ingest import triggers
from services.ingest.triggers import MAX_REMEMBERED, MAX_WAITING, TriggerDesk, TriggerQueue
from tests.unit.ingest.conftest import a_trigger

SECOND_NS = 1_000_000_000


def a_queue(camera_id: str = "cam-1", line_id: str = "line-1") -> TriggerQueue:
    return TriggerQueue(camera_id, line_id)


def counted(camera_id: str, outcome: str) -> float:
    labels = {"camera": camera_id, "outcome": outcome}
    return REGISTRY.get_sample_value("sightline_ingest_triggers_total", labels) or 0.0


def waiting(queue: TriggerQueue) -> list[str]:
    found = []
    while (trigger := queue.take()) is not None:
        found.append(trigger.part_id)
    return found


def test_each_triggered_camera_of_the_line_is_asked_and_no_other() -> None:
    top, side, other = a_queue("top"), a_queue("side"), a_queue("other", "line-2")
    desk = TriggerDesk([top, side, other])
    assert desk.trigger("line-1", a_trigger("part-1")) == ("top", "side")
    assert [waiting(queue) for queue in (top, side, other)] == [["part-1"], ["part-1"], []]


def test_a_line_without_triggered_cameras_is_said() -> None:
    with pytest.raises(NotFoundError, match="must have triggered cameras to be triggered, got line-9 without one"):
        TriggerDesk([a_queue()]).trigger("line-9", a_trigger())


def test_parts_wait_in_the_order_of_their_triggers() -> None:
    queue = a_queue()
    desk = TriggerDesk([queue])
    for number in range(4):
        desk.trigger("line-1", a_trigger(f"part-{number}"))
    assert queue.first is not None
    assert queue.first.part_id == "part-0"
    assert waiting(queue) == ["part-0", "part-1", "part-2", "part-3"]


def test_one_camera_with_too_many_waiting_parts_and_none_is_asked() -> None:
    slow, quick = a_queue("slow"), a_queue("quick")
    desk = TriggerDesk([slow, quick])
    for number in range(MAX_WAITING):
        desk.trigger("line-1", a_trigger(f"part-{number}"))
        quick.take()
    before = counted("slow", "busy")
    with pytest.raises(BusyError, match="at most 8 parts may wait for their picture at a camera, got one more at slow"):
        desk.trigger("line-1", a_trigger("part-8"))
    assert counted("slow", "busy") == before + 1
    assert waiting(quick) == []
    slow.take()
    assert desk.trigger("line-1", a_trigger("part-8")) == ("slow", "quick")
    assert waiting(quick) == ["part-8"]


def test_a_part_that_is_asked_for_again_is_answered_alike_and_gets_no_second_picture() -> None:
    queue = a_queue("again")
    desk = TriggerDesk([queue])
    for number in range(MAX_WAITING):
        desk.trigger("line-1", a_trigger(f"part-{number}"))
    # Even where there is no room for another.
    assert desk.trigger("line-1", a_trigger("part-3")) == ("again",)
    assert len(waiting(queue)) == MAX_WAITING
    assert desk.trigger("line-1", a_trigger("part-3")) == ("again",)
    assert waiting(queue) == []
    assert counted("again", "repeated") == 2


def test_only_the_last_parts_are_remembered() -> None:
    queue = a_queue()
    for number in range(MAX_REMEMBERED + 1):
        queue.put(a_trigger(f"part-{number}"))
        queue.take()
    queue.put(a_trigger("part-1"))
    assert waiting(queue) == []
    queue.put(a_trigger("part-0"))
    assert waiting(queue) == ["part-0"]


def test_a_picture_shows_the_part_from_its_trigger_on() -> None:
    queue = a_queue()
    now_ns = time.time_ns()
    assert not queue.wants(now_ns)
    queue.put(a_trigger(triggered_at_ns=now_ns - SECOND_NS))
    assert not queue.wants(now_ns - SECOND_NS - 1)
    assert queue.wants(now_ns - SECOND_NS)


def test_a_line_s_clock_that_is_ahead_does_not_put_a_picture_off() -> None:
    queue = a_queue()
    queue.put(a_trigger(triggered_at_ns=time.time_ns() + 3_600 * SECOND_NS))
    assert queue.wants(time.time_ns())


def test_a_clock_that_was_set_back_does_not_hold_a_part_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "_SURELY_LATER_S", 0.0)
    queue = a_queue()
    queue.put(a_trigger())
    assert queue.wants(1)


def test_whoever_waits_for_a_part_is_woken_by_it() -> None:
    queue = a_queue()
    assert not queue.wait(0.01)
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(queue.wait(10)), daemon=True)
    waiter.start()
    queue.put(a_trigger())
    waiter.join(10)
    assert woken == [True]


def test_a_late_picture_is_counted_as_late_and_a_line_without_a_cycle_has_none() -> None:
    queue = a_queue("late")
    old = a_trigger(triggered_at_ns=time.time_ns() - 10 * SECOND_NS)
    queue.taken(old, 5_000)
    assert (counted("late", "late"), counted("late", "taken")) == (1, 0)
    queue.taken(old, 0)
    queue.taken(a_trigger(), 5_000)
    assert (counted("late", "late"), counted("late", "taken")) == (1, 2)


def test_a_camera_at_its_end_is_asked_no_more() -> None:
    queue = a_queue("ended")
    desk = TriggerDesk([queue])
    desk.trigger("line-1", a_trigger())
    queue.end()
    assert counted("ended", "lost") == 1
    assert queue.take() is None
    with pytest.raises(NotFoundError):
        desk.trigger("line-1", a_trigger("part-2"))
