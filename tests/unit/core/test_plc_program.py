"""A line's PLC against the inspection's own machine: every part that it announces is accounted for."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.handshake import Handshake, Step
from services.core.identity import outcome_id
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.outcome import Outcome, OutcomeReason
from services.core.plc import ErrorCode, HandshakeSettings, HandshakeState, PlcInputs, PlcOutputs, TriggeredPart
from services.core.plc_program import PlcProgram, ProgramState
from services.core.plc_run import PartEnd, PlcFault, PlcFaults, PlcPart, PlcProgramSettings, error_in_words
from services.core.types import Verdict

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
HANDSHAKE = HandshakeSettings(
    line_id="line-1", connection="plc", products=frozenset({"disc", "cap"}), product="disc", cycle_time_ms=400
)
IDLE = PlcOutputs(trigger_ready=True)


class Both:
    """A PLC and an inspection that read each other's signals every few milliseconds, on a clock of their own."""

    def __init__(self, program: PlcProgramSettings, seed: int = 0, lost_share: float = 0.0) -> None:
        self.now_ns = START_NS
        self.random = random.Random(seed)
        self.lost_share = lost_share
        self.machine = Handshake(HANDSHAKE, START_NS)
        self.program = PlcProgram(program, START_NS)
        self.outputs = PlcOutputs()
        self.inputs = PlcInputs()
        self.due: list[tuple[int, TriggeredPart]] = []
        self.parts: list[PlcPart] = []
        self.errors: list[ErrorCode] = []
        self.events: list[LineEvent] = []
        self.verdicts: dict[str, Verdict] = {}
        self.knows_references = True

    def play(self, longest_ms: int = 10_000_000) -> None:
        """Until every part is through."""
        until_ns = self.now_ns + longest_ms * MS
        while not self.program.over:
            assert self.now_ns < until_ns, f"the line must come to its end, it is {self.program.state}"
            self.tick()

    def tick(self) -> None:
        self.now_ns += self.random.choice((2, 5, 11)) * MS
        step = self.program.step(self.outputs, self.now_ns)
        self.inputs = step.inputs
        self.parts += step.ended
        self.errors += step.errors
        self._answer()
        inspected = self._note(self.machine.step(self.inputs, self.now_ns))
        if inspected.take is not None and inspected.take.pictured and self.random.random() >= self.lost_share:
            self.due.append((self.now_ns + self.random.randint(5, 150) * MS, inspected.take))
        self.outputs = self.machine.outputs(0, Light.GREEN)

    def restart(self) -> None:
        """The inspection is killed; what it has written down is there again, and it has seen no signals."""
        self.machine = Handshake(HANDSHAKE, self.now_ns, self.machine.memory)
        self.machine.step(PlcInputs(), self.now_ns)
        self.outputs = self.machine.outputs(0, Light.GREEN)
        self.program.resume(self.now_ns)

    def _answer(self) -> None:
        ready = [part for at_ns, part in self.due if at_ns <= self.now_ns]
        self.due = [one for one in self.due if one[0] > self.now_ns]
        for part in ready:
            verdict = self.random.choice(list(Verdict))
            if part.part_id.startswith("ref-") and self.knows_references:
                verdict = Verdict.PASS if part.part_id.startswith("ref-good-") else Verdict.FAIL
            self.verdicts[part.part_id] = verdict
            self._note(self.machine.outcome(outcome(part, verdict), self.now_ns))

    def _note(self, step: Step) -> Step:
        self.events += step.events
        return step

    def ended(self, end: PartEnd) -> list[PlcPart]:
        return [part for part in self.parts if part.end is end]

    def told(self, kind: LineEventKind) -> list[LineEvent]:
        return [event for event in self.events if event.kind is kind]


def outcome(part: TriggeredPart, verdict: Verdict) -> Outcome:
    return Outcome(
        outcome_id=outcome_id(part.part_id, 1, part.triggered_at_ns),
        part_id=part.part_id,
        line_id="line-1",
        product=part.product,
        revision=1,
        verdict=verdict,
        reason=OutcomeReason.VIEWS,
        in_time=True,
        began_at_ns=part.triggered_at_ns,
        decided_at_ns=part.triggered_at_ns,
    )


def plan(parts: int, **more: Any) -> PlcProgramSettings:
    return PlcProgramSettings("run-1", parts, **more)


def every(**faults: int) -> PlcFaults:
    return PlcFaults(**{f"{name}_every": parts for name, parts in faults.items() if not name.endswith("_ms")})


def test_two_thousand_parts_have_each_the_answer_that_the_inspection_gave() -> None:
    both = Both(plan(2_000))
    both.play()
    assert len(both.parts) == 2_000
    assert {part.end for part in both.parts} == {PartEnd.ANSWERED}
    assert all(part.acknowledged for part in both.parts)
    assert [part.verdict for part in both.parts] == [both.verdicts[part.part] for part in both.parts]
    assert [part.part for part in both.parts] == [f"run-1-{number:06d}" for number in range(1, 2_001)]
    assert both.errors == []
    assert both.program.leftovers == 0


def test_parts_without_an_outcome_are_for_a_person_and_say_why() -> None:
    both = Both(plan(50), lost_share=1.0)
    both.play()
    assert {(part.verdict, part.error_code) for part in both.parts} == {(Verdict.REVIEW, ErrorCode.DEADLINE)}
    assert all(part.answered_ms is not None and part.answered_ms <= 400 for part in both.parts)


def test_reference_parts_come_first_under_names_that_tell_what_they_are() -> None:
    both = Both(plan(2, reference_good=2, reference_bad=1, faults=every(unknown_recipe=1)))
    both.play()
    assert [part.part for part in both.parts] == [
        "ref-good-run-1-1",
        "ref-good-run-1-2",
        "ref-bad-run-1-3",
        "run-1-000001",
        "run-1-000002",
    ]
    assert [part.reference for part in both.parts] == [True, True, True, False, False]
    assert [bool(part.faults) for part in both.parts] == [False, False, False, True, True]


def test_a_reference_part_that_did_not_come_out_as_it_must_is_shown_again_a_bounded_number_of_times() -> None:
    both = Both(plan(1, reference_good=1, reference_bad=1))
    both.knows_references = False
    both.play()
    shown = [part for part in both.parts if part.reference]
    kinds = [part.part.split("-")[1] for part in shown]
    wrong = [part for part in shown if part.verdict is not (Verdict.PASS if "good" in part.part else Verdict.FAIL)]
    assert kinds[:2] == ["good", "bad"]
    assert len(shown) == 2 + min(10, len(wrong)) > 2
    assert not both.parts[-1].reference, "then the line makes its parts"


def test_parts_come_at_their_rate_and_a_line_that_was_held_up_does_not_make_up_for_it() -> None:
    both = Both(plan(20, interval_ms=1_000))
    both.play()
    apart_ms = [
        (later.triggered_at_ns - one.triggered_at_ns) / MS
        for one, later in zip(both.parts, both.parts[1:], strict=False)
    ]
    assert all(980 < each < 1_020 for each in apart_ms)


def test_an_acknowledgement_that_is_held_back_comes_when_the_inspection_asks_for_it() -> None:
    both = Both(plan(4, faults=every(skip_ack=2)))
    both.play()
    assert [part.acknowledged for part in both.parts] == [True] * 4
    assert [event.part_id for event in both.told(LineEventKind.ACK_MISSING)] == ["run-1-000002", "run-1-000004"]
    assert both.errors == [ErrorCode.ACK_MISSING] * 2


def test_a_part_that_is_announced_while_another_is_before_the_cameras_is_refused_and_accounted_for() -> None:
    both = Both(plan(12, faults=every(double_trigger=4)), lost_share=1.0)
    both.play()
    refused = both.ended(PartEnd.REFUSED)
    assert [part.part for part in refused] == ["run-1-000005", "run-1-000009", "run-1-000013"]
    assert {part.error_code for part in refused} == {ErrorCode.TRIGGER_NOT_READY}
    assert len(both.ended(PartEnd.ANSWERED)) == 10
    assert len(both.told(LineEventKind.TRIGGER_REFUSED)) == 3


def test_a_part_of_an_unknown_recipe_is_for_a_person_and_the_next_one_is_made_as_before() -> None:
    both = Both(plan(4, recipe="cap", faults=every(unknown_recipe=2)))
    both.play()
    assert [part.error_code for part in both.parts] == [ErrorCode.NONE, ErrorCode.UNKNOWN_RECIPE] * 2
    assert both.parts[1].verdict is Verdict.REVIEW
    assert both.machine.product == "cap"


def test_a_heart_that_stands_still_puts_the_line_at_the_safe_level_and_the_part_keeps_its_answer() -> None:
    both = Both(plan(4, faults=PlcFaults(stop_heartbeat_every=2, stop_heartbeat_ms=3_000)))
    both.play()
    assert len(both.told(LineEventKind.HEARTBEAT_LOST)) == 2
    assert [part.verdict for part in both.parts] == [both.verdicts[part.part] for part in both.parts]
    assert both.errors.count(ErrorCode.HEARTBEAT) == 2


def test_a_result_of_an_earlier_life_is_acknowledged_and_is_no_part_of_ours() -> None:
    both = Both(plan(3))
    while both.program.state is not ProgramState.RELEASING:
        both.tick()
    both.restart()
    both.program = PlcProgram(plan(3), both.now_ns)
    both.program._settings = dataclasses.replace(both.program._settings, prefix="run-2")
    both.parts.clear()
    both.play()
    assert [part.part for part in both.parts] == ["run-2-000001", "run-2-000002", "run-2-000003"]


@pytest.mark.parametrize("state", [ProgramState.TRIGGERED, ProgramState.RELEASING])
def test_an_inspection_that_is_killed_and_comes_back_answers_every_part_once(state: ProgramState) -> None:
    both = Both(plan(200))
    for number in range(60):
        until = number * 3 + 1
        while not both.program.over and (len(both.parts) < until or both.program.state is not state):
            both.tick()
        both.restart()
    both.play()
    assert len(both.ended(PartEnd.ANSWERED)) == 200
    assert all(part.verdict is not Verdict.PASS or both.verdicts[part.part] is Verdict.PASS for part in both.parts)
    answered = [event.part_id for event in both.told(LineEventKind.ANSWERED)]
    assert len(answered) == len(set(answered)) == 200


def test_a_trigger_that_nobody_notices_is_taken_down_and_the_part_is_unanswered() -> None:
    program = PlcProgram(plan(1), START_NS)
    assert program.step(IDLE, START_NS).inputs.trigger
    assert program.step(IDLE, START_NS + 1_999 * MS).inputs.trigger
    step = program.step(IDLE, START_NS + 2_000 * MS)
    assert not step.inputs.trigger
    assert [(part.end, part.reason) for part in step.ended] == [
        (PartEnd.UNANSWERED, "nobody noticed the trigger within 2000 ms")
    ]
    program.step(IDLE, START_NS + 2_001 * MS)
    assert program.over


def test_a_part_without_an_answer_is_given_up_and_its_late_result_is_acknowledged() -> None:
    program = PlcProgram(plan(1), START_NS)
    part = program.step(IDLE, START_NS).inputs.part
    busy = PlcOutputs(busy=True, part=part)
    step = program.step(busy, START_NS + 10_000 * MS)
    assert step.ended[0].reason == "no answer within 10000 ms"
    late = PlcOutputs(result_ready=True, ok=True, part=part)
    assert program.step(late, START_NS + 10_001 * MS).inputs.result_ack
    assert program.leftovers == 1
    assert program.step(PlcOutputs(), START_NS + 10_002 * MS).ended == ()


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (PlcOutputs(result_ready=True, ok=True, part="another"), "a result of another stood in its place"),
        (PlcOutputs(result_ready=True, part="run-1-000001"), "of OK, NOK and REVIEW not exactly one was up"),
        (PlcOutputs(result_ready=True, ok=True, nok=True, part="run-1-000001"), "not exactly one"),
    ],
)
def test_what_is_no_clear_answer_is_none(outputs: PlcOutputs, reason: str) -> None:
    program = PlcProgram(plan(1), START_NS)
    program.step(IDLE, START_NS)
    step = program.step(outputs, START_NS + 50 * MS)
    assert step.ended[0].end is PartEnd.UNANSWERED
    assert reason in step.ended[0].reason


def test_time_without_a_connection_or_at_the_safe_level_is_not_held_against_the_inspection() -> None:
    program = PlcProgram(plan(1), START_NS)
    program.step(IDLE, START_NS)
    program.resume(START_NS + 60_000 * MS)
    assert program.step(IDLE, START_NS + 60_001 * MS).ended == ()
    assert program.step(PlcOutputs(safe=True, nok=True), START_NS + 90_000 * MS).ended == ()
    assert program.step(IDLE, START_NS + 90_001 * MS).ended == ()


def test_a_part_under_way_is_accounted_for_when_the_line_ends() -> None:
    program = PlcProgram(plan(1), START_NS)
    program.step(IDLE, START_NS)
    assert [part.reason for part in program.abandon(START_NS + MS, "stopped")] == ["stopped"]
    assert program.over
    assert not program.inputs.trigger
    assert program.abandon(START_NS + MS, "stopped") == ()


def test_a_line_that_is_told_to_stop_waits_for_its_part_and_announces_no_more() -> None:
    both = Both(plan(0))
    while len(both.parts) < 5:
        both.tick()
    both.program.stop()
    both.play()
    assert len(both.parts) <= 6
    assert both.machine.state is HandshakeState.READY


def test_the_heart_beats_at_its_own_rate_and_goes_around() -> None:
    program = PlcProgram(plan(1), START_NS)
    beats = [program.beat(START_NS + number * 100 * MS).heartbeat for number in range(6)]
    assert beats == [0, 0, 1, 1, 2, 2]
    program._inputs = dataclasses.replace(program.inputs, heartbeat=65_535)
    assert program.beat(START_NS + 10_000 * MS).heartbeat == 0


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_has_words(code: ErrorCode) -> None:
    assert error_in_words(code)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefix": ""}, "prefix must have 1 to 16 characters, got ''"),
        ({"prefix": "p" * 17}, "prefix must have 1 to 16 characters"),
        ({"prefix": "a b"}, "prefix and lot"),
        ({"lot": "a/b"}, "prefix and lot"),
        ({"parts": -1}, "parts must be >= 0, got -1"),
        ({"interval_ms": -0.5}, "interval_ms must be >= 0, got -0.5"),
    ],
)
def test_settings_that_cannot_hold_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        PlcProgramSettings(**({"prefix": "p"} | changes))


def test_faults_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="skip_ack_every must be >= 0, got -1"):
        PlcFaults(skip_ack_every=-1)
    with pytest.raises(InvalidInputError, match="stop_heartbeat_ms must be > 0, got 0"):
        PlcFaults(stop_heartbeat_every=1)
    assert PlcFaults(skip_ack_every=2, unknown_recipe_every=3).of(6) == {PlcFault.SKIP_ACK, PlcFault.UNKNOWN_RECIPE}


@settings(max_examples=30, deadline=None)
@given(
    faults=st.builds(
        PlcFaults,
        skip_ack_every=st.integers(0, 5),
        double_trigger_every=st.integers(0, 5),
        unknown_recipe_every=st.integers(0, 5),
        stop_heartbeat_every=st.integers(0, 7),
        stop_heartbeat_ms=st.sampled_from([100, 2_500]),
    ),
    seed=st.integers(0, 1_000),
    lost_share=st.sampled_from([0.0, 0.3, 1.0]),
    kills=st.lists(st.integers(1, 400), max_size=4),
)
def test_whatever_goes_wrong_every_part_is_accounted_for_and_no_ok_comes_without_a_pass(
    faults: PlcFaults, seed: int, lost_share: float, kills: list[int]
) -> None:
    both = Both(plan(60, faults=faults), seed, lost_share)
    for ticks in kills:
        for _ in range(ticks):
            if not both.program.over:
                both.tick()
        both.restart()
    both.play()
    names = [part.part for part in both.parts]
    assert len(names) == len(set(names))
    assert len(names) in {60, 61}
    for part in both.parts:
        assert part.end is not PartEnd.UNANSWERED or part.reason
        assert part.verdict is not Verdict.PASS or both.verdicts[part.part_id] is Verdict.PASS
    answered = {event.part_id: event.verdict for event in both.told(LineEventKind.ANSWERED)}
    assert all(answered[part.part_id] is part.verdict for part in both.ended(PartEnd.ANSWERED))
