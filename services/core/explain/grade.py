"""How far a map may be trusted, as a letter that is shown beside it.

The letter stands for *trust*: the estimated chance that the hottest point of a map with this evidence lies on the
defect.

=====  =============  ==================================================================================
Grade  Trust          Read it as
=====  =============  ==================================================================================
A      0.75 and up    The model looks there, and there the defect most likely is.
B      0.50 to 0.75   Look there first.
C      0.25 to 0.50   A hint; look at the whole part.
D      below 0.25     Do not go by this map.
=====  =============  ==================================================================================

Trust is a logistic sum over the evidence, each piece of which can only help as it gets better:

- *deletion*: how far the answer falls below that of the misplaced map when the hottest pixels are hidden;
- *insertion*: how far it rises above it when only they are shown;
- *stability*: whether two halves of the masks give the same map;
- *coverage*: how much of the map is defined at all;
- *agreement*: whether a second method points to the same place;
- *probability*: how sure the model is of a defect;
- *contrast*: how far the image differs from its own surroundings at the hottest point, and *prominence*: how far that
  point stands out of the map (:mod:`services.core.explain.peak`).

The coefficients are fitted to 270 maps by ``invrise-soft``, Grad-CAM and HiResCAM of 90 flagged defects of magnetic
tile, in 19 groups, seen by one classifier. Trust tells hits from misses with an AUROC of .82 on these very maps and
of .78 where coefficients are fitted to other groups (five folds); among the maps of ``invrise-soft`` alone it is .63
there, of HiResCAM .77. Without contrast and prominence it was .61 on the same folds. Deletion and agreement told
nothing, which is why they have no weight: what hides a pixel can itself look like a defect. What each method is worth
by itself added nothing once the two were known. All this is of one product; docs/experiments.md tells how to repeat
it on another.

A piece that was not measured (NaN) counts as :attr:`Coefficients.reference` says, a value that speaks neither for the
map nor much against it; with no evidence but the probability there is nothing to estimate, so trust is 0 and the grade
D. And a map must show that the model follows it: without a measured deletion or insertion, or where neither beats the
misplaced map, the grade is at best B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.types import Grade

#: Pieces of evidence, in the order of coefficients.
PIECES: Final = (
    "deletion",
    "insertion",
    "stability",
    "coverage",
    "agreement",
    "probability",
    "contrast",
    "prominence",
)

_LEAST_RANK_GAP: Final = 1e-3
_LEAST_TRUST: Final = ((0.75, Grade.A), (0.5, Grade.B), (0.25, Grade.C))
_BEST_UNPROVEN: Final = math.nextafter(0.75, 0.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a map; NaN is not measured.

    Attributes:
        probability: Of the target, for the image as it is.
        deletion_auc: See :class:`services.core.explain.faithfulness.Faithfulness`.
        insertion_auc: As there.
        random_auc: As there.
        stability: See :class:`services.core.explain.attribution.Attribution`.
        coverage: As there.
        agreement: With a second method, see :func:`services.core.explain.faithfulness.agreement`.
        method: Which method the map is of; empty or unknown counts as an ordinary one.
        contrast_rank: See :class:`services.core.explain.peak.Peak`.
        prominence: As there.
    """

    probability: float = math.nan
    deletion_auc: float = math.nan
    insertion_auc: float = math.nan
    random_auc: float = math.nan
    stability: float = math.nan
    coverage: float = math.nan
    agreement: float = math.nan
    method: str = ""
    contrast_rank: float = math.nan
    prominence: float = math.nan

    def pieces(self) -> NDArray[np.float64]:
        """The evidence in the order of :data:`PIECES`, each higher where better, NaN where not measured."""
        return np.array(
            [
                self.random_auc - self.deletion_auc,
                self.insertion_auc - self.random_auc,
                self.stability,
                self.coverage,
                self.agreement,
                self.probability,
                # Ranks close to 1 differ by orders of magnitude in how few pixels are more unusual.
                -math.log10(1.0 - self.contrast_rank + _LEAST_RANK_GAP),
                self.prominence,
            ]
        )


@dataclass(frozen=True, slots=True)
class Coefficients:
    """How much each piece counts.

    Attributes:
        bias: Log odds where every piece has its reference value.
        weights: Log odds for one unit of each piece, ``>= 0``, in the order of :data:`PIECES`.
        reference: What a piece that was not measured counts as.
        methods: Log odds that a method has beyond an ordinary one, each with its name.
    """

    bias: float
    weights: tuple[float, ...]
    reference: tuple[float, ...]
    methods: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if len(self.weights) != len(PIECES) or len(self.reference) != len(PIECES):
            raise InvalidInputError(f"there must be {len(PIECES)} weights and references, got {self}")
        if min(self.weights) < 0:
            raise InvalidInputError(f"weights must not be negative (better evidence never harms), got {self.weights}")


#: References are what a map without any merit would reach, or, for stability, an ordinary one.
_REFERENCE: Final = (0.0, 0.0, 0.8, 1.0, 0.1, 0.8, 1.0, 0.4)

#: Fitted as the module says, rounded. Every map of the fit was defined everywhere, so the weight of coverage is no fit
#: but a precaution: a map that is defined on half of the image loses 0.5.
COEFFICIENTS: Final = Coefficients(
    bias=-1.37,
    weights=(0.0, 0.47, 0.82, 1.0, 0.0, 0.0, 1.03, 3.4),
    reference=_REFERENCE,
)


def estimate_trust(evidence: Evidence, coefficients: Coefficients = COEFFICIENTS) -> float:
    """Estimate the chance that the hottest point lies on the defect.

    Args:
        evidence: What is known.
        coefficients: How much each piece counts.

    Returns:
        In ``[0, 1]``; 0 where nothing but the probability is known.
    """
    pieces = evidence.pieces()
    if not np.isfinite(np.delete(pieces, PIECES.index("probability"))).any():
        return 0.0
    bias = coefficients.bias + dict(coefficients.methods).get(evidence.method, 0.0)
    offsets = _offsets(pieces, coefficients.reference)
    return float(_sigmoid(bias + float(offsets @ np.array(coefficients.weights))))


def grade(evidence: Evidence, coefficients: Coefficients = COEFFICIENTS) -> tuple[Grade, float]:
    """Grade a map.

    Args:
        evidence: What is known of it.
        coefficients: How much each piece counts.

    Returns:
        The grade and the trust that it stands for, in ``[0, 1]``.
    """
    trust = estimate_trust(evidence, coefficients)
    deletion, insertion = evidence.pieces()[:2]
    if not (deletion > 0 or insertion > 0):
        trust = min(trust, _BEST_UNPROVEN)
    for least, letter in _LEAST_TRUST:
        if trust >= least:
            return letter, trust
    return Grade.D, trust


def fit_coefficients(
    evidence: Sequence[Evidence],
    hits: Sequence[bool],
    *,
    reference: tuple[float, ...] = _REFERENCE,
    penalty: float = 0.01,
    iterations: int = 5000,
) -> Coefficients:
    """Fit the coefficients to maps whose hottest point is known to lie on the defect or not.

    Logistic regression with weights that cannot be negative, by projected gradient descent; each method that the maps
    name gets its own log odds.

    Args:
        evidence: Of the maps.
        hits: Whether each map's hottest point lies on the defect.
        reference: What a piece that was not measured counts as.
        penalty: Of the squared weights, on pieces scaled to unit spread; keeps them finite where hits separate.
        iterations: Steps of the descent.

    Returns:
        The coefficients.

    Raises:
        InvalidInputError: If there is not at least one hit and one miss.
    """
    truth = np.asarray(hits, dtype=np.float64)
    if len(evidence) != len(truth) or truth.min(initial=1.0) == truth.max(initial=0.0):
        raise InvalidInputError(f"a fit needs hits and misses, got {len(evidence)} maps with {int(truth.sum())} hits")
    offsets = np.stack([_offsets(one.pieces(), reference) for one in evidence])
    spread = offsets.std(axis=0)
    spread[spread < 1e-9] = np.inf
    names = sorted({one.method for one in evidence} - {""})
    of_method = np.array([[one.method == name for name in names] for one in evidence], dtype=np.float64)
    scaled = np.hstack([offsets / spread, of_method])
    least = np.where(np.arange(scaled.shape[1]) < len(PIECES), 0.0, -np.inf)
    weights, bias = np.zeros(scaled.shape[1]), 0.0
    # The curvature of a logistic loss is at most a quarter of the data's: this step never overshoots.
    step = 1.0 / (0.25 * (1.0 + float((scaled**2).sum(axis=1).mean())) + penalty)
    for _ in range(iterations):
        error = _sigmoid(bias + scaled @ weights) - truth
        bias -= step * float(error.mean())
        weights = np.maximum(least, weights - step * (scaled.T @ error / len(truth) + penalty * weights))
    of_pieces = tuple(float(weight) for weight in weights[: len(PIECES)] / spread)
    own = tuple((name, float(weight)) for name, weight in zip(names, weights[len(PIECES) :], strict=True))
    return Coefficients(float(bias), of_pieces, reference, own)


def _offsets(pieces: NDArray[np.float64], reference: tuple[float, ...]) -> NDArray[np.float64]:
    return np.where(np.isfinite(pieces), pieces - np.array(reference), 0.0)


def _sigmoid(log_odds: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -500, 500))))
