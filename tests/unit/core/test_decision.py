from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.decision import DISAGREEMENT_LIMIT, decide, for_a_person, validate_operating_point
from services.core.types import OperatingPoint, Reason, Verdict

BAND = OperatingPoint(threshold=0.5, review_low=0.4, review_high=0.7)
CUT = OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5)


@pytest.mark.parametrize(
    ("score", "verdict", "reason"),
    [
        (0.0, Verdict.PASS, Reason.SCORE),
        (0.3999, Verdict.PASS, Reason.SCORE),
        (0.4, Verdict.REVIEW, Reason.UNSURE),
        (0.5, Verdict.REVIEW, Reason.UNSURE),
        (0.6999, Verdict.REVIEW, Reason.UNSURE),
        (0.7, Verdict.FAIL, Reason.SCORE),
        (1.0, Verdict.FAIL, Reason.SCORE),
    ],
)
def test_the_band_begins_at_low_and_ends_before_high(score: float, verdict: Verdict, reason: Reason) -> None:
    decision = decide(score, BAND)
    assert (decision.verdict, decision.reason) == (verdict, reason)


def test_a_band_of_no_width_is_a_plain_cut_whose_threshold_fails() -> None:
    assert decide(math.nextafter(0.5, 0), CUT).verdict is Verdict.PASS
    assert decide(0.5, CUT).verdict is Verdict.FAIL


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_review_and_never_pass(score: float) -> None:
    decision = decide(score, BAND)
    assert decision.verdict is Verdict.REVIEW
    assert decision.uncertainty == 1.0


def test_doubt_is_one_on_the_threshold_a_half_at_the_edges_and_falls_on_both_sides() -> None:
    assert decide(0.5, BAND).uncertainty == 1.0
    assert decide(0.4, BAND).uncertainty == pytest.approx(0.5)
    assert decide(0.7, BAND).uncertainty == pytest.approx(0.5)
    assert decide(0.1, BAND).uncertainty < decide(0.3, BAND).uncertainty < 0.5


@given(st.floats(-1e6, 1e6), st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3).map(sorted))
def test_any_score_gets_a_verdict_and_a_doubt_between_0_and_1(score: float, cuts: list[float]) -> None:
    decision = decide(score, OperatingPoint(threshold=cuts[1], review_low=cuts[0], review_high=cuts[2]))
    assert 0 <= decision.uncertainty <= 1
    assert (decision.verdict is Verdict.PASS) == (score < cuts[0])


@pytest.mark.parametrize(
    "point",
    [
        OperatingPoint(0.5, 0.6, 0.7),
        OperatingPoint(0.5, 0.1, 0.4),
        OperatingPoint(math.nan, 0, 1),
        OperatingPoint(0, 0, math.inf),
    ],
)
def test_an_operating_point_out_of_order_or_not_finite_is_refused(point: OperatingPoint) -> None:
    with pytest.raises(ValueError, match="operating point must"):
        validate_operating_point(point)
    with pytest.raises(ValueError, match="operating point must"):
        decide(0.5, point)


@pytest.mark.parametrize(
    ("members", "against", "reviewed"),
    [
        (2, 0, False),
        (2, 1, True),
        (3, 1, True),
        (4, 1, False),
        (4, 2, True),
        (5, 1, False),
        (5, 2, True),
        (6, 1, False),
        (6, 2, True),
        (7, 2, False),
        (7, 3, True),
        (8, 2, False),
        (8, 3, True),
        (9, 2, False),
        (9, 3, True),
    ],
)
def test_a_third_of_a_panel_against_the_others_makes_pass_and_fail_a_review(
    members: int, against: int, *, reviewed: bool
) -> None:
    # As it comes from Triton.
    disagreement = float(np.float32(2 * against / members))
    for score, otherwise in ((0.1, Verdict.PASS), (0.9, Verdict.FAIL)):
        decision = decide(score, BAND, disagreement)
        if reviewed:
            assert (decision.verdict, decision.reason) == (Verdict.REVIEW, Reason.DISAGREEMENT)
        else:
            assert (decision.verdict, decision.reason) == (otherwise, Reason.SCORE)
        assert decision.uncertainty == decide(score, BAND).uncertainty


def test_what_is_unsure_by_its_score_stays_unsure_however_the_votes_are() -> None:
    assert decide(0.5, BAND, 1.0).reason is Reason.UNSURE
    assert decide(math.nan, BAND, 1.0).reason is Reason.UNSURE


def test_a_disagreement_that_is_no_number_is_review_and_never_pass() -> None:
    assert decide(0.1, BAND, math.nan).reason is Reason.DISAGREEMENT


def test_the_limit_lies_between_two_splits_that_a_panel_can_have() -> None:
    splits = {2 * against / members for members in range(2, 10) for against in range(members // 2 + 1)}
    assert min(abs(split - DISAGREEMENT_LIMIT) for split in splits) > 1e-3


@pytest.mark.parametrize("score", [0.1, 0.5, 0.9, math.nan])
def test_what_a_person_is_to_look_at_is_never_passed_and_keeps_its_doubt(score: float) -> None:
    own = decide(score, BAND)
    asked = for_a_person(own)
    assert asked.verdict is (Verdict.REVIEW if own.verdict is Verdict.PASS else own.verdict)
    assert asked.reason is (Reason.UNSURE if own.verdict is Verdict.PASS else own.reason)
    assert asked.uncertainty == own.uncertainty
