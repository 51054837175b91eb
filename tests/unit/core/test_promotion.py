from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from services.core.errors import InvalidInputError
from services.core.manifest import Calibration
from services.core.promotion import (
    Gate,
    GateName,
    GateState,
    HoldoutAnswers,
    PromotionPolicy,
    PromotionReport,
    judge_candidate,
)
from services.core.types import OperatingPoint

PARTS = [f"part-{number}" for number in range(100)]
DEFECTIVE = np.arange(100) % 4 == 0
SCORES = np.where(DEFECTIVE, 0.9, 0.1)
POINT = OperatingPoint(0.5, 0.5, 0.5)
PROMISE = Calibration("escape_rate", 0.1, 0.95, "clopper-pearson", 50, 50, 0.0, 0.0, 0.0, 0.0, 0.0)


def answers(**changes: object) -> HoldoutAnswers:
    whole = HoldoutAnswers(
        PARTS, DEFECTIVE, SCORES, POINT, PROMISE, np.where(DEFECTIVE, 0.4, math.nan), np.full(9, 8.0)
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def missed(count: int) -> np.ndarray:
    scores = SCORES.copy()
    scores[np.flatnonzero(DEFECTIVE)[:count]] = 0.1
    return scores


def flagged(count: int) -> np.ndarray:
    scores = SCORES.copy()
    scores[np.flatnonzero(~DEFECTIVE)[:count]] = 0.9
    return scores


def gate(report: PromotionReport, name: GateName) -> Gate:
    (found,) = [one for one in report.gates if one.name is name]
    return found


def test_an_equal_candidate_may_go_live_and_every_gate_says_by_what_margin() -> None:
    report = judge_candidate(answers(), answers(), PromotionPolicy(max_latency_ms=10))
    assert report.may_go_live
    assert [one.name for one in report.gates] == list(GateName)
    assert all(one.state is GateState.KEPT for one in report.gates)
    assert (gate(report, GateName.MCC).live, gate(report, GateName.MCC).candidate) == (1.0, 1.0)
    assert gate(report, GateName.MCC).bound == pytest.approx(0.98)


def test_one_escape_more_refuses_it() -> None:
    report = judge_candidate(answers(), answers(scores=missed(1)), PromotionPolicy(max_mcc_fall=1))
    assert [one.name for one in report.broken] == [GateName.ESCAPES]
    assert (gate(report, GateName.ESCAPES).live, gate(report, GateName.ESCAPES).candidate) == (0, 1)
    assert judge_candidate(
        answers(), answers(scores=missed(1)), PromotionPolicy(max_mcc_fall=1, max_more_escapes=1)
    ).may_go_live


def test_a_defective_part_that_a_person_looks_at_is_no_escape() -> None:
    careful = answers(scores=np.where(DEFECTIVE, 0.45, 0.1), operating_point=OperatingPoint(0.5, 0.4, 0.5))
    assert gate(judge_candidate(answers(), careful, PromotionPolicy()), GateName.ESCAPES).candidate == 0


def test_more_false_rejects_than_the_bound_of_mcc_allows_refuse_it() -> None:
    report = judge_candidate(answers(), answers(scores=flagged(5)), PromotionPolicy())
    assert [one.name for one in report.broken] == [GateName.MCC]
    found = gate(report, GateName.MCC)
    assert found.low < found.candidate - found.live < found.high
    assert judge_candidate(answers(), answers(scores=flagged(5)), PromotionPolicy(max_mcc_fall=0.2)).may_go_live


def test_maps_that_leave_the_experts_masks_refuse_it() -> None:
    worse = answers(overlaps=np.where(DEFECTIVE, 0.3, math.nan))
    report = judge_candidate(answers(), worse, PromotionPolicy())
    assert [one.name for one in report.broken] == [GateName.EXPLANATION]
    assert gate(report, GateName.EXPLANATION).n == DEFECTIVE.sum()


def test_without_masks_the_explanation_is_not_measured_and_keeps_nobody_back() -> None:
    none = answers(overlaps=np.full(100, math.nan))
    report = judge_candidate(none, none, PromotionPolicy())
    assert gate(report, GateName.EXPLANATION).state is GateState.NOT_MEASURED
    assert report.may_go_live


def test_a_promise_counts_as_broken_where_chance_does_not_explain_it() -> None:
    loose = PromotionPolicy(max_mcc_fall=1, max_more_escapes=100)
    few, many = (judge_candidate(answers(), answers(scores=missed(count)), loose) for count in (3, 9))
    assert gate(few, GateName.CALIBRATION).state is GateState.KEPT, "3 of 25 with a promise of 10 %"
    assert gate(many, GateName.CALIBRATION).state is GateState.BROKEN
    assert gate(many, GateName.CALIBRATION).candidate == pytest.approx(9 / 25)


def test_a_promise_of_false_rejects_is_held_on_good_parts() -> None:
    promise = replace(PROMISE, rule="false_reject_rate", target=0.05)
    report = judge_candidate(
        answers(), answers(scores=flagged(15), calibration=promise), PromotionPolicy(max_mcc_fall=1)
    )
    found = gate(report, GateName.CALIBRATION)
    assert (found.state, found.n, found.candidate) == (GateState.BROKEN, 75, pytest.approx(15 / 75))


def test_an_answer_that_takes_too_long_refuses_it_and_one_that_was_not_timed_does_not() -> None:
    slow = judge_candidate(answers(), answers(latency_ms=np.full(9, 12.0)), PromotionPolicy(max_latency_ms=10))
    assert [one.name for one in slow.broken] == [GateName.LATENCY]
    untimed = judge_candidate(answers(), answers(latency_ms=np.empty(0)), PromotionPolicy(max_latency_ms=10))
    assert gate(untimed, GateName.LATENCY).state is GateState.NOT_MEASURED


def test_a_score_that_is_no_number_never_passes() -> None:
    broken = SCORES.copy()
    broken[:] = math.nan
    report = judge_candidate(answers(), answers(scores=broken), PromotionPolicy())
    assert gate(report, GateName.ESCAPES).candidate == 0
    assert gate(report, GateName.MCC).state is GateState.BROKEN


def test_the_first_model_of_an_alias_needs_no_comparison_but_must_tell_good_from_bad() -> None:
    assert judge_candidate(None, answers(), PromotionPolicy()).may_go_live
    assert not judge_candidate(None, answers(scores=1 - SCORES), PromotionPolicy()).may_go_live


def test_a_hold_out_of_one_class_or_of_other_parts_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="good and defective"):
        judge_candidate(None, answers(defective=np.zeros(100, np.bool_)), PromotionPolicy())
    with pytest.raises(InvalidInputError, match="same parts"):
        judge_candidate(answers(parts=PARTS[::-1]), answers(), PromotionPolicy())
    with pytest.raises(InvalidInputError, match="a row"):
        answers(scores=SCORES[:-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"max_mcc_fall": -0.1},
        {"max_more_escapes": -1},
        {"max_latency_ms": 0},
        {"confidence": 0.5},
        {"max_overlap_fall": math.nan},
    ],
)
def test_bounds_out_of_their_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        PromotionPolicy(**changes)  # type: ignore[arg-type]
