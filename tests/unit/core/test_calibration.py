from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from services.core.calibration import (
    Promise,
    binomial_tail,
    calibrate,
    escape_threshold,
    false_reject_threshold,
    parts_needed,
)
from services.core.decision import decide
from services.core.errors import InvalidInputError
from services.core.types import Verdict


def scores(seed: int, shift: float, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, n)


@pytest.mark.parametrize(
    ("target", "confidence", "needed"), [(0.05, 0.95, 59), (0.01, 0.95, 299), (0.01, 0.0, 99), (0.5, 0.95, 5)]
)
def test_the_number_of_parts_that_a_promise_takes_is_known(target: float, confidence: float, needed: int) -> None:
    assert parts_needed(target, confidence) == needed
    escape_threshold(scores(0, 0, needed), target, confidence)
    with pytest.raises(InvalidInputError, match=f"takes at least {needed} defective parts, got {needed - 1}"):
        escape_threshold(scores(0, 0, needed - 1), target, confidence)
    with pytest.raises(InvalidInputError, match=f"takes at least {needed} good parts, got {needed - 1}"):
        false_reject_threshold(scores(0, 0, needed - 1), target, confidence)


@pytest.mark.parametrize(("n", "target"), [(59, 0.05), (200, 0.05), (500, 0.02), (1000, 0.1)])
def test_the_cut_is_the_boldest_that_the_clopper_pearson_bound_allows(n: int, target: float) -> None:
    values = scores(1, 0, n)
    escaped = int((values < escape_threshold(values, target, 0.95)).sum())

    def upper_bound(k: int) -> float:
        # The part on the cut itself counts as an error: that is what makes choosing the cut on the data honest.
        return float(stats.beta.ppf(0.95, k + 1, n - k))

    assert upper_bound(escaped) <= target < upper_bound(escaped + 1)


def test_the_promise_holds_in_as_many_calibrations_as_stated() -> None:
    kept = 0
    for seed in range(1000):
        cut = escape_threshold(scores(seed, 0, 120), 0.05, 0.9)
        kept += stats.norm.cdf(cut) <= 0.05
    assert 0.88 <= kept / 1000 <= 1.0


def test_the_conformal_cut_keeps_the_promise_on_average() -> None:
    escapes = [stats.norm.cdf(escape_threshold(scores(seed, 0, 99), 0.05, 0.0)) for seed in range(2000)]
    assert np.mean(escapes) == pytest.approx(0.05, abs=0.002)


def test_false_rejects_mirror_escapes() -> None:
    values = scores(3, 0, 300)
    cut = false_reject_threshold(values, 0.05, 0.95)
    assert math.nextafter(cut, -math.inf) == -escape_threshold(-values, 0.05, 0.95)
    assert (values >= cut).mean() <= 0.05


def test_ties_make_the_cut_more_careful_and_never_bolder() -> None:
    tied = np.round(scores(4, 0, 300), 1)
    assert (tied < escape_threshold(tied, 0.1, 0.95)).mean() <= 0.1
    assert (tied >= false_reject_threshold(tied, 0.1, 0.95)).mean() <= 0.1
    assert false_reject_threshold(np.zeros(100), 0.1, 0.95) > 0


@pytest.mark.parametrize(("n", "k", "p"), [(10, 3, 0.2), (10, 9, 0.2), (500, 10, 0.02), (500, 0, 0.5), (5, 6, 0.5)])
def test_the_binomial_tail_agrees_with_scipy(n: int, k: int, p: float) -> None:
    assert binomial_tail(n, k, p) == pytest.approx(stats.binom.sf(k - 1, n, p), abs=1e-12)


def test_where_classes_overlap_what_neither_promise_covers_is_review() -> None:
    good, defective = scores(5, 0, 400), scores(6, 1.5, 400)
    point, record = calibrate(good, defective, Promise("escape_rate", 0.05, other_target=0.05))
    assert point.review_low == point.threshold < point.review_high
    verdicts = [decide(float(score), point).verdict for score in defective]
    assert verdicts.count(Verdict.PASS) / 400 == record.escape_rate <= 0.05
    assert verdicts.count(Verdict.REVIEW) / 400 == record.review_rate_defective > 0
    assert record.false_reject_rate <= 0.05


def test_where_classes_are_apart_the_gap_is_review_and_both_promises_hold() -> None:
    good, defective = scores(7, 0, 400), scores(8, 10, 400)
    point, record = calibrate(good, defective, Promise("false_reject_rate", 0.02, other_target=0.02))
    assert point.threshold == point.review_low < point.review_high
    assert decide(5.0, point).verdict is Verdict.REVIEW
    assert record.escape_rate == 0
    assert record.false_reject_rate == 0


@pytest.mark.parametrize("rule", ["escape_rate", "false_reject_rate"])
def test_without_a_second_promise_there_is_no_band(rule: str) -> None:
    point, record = calibrate(scores(9, 0, 200), scores(10, 2, 200), Promise(rule, 0.05))  # type: ignore[arg-type]
    assert point.review_low == point.threshold == point.review_high
    assert record.review_rate_good == record.review_rate_defective == 0
    assert (record.method, record.n_good, record.n_defective) == ("clopper-pearson", 200, 200)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="good scores must be finite"):
        calibrate(np.array([0.0, np.nan]), np.array([1.0]), Promise("escape_rate", 0.5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rule": "magic", "target": 0.1}, "rule"),
        ({"rule": "escape_rate", "target": 0.0}, "target"),
        ({"rule": "escape_rate", "target": 0.1, "other_target": 1.0}, "other_target"),
        ({"rule": "escape_rate", "target": 0.1, "confidence": 1.0}, "confidence"),
    ],
)
def test_promises_that_cannot_be_kept_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Promise(**wrong)  # type: ignore[arg-type]
