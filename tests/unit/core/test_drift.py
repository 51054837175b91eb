"""Drift of scores and embeddings: seldom said without one, and said where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.drift import (
    FALSE_ALARM,
    chi_squared_quantile,
    embedding_baseline,
    embedding_discrepancy,
    population_stability,
    score_baseline,
)
from services.core.errors import InvalidInputError

LIVE, KNOWN = 500, 200
TRIALS = 400


def scores_of(rng: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    """Like those of good parts: most near 0, few higher."""
    return 1 / (1 + np.exp(-(rng.normal(-3 + shift, 1, count))))


def embeddings_of(rng: np.random.Generator, count: int, shift: float = 0.0, size: int = 64) -> np.ndarray:
    """A few directions with most of the spread, as a network's are."""
    spread = 1 / np.sqrt(1 + np.arange(size))
    made = rng.normal(0, 1, (count, size)) * spread
    made[:, 0] += shift
    return made


def test_scores_that_did_not_change_are_seldom_called_drift() -> None:
    rng = np.random.default_rng(1)
    found = [
        population_stability(score_baseline(scores_of(rng, KNOWN), LIVE), scores_of(rng, LIVE)) for _ in range(TRIALS)
    ]
    assert abs(float(np.mean(found))) < 0.01, "what chance gives on average is taken off"
    assert np.mean(np.array(found) > 0.25) <= 3 * FALSE_ALARM
    assert np.mean(np.array(found) > 0.1) < 0.03


def test_few_reference_parts_make_fewer_bins_and_no_more_alarms() -> None:
    rng = np.random.default_rng(2)
    bins = {known: len(score_baseline(scores_of(rng, known), LIVE).shares) for known in (40, 100, 200, 2_000)}
    assert bins[40] < bins[100] <= bins[200] <= bins[2_000] == 10
    found = [
        population_stability(score_baseline(scores_of(rng, 60), LIVE), scores_of(rng, LIVE)) for _ in range(TRIALS)
    ]
    assert np.mean(np.array(found) > 0.25) <= 0.01


def test_defective_parts_are_no_drift_and_a_shift_of_the_good_ones_is() -> None:
    rng = np.random.default_rng(3)
    baseline = score_baseline(scores_of(rng, KNOWN), LIVE)
    with_defects = np.concatenate([scores_of(rng, 400), rng.uniform(0.6, 1, 100)])
    assert population_stability(baseline, with_defects) > 0.1
    assert population_stability(baseline, with_defects, expected_defect_share=0.25) < 0.05
    shifted = np.concatenate([scores_of(rng, 450, 1.0), rng.uniform(0.6, 1, 50)])
    assert population_stability(baseline, shifted, expected_defect_share=0.12) > 0.25
    lower = np.concatenate([scores_of(rng, 450, -1.0), rng.uniform(0.6, 1, 50)])
    assert population_stability(baseline, lower, expected_defect_share=0.12) > 0.25


def test_a_model_that_gives_every_part_the_same_score_is_compared_too() -> None:
    baseline = score_baseline(np.zeros(100), LIVE)
    assert population_stability(baseline, np.zeros(LIVE)) < 0.05
    assert population_stability(baseline, np.full(LIVE, -1.0)) > 0.25


def test_embeddings_that_did_not_change_are_seldom_called_drift() -> None:
    rng = np.random.default_rng(4)
    found = [
        embedding_discrepancy(embedding_baseline(embeddings_of(rng, 100)), embeddings_of(rng, 300))
        for _ in range(TRIALS)
    ]
    assert np.mean(np.array(found) > 1) <= 0.01
    assert float(np.median(found)) < 0.8


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_embeddings_that_moved_are_called_drift(shift: float) -> None:
    rng = np.random.default_rng(5)
    baseline = embedding_baseline(embeddings_of(rng, 200))
    assert embedding_discrepancy(baseline, embeddings_of(rng, 500, shift)) > 1


def test_embeddings_that_only_spread_more_are_called_drift() -> None:
    rng = np.random.default_rng(6)
    baseline = embedding_baseline(embeddings_of(rng, 200))
    assert embedding_discrepancy(baseline, 1.6 * embeddings_of(rng, 500)) > 1


def test_a_baseline_is_the_same_each_time_it_is_made() -> None:
    known = embeddings_of(np.random.default_rng(7), 50)
    first, second = embedding_baseline(known), embedding_baseline(known)
    assert (first.directions == second.directions).all()
    assert first.spread == second.spread


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_whatever_the_scores_are_the_index_is_a_number(known: list[float], live: list[float]) -> None:
    baseline = score_baseline(np.array(known), 50)
    assert baseline.shares.sum() == pytest.approx(1)
    assert (np.diff(baseline.edges) > 0).all()
    assert np.isfinite(population_stability(baseline, np.array(live), expected_defect_share=0.1))


@pytest.mark.parametrize(
    ("degrees", "probability", "exact"),
    # From tables of the distribution.
    [(2, 0.999, 13.816), (5, 0.999, 20.515), (9, 0.999, 27.877), (9, 0.95, 16.919), (100, 0.99, 135.807)],
)
def test_quantiles_are_those_of_the_tables(degrees: float, probability: float, exact: float) -> None:
    assert chi_squared_quantile(probability, degrees) == pytest.approx(exact, rel=0.025)


def test_what_cannot_be_compared_is_refused_with_the_rule() -> None:
    with pytest.raises(InvalidInputError, match="finite and at least one"):
        score_baseline(np.array([np.nan]), 10)
    with pytest.raises(InvalidInputError, match="live_parts must be at least 1, got 0"):
        score_baseline(np.zeros(3), 0)
    with pytest.raises(InvalidInputError, match=r"expected_defect_share must lie in \[0, 1\), got 1"):
        population_stability(score_baseline(np.zeros(3), 1), np.zeros(3), expected_defect_share=1)
    with pytest.raises(InvalidInputError, match="at least two"):
        embedding_baseline(np.zeros((1, 4)))
    with pytest.raises(InvalidInputError, match=r"of shape \(n, 4\), got \(3, 5\)"):
        embedding_discrepancy(embedding_baseline(np.random.default_rng(0).normal(size=(3, 4))), np.zeros((3, 5)))
