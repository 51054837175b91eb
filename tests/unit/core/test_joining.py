"""One answer for each part: all views in, or the deadline; late views supersede, repeats change nothing."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.joining import JoinLimits, PartJoiner
from services.core.outcome import Arrival, Outcome, OutcomeReason, PartPlan, PartPlans
from services.core.types import Inspection, OperatingPoint, Reason, Verdict

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
PLANS = PartPlans((PartPlan("disc", frozenset({"left", "right"})),))


def frame_id(part: str, camera: str) -> str:
    number = zlib.crc32(f"{part}/{camera}".encode())
    return f"018bcfe5-6800-7000-8000-{number:012x}"


def arrival(part: str = "p1", camera: str = "left", at_ms: int = 0, **more: object) -> Arrival:
    named = {"camera_id": camera, "frame_id": frame_id(part, camera)} if camera else {}
    values = {"product": "disc", "cycle_time_ms": 1_000, "lot": "lot-7", **named, **more}
    return Arrival(part_id=part, line_id="line-1", arrived_at_ns=START_NS + at_ms * MS, **values)  # type: ignore[arg-type]


def inspection(
    part: str = "p1", camera: str = "left", verdict: Verdict = Verdict.PASS, at_ms: int = 0, **more: object
) -> Inspection:
    values = {"product": "disc", "cycle_time_ms": 1_000, "frame_id": frame_id(part, camera), **more}
    return Inspection(
        part_id=part,
        line_id="line-1",
        camera_id=camera,
        sequence=1,
        captured_at_ns=START_NS + at_ms * MS,
        decided_at_ns=START_NS + (at_ms + 40) * MS,
        verdict=verdict,
        reason=Reason.SCORE,
        score=0.9 if verdict is Verdict.FAIL else 0.1,
        operating_point=OperatingPoint(0.5, 0.4, 0.6),
        uncertainty=0.0,
        alias="default",
        model_version=1,
        defect_class="dent" if verdict is Verdict.FAIL else "",
        **values,  # type: ignore[arg-type]
    )


class Bench:
    """A joiner and its clock."""

    def __init__(self, **limits: float) -> None:
        self.joiner = PartJoiner(PLANS, JoinLimits(**limits))  # type: ignore[arg-type]
        self.outcomes: list[Outcome] = []

    def arrive(self, at_ms: int, one: Arrival) -> list[Outcome]:
        return self._note(self.joiner.arrive(one, START_NS + at_ms * MS))

    def inspect(self, at_ms: int, one: Inspection) -> list[Outcome]:
        return self._note(self.joiner.inspect(one, START_NS + at_ms * MS))

    def due(self, at_ms: int) -> list[Outcome]:
        return self._note(self.joiner.due(START_NS + at_ms * MS))

    def _note(self, outcomes: tuple[Outcome, ...]) -> list[Outcome]:
        self.outcomes += outcomes
        return list(outcomes)


def test_a_part_is_answered_once_all_its_views_are_in() -> None:
    bench = Bench()
    assert bench.arrive(0, arrival()) == []
    assert bench.inspect(50, inspection(camera="left")) == []
    (outcome,) = bench.inspect(60, inspection(camera="right", verdict=Verdict.FAIL))
    assert (outcome.verdict, outcome.reason, outcome.revision) == (Verdict.FAIL, OutcomeReason.VIEWS, 1)
    assert [view.camera_id for view in outcome.views] == ["left", "right"]
    assert (outcome.lot, outcome.defect_class, outcome.in_time) == ("lot-7", "dent", True)
    assert outcome.deadline_at_ns == START_NS + 1_000 * MS
    assert bench.joiner.open_parts == 0
    assert bench.due(5_000) == []


def test_a_part_of_which_nothing_more_is_heard_is_for_a_person_before_its_deadline() -> None:
    bench = Bench(decide_before_ms=30)
    bench.arrive(0, arrival())
    assert bench.due(969) == []
    (outcome,) = bench.due(970)
    assert (outcome.verdict, outcome.reason) == (Verdict.REVIEW, OutcomeReason.DEADLINE_MISSED)
    assert outcome.in_time
    assert outcome.missing_cameras == ("left", "right")


def test_a_part_that_failed_already_is_failed_at_the_deadline_whatever_is_missing() -> None:
    bench = Bench()
    bench.inspect(50, inspection(verdict=Verdict.FAIL))
    (outcome,) = bench.due(1_000)
    assert (outcome.verdict, outcome.reason) == (Verdict.FAIL, OutcomeReason.DEADLINE_MISSED)
    assert outcome.missing_cameras == ("right",)


def test_a_late_view_supersedes_with_a_new_revision_that_is_not_in_time() -> None:
    bench = Bench()
    bench.inspect(50, inspection(camera="left"))
    (first,) = bench.due(1_000)
    (second,) = bench.inspect(1_200, inspection(camera="right"))
    assert (first.verdict, first.revision) == (Verdict.REVIEW, 1)
    assert (second.verdict, second.revision, second.reason) == (Verdict.PASS, 2, OutcomeReason.VIEWS)
    assert not second.in_time
    assert first.outcome_id != second.outcome_id


def test_what_comes_twice_or_in_another_order_changes_nothing() -> None:
    bench = Bench()
    bench.inspect(50, inspection(camera="right"))
    bench.inspect(51, inspection(camera="right", verdict=Verdict.FAIL))
    bench.arrive(52, arrival(camera="right"))
    (outcome,) = bench.inspect(53, inspection(camera="left"))
    assert outcome.verdict is Verdict.PASS, "what was said of a frame first holds"
    assert bench.inspect(54, inspection(camera="left")) == []
    assert bench.arrive(55, arrival()) == []


def test_a_picture_that_ingest_refused_makes_its_part_one_for_a_person() -> None:
    bench = Bench()
    bench.inspect(50, inspection(camera="right"))
    (outcome,) = bench.arrive(60, arrival(camera="left", refusal="image must be a JPEG, got a PDF"))
    assert (outcome.verdict, outcome.reason) == (Verdict.REVIEW, OutcomeReason.VIEWS)


def test_a_triggered_part_without_any_picture_is_answered_in_time() -> None:
    bench = Bench()
    bench.arrive(0, arrival(camera=""))
    (outcome,) = bench.due(980)
    assert outcome.verdict is Verdict.REVIEW
    assert outcome.in_time


def test_a_product_that_nobody_has_planned_is_never_a_pass() -> None:
    bench = Bench()
    (outcome,) = bench.inspect(50, inspection(product="cap"))
    assert (outcome.verdict, outcome.reason) == (Verdict.REVIEW, OutcomeReason.UNKNOWN_PRODUCT)
    (worse,) = bench.inspect(60, inspection(product="cap", camera="right", verdict=Verdict.FAIL))
    assert (worse.verdict, worse.revision) == (Verdict.FAIL, 2)


def test_a_verdict_that_comes_after_the_deadline_first_says_that_it_was_missed() -> None:
    bench = Bench()
    missed, late = bench.inspect(2_000, inspection(camera="left", verdict=Verdict.FAIL))
    assert (missed.verdict, missed.revision, missed.in_time) == (Verdict.REVIEW, 1, False)
    assert missed.views == ()
    assert (late.verdict, late.revision, late.in_time) == (Verdict.FAIL, 2, False)


def test_a_clock_that_is_ahead_does_not_put_the_answer_off() -> None:
    bench = Bench()
    bench.arrive(0, arrival(at_ms=60_000))
    (outcome,) = bench.due(1_000)
    assert outcome.began_at_ns == START_NS


def test_the_deadline_counts_from_the_first_capture_whichever_is_heard_of_first() -> None:
    bench = Bench()
    bench.inspect(310, inspection(camera="right", at_ms=300))
    bench.inspect(320, inspection(camera="left", product="disc", at_ms=0, frame_id=frame_id("p1", "other")))
    bench.arrive(330, arrival(part="p2", at_ms=300))
    assert [one.part_id for one in bench.outcomes] == ["p1"]
    bench = Bench()
    bench.inspect(310, inspection(camera="right", at_ms=300))
    bench.arrive(320, arrival(at_ms=0))
    assert [one.part_id for one in bench.due(975)] == ["p1"]


def test_a_part_without_a_deadline_is_answered_when_nobody_waits_any_longer() -> None:
    bench = Bench(give_up_s=60)
    bench.arrive(0, arrival(cycle_time_ms=0))
    assert bench.due(59_000) == []
    (outcome,) = bench.due(60_000)
    assert (outcome.verdict, outcome.in_time, outcome.deadline_at_ns) == (Verdict.REVIEW, True, 0)


def test_one_part_too_many_has_the_oldest_answered_early() -> None:
    bench = Bench(max_open=2)
    for number in range(3):
        bench.arrive(number, arrival(part=f"p{number}"))
    (outcome,) = bench.outcomes
    assert (outcome.part_id, outcome.reason) == ("p0", OutcomeReason.OVERLOADED)
    assert outcome.verdict is Verdict.REVIEW
    assert bench.joiner.open_parts == 2


def test_what_was_answered_is_forgotten_after_a_while_and_never_answered_first_again() -> None:
    bench = Bench(remember_s=10)
    bench.inspect(50, inspection(camera="left"))
    bench.due(1_000)
    bench.due(20_000)
    assert bench.joiner.remembered_parts == 0
    (outcome,) = bench.inspect(20_001, inspection(camera="right"))
    assert outcome.revision == 2
    assert outcome.verdict is Verdict.REVIEW


def test_more_views_than_are_kept_are_told_of_and_no_pass_comes_of_them() -> None:
    bench = Bench()
    bench.inspect(50, inspection(camera="left"))
    for number in range(70):
        bench.inspect(60, inspection(camera="left", frame_id=frame_id(str(number), "left")))
    (outcome,) = bench.due(1_000)
    assert outcome.detail == "7 more views"
    assert outcome.verdict is Verdict.REVIEW


def test_an_answer_of_an_earlier_life_is_not_given_again() -> None:
    before = Bench()
    before.inspect(50, inspection(camera="left"))
    before.due(1_000)
    after = Bench()
    after.joiner.restore(before.outcomes[0], START_NS + 1_050 * MS)
    assert after.arrive(1_100, arrival()) == []
    assert after.inspect(1_101, inspection(camera="left")) == []
    (late,) = after.inspect(1_200, inspection(camera="right"))
    assert (late.revision, late.verdict) == (2, Verdict.PASS)
    assert after.due(5_000) == []


def test_an_answer_of_an_earlier_life_is_known_however_long_nobody_was_there() -> None:
    before = Bench()
    for camera in ("left", "right"):
        before.inspect(50, inspection(camera=camera))
    after = Bench(remember_s=10)
    after.joiner.restore_since(START_NS - 10_000 * MS)
    after.joiner.restore(before.outcomes[0], START_NS + 3_600_000 * MS)
    assert after.due(3_600_001) == []
    assert after.arrive(3_600_002, arrival()) == []
    assert after.inspect(3_600_003, inspection(camera="left")) == []


def test_a_part_that_nobody_answered_while_nobody_was_there_gets_its_first_answer() -> None:
    after = Bench(remember_s=10)
    after.joiner.restore_since(START_NS - 10_000 * MS)
    missed, late = after.inspect(3_600_000, inspection(camera="left"))
    assert (missed.revision, late.revision) == (1, 2)


def test_what_may_have_been_answered_before_anybody_remembers_is_not_answered_first_again() -> None:
    after = Bench()
    after.joiner.restore_since(START_NS + 1)
    (late,) = after.inspect(3_600_000, inspection(camera="left"))
    assert late.revision == 2


def test_what_was_too_much_to_remember_is_not_answered_first_again() -> None:
    bench = Bench(max_remembered=1)
    for part in ("p1", "p2"):
        for camera in ("left", "right"):
            bench.inspect(50, inspection(part=part, camera=camera))
    (late,) = bench.inspect(60, inspection(part="p1", camera="top"))
    assert late.revision == 2


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40))
def test_killed_anywhere_every_part_gets_one_first_answer(seed: int, killed_after: int) -> None:
    """What was written is restored and what was not committed is read again, from the beginning at worst."""
    rng = random.Random(seed)
    stream: list[tuple[int, Arrival | Inspection]] = []
    for number in range(10):
        part, at_ms = f"p{number}", number * 100
        for camera in ("left", "right"):
            stream.append((at_ms + rng.randrange(5), arrival(part, camera, at_ms)))
            if rng.random() < 0.8:
                verdict = rng.choice(list(Verdict))
                stream.append((at_ms + rng.randrange(1_500), inspection(part, camera, verdict, at_ms)))
    stream.sort(key=lambda one: one[0])

    def run(joiner: PartJoiner, events: list[tuple[int, Arrival | Inspection]], now_ms: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for at_ms, one in events:
            now_ns = START_NS + max(at_ms, now_ms) * MS
            outcomes += joiner.due(now_ns)
            outcomes += joiner.arrive(one, now_ns) if isinstance(one, Arrival) else joiner.inspect(one, now_ns)
        return outcomes

    written = run(PartJoiner(PLANS), stream[:killed_after], 0)
    again = PartJoiner(PLANS)
    for outcome in written:
        again.restore(outcome, START_NS)
    at_ms = stream[min(killed_after, len(stream) - 1)][0]
    written += run(again, stream, at_ms)
    written += again.due(START_NS + 100_000 * MS)
    first = [one.part_id for one in written if one.revision == 1]
    assert sorted(first) == sorted({f"p{number}" for number in range(10)})
    for part in set(first):
        revisions = [one.revision for one in written if one.part_id == part]
        assert revisions == list(range(1, len(revisions) + 1))


@pytest.mark.parametrize("missing", [0.0, 0.01])
def test_nothing_grows_over_many_parts(missing: float) -> None:
    rng = random.Random(7)
    bench = Bench(remember_s=5, max_remembered=1_000)
    for number in range(5_000):
        part, at_ms = f"p{number}", number * 10
        for camera in ("left", "right"):
            bench.arrive(at_ms, arrival(part, camera, at_ms))
            if rng.random() >= missing:
                bench.inspect(at_ms + 5, inspection(part, camera, at_ms=at_ms))
        bench.due(at_ms)
    assert bench.joiner.remembered_parts <= 1_000
    assert bench.joiner.open_parts <= 101
    assert len(bench.joiner._due) < 300
