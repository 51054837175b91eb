"""What a neighbour is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.neighbours import (
    Candidate,
    Flaw,
    Relation,
    class_of,
    class_wanted,
    flaw_of,
    in_order,
    predicted_class,
    unit,
)
from services.core.types import OperatingPoint, Verdict
from tests.support.cases import queued_case

NAN_POINT = OperatingPoint(math.nan, math.nan, math.nan)


@pytest.mark.parametrize(
    ("verdict", "changes", "expected"),
    [
        (Verdict.PASS, {"score": 0.99}, Verdict.PASS),
        (Verdict.FAIL, {"score": 0.01}, Verdict.FAIL),
        (Verdict.REVIEW, {"score": 0.6}, Verdict.FAIL),
        (Verdict.REVIEW, {"score": 0.5999}, Verdict.PASS),
        (Verdict.REVIEW, {"score": math.nan}, None),
        (Verdict.REVIEW, {"score": 0.6, "operating_point": NAN_POINT}, None),
    ],
)
def test_a_part_in_review_counts_by_its_score_and_others_by_their_verdict(
    verdict: Verdict, changes: dict[str, object], expected: Verdict | None
) -> None:
    assert predicted_class(queued_case(0, verdict, **changes).inspection) is expected


def test_what_people_settled_on_counts_before_what_the_model_says() -> None:
    failed = queued_case(0, Verdict.FAIL).inspection
    assert class_of(failed, None) is Verdict.FAIL
    assert class_of(failed, Verdict.PASS) is Verdict.PASS


def test_a_hit_is_of_the_own_class_a_miss_of_the_other_and_the_farthest_of_any() -> None:
    assert class_wanted(Relation.NEAR_HIT, Verdict.FAIL) is Verdict.FAIL
    assert class_wanted(Relation.NEAR_MISS, Verdict.FAIL) is Verdict.PASS
    assert class_wanted(Relation.NEAR_MISS, Verdict.PASS) is Verdict.FAIL
    assert class_wanted(Relation.FARTHEST, None) is None
    with pytest.raises(InvalidInputError, match="must be asked for with pass or fail, got none"):
        class_wanted(Relation.NEAR_HIT, None)
    with pytest.raises(InvalidInputError, match="must be asked for with pass or fail, got review"):
        class_wanted(Relation.NEAR_MISS, Verdict.REVIEW)


@pytest.mark.parametrize(
    ("values", "flaw"),
    [
        ([], Flaw.EMPTY),
        ([0, 0], Flaw.ZERO),
        ([-0.0, 0.0], Flaw.ZERO),
        ([1, math.nan], Flaw.NOT_FINITE),
        ([0, math.inf], Flaw.NOT_FINITE),
        ([-math.inf, 0], Flaw.NOT_FINITE),
        ([6e-8, 0], None),
        ([65_504, -65_504], None),
    ],
)
def test_what_has_no_direction_has_a_flaw(values: list[float], flaw: Flaw | None) -> None:
    embedding = np.array(values, np.float16)
    assert flaw_of(embedding) is flaw
    if flaw is not None:
        with pytest.raises(InvalidInputError, match=f"an embedding must be finite and not zero.*got {flaw.value}"):
            unit(embedding)


@given(st.lists(st.floats(-65_504, 65_504, width=16), min_size=1, max_size=64).filter(any))
def test_a_unit_has_length_one_and_the_same_direction(values: list[float]) -> None:
    given_values = np.array(values, np.float16)
    scaled = unit(given_values)
    assert scaled.dtype == np.float16
    assert np.linalg.norm(scaled.astype(np.float64)) == pytest.approx(1.0, abs=2e-3)
    exact = given_values.astype(np.float64)
    cosine = exact @ scaled.astype(np.float64) / np.linalg.norm(exact)
    assert cosine == pytest.approx(1.0, abs=2e-3)


def test_of_equals_the_older_frame_comes_first_and_of_those_the_one_that_came_first() -> None:
    young, old, twin = Candidate(1, 0.5, 20), Candidate(3, 0.5, 10), Candidate(2, 0.5, 10)
    best = Candidate(9, 0.6, 99)
    assert in_order([young, old, best, twin], Relation.NEAR_HIT) == [best, twin, old, young]
    assert in_order([young, old, best, twin], Relation.FARTHEST) == [twin, old, young, best]
