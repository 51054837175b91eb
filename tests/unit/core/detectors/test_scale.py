"""Raw scores to calibrated ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.core.detectors.scale import (
    MAX_DISTANCE,
    MEDIAN_SCORE,
    ScoreScale,
    fit_scale,
    to_distance,
    worst_by_group,
)
from services.core.errors import InvalidInputError, ModelFormatError


def normal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(10, 2, n)


def test_the_median_good_part_gets_a_tenth_and_the_threshold_a_half() -> None:
    scale = ScoreScale(4.0, 2.0, 0.01, 0.95, "confidence", 500, 0, 0.0)
    np.testing.assert_allclose(scale.apply(np.array([2.0, 4.0, 6.0])), [MEDIAN_SCORE, 0.5, 0.9])
    # four times the distance: 0.5 + 0.5 * 16 / 17
    assert scale.apply(np.array([12.0]))[0] == pytest.approx(0.5 + 8 / 17)


def test_a_fitted_scale_has_the_median_at_a_tenth() -> None:
    good = normal(401)
    scale = fit_scale(good, 0.05)
    assert scale.apply(np.array([np.median(good)]))[0] == pytest.approx(MEDIAN_SCORE)
    assert (scale.basis, scale.n_good, scale.n_left_out, scale.suspect) == ("confidence", 401, 0, False)


def test_the_map_is_monotone_and_tells_parts_apart_however_far_out() -> None:
    scale = fit_scale(normal(400), 0.05)
    raw = np.array([-1e9, 0.0, 5.0, 10.0, 15.0, 20.0, 1e3, 1e6, 1e9])
    scores = scale.apply(raw)
    assert (np.diff(scores) > 0).all()
    assert 0 <= scores[0] < scores[-1] < 1


def test_a_part_at_the_threshold_is_rejected_and_the_next_number_below_is_not() -> None:
    scale = fit_scale(normal(400), 0.05)
    at = scale.apply(np.array([scale.threshold, math.nextafter(scale.threshold, -math.inf)]))
    assert at[0] >= 0.5 > at[1]


def test_no_more_good_parts_are_rejected_than_promised() -> None:
    good, fresh = normal(600), normal(5000, seed=1)
    assert (fit_scale(good, 0.05).apply(fresh) >= 0.5).mean() <= 0.05


def test_scores_of_another_unit_give_the_same_calibrated_ones() -> None:
    good, fresh = normal(300), normal(50, seed=1)
    own = fit_scale(good, 0.05).apply(fresh)
    np.testing.assert_allclose(fit_scale(good * 1e6 - 3e5, 0.05).apply(fresh * 1e6 - 3e5), own, rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "basis"), [(299, "confidence"), (298, "average"), (99, "average"), (98, "maximum"), (8, "maximum")]
)
def test_with_fewer_parts_the_promise_is_weaker_and_says_so(n: int, basis: str) -> None:
    good = np.linspace(0, 1, n)
    scale = fit_scale(good, 0.01)
    assert scale.basis == basis
    if basis == "maximum":
        assert scale.threshold == math.nextafter(1.0, math.inf)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_hidden_defects_neither_move_the_threshold_far_nor_pass_unsaid(share: float) -> None:
    good = normal(400)
    defects = np.random.default_rng(2).normal(60, 5, round(400 * share))
    clean = fit_scale(good[: 400 - len(defects)], 0.01)
    mixed = fit_scale(np.concatenate([good[: 400 - len(defects)], defects]), 0.01)
    assert mixed.threshold == pytest.approx(clean.threshold, rel=0.05)
    assert mixed.n_left_out == len(defects)
    assert mixed.outlying_share == pytest.approx(share, abs=0.005)
    assert mixed.suspect
    assert (mixed.apply(defects) > 0.5).all()


def test_a_large_second_group_is_kept_as_good_and_reported() -> None:
    scale = fit_scale(np.concatenate([normal(160), normal(40, seed=1) + 50]), 0.05)
    assert scale.n_left_out == 0
    assert scale.outlying_share == 0.2
    assert scale.suspect
    assert scale.threshold > 50


def test_a_long_tail_alone_is_no_hidden_defect() -> None:
    shares = [fit_scale(np.random.default_rng(seed).exponential(1, 400), 0.01).outlying_share for seed in range(40)]
    assert np.mean(shares) < 0.001


def test_where_most_parts_share_the_lowest_score_there_is_still_a_scale() -> None:
    good = np.zeros(100)
    good[::20] = np.arange(1, 6)
    scale = fit_scale(good, 0.05, confidence=0.0)
    assert scale.apply(good).max() == pytest.approx(0.5 + 0.5 * 16 / 17)  # four units above the threshold
    assert scale.apply(np.array([0.0]))[0] == pytest.approx(MEDIAN_SCORE)


def test_where_most_parts_share_the_highest_score_the_unit_is_the_whole_range() -> None:
    good = np.ones(100)
    good[:10] = 0
    scale = fit_scale(good, 0.05, confidence=0.0)
    assert scale.unit == pytest.approx(1)
    assert (scale.apply(good) < 0.5).all()


@pytest.mark.parametrize(
    ("good", "message"),
    [
        (np.full(50, 3.0), "must differ, got 50 times 3"),
        (np.arange(7.0), "at least 8 held-out good parts, got 7"),
        (np.array([np.nan] * 20), "must be finite"),
        (np.zeros((4, 4)), r"shape \(n,\), got shape \(4, 4\)"),
    ],
)
def test_scores_that_no_scale_can_be_made_of_are_refused(good: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_scale(good)


def test_a_target_outside_of_its_range_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="false_reject_target must lie in"):
        fit_scale(normal(100), 0.0)


def test_a_scale_survives_json_and_a_tampered_one_is_refused() -> None:
    scale = fit_scale(normal(100), 0.05)
    assert ScoreScale.from_json(scale.to_json()) == scale
    with pytest.raises(ModelFormatError, match="unit above 0"):
        ScoreScale.from_json(scale.to_json().replace(f'"unit": {scale.unit}'.encode(), b'"unit": -1.0'))
    with pytest.raises(ModelFormatError, match="schema must be 1, got 2"):
        ScoreScale.from_json(scale.to_json().replace(b'"schema": 1', b'"schema": 2'))


def test_a_distance_is_0_at_the_threshold_and_undoes_the_bend_of_the_scale() -> None:
    scale = ScoreScale(100.0, 100.0, 0.01, 0.95, "maximum", 10, 0, 0.0)
    raw = np.array([-900.0, 0.0, 75.0, 100.0, 125.0, 2_600.0])
    np.testing.assert_allclose(to_distance(scale.apply(raw)), (raw - 100) / 25, rtol=1e-9, atol=1e-12)


def test_what_is_farther_than_any_distance_gets_the_largest() -> None:
    np.testing.assert_allclose(to_distance(np.array([0.0, 1.0])), [-MAX_DISTANCE, MAX_DISTANCE])
    assert np.isfinite(np.float16(to_distance(np.array([0.0, 1.0])))).all()


def test_each_part_has_the_score_of_its_worst_image() -> None:
    scores = worst_by_group(np.array([1.0, 5.0, 3.0, 2.0]), ["b", "a", "b", "a"])
    np.testing.assert_array_equal(scores, [5.0, 3.0])
