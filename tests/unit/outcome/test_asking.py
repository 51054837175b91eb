"""Pictures of triggered parts: the part is announced first, and who asks is kept waiting by nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from services.core.errors import BusyError
from services.core.plc import TriggeredPart
from services.outcome import asking
from services.outcome.asking import PictureAsker
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, Record
from tests.support.outcomes import NOW_NS, S_NS


class Cameras:
    """Takes pictures, or says why not."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, str, int]] = []
        self.fails: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    def trigger(self, line_id: str, part_id: str, product: str, lot: str, triggered_at_ns: int) -> tuple[str, ...]:
        self.asked.append((line_id, part_id, product, lot, triggered_at_ns))
        assert self.go_on.wait(10)
        if self.fails is not None:
            raise self.fails
        return ("left",)


def part(part_id: str = "p1", *, pictured: bool = True) -> TriggeredPart:
    return TriggeredPart(part_id, "disc", "lot-7", NOW_NS, NOW_NS + 2 * S_NS, pictured)


class Bench:
    def __init__(self, cameras: Cameras | None) -> None:
        self.record = Record()
        self.refused: list[tuple[str, str]] = []
        self.asker = PictureAsker(LINE, self.record.announce, cameras)
        self.asker.start()

    def ask(self, one: TriggeredPart) -> None:
        self.asker.ask(one, lambda part_id, why: self.refused.append((part_id, why)))


@pytest.fixture
def cameras() -> Cameras:
    return Cameras()


@pytest.fixture
def bench(cameras: Cameras) -> Iterator[Bench]:
    bench = Bench(cameras)
    yield bench
    cameras.go_on.set()
    bench.asker.close()


def test_a_part_is_announced_with_its_deadline_and_then_pictured(bench: Bench, cameras: Cameras) -> None:
    bench.ask(part())
    (said,) = bench.record.arrivals
    assert (said.part_id, said.line_id, said.product, said.lot) == ("p1", LINE, "disc", "lot-7")
    assert (said.arrived_at_ns, said.cycle_time_ms, said.camera_id, said.frame_id) == (NOW_NS, 2_000, "", "")
    wait_until(lambda: cameras.asked == [(LINE, "p1", "disc", "lot-7", NOW_NS)], "cameras are asked")
    bench.asker.check()


def test_a_part_that_nobody_knows_is_announced_and_not_pictured(bench: Bench, cameras: Cameras) -> None:
    bench.ask(part(pictured=False))
    bench.ask(part("p2"))
    wait_until(lambda: [one[1] for one in cameras.asked] == ["p2"], "only the other is")
    assert [one.part_id for one in bench.record.arrivals] == ["p1", "p2"]


def test_cameras_that_see_the_trigger_themselves_are_not_asked() -> None:
    bench = Bench(None)
    bench.ask(part())
    bench.asker.close()
    assert len(bench.record.arrivals) == 1
    assert bench.refused == []


def test_a_refusal_is_told_and_the_next_part_is_asked_for(bench: Bench, cameras: Cameras) -> None:
    cameras.fails = BusyError("at most 64 parts may wait, got one more")
    bench.ask(part("p1"))
    wait_until(lambda: bench.refused == [("p1", "at most 64 parts may wait, got one more")], "the refusal is told")
    cameras.fails = None
    bench.ask(part("p2"))
    wait_until(lambda: len(cameras.asked) == 2, "the next one is asked for")
    assert len(bench.refused) == 1


def test_more_parts_than_may_wait_are_refused_at_once(bench: Bench, cameras: Cameras) -> None:
    cameras.go_on.clear()
    bench.ask(part("p0"))
    wait_until(lambda: len(cameras.asked) == 1, "the first is asked for")
    for number in range(1, asking._MAX_WAITING + 2):
        bench.ask(part(f"p{number}"))
    ((refused, why),) = bench.refused
    assert refused == f"p{asking._MAX_WAITING + 1}"
    assert "at most 64 parts may wait" in why


def test_closing_with_a_full_queue_asks_no_more_and_ends(bench: Bench, cameras: Cameras) -> None:
    cameras.go_on.clear()
    for number in range(asking._MAX_WAITING + 1):
        bench.ask(part(f"p{number}"))
        if number == 0:
            wait_until(lambda: len(cameras.asked) == 1, "the first is asked for")
    closing = threading.Thread(target=bench.asker.close, daemon=True)
    began_s = time.monotonic()
    closing.start()
    wait_until(bench.asker._stopping.is_set, "it is told to stop")
    cameras.go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert time.monotonic() - began_s < 10
    assert len(cameras.asked) == 1


def test_what_ends_the_asking_is_raised_to_whoever_checks(bench: Bench, cameras: Cameras) -> None:
    cameras.fails = OSError("no room on the disk")
    bench.ask(part())
    wait_until(lambda: bench.asker._failure is not None, "the thread ends")
    with pytest.raises(OSError, match="no room"):
        bench.asker.check()
