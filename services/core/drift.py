"""Whether what a model sees still is what it was calibrated on: distances of live frames from its held-out good parts.

Two distances, each held against what chance alone gives, since a baseline is but some hundred parts:

- **Scores**, by the population stability index, PSI = sum (p - q) ln(p / q) over bins that cut the reference into equal
  shares. Without drift PSI / (1/n + 1/m) is chi-squared distributed with B - 1 degrees of freedom (B. Yurdakul and
  J. Naranjo, *Statistical properties of the population stability index*, Journal of Risk Model Validation, 2020).
- **Embeddings**, by the squared maximum mean discrepancy under a Gaussian kernel, MMD^2 = |mean f(x) - mean f(y)|^2,
  f being the kernel's random Fourier features (A. Gretton et al., *A Kernel Two-Sample Test*, JMLR 13, 2012; A. Rahimi
  and B. Recht, *Random Features for Large-Scale Kernel Machines*, NIPS 2007). Its distribution without drift is a
  weighted sum of chi-squared ones, which a scaled chi-squared with the same mean and variance stands for.

Defective parts are no drift. A live stream has some and the reference has none, so an excess of the highest bin counts
only beyond the share of defective parts that is expected, and embeddings are compared among parts that pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError

#: Above it what is measured is no chance: one window in so many, without drift, says otherwise.
FALSE_ALARM: Final = 0.001
MOST_BINS: Final = 10
FEWEST_BINS: Final = 3
#: What a PSI that is read as drift by convention (0.25) may be made of by chance alone; fewer bins keep below it.
_MOST_BY_CHANCE: Final = 0.25
_FEATURES: Final = 512
_SEED: Final = 0
#: Added to each bin, parts: an empty bin has no logarithm.
_SMOOTHING: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBaseline:
    """The reference's scores, cut into bins of equal shares.

    Attributes:
        edges: Between the bins, rising, shape ``(B - 1,)``.
        shares: Of the reference in each bin, shape ``(B,)``, summing to 1.
        parts: Reference parts, ``>= 1``.
    """

    edges: NDArray[np.float64]
    shares: NDArray[np.float64]
    parts: int


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingBaseline:
    """The reference's embeddings as random Fourier features of a Gaussian kernel.

    Attributes:
        directions: Of the features, shape ``(D, F)``.
        phases: Of the features, shape ``(F,)``.
        mean: Mean feature of the reference, shape ``(F,)``.
        spread: Trace of the features' covariance.
        spread_squared: Trace of the covariance's square.
        parts: Reference parts, ``>= 2``.
    """

    directions: NDArray[np.float32]
    phases: NDArray[np.float32]
    mean: NDArray[np.float64]
    spread: float
    spread_squared: float
    parts: int


def score_baseline(scores: NDArray[np.floating], live_parts: int) -> ScoreBaseline:
    """Cut the reference's scores into as many bins as can be told from chance.

    Args:
        scores: Of held-out good parts, shape ``(m,)``, finite.
        live_parts: Fewest live frames that they will be compared with, ``>= 1``.

    Returns:
        The baseline; equal scores make fewer bins.

    Raises:
        InvalidInputError: If there are none, or one is not finite.
    """
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise InvalidInputError(f"reference scores must be finite and at least one, got shape {scores.shape}")
    if live_parts < 1:
        raise InvalidInputError(f"live_parts must be at least 1, got {live_parts}")
    spread = 1 / live_parts + 1 / len(scores)
    bins = MOST_BINS
    while (
        bins > FEWEST_BINS and (chi_squared_quantile(1 - FALSE_ALARM, bins - 1) - (bins - 1)) * spread > _MOST_BY_CHANCE
    ):
        bins -= 1
    edges = np.unique(np.quantile(scores.astype(np.float64), np.arange(1, bins) / bins))
    return ScoreBaseline(edges, _shares(scores, edges), len(scores))


def population_stability(
    baseline: ScoreBaseline, scores: NDArray[np.floating], *, expected_defect_share: float = 0.0
) -> float:
    """The population stability index of live scores, less what chance gives on average.

    Args:
        baseline: The reference.
        scores: Of live frames, shape ``(n,)``, finite.
        expected_defect_share: Share of defective parts that is no drift, in ``[0, 1)``: so much more than the reference
            has may lie in the highest bin.

    Returns:
        About 0 without drift, and by convention 0.1 for a slight, 0.25 for a large one; may be below 0.

    Raises:
        InvalidInputError: If there are no scores, one is not finite, or the share lies outside its range.
    """
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise InvalidInputError(f"live scores must be finite and at least one, got shape {scores.shape}")
    if not 0 <= expected_defect_share < 1:
        raise InvalidInputError(f"expected_defect_share must lie in [0, 1), got {expected_defect_share}")
    count = len(scores)
    live = _shares(scores, baseline.edges)
    excess = max(0.0, float(live[-1] - baseline.shares[-1]))
    live[-1] -= min(excess, expected_defect_share)
    live /= live.sum()
    live = (live * count + _SMOOTHING) / (count + _SMOOTHING * len(live))
    known = (baseline.shares * baseline.parts + _SMOOTHING) / (baseline.parts + _SMOOTHING * len(live))
    index = float(((live - known) * np.log(live / known)).sum())
    return index - (len(live) - 1) * (1 / count + 1 / baseline.parts)


def embedding_baseline(embeddings: NDArray[np.floating]) -> EmbeddingBaseline:
    """Describe the reference's embeddings; the kernel's width is the median distance among them.

    Args:
        embeddings: Of held-out good parts, shape ``(m, D)``, finite.

    Raises:
        InvalidInputError: If there are fewer than 2, or one is not finite.
    """
    if embeddings.ndim != 2 or len(embeddings) < 2 or not np.isfinite(embeddings).all():
        raise InvalidInputError(f"reference embeddings must be finite and at least two, got shape {embeddings.shape}")
    known = embeddings.astype(np.float32)
    squared = (known**2).sum(axis=1)
    distances = squared[:, None] + squared[None, :] - 2 * known @ known.T
    median = float(np.median(distances[np.triu_indices(len(known), 1)]))
    width = math.sqrt(max(median, 1e-12) / 2)
    rng = np.random.default_rng(_SEED)
    directions = (rng.standard_normal((known.shape[1], _FEATURES)) / width).astype(np.float32)
    phases = rng.uniform(0, 2 * math.pi, _FEATURES).astype(np.float32)
    features = fourier_features(known, directions, phases)
    mean = features.mean(axis=0)
    centred = features - mean
    # The Gram matrix has the covariance's eigenvalues, and is the smaller of the two.
    gram = centred @ centred.T / (len(known) - 1)
    return EmbeddingBaseline(directions, phases, mean, float(np.trace(gram)), float((gram**2).sum()), len(known))


def fourier_features(
    embeddings: NDArray[np.floating], directions: NDArray[np.float32], phases: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Random Fourier features: their inner product is about the Gaussian kernel.

    Args:
        embeddings: Shape ``(n, D)``.
        directions: Shape ``(D, F)``.
        phases: Shape ``(F,)``.

    Returns:
        Shape ``(n, F)``.
    """
    found: NDArray[np.float64] = np.cos(embeddings.astype(np.float32) @ directions + phases).astype(np.float64)
    return found * math.sqrt(2 / len(phases))


def embedding_discrepancy(baseline: EmbeddingBaseline, embeddings: NDArray[np.floating]) -> float:
    """The squared MMD of live embeddings from the reference, as a multiple of what chance explains.

    Args:
        baseline: The reference.
        embeddings: Of live frames that pass, shape ``(n, D)``, finite, ``n >= 1``.

    Returns:
        ``>= 0``; above 1 no more than ``FALSE_ALARM`` of windows without drift lie.

    Raises:
        InvalidInputError: If there are none, or they do not fit the reference.
    """
    size = len(baseline.directions)
    if embeddings.ndim != 2 or not len(embeddings) or embeddings.shape[1] != size or not np.isfinite(embeddings).all():
        raise InvalidInputError(f"live embeddings must be finite and of shape (n, {size}), got {embeddings.shape}")
    live = fourier_features(embeddings, baseline.directions, baseline.phases).mean(axis=0)
    squared = float(((live - baseline.mean) ** 2).sum())
    noise = 1 / len(embeddings) + 1 / baseline.parts
    mean, variance = baseline.spread * noise, 2 * baseline.spread_squared * noise**2
    if mean <= 0 or variance <= 0:
        # A reference whose parts are all the same: whatever differs is no chance.
        return 0.0 if squared < 1e-12 else math.inf
    # A scaled chi-squared with this mean and variance.
    scale, degrees = variance / (2 * mean), 2 * mean**2 / variance
    return squared / (scale * chi_squared_quantile(1 - FALSE_ALARM, degrees))


def chi_squared_quantile(probability: float, degrees: float) -> float:
    """A quantile of the chi-squared distribution, after Wilson and Hilferty (PNAS 17, 1931), to 2 %.

    Args:
        probability: In ``(0.5, 1)``.
        degrees: Of freedom, ``> 0``, not necessarily whole.
    """
    # The normal quantile after Abramowitz and Stegun, 26.2.23.
    t = math.sqrt(-2 * math.log(1 - probability))
    normal = t - (2.515517 + 0.802853 * t + 0.010328 * t**2) / (1 + 1.432788 * t + 0.189269 * t**2 + 0.001308 * t**3)
    part = 2 / (9 * degrees)
    return float(degrees * max(0.0, 1 - part + normal * math.sqrt(part)) ** 3)


def _shares(scores: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    # A score at an edge lies above it, as one at a threshold is flagged.
    places = np.searchsorted(edges, scores.astype(np.float64), side="right")
    return np.bincount(places, minlength=len(edges) + 1) / len(scores)
