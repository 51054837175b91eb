from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, permutations
from typing import Any

import pytest

from services.core.errors import InvalidInputError
from services.core.review import (
    MAX_AREA_POINTS,
    MAX_CLASS_LENGTH,
    MAX_NOTE_LENGTH,
    MAX_REVIEWER_LENGTH,
    Answer,
    AreaPoint,
    CaseState,
    Review,
    ReviewAction,
    case_state,
    check_area,
    check_review,
    differ,
    information_gain,
    queue_rank,
    settled_verdict,
    standing_reviews,
    validate_case_id,
    validate_review_id,
)
from services.core.types import CaseKind, Verdict
from tests.support.cases import HOUR_NS, START_NS, queued_case, review, undo, wrong

FAILED = queued_case(1, Verdict.FAIL)
PASSED = queued_case(2, Verdict.PASS)
ASKED = queued_case(3, Verdict.REVIEW)
TRIANGLE = (AreaPoint(0, 0), AreaPoint(10, 0), AreaPoint(0, 10))
NOT_SURE = {"verdict_right": Answer.NOT_SURE, "reason_right": Answer.NOT_SURE}


# ---- what a review may say


@pytest.mark.parametrize(
    "said",
    [
        review(FAILED),
        review(PASSED),
        review(FAILED, reason_right=Answer.NO, defect_class="hole", area=TRIANGLE, mask_pixels=9),
        review(FAILED, **NOT_SURE),
        review(FAILED, verdict_right=Answer.NOT_SURE, area=TRIANGLE),
        review(FAILED, shown_method=""),
        review(FAILED, note="two\nlines\tand a tab", reviewer="Jörg Ångström"),
        wrong(FAILED),
        wrong(FAILED, area=TRIANGLE),
        wrong(PASSED, defect_class="hole", mask_pixels=4),
        review(ASKED, verdict_right=Answer.NO, corrected_verdict=Verdict.FAIL, defect_class="hole"),
        review(ASKED, corrected_verdict=Verdict.PASS),
        review(ASKED, **NOT_SURE),
        review(FAILED, action=ReviewAction.SKIP, note="not my line"),
        undo(FAILED, review(FAILED), 1),
    ],
)
def test_what_can_be_meant_is_let_through(said: Review) -> None:
    case = next(case for case in (FAILED, PASSED, ASKED) if case.case_id == said.case_id)
    check_review(said, case, has_map=True)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (review(FAILED, review_id="1"), "review_id must be a lower-case UUID, got '1'"),
        (review(FAILED, reviewer=""), "reviewer must be a name without blanks around it, got ''"),
        (review(FAILED, reviewer=" ada"), "reviewer must be a name without blanks around it, got ' ada'"),
        (review(FAILED, reviewer=7), "reviewer must be a name without blanks around it, got 7"),
        (
            review(FAILED, reviewer="a" * (MAX_REVIEWER_LENGTH + 1)),
            f"reviewer must have at most {MAX_REVIEWER_LENGTH} characters, got {MAX_REVIEWER_LENGTH + 1}",
        ),
        (review(FAILED, reviewer="a\nb"), r"reviewer must hold printable characters only, got '\\n'"),
        (review(PASSED), f"a review must name its case {FAILED.case_id}, got '{PASSED.case_id}'"),
        (review(FAILED, frame_id=PASSED.inspection.frame_id), f"a review must name its case {FAILED.case_id}"),
        (
            review(FAILED, note="a" * (MAX_NOTE_LENGTH + 1)),
            f"note must have at most {MAX_NOTE_LENGTH} characters, got {MAX_NOTE_LENGTH + 1}",
        ),
        (review(FAILED, note="a\0b"), r"note must hold printable characters only, got '\\x00'"),
        (review(FAILED, note="a\rb"), r"note must hold printable characters only, got '\\r'"),
        (
            review(FAILED, defect_class="a" * (MAX_CLASS_LENGTH + 1)),
            f"defect_class must have at most {MAX_CLASS_LENGTH} characters, got {MAX_CLASS_LENGTH + 1}",
        ),
        (review(FAILED, defect_class="a\nb"), r"defect_class must hold printable characters only, got '\\n'"),
        (review(FAILED, shown_method="Grad CAM"), "shown_method must be a short lower-case name, got 'Grad CAM'"),
        (
            review(FAILED, action=ReviewAction.SKIP, verdict_right=Answer.YES),
            "only an answer may answer, got skip with an answer",
        ),
        (
            undo(FAILED, review(FAILED), 1, reason_right=Answer.NO),
            "only an answer may answer, got undo with an answer",
        ),
        (
            review(FAILED, action=ReviewAction.SKIP, defect_class="hole"),
            "only an answer may correct, got skip with a correction",
        ),
        (
            undo(FAILED, review(FAILED), 1, corrected_verdict=Verdict.PASS),
            "only an answer may correct, got undo with a correction",
        ),
        (
            review(FAILED, action=ReviewAction.SKIP, area=TRIANGLE),
            "only an answer may correct, got skip with a correction",
        ),
        (
            review(FAILED, action=ReviewAction.SKIP, mask_pixels=1),
            "only an answer may correct, got skip with a correction",
        ),
        (
            review(FAILED, verdict_right=Answer.NOT_ASKED),
            "an answer must say whether the verdict is right, got not_asked",
        ),
        (wrong(FAILED, corrected_verdict=Verdict.REVIEW), "corrected_verdict must be pass or fail, got review"),
        (wrong(FAILED, corrected_verdict=None), "wrong verdict fail must be corrected to pass, got .* none"),
        (
            wrong(FAILED, corrected_verdict=Verdict.FAIL),
            "wrong verdict fail must be corrected to pass, got corrected_verdict fail",
        ),
        (
            wrong(PASSED, corrected_verdict=Verdict.PASS),
            "wrong verdict pass must be corrected to fail, got corrected_verdict pass",
        ),
        (
            review(FAILED, corrected_verdict=Verdict.PASS),
            "only a wrong verdict is corrected, got pass with verdict_right yes",
        ),
        (
            review(FAILED, **NOT_SURE, corrected_verdict=Verdict.PASS),
            "only a wrong verdict is corrected, got pass with verdict_right not_sure",
        ),
        (review(ASKED), "a part in review must get pass, fail or not_sure, got none of them"),
        (
            review(ASKED, verdict_right=Answer.NO),
            "a part in review must get pass, fail or not_sure, got none of them",
        ),
        (wrong(FAILED, defect_class="hole"), "a good part must have no defect: got a mask or a defect_class"),
        (review(PASSED, mask_pixels=3), "a good part must have no defect: got a mask or a defect_class"),
        (
            review(ASKED, corrected_verdict=Verdict.PASS, mask_pixels=3),
            "a good part must have no defect: got a mask or a defect_class",
        ),
        (review(FAILED, area=TRIANGLE[:2]), "an area must have at least 3 corners, got 2"),
        (
            review(FAILED, area=TRIANGLE * MAX_AREA_POINTS),
            f"an area must have at most {MAX_AREA_POINTS} corners, got {3 * MAX_AREA_POINTS}",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_rule(said: Review, message: str) -> None:
    cases = {case.case_id: case for case in (PASSED, ASKED)}
    # The review of another case is the one that does not name its own.
    case = FAILED if message.startswith("a review must name") else cases.get(said.case_id, FAILED)
    with pytest.raises(InvalidInputError, match=message):
        check_review(said, case, has_map=True)


def test_no_map_was_shown_where_there_is_none() -> None:
    with pytest.raises(
        InvalidInputError, match="shown_method must be empty for a case without maps, got 'invrise-soft'"
    ):
        check_review(review(FAILED), FAILED, has_map=False)
    check_review(review(FAILED, shown_method=""), FAILED, has_map=False)


@pytest.mark.parametrize("corner", [(-0.5, 0), (0, -1), (320.5, 0), (0, 241), (math.nan, 0), (0, math.inf)])
def test_an_area_lies_within_its_picture(corner: tuple[float, float]) -> None:
    check_area([*TRIANGLE, AreaPoint(320, 240)], 320, 240)
    with pytest.raises(InvalidInputError, match="an area must lie within the picture of 320 x 240 px, got a corner at"):
        check_area([*TRIANGLE, AreaPoint(*corner)], 320, 240)


@pytest.mark.parametrize(
    "value",
    ["", "1", "C3F2610F-6322-538B-ABBC-ED5A1C148B4E", "{c3f2610f-6322-538b-abbc-ed5a1c148b4e}", None, 7, "é" * 36],
)
def test_an_id_is_a_canonical_uuid_or_refused(value: Any) -> None:
    assert validate_review_id(review(FAILED).review_id) == review(FAILED).review_id
    assert validate_case_id(FAILED.case_id) == FAILED.case_id
    with pytest.raises(InvalidInputError, match="review_id must be a lower-case UUID, got"):
        validate_review_id(value)
    with pytest.raises(InvalidInputError, match="case_id must be a lower-case UUID of version 7, got"):
        validate_case_id(value)


# ---- which answers stand

FIRST = review(FAILED, 0)
SECOND = wrong(FAILED, 1, supersedes=FIRST.review_id)
THIRD = review(FAILED, 2, supersedes=SECOND.review_id)
BY_BEN = review(FAILED, 3, "ben")
UNDO_FIRST = undo(FAILED, FIRST, 4)
UNDO_SECOND = undo(FAILED, SECOND, 4, "ben")
SKIPPED = review(FAILED, 5, action=ReviewAction.SKIP)


@pytest.mark.parametrize(
    ("said", "standing"),
    [
        ([], []),
        ([FIRST], [FIRST]),
        ([FIRST, FIRST], [FIRST]),
        ([SKIPPED], []),
        ([FIRST, SECOND], [SECOND]),
        ([FIRST, SECOND, THIRD], [THIRD]),
        ([FIRST, BY_BEN], [FIRST, BY_BEN]),
        ([FIRST, UNDO_FIRST], []),
        ([FIRST, SECOND, UNDO_SECOND], [FIRST]),
        ([FIRST, SECOND, UNDO_FIRST], [SECOND]),
        # What an undone answer had replaced stands again, also in the middle of a chain that goes on.
        ([FIRST, SECOND, THIRD, UNDO_SECOND], [FIRST, THIRD]),
        # An undo is final: taking it back changes nothing.
        ([FIRST, UNDO_FIRST, undo(FAILED, UNDO_FIRST, 6)], []),
        # A skip that names an answer does not replace it.
        ([FIRST, review(FAILED, 6, action=ReviewAction.SKIP, supersedes=FIRST.review_id)], [FIRST]),
        # What names a review that is not there stands alone.
        ([SECOND], [SECOND]),
        ([UNDO_FIRST], []),
    ],
)
def test_answers_stand_that_nothing_took_back_or_replaced_in_any_order(
    said: list[Review], standing: list[Review]
) -> None:
    for order in permutations(said):
        assert standing_reviews(order) == tuple(standing)


@pytest.mark.parametrize(
    ("said", "given", "settled"),
    [
        (review(FAILED), Verdict.FAIL, Verdict.FAIL),
        (review(PASSED), Verdict.PASS, Verdict.PASS),
        (wrong(FAILED), Verdict.FAIL, Verdict.PASS),
        (wrong(PASSED), Verdict.PASS, Verdict.FAIL),
        (review(FAILED, **NOT_SURE), Verdict.FAIL, None),
        (review(ASKED), Verdict.REVIEW, None),
        (review(ASKED, corrected_verdict=Verdict.FAIL), Verdict.REVIEW, Verdict.FAIL),
        (review(ASKED, **NOT_SURE), Verdict.REVIEW, None),
    ],
)
def test_one_answer_settles_the_verdict_or_leaves_it(said: Review, given: Verdict, settled: Verdict | None) -> None:
    assert settled_verdict(said, given) is settled


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (review(FAILED), review(FAILED, 0, "ben"), False),
        (review(FAILED), wrong(FAILED, 0, "ben"), True),
        (review(FAILED), review(FAILED, 0, "ben", reason_right=Answer.NO), True),
        (review(FAILED), review(FAILED, 0, "ben", **NOT_SURE), False),
        (wrong(FAILED), review(FAILED, 0, "ben", **NOT_SURE), False),
        (review(FAILED), review(FAILED, 0, "ben", reason_right=Answer.NOT_ASKED), False),
        (
            review(ASKED, corrected_verdict=Verdict.PASS),
            review(ASKED, 0, "ben", corrected_verdict=Verdict.FAIL),
            True,
        ),
        (review(FAILED, defect_class="hole"), review(FAILED, 0, "ben", defect_class="dent"), False),
    ],
)
def test_two_answers_differ_in_the_verdict_or_the_reason(one: Review, other: Review, expected: bool) -> None:
    assert differ(one, other) is differ(other, one) is expected


@pytest.mark.parametrize(
    ("said", "state", "settled"),
    [
        ([], CaseState.OPEN, None),
        ([SKIPPED], CaseState.OPEN, None),
        ([FIRST], CaseState.REVIEWED, Verdict.FAIL),
        ([FIRST, UNDO_FIRST], CaseState.OPEN, None),
        ([FIRST, SECOND], CaseState.REVIEWED, Verdict.PASS),
        ([FIRST, BY_BEN], CaseState.REVIEWED, Verdict.FAIL),
        ([FIRST, wrong(FAILED, 3, "ben")], CaseState.DISPUTED, None),
        ([review(FAILED, **NOT_SURE)], CaseState.REVIEWED, None),
        # Who is not sure contradicts nobody, and whoever is sure settles it.
        ([review(FAILED, **NOT_SURE), wrong(FAILED, 3, "ben")], CaseState.REVIEWED, Verdict.PASS),
        ([FIRST, review(FAILED, 3, "ben", **NOT_SURE), wrong(FAILED, 4, "cleo")], CaseState.DISPUTED, None),
    ],
)
def test_a_case_is_open_reviewed_or_disputed(said: list[Review], state: CaseState, settled: Verdict | None) -> None:
    for order in permutations(said):
        assert case_state(order, Verdict.FAIL) == (state, settled)


# ---- which case teaches most


@pytest.mark.parametrize(
    ("kind", "uncertainty", "disagreement", "gain"),
    [
        (CaseKind.FAIL, 0.0, 0.0, 0.0),
        (CaseKind.FAIL, 1.0, 0.0, 1.0),
        (CaseKind.REVIEW, 0.0, 1.0, 1.0),
        (CaseKind.REVIEW, 0.5, 0.5, 0.75),
        (CaseKind.FAIL, 0.2, 0.0, 0.2),
        (CaseKind.FAIL, math.nan, 0.0, 1.0),
        (CaseKind.FAIL, 0.0, math.inf, 1.0),
        (CaseKind.FAIL, 7.0, -3.0, 1.0),
        (CaseKind.FAIL, -7.0, 0.0, 0.0),
        # What was drawn at random keeps its chance, whatever the model thinks of it.
        (CaseKind.AUDIT, 0.0, 0.0, 0.5),
        (CaseKind.AUDIT, 1.0, 1.0, 0.5),
        (CaseKind.AUDIT, math.nan, math.nan, 0.5),
        (CaseKind.NEIGHBOUR, 0.0, 0.0, 1.0),
        (CaseKind.NEIGHBOUR, math.nan, 0.2, 1.0),
    ],
)
def test_doubt_and_disagreement_teach_either_alone_and_more_together(
    kind: CaseKind, uncertainty: float, disagreement: float, gain: float
) -> None:
    assert information_gain(kind, uncertainty, disagreement) == pytest.approx(gain, abs=1e-12)


def test_a_queued_case_has_the_gain_of_its_verdict() -> None:
    assert queued_case(uncertainty=0.5, disagreement=0.5).gain == 0.75
    assert queued_case(0, Verdict.PASS, uncertainty=0.9).gain == 0.5


def _aged(gain: float, captured_at_ns: int, now_ns: int) -> float:
    return gain + 0.05 * (now_ns - captured_at_ns) / HOUR_NS


@pytest.mark.parametrize("later_ns", [0, 1, 40 * HOUR_NS, 10_000 * HOUR_NS])
def test_the_order_of_ranks_is_that_of_gains_which_age_whatever_the_time(later_ns: int) -> None:
    cases = [(gain / 10, START_NS + hours * HOUR_NS) for gain in range(11) for hours in range(0, 60, 7)]
    now_ns = START_NS + 60 * HOUR_NS + later_ns
    by_rank = sorted(cases, key=lambda case: queue_rank(*case), reverse=True)
    aged = [_aged(*case, now_ns) for case in by_rank]
    assert all(first >= second - 1e-9 for first, second in pairwise(aged))


@pytest.mark.parametrize(
    "change", [lambda gain, at_ns: (gain, at_ns + 1_000_000_000), lambda gain, at_ns: (gain - 1e-9, at_ns)]
)
def test_a_second_later_or_a_billionth_less_gain_ranks_lower(change: Callable[..., tuple[float, int]]) -> None:
    assert queue_rank(*change(0.5, START_NS)) < queue_rank(0.5, START_NS)
