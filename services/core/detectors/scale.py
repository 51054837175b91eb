"""From a detector's raw scores, which have no common unit, to a score that means the same for every detector.

The calibrated score lies in 0 to 1 and is 0.5 at the threshold (paper 3, "Performance Detection model": F1 at threshold
0.5). PyOD's own thresholds come from a contamination that nobody knows and from the images of the fit, and reject most
good parts for some detectors; here the threshold is a promise about **held-out good parts**, see
:mod:`services.core.calibration`. The unit is what lies between the median good part and the threshold, so the median
good part gets 0.1, and a part as far above the threshold as that is below it gets 0.9.

**Where some of the good parts are none.** A share of hidden defects above the false-reject target would lie at or above
the honest threshold, pull it up and let defects of that kind escape; with few parts a single one does. Parts far out
are therefore counted: those above the upper quartile by more than three times the distance of the quartiles (Tukey,
"Exploratory Data Analysis", 1977, chapter 2), stretched where scores are skewed as distances are (by ``exp(3 B)`` with
Bowley's skewness B, after Hubert and Vandervieren, "An adjusted boxplot for skewed distributions", Computational
Statistics & Data Analysis 52, 2008). Of normal scores one in a million lies there, of exponential ones two in ten
thousand. At most a tenth of the parts are left out, and the scale says so; the promise then holds for the parts that
are not far out. Hidden defects whose scores lie among the good parts' cannot be told from them by scores alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.core.calibration import DEFAULT_CONFIDENCE, false_reject_threshold, parts_needed
from services.core.errors import InvalidInputError, ModelFormatError
from services.core.manifest import load_json, read_strictly

#: Calibrated score of the median good part.
MEDIAN_SCORE: Final = 0.1
#: Fewest held-out good parts that a scale is made of.
MIN_PARTS: Final = 8
#: Largest share of far-out parts that is taken for hidden defects; more of them are a second kind of good part.
MAX_HIDDEN_SHARE: Final = 0.1

Basis = Literal["confidence", "average", "maximum"]

#: Farthest that :func:`to_distance` goes; maps travel in half floats, which end at 65504.
MAX_DISTANCE: Final = 1e4

_SCHEMA: Final = 1
_FAR_OUT: Final = 3.0
_MOST_SKEW: Final = 0.5
_STEEPNESS: Final = (1 - 2 * MEDIAN_SCORE) / (2 * MEDIAN_SCORE)
_BELOW_HALF: Final = math.nextafter(0.5, 0.0)


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """A monotone map from raw scores to calibrated ones.

    Attributes:
        threshold: Raw score that becomes 0.5; a part at or above it is rejected.
        unit: Raw distance from the median good part to the threshold, ``> 0``.
        false_reject_target: The share of good parts that may be rejected.
        confidence: The probability that the promise was to hold with.
        basis: How far the parts carried it: with that ``confidence``; on ``average`` over calibrations only; or not at
            all, and the threshold lies just above the ``maximum``: the next good part is rejected with a probability of
            at most ``1 / (n + 1)``.
        n_good: Held-out good parts that it was given.
        n_left_out: How many of them were left out as hidden defects; above 0, somebody should look at them.
        outlying_share: Estimated share of hidden defects: those that lie far out from the others; above a tenth they
            are taken for a second kind of good part and kept.
        schema: Version of the layout.
    """

    threshold: float
    unit: float
    false_reject_target: float
    confidence: float
    basis: Basis
    n_good: int
    n_left_out: int
    outlying_share: float
    schema: int = _SCHEMA

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold) or not (math.isfinite(self.unit) and self.unit > 0):
            raise InvalidInputError(f"threshold must be finite and unit above 0, got {self.threshold} and {self.unit}")
        if self.schema != _SCHEMA:
            raise InvalidInputError(f"schema must be {_SCHEMA}, got {self.schema}")

    @property
    def suspect(self) -> bool:
        """Whether parts that were called good look like hidden defects, left out or too many for that."""
        return self.outlying_share > 0

    def apply(self, raw: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrate scores.

        The map is ``z / (1 + |z|)``, which tells parts apart that are thousands of units out, where a logistic
        curve has long reached 1.

        Args:
            raw: Raw scores, any shape, finite.

        Returns:
            Calibrated scores, in 0 to 1; ``>= 0.5`` exactly where the raw score reaches the threshold.
        """
        values = np.asarray(raw, dtype=np.float64)
        distance = _STEEPNESS * ((values - self.threshold) / self.unit)
        scores = 0.5 + 0.5 * distance / (1 + np.abs(distance))
        # Rounding may not carry a part over the threshold.
        return np.asarray(np.where(values < self.threshold, np.minimum(scores, _BELOW_HALF), np.maximum(scores, 0.5)))

    def to_json(self) -> bytes:
        """Write the scale; equal scales give equal bytes."""
        return (json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> ScoreScale:
        """Read a scale.

        Raises:
            ModelFormatError: If any field is unknown, missing or wrong.
        """
        try:
            return read_strictly(cls, load_json(data, "scale.json"), "scale.json")
        except ModelFormatError:
            raise
        except InvalidInputError as error:
            raise ModelFormatError(f"scale.json: {error}") from error


def to_distance(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Undo the bend of :meth:`ScoreScale.apply`, so that what is far out looks far out again.

    Args:
        scores: Calibrated scores, in 0 to 1.

    Returns:
        0 at the threshold, -4 at the median good part, within +-:data:`MAX_DISTANCE`; the order is kept.
    """
    bent = 2 * np.asarray(scores, dtype=np.float64) - 1
    most = MAX_DISTANCE / (1 + MAX_DISTANCE)
    bent = np.clip(bent, -most, most)
    return np.asarray(bent / (1 - np.abs(bent)))


def worst_by_group(scores: NDArray[np.floating], groups: Sequence[str]) -> NDArray[np.float64]:
    """Give each part one score: its worst image's, as the line has it.

    Args:
        scores: One for each image, shape ``(n,)``.
        groups: The part of each image.

    Returns:
        One for each part, in the order of their names.
    """
    worst: dict[str, float] = {}
    for group, score in zip(groups, scores, strict=True):
        worst[group] = max(float(score), worst.get(group, -math.inf))
    return np.array([worst[group] for group in sorted(worst)])


def fit_scale(
    good: NDArray[np.floating], false_reject_target: float = 0.01, confidence: float = DEFAULT_CONFIDENCE
) -> ScoreScale:
    """Make a scale of held-out good parts.

    Args:
        good: Raw scores of good parts that the detector was not fitted on, shape ``(n,)``, finite, one for each part.
        false_reject_target: Largest share of good parts to reject, in ``(0, 1)``.
        confidence: Probability that this holds, in ``[0, 1)``; where there are too few parts for it, the promise is
            weakened as :attr:`ScoreScale.basis` says.

    Raises:
        InvalidInputError: If scores are no finite numbers, fewer than :data:`MIN_PARTS`, or all equal.
    """
    if not 0 < false_reject_target < 1 or not 0 <= confidence < 1:
        raise InvalidInputError(
            f"false_reject_target must lie in (0, 1) and confidence in [0, 1), got {false_reject_target}, {confidence}"
        )
    if good.ndim != 1 or not np.isfinite(good).all():
        raise InvalidInputError(f"good scores must be finite and of shape (n,), got shape {good.shape}")
    if len(good) < MIN_PARTS:
        raise InvalidInputError(f"a scale takes at least {MIN_PARTS} held-out good parts, got {len(good)}")
    scores = np.sort(good.astype(np.float64))
    if scores[0] == scores[-1]:
        raise InvalidInputError(
            f"the scores of good parts must differ, got {len(scores)} times {scores[0]:g}: the detector does not tell "
            "images apart; take another detector, or other features"
        )
    far_out = _count_far_out(scores)
    left_out = far_out if far_out <= MAX_HIDDEN_SHARE * len(scores) else 0
    kept = scores[: len(scores) - left_out]
    threshold, basis = _threshold(kept, false_reject_target, confidence)
    return ScoreScale(
        threshold=threshold,
        unit=_unit(kept, threshold),
        false_reject_target=false_reject_target,
        confidence=confidence,
        basis=basis,
        n_good=len(scores),
        n_left_out=left_out,
        outlying_share=far_out / len(scores),
    )


def _count_far_out(scores: NDArray[np.float64]) -> int:
    lower, middle, upper = (float(value) for value in np.quantile(scores, (0.25, 0.5, 0.75)))
    spread = upper - lower
    if spread <= 0:
        # Where half of the parts share a score, the quartiles are no measure of spread.
        return 0
    skew = min(max((upper + lower - 2 * middle) / spread, 0.0), _MOST_SKEW)
    return int((scores > upper + _FAR_OUT * math.exp(3 * skew) * spread).sum())


def _threshold(scores: NDArray[np.float64], target: float, confidence: float) -> tuple[float, Basis]:
    if len(scores) >= parts_needed(target, confidence):
        return false_reject_threshold(scores, target, confidence), "confidence" if confidence else "average"
    if len(scores) >= parts_needed(target, 0.0):
        return false_reject_threshold(scores, target, 0.0), "average"
    return math.nextafter(float(scores[-1]), math.inf), "maximum"


def _unit(scores: NDArray[np.float64], threshold: float) -> float:
    """Median to threshold; where more than half of the parts share the top score, lowest score to threshold."""
    least = 1e-9 * float(scores[-1] - scores[0])
    unit = threshold - float(np.median(scores))
    return unit if unit > least else max(threshold - float(scores[0]), math.ulp(threshold))
