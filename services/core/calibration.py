"""Choosing the operating point: a promise about errors, turned into a place to cut.

The promise is *escape rate at most x* (share of defective parts with PASS) or *false reject rate at most y* (share of
good parts with FAIL). The cut is an order statistic of the calibration scores. For continuous scores the share of the
population below the k-th smallest of n is Beta(k, n - k + 1) distributed whatever the scores' distribution, so

- with a ``confidence``, the cut is the boldest one for which the one-sided Clopper-Pearson (equal to Wilks' tolerance)
  bound keeps the promise: it holds for the population in at least that share of calibrations;
- without one, it is the conformal quantile: the promise holds on average over calibrations.

Both are finite-sample: no normal approximation, and too few parts for the asked rate are an error that says how many
it takes. Ties only make the cut more careful.

A second promise about the other kind of error gives the other edge, and what lies between the two edges is REVIEW:
where classes overlap, the scores that can be neither passed nor failed within the promises; where they are apart, the
gap in which no calibration part was seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.manifest import Calibration, CalibrationRule
from services.core.types import OperatingPoint

DEFAULT_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Promise:
    """What the operating point must keep.

    Attributes:
        rule: Which error is bounded; it sets the threshold.
        target: At most this share, in ``(0, 1)``.
        other_target: Bound on the other error, which opens the review band; 0 for no band.
        confidence: In ``(0, 1)``: the bound holds for the population with this probability. 0: it holds on average.
    """

    rule: CalibrationRule
    target: float
    other_target: float = 0.0
    confidence: float = DEFAULT_CONFIDENCE

    def __post_init__(self) -> None:
        if self.rule not in ("escape_rate", "false_reject_rate"):
            raise ValueError(f"rule must be escape_rate or false_reject_rate, got {self.rule!r}")
        if not 0 < self.target < 1:
            raise ValueError(f"target must lie in (0, 1), got {self.target}")
        if not 0 <= self.other_target < 1:
            raise ValueError(f"other_target must lie in [0, 1), got {self.other_target}")
        if not 0 <= self.confidence < 1:
            raise ValueError(f"confidence must lie in [0, 1), got {self.confidence}")


def calibrate(
    good: NDArray[np.floating], defective: NDArray[np.floating], promise: Promise
) -> tuple[OperatingPoint, Calibration]:
    """Choose the operating point on parts that the model was not fitted on.

    Args:
        good: Anomaly scores of good parts, shape ``(n,)``, finite; one score per part.
        defective: Anomaly scores of defective parts, shape ``(m,)``, finite.
        promise: What to keep.

    Returns:
        The operating point, and the record of how it was chosen for ``model.json``.

    Raises:
        InvalidInputError: If scores are not finite, or too few for the promise; the message says how many it takes.
    """
    for name, scores in (("good", good), ("defective", defective)):
        if scores.ndim != 1 or not np.isfinite(scores).all():
            raise InvalidInputError(f"{name} scores must be finite and of shape (n,), got shape {scores.shape}")
    escape, reject = promise.target, promise.other_target
    if promise.rule == "false_reject_rate":
        escape, reject = reject, escape
    # Below `pass_below` few enough defective parts lie; from `fail_from` on few enough good ones.
    pass_below = escape_threshold(defective, escape, promise.confidence) if escape else None
    fail_from = false_reject_threshold(good, reject, promise.confidence) if reject else None
    threshold = pass_below if promise.rule == "escape_rate" else fail_from
    edges = [edge for edge in (pass_below, fail_from) if edge is not None]
    if threshold is None:  # unreachable: the rule's own target is above 0
        raise InvalidInputError(f"target must lie in (0, 1), got {promise.target}")
    point = OperatingPoint(threshold=threshold, review_low=min(edges), review_high=max(edges))
    return point, _record(good, defective, promise, point)


def escape_threshold(defective: NDArray[np.floating], target: float, confidence: float) -> float:
    """Find the highest cut below which at most ``target`` of the defective parts lie.

    Args:
        defective: Scores of defective parts, shape ``(n,)``.
        target: Largest share below the cut, in ``(0, 1)``.
        confidence: Probability that the promise holds, in ``(0, 1)``; 0 for on average.

    Returns:
        One of the scores; a part passes if its score is below it.

    Raises:
        InvalidInputError: If there are too few scores for the target.
    """
    rank = _boldest_rank(len(defective), target, confidence, "defective")
    return float(np.sort(defective)[rank - 1])


def false_reject_threshold(good: NDArray[np.floating], target: float, confidence: float) -> float:
    """Find the lowest cut from which on at most ``target`` of the good parts lie.

    Args:
        good: Scores of good parts, shape ``(n,)``.
        target: Largest share at or above the cut, in ``(0, 1)``.
        confidence: Probability that the promise holds, in ``(0, 1)``; 0 for on average.

    Returns:
        The next number above one of the scores; a part fails if its score reaches it.

    Raises:
        InvalidInputError: If there are too few scores for the target.
    """
    rank = _boldest_rank(len(good), target, confidence, "good")
    return math.nextafter(float(np.sort(good)[len(good) - rank]), math.inf)


def parts_needed(target: float, confidence: float) -> int:
    """Say how many parts of a class it takes to promise a rate at all.

    Args:
        target: The rate, in ``(0, 1)``.
        confidence: Probability that the promise holds, in ``(0, 1)``; 0 for on average.

    Returns:
        The smallest number of parts, ``>= 1``.
    """
    if confidence == 0:
        return max(1, math.ceil(1 / target - 1 - 1e-9))
    return max(1, math.ceil(math.log(1 - confidence) / math.log1p(-target) - 1e-9))


def binomial_tail(n: int, k: int, p: float) -> float:
    """Probability that at least ``k`` of ``n`` independent trials succeed.

    Args:
        n: Trials, ``>= 0``.
        k: Successes.
        p: Chance of each, in ``(0, 1)``.

    Returns:
        The probability, by summing the shorter side.
    """
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0

    def mass(low: int, high: int) -> float:
        return math.fsum(
            math.exp(
                math.lgamma(n + 1)
                - math.lgamma(i + 1)
                - math.lgamma(n - i + 1)
                + i * math.log(p)
                + (n - i) * math.log1p(-p)
            )
            for i in range(low, high)
        )

    return 1.0 - mass(0, k) if k <= n // 2 else mass(k, n + 1)


def _boldest_rank(n: int, target: float, confidence: float, name: str) -> int:
    needed = parts_needed(target, confidence)
    if n < needed:
        sureness = f"with confidence {confidence:g}" if confidence else "on average"
        raise InvalidInputError(
            f"promising a rate of at most {target:g} {sureness} takes at least {needed} {name} parts, got {n}"
        )
    if confidence == 0:
        return max(1, math.floor((n + 1) * target + 1e-9))
    # P(Beta(k, n - k + 1) <= target) = P(Binomial(n, target) >= k) falls with k: halve the range.
    low, high = 1, n
    while low < high:
        middle = (low + high + 1) // 2
        if binomial_tail(n, middle, target) >= confidence:
            low = middle
        else:
            high = middle - 1
    return low


def _record(
    good: NDArray[np.floating], defective: NDArray[np.floating], promise: Promise, point: OperatingPoint
) -> Calibration:
    def share(scores: NDArray[np.floating], low: float, high: float) -> float:
        return float(np.mean((scores >= low) & (scores < high))) if scores.size else 0.0

    return Calibration(
        rule=promise.rule,
        target=promise.target,
        confidence=promise.confidence,
        method="clopper-pearson" if promise.confidence else "conformal",
        n_good=int(good.size),
        n_defective=int(defective.size),
        other_target=promise.other_target,
        escape_rate=share(defective, -math.inf, point.review_low),
        false_reject_rate=share(good, point.review_high, math.inf),
        review_rate_good=share(good, point.review_low, point.review_high),
        review_rate_defective=share(defective, point.review_low, point.review_high),
    )
