"""The estimate of escapes: hand-computed values, what it promises of any input, and how often its interval is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from services.core.errors import InvalidInputError
from services.core.escape_rate import AuditStratum, beta_share, estimate_escape_rate, share_interval


@st.composite
def strata(draw: st.DrawFn) -> AuditStratum:
    drawn = draw(st.integers(0, 500))
    reviewed = draw(st.integers(0, drawn))
    return AuditStratum(
        sampling_probability=draw(st.floats(1e-4, 1.0)),
        drawn=drawn,
        reviewed=reviewed,
        escapes=draw(st.integers(0, reviewed)),
        undecided=draw(st.integers(0, drawn - reviewed)),
    )


def test_one_stratum_is_the_share_of_the_reviewed_with_the_interval_of_clopper_and_pearson() -> None:
    estimate = estimate_escape_rate([AuditStratum(0.01, drawn=120, reviewed=100, escapes=3, undecided=5)])
    assert estimate.rate == pytest.approx(0.03)
    # R: binom.test(3, 100)$conf.int
    assert (estimate.low, estimate.high) == pytest.approx((0.006229972, 0.08517605), abs=1e-7)
    assert (estimate.drawn, estimate.reviewed, estimate.escapes, estimate.undecided) == (120, 100, 3, 5)
    assert estimate.covered == 1.0


def test_none_found_says_at_most_and_not_none() -> None:
    estimate = estimate_escape_rate([AuditStratum(0.02, drawn=50, reviewed=50, escapes=0)])
    assert (estimate.rate, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_a_part_that_was_rarely_drawn_stands_for_more() -> None:
    rare = AuditStratum(0.01, drawn=10, reviewed=10, escapes=1)
    often = AuditStratum(0.1, drawn=10, reviewed=10, escapes=0)
    estimate = estimate_escape_rate([rare, often])
    # 1 of 1000 + 100 inspections, in hundreds: 100 / 1100.
    assert estimate.rate == pytest.approx(100 / 1100)
    # By the weights it would be 1100² / (10 · 100² + 10 · 10²) = 12.0; the variance of the finding says less.
    size = 100 / 1100 * (1000 / 1100) * 1100**2 / (100**2 * 0.9)
    assert (estimate.low, estimate.high) == pytest.approx(share_interval(size * 100 / 1100, size))


def test_what_nobody_reviewed_yet_is_taken_to_be_like_the_rest_of_its_stratum() -> None:
    half = AuditStratum(0.01, drawn=40, reviewed=20, escapes=2)
    whole = AuditStratum(0.01, drawn=40, reviewed=40, escapes=0)
    # As though four of forty and none of forty had been found.
    assert estimate_escape_rate([half, whole]).rate == pytest.approx(4 / 80)


def test_a_stratum_of_which_nothing_is_known_is_left_out_and_reported() -> None:
    known = AuditStratum(0.01, drawn=30, reviewed=30, escapes=0)
    unknown = AuditStratum(0.01, drawn=10, reviewed=0, escapes=0)
    estimate = estimate_escape_rate([known, unknown])
    assert estimate.covered == pytest.approx(0.75)
    assert estimate.high == pytest.approx(share_interval(0, 30)[1])


@pytest.mark.parametrize("nothing", [[], [AuditStratum(0.5, drawn=0, reviewed=0, escapes=0)]])
def test_nothing_drawn_gives_no_estimate(nothing: list[AuditStratum]) -> None:
    estimate = estimate_escape_rate(nothing)
    assert all(math.isnan(value) for value in (estimate.rate, estimate.low, estimate.high, estimate.covered))


@settings(deadline=None)
@given(st.lists(strata(), max_size=6))
def test_the_estimate_lies_within_its_interval_and_both_within_zero_and_one(some: list[AuditStratum]) -> None:
    estimate = estimate_escape_rate(some)
    if any(one.reviewed for one in some):
        assert 0 <= estimate.low <= estimate.rate + 1e-9
        assert estimate.rate - 1e-9 <= estimate.high <= 1
        assert 0 < estimate.covered <= 1 + 1e-9


@settings(deadline=None)
@given(st.lists(strata(), min_size=1, max_size=4), st.floats(0.1, 1.0))
def test_the_estimate_does_not_depend_on_the_scale_of_all_probabilities(some: list[AuditStratum], by: float) -> None:
    scaled = [
        AuditStratum(one.sampling_probability * by, one.drawn, one.reviewed, one.escapes, one.undecided) for one in some
    ]
    before, after = estimate_escape_rate(some), estimate_escape_rate(scaled)
    assert (after.rate, after.low, after.high) == pytest.approx((before.rate, before.low, before.high), nan_ok=True)


@settings(deadline=None)
@given(st.integers(1, 2_000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_the_interval_is_the_one_of_scipy(size: int, share: float, confidence: float) -> None:
    found = round(share * size)
    expected = scipy_stats.binomtest(found, size).proportion_ci(confidence)
    assert share_interval(found, size, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.01, 1e5), st.floats(0.01, 1e5))
def test_the_incomplete_beta_function_is_the_one_of_scipy(x: float, a: float, b: float) -> None:
    assert beta_share(x, a, b) == pytest.approx(scipy_stats.beta.cdf(x, a, b), abs=1e-8)


def test_findings_where_little_was_reviewed_widen_the_interval() -> None:
    well, hardly = AuditStratum(0.01, 200, 180, 0), AuditStratum(0.01, 200, 20, 2)
    estimate = estimate_escape_rate([well, hardly])
    assert estimate.rate == pytest.approx(0.05)
    by_weights = 400**2 / (180 * (200 / 180) ** 2 + 20 * 10**2)
    low, high = share_interval(0.05 * by_weights, by_weights)
    assert estimate.low < low
    assert estimate.high > high


@pytest.mark.parametrize(
    ("passed", "probabilities", "reviewed_share", "rates", "least"),
    [
        # Two products, drawn with different probabilities and reviewed in part.
        ((20_000, 8_000), (0.01, 0.05), (0.8, 0.5), (0.002, 0.002), 0.95),
        ((20_000, 8_000), (0.01, 0.05), (0.8, 0.5), (0.03, 0.005), 0.95),
        ((20_000, 8_000), (0.002, 0.05), (0.8, 0.8), (0.03, 0.0), 0.95),
        # The worst: nearly all that escapes does so where hardly anything was reviewed.
        ((20_000,) * 4, (0.01,) * 4, (0.9, 0.1, 0.5, 0.2), (0.0, 0.06, 0.0, 0.02), 0.93),
    ],
)
def test_the_interval_holds_the_true_share_as_often_as_it_says(
    passed: tuple[int, ...],
    probabilities: tuple[float, ...],
    reviewed_share: tuple[float, ...],
    rates: tuple[float, ...],
    least: float,
) -> None:
    dice = np.random.default_rng(7)
    truth = sum(n * rate for n, rate in zip(passed, rates, strict=True)) / sum(passed)
    right, estimates = 0, []
    runs = 500
    for _ in range(runs):
        found = []
        for n, rate, p, share in zip(passed, rates, probabilities, reviewed_share, strict=True):
            drawn = int(dice.binomial(n, p))
            reviewed = int(dice.binomial(drawn, share))
            found.append(AuditStratum(p, drawn, reviewed, int(dice.binomial(reviewed, rate))))
        estimate = estimate_escape_rate(found)
        estimates.append(estimate.rate)
        right += estimate.low <= truth <= estimate.high
    assert right / runs >= least
    assert np.mean(estimates) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sampling_probability": 0.0}, "must lie in (0, 1]"),
        ({"sampling_probability": 1.5}, "must lie in (0, 1]"),
        ({"escapes": 6}, "escapes <= reviewed"),
        ({"reviewed": 11}, "reviewed + undecided <= drawn"),
        ({"undecided": 6}, "reviewed + undecided <= drawn"),
    ],
)
def test_a_count_that_cannot_be_is_refused(values: dict[str, float], said: str) -> None:
    sane = {"sampling_probability": 0.1, "drawn": 10, "reviewed": 5, "escapes": 1}
    with pytest.raises(InvalidInputError) as raised:
        AuditStratum(**{**sane, **values})  # type: ignore[arg-type]
    assert said in str(raised.value)


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 2, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(InvalidInputError, match="confidence must lie in"):
        estimate_escape_rate([], confidence)


def test_more_found_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="got 3 of 2"):
        share_interval(3, 2)
