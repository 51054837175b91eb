"""The handshake with a PLC: every part gets one answer, and nothing that a PLC does out of turn changes that."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.handshake import Handshake, Step
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.outcome import Outcome, OutcomeReason
from services.core.plc import ErrorCode, HandshakeSettings, PlcInputs, PlcOutputs
from services.core.types import Verdict

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
SETTINGS = HandshakeSettings(
    line_id="line-1", connection="plc", products=frozenset({"disc", "cap"}), recipes={"7": "cap"}, product="disc"
)


def outcome(part_id: str, verdict: Verdict = Verdict.PASS, revision: int = 1) -> Outcome:
    return Outcome(
        outcome_id="018bcfe5-6800-7000-8000-000000000001",
        part_id=part_id,
        line_id="line-1",
        product="disc",
        revision=revision,
        verdict=verdict,
        reason=OutcomeReason.VIEWS,
        in_time=True,
        began_at_ns=START_NS,
        decided_at_ns=START_NS,
    )


class Plc:
    """A PLC with a clock: what it says stays until it says otherwise, and its heart beats with every word."""

    def __init__(self, handshake_settings: HandshakeSettings = SETTINGS, machine: Handshake | None = None) -> None:
        self.machine = machine or Handshake(handshake_settings, START_NS)
        self.inputs = PlcInputs()
        self.at_ms = 0
        self.events: list[LineEvent] = []
        self.taken: list[str] = []

    def say(self, *, beats: bool = True, after_ms: int = 1, blind: str = "", **signals: Any) -> PlcOutputs:
        self.at_ms += after_ms
        beat = (self.inputs.heartbeat + 1) % 65_536 if beats else self.inputs.heartbeat
        self.inputs = dataclasses.replace(self.inputs, heartbeat=beat, **signals)
        step = self._note(self.machine.step(self.inputs, START_NS + self.at_ms * MS, blind))
        if step.take is not None:
            self.taken.append(step.take.part_id)
        return self.outputs

    def outcome(self, verdict: Verdict = Verdict.PASS, *, part_id: str = "", revision: int = 1) -> PlcOutputs:
        self.at_ms += 1
        one = outcome(part_id or self.machine.part_id, verdict, revision)
        self._note(self.machine.outcome(one, START_NS + self.at_ms * MS))
        return self.outputs

    def release(self) -> PlcOutputs:
        self.say(result_ack=True)
        return self.say(result_ack=False, trigger=False)

    def _note(self, step: Step) -> Step:
        self.events += step.events
        return step

    @property
    def outputs(self) -> PlcOutputs:
        return self.machine.outputs(0, Light.GREEN)

    @property
    def told(self) -> list[LineEventKind]:
        return [event.kind for event in self.events]

    def last(self, kind: LineEventKind) -> LineEvent:
        return next(event for event in reversed(self.events) if event.kind is kind)


def shown(outputs: PlcOutputs) -> set[str]:
    names = ("trigger_ready", "busy", "result_ready", "ok", "nok", "review", "safe")
    return {name for name in names if getattr(outputs, name)}


def test_a_part_goes_through_the_handshake_that_plc_programmers_know() -> None:
    plc = Plc()
    assert shown(plc.say()) == {"trigger_ready"}
    assert shown(plc.say(trigger=True, part="dmc-1", lot="lot-7")) == {"busy"}
    assert plc.taken == ["dmc-1"]
    assert plc.outputs.part == "dmc-1"
    assert shown(plc.outcome(Verdict.PASS)) == {"result_ready", "ok"}
    assert shown(plc.say(result_ack=True)) == set()
    assert shown(plc.say(result_ack=False)) == set(), "the trigger is still up"
    assert shown(plc.say(trigger=False)) == {"trigger_ready"}
    assert plc.told == [LineEventKind.TRIGGERED, LineEventKind.ANSWERED, LineEventKind.ACKNOWLEDGED]
    answered = plc.last(LineEventKind.ANSWERED)
    assert (answered.part_id, answered.verdict, answered.revision, answered.lot) == ("dmc-1", Verdict.PASS, 1, "lot-7")


@pytest.mark.parametrize(
    ("verdict", "signal"), [(Verdict.PASS, "ok"), (Verdict.FAIL, "nok"), (Verdict.REVIEW, "review")]
)
def test_each_verdict_has_a_signal_of_its_own(verdict: Verdict, signal: str) -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True)
    assert shown(plc.outcome(verdict)) == {"result_ready", signal}


def test_a_trigger_may_fall_as_soon_as_it_is_taken() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True)
    assert shown(plc.say(trigger=False)) == {"busy"}
    plc.outcome()
    assert shown(plc.release()) == {"trigger_ready"}


def test_a_part_without_an_outcome_is_for_a_person_before_its_time_is_over() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True)
    assert shown(plc.say(after_ms=948)) == {"busy"}
    outputs = plc.say(after_ms=3)
    assert shown(outputs) == {"result_ready", "review"}
    assert outputs.error_code is ErrorCode.DEADLINE
    assert plc.last(LineEventKind.ANSWERED).revision == 0


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (OutcomeReason.DEADLINE_MISSED, ErrorCode.DEADLINE),
        (OutcomeReason.OVERLOADED, ErrorCode.DEADLINE),
        (OutcomeReason.UNKNOWN_PRODUCT, ErrorCode.UNKNOWN_RECIPE),
    ],
)
def test_an_outcome_that_not_every_view_has_made_says_why(reason: OutcomeReason, code: ErrorCode) -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    plc.machine.outcome(dataclasses.replace(outcome("dmc-1", Verdict.REVIEW), reason=reason), START_NS)
    assert (shown(plc.outputs), plc.outputs.error_code) == ({"result_ready", "review"}, code)


def test_an_outcome_after_the_answer_is_on_record_and_changes_no_signal() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    plc.say(after_ms=990)
    assert shown(plc.outcome(Verdict.PASS, part_id="dmc-1")) == {"result_ready", "review"}
    assert plc.last(LineEventKind.SUPERSEDED).detail == "the line was told review, it is pass"
    before = list(plc.told)
    plc.outcome(Verdict.PASS, part_id="dmc-1")
    assert plc.told == before, "the same revision again is no news"


def test_a_second_trigger_before_the_acknowledgement_is_refused_and_the_first_part_keeps_its_answer() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    plc.say(trigger=False)
    outputs = plc.say(trigger=True, part="dmc-2")
    assert (shown(outputs), outputs.error_code) == ({"busy"}, ErrorCode.TRIGGER_NOT_READY)
    assert plc.taken == ["dmc-1"]
    assert plc.outcome(Verdict.FAIL).nok
    assert plc.last(LineEventKind.TRIGGER_REFUSED).detail == "it is busy"


def test_an_acknowledgement_for_nothing_is_told_and_changes_nothing() -> None:
    plc = Plc()
    plc.say()
    outputs = plc.say(result_ack=True)
    assert (shown(outputs), outputs.error_code) == ({"trigger_ready"}, ErrorCode.ACK_UNEXPECTED)
    plc.say(result_ack=False)
    plc.say(trigger=True)
    assert plc.outputs.error_code is ErrorCode.NONE, "the next part begins without it"


def test_a_result_that_nobody_acknowledges_stays_and_is_told_once() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True)
    plc.outcome(Verdict.PASS)
    outputs = plc.say(after_ms=2_001)
    assert (shown(outputs), outputs.error_code) == ({"result_ready", "ok"}, ErrorCode.ACK_MISSING)
    plc.say(after_ms=1_000)
    assert plc.told.count(LineEventKind.ACK_MISSING) == 1
    assert shown(plc.release()) == {"trigger_ready"}


def test_a_recipe_takes_effect_on_the_next_part() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    assert plc.say(recipe="7").recipe == "disc", "the part under way keeps its recipe"
    plc.outcome()
    plc.release()
    assert plc.outputs.recipe == "cap"
    plc.say(trigger=True, part="dmc-2")
    products = {event.part_id: event.product for event in plc.events if event.kind is LineEventKind.TRIGGERED}
    assert products == {"dmc-1": "disc", "dmc-2": "cap"}
    assert plc.told.count(LineEventKind.RECIPE_CHANGED) == 1


def test_a_recipe_that_does_not_exist_is_refused_and_a_part_of_it_is_for_a_person() -> None:
    plc = Plc()
    plc.say()
    outputs = plc.say(recipe="99")
    assert (outputs.recipe, outputs.error_code) == ("disc", ErrorCode.UNKNOWN_RECIPE)
    assert plc.last(LineEventKind.RECIPE_REFUSED).detail == "got '99'"
    outputs = plc.say(trigger=True)
    assert (shown(outputs), outputs.error_code) == ({"result_ready", "review"}, ErrorCode.UNKNOWN_RECIPE)
    plc.release()
    assert plc.say(recipe="cap").error_code is ErrorCode.NONE


def test_a_part_whose_name_is_none_is_named_and_is_for_a_person() -> None:
    plc = Plc()
    plc.say()
    outputs = plc.say(trigger=True, part="no name at all")
    assert (shown(outputs), outputs.error_code) == ({"result_ready", "review"}, ErrorCode.BAD_TEXT)
    assert outputs.part.startswith("line-1-")


def test_a_part_that_comes_round_again_has_a_name_of_its_own() -> None:
    plc = Plc()
    plc.say()
    for _ in range(3):
        plc.say(trigger=True, part="dmc-1")
        plc.outcome()
        plc.release()
    assert plc.taken == ["dmc-1", "dmc-1.2", "dmc-1.3"]


def test_a_name_that_the_line_s_outcomes_have_is_not_given_again_after_a_restart() -> None:
    plc = Plc()
    plc.outcome(part_id="dmc-1")
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    assert plc.taken == ["dmc-1.2"]


def test_a_part_of_which_no_camera_can_take_a_picture_is_for_a_person_at_once() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    plc.machine.no_camera("dmc-0", "of another part", START_NS)
    assert shown(plc.outputs) == {"busy"}
    plc.machine.no_camera("dmc-1", "ingest is away", START_NS + 50 * MS)
    assert (shown(plc.outputs), plc.outputs.error_code) == ({"result_ready", "review"}, ErrorCode.NO_CAMERA)


def test_outputs_go_to_the_safe_level_when_the_heartbeat_stands_still_and_come_back_with_the_answer() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    plc.outcome(Verdict.PASS)
    outputs = plc.say(beats=False, after_ms=2_001)
    assert (shown(outputs), outputs.error_code) == ({"safe", "nok"}, ErrorCode.HEARTBEAT)
    assert shown(plc.say()) == {"result_ready", "ok"}
    assert plc.told[-2:] == [LineEventKind.HEARTBEAT_LOST, LineEventKind.HEARTBEAT_BACK]
    assert plc.say(after_ms=2_001).error_code is ErrorCode.ACK_MISSING, "counted since it is back"


def test_an_answer_that_comes_at_the_safe_level_waits_for_the_heartbeat() -> None:
    plc = Plc(dataclasses.replace(SETTINGS, cycle_time_ms=60_000, safe_level=Verdict.REVIEW))
    plc.say()
    plc.say(trigger=True)
    plc.say(beats=False, after_ms=2_001)
    assert shown(plc.outcome(Verdict.FAIL)) == {"safe", "review"}
    assert shown(plc.say()) == {"result_ready", "nok"}


def test_an_outcome_that_comes_at_the_safe_level_after_the_part_s_time_is_no_ok() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    plc.say(beats=False, after_ms=2_001)
    plc.outcome(Verdict.PASS)
    outputs = plc.say()
    assert (shown(outputs), outputs.error_code) == ({"result_ready", "review"}, ErrorCode.DEADLINE)
    assert plc.last(LineEventKind.SUPERSEDED).detail == "the line was told review, it is pass"


def test_a_trigger_that_rose_at_the_safe_level_must_fall_first() -> None:
    plc = Plc()
    plc.say()
    plc.say(beats=False, after_ms=2_001)
    assert shown(plc.say(beats=False, trigger=True)) == {"safe", "nok"}
    assert shown(plc.say()) == set()
    assert shown(plc.say(trigger=False)) == {"trigger_ready"}
    assert plc.taken == []


def test_a_belt_s_encoder_triggers_a_part_every_pitch_also_past_the_end_of_its_range() -> None:
    plc = Plc(dataclasses.replace(SETTINGS, encoder_pitch=100))
    plc.say(encoder=4_294_967_250)
    assert shown(plc.say(encoder=4_294_967_295)) == {"trigger_ready"}
    assert shown(plc.say(encoder=60)) == {"busy"}
    plc.outcome()
    plc.release()
    assert shown(plc.say(encoder=40)) == {"trigger_ready"}, "backwards is not onwards"
    assert shown(plc.say(encoder=160)) == {"busy"}
    assert len(plc.taken) == 2


def test_without_triggers_every_outcome_is_shown_one_after_the_other() -> None:
    plc = Plc(dataclasses.replace(SETTINGS, triggered=False, max_waiting=2))
    plc.say()
    assert shown(plc.outcome(Verdict.PASS, part_id="p1")) == {"result_ready", "ok"}
    plc.outcome(Verdict.FAIL, part_id="p2")
    plc.outcome(Verdict.FAIL, part_id="p2")
    plc.outcome(Verdict.PASS, part_id="p3")
    assert plc.machine.waiting == 2
    plc.outcome(Verdict.PASS, part_id="p4")
    assert plc.last(LineEventKind.UNDELIVERED).part_id == "p2"
    plc.release()
    assert plc.outputs.part == "p3"
    assert plc.say(trigger=True).error_code is ErrorCode.NONE, "a trigger means nothing here"


def test_an_outcome_that_waited_past_its_deadline_lets_no_part_pass() -> None:
    plc = Plc(dataclasses.replace(SETTINGS, triggered=False))
    plc.say()
    plc.outcome(Verdict.PASS, part_id="p1")
    for part, verdict in (("p2", Verdict.PASS), ("p3", Verdict.FAIL)):
        one = dataclasses.replace(outcome(part, verdict), deadline_at_ns=START_NS + 500 * MS)
        plc.machine.outcome(one, START_NS + 400 * MS)
    plc.say(result_ack=True, after_ms=600)
    outputs = plc.say(result_ack=False)
    assert (outputs.part, shown(outputs), outputs.error_code) == ("p2", {"result_ready", "review"}, ErrorCode.DEADLINE)
    plc.release()
    assert (plc.outputs.part, shown(plc.outputs)) == ("p3", {"result_ready", "nok"})


def test_a_trigger_beside_an_acknowledgement_is_no_part() -> None:
    plc = Plc()
    plc.say()
    outputs = plc.say(trigger=True, result_ack=True)
    assert (shown(outputs), outputs.error_code) == ({"trigger_ready"}, ErrorCode.TRIGGER_NOT_READY)
    assert plc.taken == []


def test_without_triggers_and_outcomes_outputs_are_at_the_safe_level_and_what_went_by_is_not_shown() -> None:
    plc = Plc(dataclasses.replace(SETTINGS, triggered=False))
    plc.say()
    outputs = plc.say(blind="the broker is away")
    assert (shown(outputs), outputs.error_code) == ({"safe", "nok"}, ErrorCode.NO_OUTCOMES)
    assert plc.last(LineEventKind.CONNECTION_LOST).detail == "outcomes cannot be read: the broker is away"
    plc.say(blind="the broker is away", after_ms=20_000)
    assert plc.told.count(LineEventKind.CONNECTION_LOST) == 1
    for part, deadline_ms in (("p1", 5_000), ("p2", 30_000)):
        one = dataclasses.replace(outcome(part), deadline_at_ns=START_NS + deadline_ms * MS)
        plc._note(plc.machine.outcome(one, START_NS + plc.at_ms * MS))
    assert shown(plc.say(blind="the broker is away")) == {"safe", "nok"}
    outputs = plc.say()
    assert (outputs.part, shown(outputs), outputs.error_code) == ("p2", {"result_ready", "ok"}, ErrorCode.NONE)
    assert plc.last(LineEventKind.UNDELIVERED).part_id == "p1"
    assert LineEventKind.CONNECTION_BACK in plc.told


def test_a_heart_that_beats_while_outcomes_cannot_be_read_is_not_enough() -> None:
    plc = Plc(dataclasses.replace(SETTINGS, triggered=False))
    plc.say()
    plc.say(blind="away")
    assert plc.say(beats=False, after_ms=2_001, blind="away").error_code is ErrorCode.HEARTBEAT
    assert plc.say(blind="away").error_code is ErrorCode.NO_OUTCOMES
    assert shown(plc.say()) == set()


def test_a_triggered_line_goes_on_without_outcomes_each_part_has_its_deadline() -> None:
    plc = Plc()
    plc.say(blind="away")
    assert shown(plc.say(trigger=True, blind="away")) == {"busy"}
    assert shown(plc.say(after_ms=990, blind="away")) == {"result_ready", "review"}


def test_killed_between_decision_and_output_the_same_answer_stands_afterwards() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    plc.outcome(Verdict.FAIL)
    again = Plc(machine=Handshake(SETTINGS, START_NS + plc.at_ms * MS, plc.machine.memory))
    assert shown(again.outputs) == {"result_ready", "nok"}
    again.at_ms = plc.at_ms
    again.outcome(Verdict.PASS, part_id="dmc-1", revision=2)
    assert shown(again.outputs) == {"result_ready", "nok"}
    again.inputs = dataclasses.replace(plc.inputs, result_ack=True)
    assert shown(again.say()) == set(), "acknowledged while nobody looked"


def test_killed_while_a_part_waits_its_outcome_answers_it_or_its_deadline() -> None:
    plc = Plc()
    plc.say()
    plc.say(trigger=True, part="dmc-1")
    memory = plc.machine.memory
    with_outcome = Handshake(SETTINGS, START_NS, memory)
    with_outcome.outcome(outcome("dmc-1", Verdict.PASS), START_NS + 500 * MS)
    assert with_outcome.outputs(0, None).ok
    without = Handshake(SETTINGS, START_NS + 5_000 * MS, memory)
    without.step(PlcInputs(trigger=True), START_NS + 5_000 * MS)
    assert without.outputs(0, None).review


def test_a_trigger_that_rose_while_nobody_looked_is_taken() -> None:
    memory = Plc().machine.memory
    machine = Handshake(SETTINGS, START_NS, memory)
    assert machine.step(PlcInputs(trigger=True, part="dmc-1"), START_NS).take is not None


def test_settings_that_cannot_hold_are_refused_with_what_is_wrong() -> None:
    with pytest.raises(InvalidInputError, match="safe level must be FAIL or REVIEW, got PASS"):
        dataclasses.replace(SETTINGS, safe_level=Verdict.PASS)
    with pytest.raises(InvalidInputError, match="recipe must stand for a product of the line, got lid"):
        dataclasses.replace(SETTINGS, recipes={"1": "lid"})
    with pytest.raises(InvalidInputError, match="at least one product"):
        dataclasses.replace(SETTINGS, products=frozenset(), recipes={}, product="")
    with pytest.raises(InvalidInputError, match="product must be one of the line, got 'lid'"):
        dataclasses.replace(SETTINGS, product="lid")
    with pytest.raises(InvalidInputError, match="answer_before_ms must be less than cycle_time_ms, got 50 and 20"):
        dataclasses.replace(SETTINGS, cycle_time_ms=20)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["trigger", "ack", "outcome", "silence", "kill", "beat"]),
            st.booleans(),
            st.integers(1, 900),
        ),
        max_size=60,
    )
)
def test_whatever_a_plc_does_each_part_has_one_answer_and_no_ok_comes_without_a_pass(
    moves: list[tuple[str, bool, int]],
) -> None:
    plc = Plc()
    plc.say()
    passed: set[str] = set()
    for what, up, after_ms in moves:
        match what:
            case "trigger":
                plc.say(trigger=up, after_ms=after_ms)
            case "ack":
                plc.say(result_ack=up, after_ms=after_ms)
            case "outcome" if plc.machine.part_id:
                part = plc.machine.memory.part
                waits = part is not None and plc.machine.memory.answer is None
                if up and waits and START_NS + (plc.at_ms + 1) * MS <= part.deadline_at_ns:  # type: ignore[union-attr]
                    passed.add(plc.machine.part_id)
                plc.outcome(Verdict.PASS if up else Verdict.FAIL)
            case "silence":
                plc.say(beats=False, after_ms=after_ms * 5)
            case "kill":
                plc.machine = Handshake(SETTINGS, START_NS + plc.at_ms * MS, plc.machine.memory)
            case _:
                plc.say(after_ms=after_ms)
        outputs = plc.outputs
        assert sum((outputs.ok, outputs.nok, outputs.review)) == (outputs.result_ready or outputs.safe)
        assert not outputs.ok or outputs.part in passed
    answers: dict[str, set[Verdict | None]] = {}
    for event in plc.events:
        if event.kind is LineEventKind.ANSWERED:
            answers.setdefault(event.part_id, set()).add(event.verdict)
    assert all(len(verdicts) == 1 for verdicts in answers.values())
    waiting = {plc.machine.part_id}
    assert set(plc.taken) - waiting == set(answers) - waiting


def test_without_triggers_what_a_fast_line_was_shown_is_not_shown_again_after_a_restart() -> None:
    belt = dataclasses.replace(SETTINGS, triggered=False)
    plc = Plc(belt)
    plc.say()
    parts = [f"p{number}" for number in range(200)]
    for part in parts:
        assert plc.outcome(part_id=part).part == part
        plc.release()
    again = Plc(belt, Handshake(belt, START_NS, plc.machine.memory))
    again.say()
    for part in parts:
        assert shown(again.outcome(part_id=part)) == set()
    assert again.told == []
    assert again.outcome(part_id="p200").part == "p200"
