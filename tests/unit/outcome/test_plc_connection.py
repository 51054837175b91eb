"""A PLC's handshake through its connection: written down before it is told, told before it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.adapters.memory_plc import MemoryImage
from services.core.errors import SpoolFullError, UnavailableError
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.outcome import Outcome
from services.core.plc import ErrorCode, HandshakeSettings, HandshakeState, PlcInputs, PlcOutputs
from services.core.types import Verdict
from services.outcome import plc_connection as module
from services.outcome.plc_connection import PlcConnection
from services.outcome.state_file import BytesFile, handshake_from_json
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, PRODUCT, Clock, Record
from tests.support.outcomes import outcome

Kind = LineEventKind


class KilledError(BaseException):
    """The process ends here, as by ``kill -9``."""


class Bench:
    """A PLC's signals, and the lives of the process that serves them."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        values: dict[str, Any] = {
            "line_id": LINE,
            "connection": "plc",
            "products": frozenset({PRODUCT}),
            "cycle_time_ms": 1_000,
            "heartbeat_timeout_ms": 0,
        }
        self.settings = HandshakeSettings(**values | settings)
        self.file = BytesFile(folder / "plc.json")
        self.clock = Clock()
        self.record = Record()
        self.inputs = PlcInputs()
        self.light: Light | None = Light.GREEN
        self.kill_at: Kind | None = None
        self.lives: list[PlcConnection] = []

    def tell(self, events: Sequence[LineEvent]) -> None:
        if self.kill_at in [event.kind for event in events]:
            raise KilledError
        self.record.tell(events)

    def start(self, image: MemoryImage | None = None) -> PlcConnection:
        """Start the process anew; the PLC goes on saying what it says."""
        self.image = image or MemoryImage()
        connection = PlcConnection(
            self.settings,
            self.image,
            self.file,
            tell=self.tell,
            ask=self.record.ask,
            light=lambda: self.light,
            clock_ns=self.clock,
        )
        self.lives.append(connection)
        connection.start()
        self.image.say(self.inputs)
        return connection

    def say(self, **signals: Any) -> None:
        self.inputs = dataclasses.replace(self.inputs, **signals)
        self.image.say(self.inputs)

    def ready(self) -> None:
        wait_until(lambda: self.image.said().trigger_ready, "a trigger may come")

    def trigger(self, part: str) -> None:
        self.ready()
        self.say(trigger=True, part=part)
        wait_until(lambda: self.image.said().busy, f"{part} is before the cameras")

    def release(self) -> None:
        wait_until(lambda: self.image.said().result_ready, "the result is there")
        self.say(result_ack=True)
        wait_until(lambda: not self.image.said().result_ready, "the result is taken down")
        self.say(result_ack=False, trigger=False)

    def stop(self) -> None:
        for one in self.lives:
            one.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.stop()


def answer(part_id: str, verdict: Verdict = Verdict.PASS, **changes: Any) -> Outcome:
    return outcome(verdict, part_id=part_id, **changes)


def shown(outputs: PlcOutputs) -> set[str]:
    names = ("trigger_ready", "busy", "result_ready", "ok", "nok", "review", "safe")
    return {name for name in names if getattr(outputs, name)}


def test_a_part_goes_through_and_each_step_is_on_record(bench: Bench) -> None:
    connection = bench.start()
    bench.trigger("p1")
    wait_until(lambda: [one.part_id for one in bench.record.asked] == ["p1"], "pictures are asked for")
    assert (connection.state, connection.part_id, connection.product) == (HandshakeState.BUSY, "p1", PRODUCT)
    connection.take_outcome(answer("p1", Verdict.FAIL))
    assert shown(bench.image.said()) == {"result_ready", "nok"}, "the PLC sees it before the call returns"
    assert bench.image.said().part == "p1"
    bench.release()
    bench.ready()
    assert bench.record.kinds == [Kind.TRIGGERED, Kind.ANSWERED, Kind.ACKNOWLEDGED]
    answered = bench.record.events[1]
    assert (answered.connection, answered.verdict, answered.revision) == ("plc", Verdict.FAIL, 1)
    assert (connection.name, connection.address, connection.waiting) == ("plc", "memory", 0)
    connection.check()


def test_what_is_shown_is_written_down_before(bench: Bench) -> None:
    connection = bench.start()
    bench.trigger("p1")
    connection.take_outcome(answer("p1"))
    memory, events = handshake_from_json(bench.file.load())
    assert memory is not None
    assert memory.state is HandshakeState.RESULT
    assert memory.answer is not None
    assert memory.answer.part_id == "p1"
    assert [event.kind for event in events] == [Kind.ANSWERED]


def test_without_an_outcome_the_line_is_told_review_in_time(bench: Bench) -> None:
    connection = bench.start()
    for number in (1, 2):
        bench.trigger(f"p{number}")
        bench.clock.pass_time(0.981)
        wait_until(lambda: "review" in shown(bench.image.said()), "the answer 20 ms before the deadline")
        assert connection.error_code is ErrorCode.DEADLINE
        assert connection.deadlines_missed == number
        bench.release()
    bench.trigger("p3")
    connection.take_outcome(answer("p3"))
    assert connection.deadlines_missed == 0


def test_no_picture_is_review_at_once(bench: Bench) -> None:
    connection = bench.start()
    bench.trigger("p1")
    connection.no_camera("p1", "no camera is there")
    assert shown(bench.image.said()) == {"result_ready", "review"}
    assert connection.error_code is ErrorCode.NO_CAMERA
    assert connection.deadlines_missed == 0
    assert bench.record.of(Kind.ANSWERED)[0].detail == "no camera is there"


# ---- kills


def test_killed_after_a_trigger_was_written_down_it_is_told_with_the_same_id_and_asked_for(bench: Bench) -> None:
    bench.kill_at = Kind.TRIGGERED
    killed = bench.start()
    bench.ready()
    bench.say(trigger=True, part="p1")
    wait_until(lambda: killed._failure is not None, "it is killed")
    _, untold = handshake_from_json(bench.file.load())
    bench.kill_at = None
    connection = bench.start()
    wait_until(lambda: [one.part_id for one in bench.record.asked] == ["p1"], "pictures are asked for")
    assert bench.record.events == list(untold)
    connection.take_outcome(answer("p1"))
    assert shown(bench.image.said()) == {"result_ready", "ok"}
    bench.release()
    bench.ready()
    assert bench.record.kinds == [Kind.TRIGGERED, Kind.ANSWERED, Kind.ACKNOWLEDGED], "one part, one trigger"


def test_killed_between_decision_and_output_the_line_is_told_the_same_once(bench: Bench) -> None:
    connection = bench.start()
    bench.trigger("p1")
    bench.kill_at = Kind.ANSWERED
    with pytest.raises(KilledError):
        connection.take_outcome(answer("p1", Verdict.FAIL))
    bench.kill_at = None
    _, untold = handshake_from_json(bench.file.load())
    again = bench.start()
    wait_until(lambda: shown(bench.image.said()) == {"result_ready", "nok"}, "the same answer")
    again.take_outcome(answer("p1", Verdict.PASS))
    again.take_outcome(answer("p1", Verdict.PASS, revision=2))
    assert shown(bench.image.said()) == {"result_ready", "nok"}, "the first answer holds"
    (answered,) = bench.record.of(Kind.ANSWERED)
    assert [answered] == list(untold)
    assert [one.revision for one in bench.record.of(Kind.SUPERSEDED)] == [2]


def test_killed_at_any_place_told_events_keep_their_ids(bench: Bench) -> None:
    connection = bench.start()
    bench.trigger("p1")
    connection.take_outcome(answer("p1"))
    again = bench.start()
    wait_until(lambda: len(bench.record.of(Kind.ANSWERED)) == 2, "it is told again, for nobody knows whether it was")
    one, other = bench.record.of(Kind.ANSWERED)
    assert one == other
    bench.release()
    bench.ready()
    again.check()


def test_an_acknowledgement_that_came_while_nobody_looked_is_taken(bench: Bench) -> None:
    connection = bench.start()
    bench.trigger("p1")
    connection.take_outcome(answer("p1"))
    connection._stopping.set()
    connection._thread.join(10)
    bench.inputs = dataclasses.replace(bench.inputs, result_ack=True)
    bench.start()
    wait_until(lambda: bool(bench.record.of(Kind.ACKNOWLEDGED)), "the acknowledgement is taken")
    bench.say(result_ack=False, trigger=False)
    bench.ready()


def test_what_stands_is_shown_before_the_plc_can_look(bench: Bench) -> None:
    connection = bench.start()
    bench.trigger("p1")
    connection.take_outcome(answer("p1", Verdict.FAIL))
    image = MemoryImage()
    again = PlcConnection(
        bench.settings,
        image,
        bench.file,
        tell=bench.tell,
        ask=bench.record.ask,
        light=lambda: None,
        clock_ns=bench.clock,
    )
    image.start = lambda: served.append(shown(image._outputs))  # type: ignore[method-assign]
    served: list[set[str]] = []
    bench.lives.append(again)
    again.start()
    assert served == [{"result_ready", "nok"}]


@pytest.mark.parametrize("says_it_late", [False, True])
def test_a_trigger_that_is_held_up_over_a_restart_is_no_other_part(bench: Bench, *, says_it_late: bool) -> None:
    """A server that begins has every signal down until the PLC has connected and written them all."""
    connection = bench.start()
    bench.trigger("p1")
    connection.take_outcome(answer("p1"))
    bench.say(result_ack=True)
    wait_until(lambda: bool(bench.record.of(Kind.ACKNOWLEDGED)), "the acknowledgement is taken")
    connection._stopping.set()
    connection._thread.join(10)
    held, bench.inputs = bench.inputs, PlcInputs()
    if says_it_late:
        bench.inputs = PlcInputs(part="p1")
    again = bench.start()
    wait_until(lambda: again._heartbeat > 0, "somebody looks at the signals")
    assert again.state is HandshakeState.RELEASING
    bench.inputs = held
    bench.say(heartbeat=1)
    wait_until(lambda: again._left is None, "the PLC has said them anew")
    assert again.state is HandshakeState.RELEASING
    bench.say(trigger=False, result_ack=False)
    bench.ready()
    assert [event.part_id for event in bench.record.of(Kind.TRIGGERED)] == ["p1"]
    assert bench.record.of(Kind.TRIGGER_REFUSED) == []


def test_signals_that_fell_while_nobody_looked_are_taken_once_the_plc_writes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WHOLE_CYCLE_S", 0.05)
    connection = bench.start()
    bench.trigger("p1")
    connection.take_outcome(answer("p1"))
    bench.say(result_ack=True)
    wait_until(lambda: bool(bench.record.of(Kind.ACKNOWLEDGED)), "the acknowledgement is taken")
    connection._stopping.set()
    connection._thread.join(10)
    bench.inputs = PlcInputs()
    bench.start()
    bench.ready()


def test_outcomes_without_triggers_are_shown_one_after_the_other_and_none_twice(tmp_path: Path) -> None:
    bench = Bench(tmp_path, triggered=False)
    connection = bench.start()
    wait_until(lambda: bench.image.said().heartbeat > 0, "somebody looks at the signals")
    for part in ("p1", "p2", "p3"):
        connection.take_outcome(answer(part))
    assert connection.waiting == 2
    wait_until(lambda: bench.image.said().part == "p1", "the first")
    bench.release()
    wait_until(lambda: bench.image.said().part == "p2", "the second")
    connection._stopping.set()
    connection._thread.join(10)
    again = bench.start()
    for part in ("p1", "p2", "p3"):
        again.take_outcome(answer(part))
    wait_until(lambda: bench.image.said().part == "p2" and bench.image.said().result_ready, "still the second")
    bench.release()
    wait_until(lambda: bench.image.said().part == "p3", "the third")
    answered = {event.event_id: event.part_id for event in bench.record.of(Kind.ANSWERED)}
    assert sorted(answered.values()) == ["p1", "p2", "p3"]
    bench.stop()


def test_what_an_earlier_life_left_and_nobody_can_read_is_left_out(bench: Bench) -> None:
    bench.file.save(b'{"state": "busy"')
    connection = bench.start()
    bench.ready()
    assert connection.state is HandshakeState.READY


# ---- trouble


def test_a_heartbeat_that_stands_still_puts_the_outputs_at_the_safe_level(tmp_path: Path) -> None:
    bench = Bench(tmp_path, heartbeat_timeout_ms=500, safe_level=Verdict.REVIEW)
    connection = bench.start()
    bench.ready()
    bench.clock.pass_time(0.6)
    wait_until(lambda: shown(bench.image.said()) == {"safe", "review"}, "the safe level")
    assert connection.state is HandshakeState.SAFE
    bench.say(heartbeat=1)
    bench.ready()
    assert bench.record.kinds == [Kind.HEARTBEAT_LOST, Kind.HEARTBEAT_BACK]
    bench.stop()


def test_our_own_heart_beats(bench: Bench) -> None:
    bench.start()
    bench.ready()
    first = bench.image.said().heartbeat
    wait_until(lambda: bench.image.said().heartbeat != first, "a beat")


def test_the_light_is_shown(bench: Bench) -> None:
    bench.start()
    wait_until(lambda: bench.image.said().light is Light.GREEN, "green")
    bench.light = Light.RED
    wait_until(lambda: bench.image.said().light is Light.RED, "red")


def test_what_is_no_message_is_on_record(bench: Bench) -> None:
    bench.start()
    bench.ready()
    bench.say(part="caf\u00e9")
    wait_until(lambda: bool(bench.record.of(Kind.MALFORMED)), "it is on record")
    (event,) = bench.record.of(Kind.MALFORMED)
    assert (event.connection, "part must be printable ASCII" in event.detail) == ("plc", True)


def test_what_is_no_message_may_not_be_on_record_and_the_line_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_events: Sequence[LineEvent]) -> None:
        raise SpoolFullError("spool must stay within 10 bytes, got more")

    connection = bench.start()
    bench.ready()
    monkeypatch.setattr(connection, "_tell", full)
    bench.say(part="caf\u00e9")
    wait_until(lambda: not bench.image._notes._notes, "it is taken from the image")
    connection.check()
    assert bench.image.said().trigger_ready


class BrokenImage(MemoryImage):
    """Its server has died."""

    broken = False

    def read(self) -> PlcInputs:
        if self.broken:
            raise OSError("the server is gone")
        return super().read()


def test_an_image_that_fails_is_raised_to_whoever_checks(bench: Bench) -> None:
    image = BrokenImage()
    connection = bench.start(image)
    bench.ready()
    image.broken = True
    wait_until(lambda: connection._failure is not None, "the thread ends")
    with pytest.raises(OSError, match="the server is gone"):
        connection.check()


def test_an_address_that_cannot_be_served_on_ends_the_start(bench: Bench) -> None:
    image = MemoryImage()
    image.unavailable = True
    with pytest.raises(UnavailableError, match="free to serve on"):
        bench.start(image)


def test_a_stop_leaves_the_safe_level_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = bench.start()
    bench.trigger("p1")
    connection.take_outcome(answer("p1"))
    last: list[PlcOutputs] = []
    monkeypatch.setattr(bench.image, "write", last.append)
    connection.close()
    connection.close()
    assert shown(last[0]) == {"safe", "nok"}
