"""Figures of a classifier, each with an interval from resampling parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.manifest import Metric

Scores = NDArray[np.floating]
Truth = NDArray[np.bool_]

DEFAULT_REPEATS: Final = 1000


def auroc(scores: Scores, defective: Truth) -> float:
    """Chance that a random defective part scores above a random good one; ties count half.

    Args:
        scores: Anomaly scores, shape ``(N,)``; higher is worse.
        defective: True where the part is defective, shape ``(N,)``.

    Returns:
        In 0..1; NaN where only one class is present.
    """
    _check(scores, defective)
    n_bad = int(defective.sum())
    n_good = len(defective) - n_bad
    if not n_bad or not n_good:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Mean rank of each group of ties: the rank of its last member minus half of the rest.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(ranks[inverse][defective].sum())
    return (rank_sum - n_bad * (n_bad + 1) / 2) / (n_bad * n_good)


def confusion(flagged: Truth, defective: Truth) -> tuple[int, int, int, int]:
    """Count outcomes.

    Args:
        flagged: True where the model says defective, shape ``(N,)``.
        defective: True where the part is defective.

    Returns:
        True positives, false positives, true negatives, false negatives; positive means defective.
    """
    _check(flagged, defective)
    return (
        int((flagged & defective).sum()),
        int((flagged & ~defective).sum()),
        int((~flagged & ~defective).sum()),
        int((~flagged & defective).sum()),
    )


def mcc(flagged: Truth, defective: Truth) -> float:
    """Matthews correlation of verdict and truth.

    Args:
        flagged: True where the model says defective, shape ``(N,)``.
        defective: True where the part is defective.

    Returns:
        In -1..1; 0 where verdict or truth has only one value.
    """
    tp, fp, tn, fn = confusion(flagged, defective)
    denominator = math.sqrt(float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn))
    return (tp * tn - fp * fn) / denominator if denominator else 0.0


def f1(flagged: Truth, defective: Truth) -> float:
    """Harmonic mean of precision and recall.

    Args:
        flagged: True where the model says defective, shape ``(N,)``.
        defective: True where the part is defective.

    Returns:
        In 0..1; 0 where nothing is flagged or nothing is defective.
    """
    tp, fp, _, fn = confusion(flagged, defective)
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0


def best_f1(scores: Scores, defective: Truth) -> float:
    """F1 at the threshold that makes it highest, chosen on these very parts: a ceiling, not a promise.

    Args:
        scores: Anomaly scores, shape ``(N,)``; higher is worse.
        defective: True where the part is defective, shape ``(N,)``.

    Returns:
        In 0..1; 0 where nothing is defective.
    """
    _check(scores, defective)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    found = np.cumsum(defective[order])
    # Equal scores are flagged together.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(scores) else np.empty(0, np.intp)
    if not len(ends) or not found[-1]:
        return 0.0
    return float(np.max(2 * found[ends] / (ends + 1 + found[-1])))


def rate(condition: Truth) -> float:
    """Share of True; NaN of nothing.

    Args:
        condition: Shape ``(N,)``.

    Returns:
        In 0..1.
    """
    return float(np.mean(condition)) if len(condition) else math.nan


def bootstrap(
    measure: Callable[[NDArray[np.intp]], float],
    groups: Sequence[str],
    seed: int,
    repeats: int = DEFAULT_REPEATS,
    confidence: float = 0.95,
) -> Metric:
    """Measure a figure with a percentile interval from resampling whole groups.

    Images of one part are not independent; resampling them one by one would make the interval too narrow.

    Args:
        measure: From row indices (with repetitions) to the figure; NaN where it is not defined for them.
        groups: What was sampled as one: the part of each row.
        seed: Seed of the resampling.
        repeats: Resamples, ``>= 1``.
        confidence: Coverage of the interval, in ``(0, 1)``.

    Returns:
        The figure on all rows, the interval, and the number of groups.

    Raises:
        InvalidInputError: If there are no rows, or the figure is not defined on all of them or on any resample.
    """
    if not groups or repeats < 1 or not 0 < confidence < 1:
        raise InvalidInputError(
            f"bootstrap needs rows, repeats and a confidence in (0, 1), got {len(groups)}, {repeats}"
        )
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(len(names) + 1))
    rows = [order[starts[i] : starts[i + 1]] for i in range(len(names))]
    rng = np.random.default_rng(seed)

    def resample() -> NDArray[np.intp]:
        chosen = rng.integers(0, len(names), len(names))
        # With one row a group, which is the common case, there is nothing to put together.
        return order[chosen] if len(order) == len(names) else np.concatenate([rows[i] for i in chosen])

    value = measure(np.arange(len(groups)))
    figures = np.array([measure(resample()) for _ in range(repeats)])
    figures = figures[np.isfinite(figures)]
    if not math.isfinite(value) or not figures.size:
        raise InvalidInputError("a figure must be defined on the rows it is measured on, got NaN (only one class?)")
    tail = (1 - confidence) / 2
    low, high = np.quantile(figures, [tail, 1 - tail])
    return Metric(value=value, low=float(low), high=float(high), n=len(names))


def _check(values: NDArray[np.generic], defective: Truth) -> None:
    if values.ndim != 1 or values.shape != defective.shape:
        raise InvalidInputError(f"values and truth must have one shape (N,), got {values.shape} and {defective.shape}")
