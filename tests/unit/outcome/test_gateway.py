"""One line: what its light shows and why, its alarms, its check with reference parts, who watches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.adapters.memory import MemorySink
from services.adapters.memory_plc import MemoryImage
from services.core.alarm import AlarmBoard
from services.core.alarm_rule import AlarmKind, AlarmRule
from services.core.errors import BusyError, InvalidInputError, NotFoundError, PreconditionError
from services.core.line_event import Light, LineEventKind
from services.core.outcome import Outcome
from services.core.plc import HandshakeSettings, HandshakeState, PlcInputs, TriggeredPart
from services.core.reference_check import ReferenceCheck, ReferencePart, ReferencePhase
from services.core.shift import parse_shift_plan
from services.core.types import Verdict
from services.outcome.asking import PictureAsker
from services.outcome.delivery import Delivery
from services.outcome.gateway import LineFiles, LineGateway, NamedDelivery, NamedPlc
from services.outcome.plc_connection import PlcConnection
from services.outcome.state_file import BytesFile
from services.outcome.triggering import Triggering
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, PRODUCT, Clock, Record
from tests.support.outcomes import NOW_NS, S_NS, outcome

Kind = LineEventKind
RULES = (AlarmRule("two-in-a-row", AlarmKind.IN_A_ROW, n=2),)
REFERENCES = (ReferencePart("ref-good*", Verdict.PASS), ReferencePart("ref-bad*", Verdict.FAIL))


class Bench:
    """A line with a PLC and a receiver, in one life after the other."""

    def __init__(
        self, folder: Path, *, references: tuple[ReferencePart, ...] = (), shifts: str = "", **handshake: Any
    ) -> None:
        self.clock = Clock()
        self.clock.now_ns = NOW_NS
        self.record = Record()
        self.away = ""
        self._files = LineFiles(BytesFile(folder / "alarms.json"), BytesFile(folder / "reference.json"))
        self._references = references
        self._shifts = parse_shift_plan(shifts, "UTC")
        values: dict[str, Any] = {"heartbeat_timeout_ms": 0, "cycle_time_ms": 1_000, "product": PRODUCT}
        self._handshake = HandshakeSettings(LINE, "plc", frozenset({PRODUCT, "cap"}), **values | handshake)
        self._memory = BytesFile(folder / "plc.json")
        self.lives: list[LineGateway] = []
        self.line = self.begin()

    def begin(self) -> LineGateway:
        """A new life; nothing is served yet."""
        self.image, self.sink = MemoryImage(), MemorySink()
        asker = PictureAsker(LINE, self.record.announce, None)
        self.plc = PlcConnection(
            self._handshake,
            self.image,
            self._memory,
            tell=self.record.tell,
            ask=lambda part: asker.ask(part, self.plc.no_camera),
            light=lambda: self.line.light,
            clock_ns=self.clock,
        )
        self.delivery = Delivery(LINE, "mes", self.sink, max_age_s=3_600, tell=self.record.tell, clock_ns=self.clock)
        saved = (self._files.alarms.load(), self._files.reference.load())
        self.line = LineGateway(
            LINE,
            [NamedPlc("modbus", self.plc, self._handshake.triggered)],
            [NamedDelivery("file", self.sink.address, self.delivery)],
            Triggering(
                LINE,
                (PRODUCT, "cap"),
                {},
                "",
                1_000,
                ask=lambda part: asker.ask(part, lambda _part_id, _why: None),
                tell=self.record.tell,
                clock_ns=self.clock,
            ),
            asker,
            AlarmBoard.from_json(saved[0], RULES) if saved[0] else AlarmBoard(RULES),
            ReferenceCheck.from_json(saved[1], self._references) if saved[1] else ReferenceCheck(self._references),
            self._shifts,
            self._files,
            tell=self.record.tell,
            broker_away=lambda: self.away,
            clock_ns=self.clock,
        )
        self.lives.append(self.line)
        return self.line

    def take(self, verdict: Verdict, number: int, **changes: Any) -> Outcome:
        one = outcome(verdict, number, **changes)
        self.line.take([one])
        return one

    def causes(self) -> list[tuple[str, str]]:
        self.line.look()
        return [(cause.token, cause.about) for cause in self.line.state().causes]

    def light(self) -> Light:
        self.line.look()
        return self.line.state().light

    def stop(self) -> None:
        for line in self.lives:
            line.close()
            for delivery in line.deliveries:
                delivery.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.stop()


# ---- the light


def test_before_anybody_has_looked_the_light_is_red(bench: Bench) -> None:
    assert bench.line.light is None
    assert bench.line.state().light is Light.RED


def test_where_nothing_is_wrong_it_is_green_and_that_is_told_once(bench: Bench) -> None:
    for _ in range(3):
        bench.line.look()
    assert bench.light() is Light.GREEN
    (event,) = bench.record.events
    assert (event.kind, event.light, event.line_id) == (Kind.LIGHT_CHANGED, Light.GREEN, LINE)


def test_a_broker_that_is_away_is_amber(bench: Bench) -> None:
    bench.line.look()
    bench.away = "broker must answer, got no answer"
    assert bench.causes() == [("connection", "kafka")]
    assert bench.light() is Light.AMBER
    bench.away = ""
    assert bench.light() is Light.GREEN
    assert [event.light for event in bench.record.of(Kind.LIGHT_CHANGED)] == [Light.GREEN, Light.AMBER, Light.GREEN]
    assert "broker must answer" in bench.record.events[1].detail


def test_a_receiver_that_is_away_is_amber(bench: Bench) -> None:
    bench.delivery._away = "the receiver must answer in time"
    assert bench.causes() == [("connection", "mes")]
    state = bench.line.state().connections[1]
    assert (state.name, state.kind, state.address, state.up) == ("mes", "file", "memory", False)
    assert state.detail == "the receiver must answer in time"


def test_a_plc_whose_heart_stands_still_is_red(tmp_path: Path) -> None:
    bench = Bench(tmp_path, heartbeat_timeout_ms=500)
    bench.line.start()
    bench.image.say(PlcInputs(heartbeat=1))
    wait_until(lambda: bench.light() is Light.GREEN, "green")
    bench.clock.pass_time(1.0)
    wait_until(lambda: bench.light() is Light.RED, "red")
    assert bench.causes() == [("heartbeat", "plc")]
    state = bench.line.state().connections[0]
    assert (state.up, state.handshake, state.detail) == (False, HandshakeState.SAFE, "the PLC's heartbeat stands still")
    bench.image.say(PlcInputs(heartbeat=2))
    wait_until(lambda: bench.light() is Light.GREEN, "green again")
    bench.stop()


def test_parts_without_outcomes_in_a_row_are_red_and_one_with_an_outcome_is_green_again(bench: Bench) -> None:
    bench.line.start()
    wait_until(lambda: bench.light() is Light.GREEN, "green")

    def part(name: str) -> None:
        wait_until(lambda: bench.image.said().trigger_ready, "a trigger may come")
        bench.image.say(PlcInputs(trigger=True, part=name))
        wait_until(lambda: bench.image.said().busy, f"{name} is before the cameras")

    def acknowledge() -> None:
        wait_until(lambda: bench.image.said().result_ready, "an answer")
        bench.image.say(PlcInputs(trigger=True, result_ack=True))
        wait_until(lambda: not bench.image.said().result_ready, "the answer is taken down")
        bench.image.say(PlcInputs())

    for number in (1, 2, 3):
        assert bench.light() is Light.GREEN
        part(f"part-{number}")
        bench.clock.pass_time(1.0)
        acknowledge()
    assert bench.causes() == [("no_outcomes", "")]
    assert bench.light() is Light.RED
    assert "no answer was there in time" in bench.line.state().causes[0].text
    wait_until(lambda: bench.image.said().light is Light.RED, "the PLC sees it")
    part("part-4")
    bench.take(Verdict.PASS, 4)
    assert bench.causes() == []
    assert bench.light() is Light.GREEN


# ---- alarms


def test_an_alarm_stands_until_somebody_acknowledges_it_and_is_on_record(bench: Bench) -> None:
    bench.line.look()
    bench.take(Verdict.FAIL, 1)
    bench.take(Verdict.FAIL, 2)
    (alarm,) = bench.line.state().alarms
    assert bench.causes() == [("alarm", alarm.alarm_id)]
    bench.take(Verdict.PASS, 3)
    assert bench.light() is Light.AMBER, "it is not over by itself"
    seen = bench.line.acknowledge(alarm.alarm_id, "Ada", "nozzle cleaned")
    assert (seen.acknowledged_by, seen.note) == ("Ada", "nozzle cleaned")
    state = bench.line.state()
    assert (state.light, state.alarms, state.past_alarms) == (Light.GREEN, (), (seen,))
    raised, acknowledged = bench.record.of(Kind.ALARM_RAISED) + bench.record.of(Kind.ALARM_ACKNOWLEDGED)
    assert (raised.alarm_id, raised.part_id, raised.light) == (alarm.alarm_id, "part-2", Light.AMBER)
    assert (acknowledged.actor, acknowledged.detail) == ("Ada", "nozzle cleaned")


def test_who_acknowledged_first_stays_and_it_is_on_record_once(bench: Bench) -> None:
    bench.take(Verdict.FAIL, 1)
    bench.take(Verdict.FAIL, 2)
    (alarm,) = bench.line.state().alarms
    bench.line.acknowledge(alarm.alarm_id, "Ada", "")
    bench.clock.pass_time(1.0)
    assert bench.line.acknowledge(alarm.alarm_id, "Ben", "me too").acknowledged_by == "Ada"
    assert len(bench.record.of(Kind.ALARM_ACKNOWLEDGED)) == 1


def test_an_alarm_that_is_none_cannot_be_acknowledged(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="an alarm must stand"):
        bench.line.acknowledge("018bcfe5-6800-7000-8000-000000000001", "Ada", "")


def test_alarms_survive_a_kill_and_are_not_raised_again_by_what_is_read_again(bench: Bench) -> None:
    bench.take(Verdict.FAIL, 1)
    bench.take(Verdict.FAIL, 2)
    (alarm,) = bench.line.state().alarms
    bench.begin()
    assert bench.line.state().alarms == (alarm,)
    bench.take(Verdict.FAIL, 1)
    bench.take(Verdict.FAIL, 2)
    assert len(bench.record.of(Kind.ALARM_RAISED)) == 1
    bench.line.acknowledge(alarm.alarm_id, "Ada", "")
    bench.begin()
    assert bench.line.state().alarms == ()
    assert [one.acknowledged_by for one in bench.line.state().past_alarms] == ["Ada"]


def test_outcomes_of_other_lines_count_nowhere(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.take(Verdict.FAIL, number, line_id="line-2")
    assert bench.line.state().alarms == ()


# ---- reference parts


def reference(bench: Bench, number: int, part_id: str, verdict: Verdict) -> None:
    bench.clock.pass_time(1.0)
    bench.take(verdict, number, part_id=part_id, began_at_ns=bench.clock.now_ns, decided_at_ns=bench.clock.now_ns)


@pytest.fixture
def referenced(tmp_path: Path) -> Iterator[Bench]:
    """With reference parts and a day of two shifts; it is a while before the second one."""
    bench = Bench(tmp_path, references=REFERENCES, shifts="day 06:00-18:00, night 18:00-06:00")
    yield bench
    bench.stop()


def test_a_check_is_due_at_a_shift_s_start_and_green_once_every_part_came_out_right(referenced: Bench) -> None:
    bench = referenced
    shift = parse_shift_plan("day 06:00-18:00, night 18:00-06:00", "UTC").at(NOW_NS // S_NS)
    assert shift is not None
    assert bench.causes() == [("reference", shift.name)]
    assert bench.record.kinds == [Kind.REFERENCE_BEGUN, Kind.LIGHT_CHANGED]
    bench.line.look()
    assert len(bench.record.of(Kind.REFERENCE_BEGUN)) == 1, "one for each shift"
    reference(bench, 1, "ref-good-1", Verdict.PASS)
    assert bench.light() is Light.AMBER
    reference(bench, 2, "ref-bad-1", Verdict.FAIL)
    assert bench.light() is Light.GREEN
    assert bench.line.state().reference.phase is ReferencePhase.PASSED
    assert len(bench.record.of(Kind.REFERENCE_PART)) == 2
    assert len(bench.record.of(Kind.REFERENCE_PASSED)) == 1
    bench.begin()
    bench.line.look()
    assert bench.light() is Light.GREEN, "what passed survives a kill"
    bench.clock.pass_time(12 * 3_600)
    assert bench.light() is Light.AMBER, "the next shift begins"
    assert len(bench.record.of(Kind.REFERENCE_BEGUN)) == 2


def test_a_reference_part_that_comes_out_wrong_is_red(referenced: Bench) -> None:
    bench = referenced
    bench.line.look()
    reference(bench, 1, "ref-bad-1", Verdict.PASS)
    assert bench.light() is Light.RED
    assert bench.line.state().reference.phase is ReferencePhase.FAILED
    assert len(bench.record.of(Kind.REFERENCE_FAILED)) == 1


def test_reference_parts_raise_no_alarm(referenced: Bench) -> None:
    bench = referenced
    bench.line.look()
    for number in range(5):
        reference(bench, number, f"ref-bad-{number}", Verdict.FAIL)
    assert bench.line.state().alarms == ()
    assert bench.record.of(Kind.ALARM_RAISED) == []


def test_a_person_may_ask_for_a_check(referenced: Bench) -> None:
    bench = referenced
    bench.line.look()
    bench.clock.pass_time(1.0)
    state = bench.line.begin_reference_check("Ada")
    assert (state.phase, state.occasion) == (ReferencePhase.DUE, "Ada")
    assert [event.actor for event in bench.record.of(Kind.REFERENCE_BEGUN)] == ["", "Ada"]


def test_a_line_without_reference_parts_has_no_check(bench: Bench) -> None:
    with pytest.raises(PreconditionError, match="must have reference parts"):
        bench.line.begin_reference_check("Ada")


# ---- outcomes to the PLC


def test_the_line_is_answered_before_alarms_are_judged(bench: Bench) -> None:
    bench.line.start()
    wait_until(lambda: bench.image.said().trigger_ready, "a trigger may come")
    bench.image.say(PlcInputs(trigger=True, part="part-1"))
    wait_until(lambda: bench.image.said().busy, "the part is before the cameras")
    bench.take(Verdict.FAIL, 1)
    assert bench.image.said().nok
    state = bench.line.state()
    assert (state.product, state.connections[0].part_id) == (PRODUCT, "part-1")
    bench.line.check()


def test_without_triggers_what_was_decided_long_before_the_start_is_not_shown(tmp_path: Path) -> None:
    bench = Bench(tmp_path, triggered=False)
    bench.take(Verdict.PASS, 1, decided_at_ns=NOW_NS - 11 * S_NS)
    assert (bench.plc.part_id, bench.plc.waiting) == ("", 0)
    bench.take(Verdict.PASS, 2, decided_at_ns=NOW_NS - 9 * S_NS)
    assert bench.plc.part_id == "part-2"
    bench.stop()


# ---- what is asked


def test_a_trigger_as_a_message_announces_the_part(bench: Bench) -> None:
    taken: TriggeredPart = bench.line.trigger("grpc", "cap", "lot-7", "dmc-1")
    assert (taken.part_id, taken.product) == ("dmc-1", "cap")
    (said,) = bench.record.arrivals
    assert (said.part_id, said.product, said.lot, said.camera_id) == ("dmc-1", "cap", "lot-7", "")
    with pytest.raises(InvalidInputError, match="recipe must be one of"):
        bench.line.trigger("grpc", "bolt", "", "")
    assert len(bench.record.arrivals) == 1


def test_watchers_are_told_of_each_outcome_until_they_leave(bench: Bench) -> None:
    seen: list[Outcome] = []
    leave = bench.line.watch(seen.append)
    one = bench.take(Verdict.PASS, 1)
    bench.take(Verdict.PASS, 2, line_id="line-2")
    leave()
    leave()
    bench.take(Verdict.PASS, 3)
    assert seen == [one]


def test_no_more_watch_than_may(bench: Bench) -> None:
    leaving = [bench.line.watch(lambda _one: None) for _ in range(64)]
    with pytest.raises(BusyError, match="at most 64 may watch"):
        bench.line.watch(lambda _one: None)
    leaving[0]()
    bench.line.watch(lambda _one: None)


# ---- life


def test_what_ends_the_looking_is_raised_to_whoever_checks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no room on the disk")

    bench.line.start()
    bench.line.check()
    monkeypatch.setattr(bench.line, "look", broken)
    wait_until(lambda: bench.line._failure is not None, "the thread ends")
    with pytest.raises(OSError, match="no room"):
        bench.line.check()


@pytest.mark.parametrize("who", ["plc", "asker"])
def test_what_ends_a_part_of_it_is_raised_to_whoever_checks(bench: Bench, who: str) -> None:
    part = bench.plc if who == "plc" else bench.line._asker
    part._failure = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        bench.line.check()


def test_a_stop_leaves_the_plc_at_the_safe_level_and_the_alarms_on_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.line.start()
    wait_until(lambda: bench.image.said().trigger_ready, "it is served")
    outputs = []
    monkeypatch.setattr(bench.image, "write", outputs.append)
    for number in range(1, 5):
        bench.take(Verdict.FAIL, number)
    bench.line.close()
    assert outputs[-1].safe
    bench.begin()
    assert [alarm.repeats for alarm in bench.line.state().alarms] == [2]
