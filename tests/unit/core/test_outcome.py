"""A part is PASS only if every expected view passed, whatever the rule says."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.outcome import FailClause, OutcomeView, PartPlan, PartPlans, in_order, worst_of
from services.core.types import Reason, Verdict

TWO = PartPlan("disc", frozenset({"left", "right"}))


def view(camera: str, verdict: Verdict, *, score: float = 0.5, defect: str = "", frame: str = "") -> OutcomeView:
    return OutcomeView(
        camera_id=camera,
        frame_id=frame or camera,
        verdict=verdict,
        reason=Reason.SCORE,
        score=score,
        alias="default",
        model_version=1,
        captured_at_ns=1,
        decided_at_ns=2,
        defect_class=defect,
    )


def test_a_part_passes_when_every_expected_view_passed() -> None:
    assert TWO.verdict_of([view("left", Verdict.PASS), view("right", Verdict.PASS)]) is Verdict.PASS


def test_a_part_is_as_bad_as_its_worst_view_by_default() -> None:
    assert TWO.verdict_of([view("left", Verdict.PASS), view("right", Verdict.FAIL)]) is Verdict.FAIL
    assert TWO.verdict_of([view("left", Verdict.REVIEW), view("right", Verdict.FAIL)]) is Verdict.FAIL
    assert TWO.verdict_of([view("left", Verdict.PASS), view("right", Verdict.REVIEW)]) is Verdict.REVIEW


def test_a_part_without_an_expected_view_is_never_a_pass() -> None:
    assert TWO.verdict_of([view("left", Verdict.PASS)]) is Verdict.REVIEW
    assert TWO.verdict_of([]) is Verdict.REVIEW
    assert TWO.missing([view("left", Verdict.PASS)]) == ("right",)


def test_a_view_that_is_not_expected_can_make_a_part_worse_and_never_better() -> None:
    both = [view("left", Verdict.PASS), view("right", Verdict.PASS)]
    assert TWO.verdict_of([*both, view("above", Verdict.FAIL)]) is Verdict.FAIL
    assert TWO.verdict_of([view("left", Verdict.PASS), view("above", Verdict.PASS)]) is Verdict.REVIEW


def test_a_rule_may_ask_for_more_views_that_fail_and_one_alone_is_for_a_person() -> None:
    plan = dataclasses.replace(TWO, fail_when=(FailClause(at_least=2),))
    assert plan.verdict_of([view("left", Verdict.PASS), view("right", Verdict.FAIL)]) is Verdict.REVIEW
    assert plan.verdict_of([view("left", Verdict.FAIL), view("right", Verdict.FAIL)]) is Verdict.FAIL


def test_a_rule_may_name_cameras_and_defects() -> None:
    clauses = (
        FailClause(cameras=frozenset({"left"})),
        FailClause(defect_classes=frozenset({"crack"})),
    )
    plan = dataclasses.replace(TWO, fail_when=clauses)
    assert plan.verdict_of([view("left", Verdict.FAIL), view("right", Verdict.PASS)]) is Verdict.FAIL
    assert plan.verdict_of([view("left", Verdict.PASS), view("right", Verdict.FAIL, defect="dent")]) is Verdict.REVIEW
    assert plan.verdict_of([view("left", Verdict.PASS), view("right", Verdict.FAIL, defect="crack")]) is Verdict.FAIL


@given(
    st.lists(st.tuples(st.sampled_from(["left", "right", "above"]), st.sampled_from(list(Verdict))), max_size=6),
    st.integers(1, 4),
)
def test_no_rule_makes_a_pass_of_anything_but_passes(seen: list[tuple[str, Verdict]], at_least: int) -> None:
    plan = dataclasses.replace(TWO, fail_when=(FailClause(at_least=at_least),))
    views = [view(camera, verdict, frame=str(number)) for number, (camera, verdict) in enumerate(seen)]
    if plan.verdict_of(views) is Verdict.PASS:
        assert {camera for camera, _ in seen} >= {"left", "right"}
        assert all(verdict is Verdict.PASS for _, verdict in seen)


def test_a_part_is_judged_by_its_worst_view_the_highest_score_first() -> None:
    low, high = view("left", Verdict.FAIL, score=0.6), view("right", Verdict.FAIL, score=0.9)
    unseen = view("above", Verdict.FAIL, score=float("nan"))
    assert worst_of([view("a", Verdict.PASS, score=1.0), low, high]) == high
    assert worst_of([unseen, low]) is low
    assert worst_of([]) is None
    assert in_order([high, low]) == (low, high)


def test_a_product_has_a_plan_of_its_own_on_a_line_or_that_of_all_lines() -> None:
    own = PartPlan("disc", frozenset({"top"}), line_id="line-2")
    plans = PartPlans((TWO, own, PartPlan("cap", frozenset({"top"}), line_id="line-3")))
    assert plans.of("disc", "line-1") is TWO
    assert plans.of("disc", "line-2") is own
    assert plans.of("cap", "line-1") is None
    assert plans.products_on("line-3") == ("cap", "disc")


def test_a_plan_that_cannot_hold_is_refused_with_what_is_wrong() -> None:
    with pytest.raises(InvalidInputError, match="product disc must have at least one camera, got none"):
        PartPlan("disc", frozenset())
    with pytest.raises(InvalidInputError, match="at least one clause for FAIL"):
        PartPlan("disc", frozenset({"left"}), fail_when=())
    with pytest.raises(InvalidInputError, match="must name its own cameras, got above"):
        PartPlan("disc", frozenset({"left"}), fail_when=(FailClause(cameras=frozenset({"above"})),))
    with pytest.raises(InvalidInputError, match="at_least must be >= 1, got 0"):
        FailClause(at_least=0)
    with pytest.raises(InvalidInputError, match="one plan for each line, got more for disc on all lines"):
        PartPlans((TWO, TWO))
