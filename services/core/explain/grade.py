"""How far a map may be trusted, as a letter that is shown beside it.

The letter stands for *trust*: the estimated chance that the defect lies where a map with this evidence is hottest,
which is to say within a twentieth of the image's longer side. Masks have cells of an eighth; a map made of them cannot
place a point better.

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
- *transplant*: whether a good part into which the surroundings of the hottest point are put becomes a defect.

Only the last tells anything that holds from one product to the next. On 213 maps by ``invrise-soft``, HiResCAM and
Grad-CAM of 71 flagged defects (magnetic tile, simulated discs and fabric; two classifiers) it tells maps that have the
defect at their hottest point from others with an AUROC of .88 (.99, .95 and .78 within the three products), and maps
whose hottest point lies *on* the defect, to the pixel, with .73 (.80, .89 and .75). The other pieces gave .45 to .67
for the latter; weights that were fitted to them on one product alone promised .78 and were worth .43 to .60 on the
next. So they have no weight, but for coverage. docs/experiments.md tells how to repeat it. All of this is of
classifiers: of a detector that has learned from good parts alone nothing was found yet that a grade could be made from,
so its maps get a C at best.

A piece that was not measured (NaN) counts as :attr:`Coefficients.reference` says, a value that speaks neither for the
map nor much against it; with no evidence but the probability there is nothing to estimate, so trust is 0 and the grade
D. And a map must show that the model follows it: where neither deletion nor insertion beats the misplaced map, or
where nothing of the three was measured, the grade is at best B.
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
    "transplant",
)

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
        transplant: See :class:`services.core.explain.faithfulness.Faithfulness`.
    """

    probability: float = math.nan
    deletion_auc: float = math.nan
    insertion_auc: float = math.nan
    random_auc: float = math.nan
    stability: float = math.nan
    coverage: float = math.nan
    agreement: float = math.nan
    method: str = ""
    transplant: float = math.nan

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
                self.transplant,
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
_REFERENCE: Final = (0.0, 0.0, 0.8, 1.0, 0.1, 0.8, 0.05)

#: Fitted as the module says, rounded. Every map of the fit was defined everywhere, so the weight of coverage is no fit
#: but a precaution: a map that is defined on half of the image loses 0.5.
COEFFICIENTS: Final = Coefficients(
    bias=-1.01,
    weights=(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 11.2),
    reference=_REFERENCE,
)


def estimate_trust(evidence: Evidence, coefficients: Coefficients = COEFFICIENTS) -> float:
    """Estimate the chance that the defect lies where the map is hottest.

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
    unmeasured = math.isnan(deletion) and math.isnan(insertion)
    if math.isnan(evidence.transplant) if unmeasured else not (deletion > 0 or insertion > 0):
        trust = min(trust, _BEST_UNPROVEN)
    for least, letter in _LEAST_TRUST:
        if trust >= least:
            return letter, trust
    return Grade.D, trust


def is_proven(letter: Grade | None) -> bool:
    """Tell whether a grade says that the defect more likely than not lies where the map is hottest."""
    return letter in (Grade.A, Grade.B)


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
