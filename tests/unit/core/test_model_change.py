"""What a new model changed: corrected parts against what people settled on, and flips with their weights."""

from __future__ import annotations

import itertools

import pytest

from services.core.model_change import (
    ComparedFrame,
    ComparedPart,
    CorrectionKind,
    FrameStratum,
    PartOutcome,
    PartVerdict,
    corrections,
    count_parts,
    draw,
    flips,
    part_outcome,
    parts_of,
)
from services.core.review import Answer
from services.core.types import OperatingPoint, Verdict
from tests.support.cases import queued_case, review, undo, wrong

PASS, FAIL, REVIEW = Verdict.PASS, Verdict.FAIL, Verdict.REVIEW
POINT = OperatingPoint(0.6, 0.5, 0.7)


def said_by(number: int, before: Verdict, settled: Verdict, after: Verdict | None, *who: str) -> ComparedPart:
    case = queued_case(number, before)
    found = corrections([wrong(case, index, name) for index, name in enumerate(who or ("ada",))], before)
    assert found is not None
    return ComparedPart(
        case_id=case.case_id,
        part_id=case.inspection.part_id,
        line_id="line-1",
        camera_id="cam-1",
        captured_at_ns=1,
        settled=settled,
        corrections=found[1],
        before=PartVerdict(before, 0.9, POINT, 1),
        after=after and PartVerdict(after, 0.2, POINT, 2),
    )


# ---- what is a correction


def test_a_wrong_verdict_is_a_correction() -> None:
    case = queued_case(0, FAIL)
    settled, [one] = corrections([wrong(case, defect_class="")], FAIL) or (None, [])
    assert (settled, one.kind, one.reviewer, one.settled) == (PASS, CorrectionKind.VERDICT, "ada", PASS)


def test_a_decision_the_model_asked_for_is_one_too() -> None:
    case = queued_case(0, REVIEW)
    settled, [one] = corrections([review(case, corrected_verdict=FAIL, defect_class="dent")], REVIEW) or (None, [])
    assert (settled, one.kind, one.defect_class) == (FAIL, CorrectionKind.DECISION, "dent")


def test_a_wrong_reason_is_one_and_the_verdict_stays_the_measure() -> None:
    case = queued_case(0, FAIL)
    settled, [one] = corrections([review(case, reason_right=Answer.NO)], FAIL) or (None, [])
    assert (settled, one.kind, one.settled) == (FAIL, CorrectionKind.REASON, FAIL)


def test_an_answer_that_agrees_or_is_taken_back_corrects_nothing() -> None:
    case = queued_case(0, FAIL)
    taken_back = wrong(case, 1)
    assert corrections([review(case)], FAIL) is None
    assert corrections([taken_back, undo(case, taken_back, 2)], FAIL) is None
    assert corrections([review(case, verdict_right=Answer.NOT_SURE, reason_right=Answer.NOT_ASKED)], FAIL) is None


def test_people_who_do_not_agree_give_no_measure() -> None:
    case = queued_case(0, FAIL)
    assert corrections([wrong(case, 0, "ada"), review(case, 1, "bob")], FAIL) is None


def test_two_people_who_correct_alike_are_both_named() -> None:
    case = queued_case(0, FAIL)
    found = corrections([wrong(case, 0, "ada"), wrong(case, 1, "bob")], FAIL)
    assert found is not None
    assert [one.reviewer for one in found[1]] == ["ada", "bob"]


# ---- how a part comes out


@pytest.mark.parametrize(
    ("before", "after", "settled", "outcome"),
    [
        (FAIL, PASS, PASS, PartOutcome.NOW_RIGHT),
        (REVIEW, FAIL, FAIL, PartOutcome.NOW_RIGHT),
        (FAIL, FAIL, FAIL, PartOutcome.STILL_RIGHT),
        (FAIL, FAIL, PASS, PartOutcome.STILL_WRONG),
        (PASS, FAIL, PASS, PartOutcome.NOW_WRONG),
        (REVIEW, PASS, FAIL, PartOutcome.NOW_WRONG),
        (FAIL, REVIEW, PASS, PartOutcome.ASKS),
        (REVIEW, REVIEW, PASS, PartOutcome.ASKS),
        (PASS, REVIEW, PASS, PartOutcome.ASKS),
    ],
)
def test_a_part_is_held_against_what_people_settled_on(
    before: Verdict, after: Verdict, settled: Verdict, outcome: PartOutcome
) -> None:
    assert part_outcome(before, after, settled) is outcome


def test_every_change_of_a_verdict_has_an_outcome() -> None:
    for before, after, settled in itertools.product(Verdict, Verdict, (PASS, FAIL)):
        assert part_outcome(before, after, settled) in PartOutcome


def test_parts_are_counted_by_how_they_come_out() -> None:
    parts = [
        said_by(0, FAIL, PASS, PASS),
        said_by(1, FAIL, PASS, PASS, "bob"),
        said_by(2, FAIL, PASS, FAIL),
        said_by(3, FAIL, PASS, REVIEW),
        said_by(4, FAIL, PASS, None),
    ]
    counts = count_parts(parts)
    assert (counts.parts, counts.now_right, counts.still_wrong, counts.asks, counts.waiting) == (5, 2, 1, 1, 1)
    assert [part.case_id for part in parts_of(parts, "bob")] == [parts[1].case_id]
    assert count_parts(parts_of(parts, "ada")).now_right == 1


# ---- flips


def frames(before: Verdict, *after: Verdict | None, p: float = 1.0) -> list[ComparedFrame]:
    return [ComparedFrame(f"{before.value}-{index}", p, before, one) for index, one in enumerate(after)]


def test_a_stratum_that_is_compared_whole_is_counted_exactly() -> None:
    found = flips(frames(FAIL, PASS, FAIL, PASS), [FrameStratum(FAIL, 3, 3.0)])
    [kind] = found.kinds
    assert (kind.before, kind.after, kind.flipped, kind.compared) == (FAIL, PASS, 2, 3)
    assert (kind.estimate.value, kind.estimate.low, kind.estimate.high) == (2.0, 2.0, 2.0)
    assert found.flipped == kind.estimate


def test_a_part_that_passed_stands_for_as_many_as_its_share_says() -> None:
    # 2 of 100 of a sample of one in a hundred: 2 % of 10 000 frames; Wilson's interval by hand is 0.55 % to 7.0 %.
    sample = frames(PASS, *[FAIL] * 2, *[PASS] * 98, p=0.01)
    [kind] = flips(sample, [FrameStratum(PASS, 100, 10_000.0)]).kinds
    assert kind.estimate.value == pytest.approx(200)
    assert kind.estimate.low == pytest.approx(55.0, abs=1)
    assert kind.estimate.high == pytest.approx(700.1, abs=1)


def test_no_flip_in_a_sample_leaves_room_for_some() -> None:
    found = flips(frames(PASS, *[PASS] * 50, p=0.01), [FrameStratum(PASS, 50, 5_000.0)])
    assert found.kinds == ()
    assert found.flipped is not None
    assert (found.flipped.value, found.flipped.low) == (0.0, 0.0)
    # Wilson's upper end with none of n is z**2 / (n + z**2).
    assert found.flipped.high == pytest.approx(5_000 * 3.8415 / 53.8415, rel=1e-4)


def test_a_sample_of_a_stratum_is_scaled_up_to_it() -> None:
    found = flips(frames(FAIL, PASS, FAIL, FAIL, FAIL), [FrameStratum(FAIL, 400, 400.0)])
    assert found.flipped is not None
    assert found.flipped.value == pytest.approx(100)
    assert found.flipped.low < 100 < found.flipped.high < 400


def test_frames_that_wait_or_are_left_out_do_not_count() -> None:
    sample = [*frames(FAIL, PASS, None), ComparedFrame("gone", 1.0, FAIL, None, "picture_missing")]
    found = flips(sample, [FrameStratum(FAIL, 3, 3.0)])
    assert (found.compared, found.kinds[0].compared) == (1, 1)
    assert flips([], [FrameStratum(FAIL, 3, 3.0)]).flipped is None


def test_the_interval_of_the_sum_holds_each_term_s() -> None:
    sample = [*frames(PASS, FAIL, *[PASS] * 99, p=0.01), *frames(FAIL, PASS, FAIL)]
    found = flips(sample, [FrameStratum(PASS, 100, 10_000.0), FrameStratum(FAIL, 2, 2.0)])
    assert found.flipped is not None
    assert found.flipped.value == pytest.approx(101)
    assert found.flipped.low < 101 < found.flipped.high
    assert [(kind.before, kind.after) for kind in found.kinds] == [(PASS, FAIL), (FAIL, PASS)]
    assert found.frames == 10_002


def test_frames_of_different_weights_count_as_fewer() -> None:
    alike = flips(frames(PASS, FAIL, *[PASS] * 9, p=0.1), [FrameStratum(PASS, 10, 100.0)])
    mixed = [*frames(PASS, FAIL, *[PASS] * 4, p=0.05), *frames(PASS, *[PASS] * 5, p=0.5)]
    uneven = flips(mixed, [FrameStratum(PASS, 10, 110.0)])
    assert alike.flipped is not None
    assert uneven.flipped is not None
    assert uneven.flipped.high - uneven.flipped.low > alike.flipped.high - alike.flipped.low


def test_a_drawing_is_the_same_whatever_the_order_and_another_for_another_seed() -> None:
    ids = [f"case-{number}" for number in range(40)]
    assert draw(ids, 5, "a") == draw(reversed(ids), 5, "a")
    assert draw(ids, 5, "a") != draw(ids, 5, "b")
    assert set(draw(ids[:3], 5, "a")) == set(ids[:3])
