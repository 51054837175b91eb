"""Labels that nobody gave: a detector's verdicts on unlabelled images, for a network to be fitted to.

Paper 3, method 1, "Two models in a pipeline": a detector that has learned from good parts says which images of an
unlabelled set are anomalous, a network is fitted to those verdicts, and what explains networks explains it. The network
learns the detector's mistakes too, and most of them lie close to the threshold; so images within a **margin** of it are
left out. Nothing here ever sees a true label.

**Imbalance.** Anomalies are rare (five in the paper's first thousand images). The training loss weighs the two classes
alike, however many images they have, which turns one wrong label among five anomalies into a fifth of a class; and most
batches would hold no anomaly at all. So at most :data:`MOST_GOOD_PER_ANOMALY` good images are kept for each anomaly,
drawn by seed, and fewer than :data:`MIN_PARTS` parts of either class are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.manifest import GOOD

#: Calibrated score from which a detector calls an image anomalous, see ``services.core.detectors.scale``.
THRESHOLD: Final = 0.5
#: How far from the threshold a score must lie where nobody says otherwise.
DEFAULT_MARGIN: Final = 0.1
#: Fewest parts of each class that a network is fitted to.
MIN_PARTS: Final = 8
#: Most good images for each anomalous one.
MOST_GOOD_PER_ANOMALY: Final = 10

#: The class beside good, for there is one only: a detector does not say what is wrong.
ANOMALY: Final = "anomaly"
CLASSES: Final = (GOOD, ANOMALY)

LABEL_GOOD: Final = 0
LABEL_ANOMALY: Final = 1
LEFT_OUT: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class PseudoLabels:
    """What a detector called each image.

    Attributes:
        labels: :data:`LABEL_GOOD`, :data:`LABEL_ANOMALY` or :data:`LEFT_OUT`, ``int64``, shape ``(N,)``.
        groups: The part that each image shows.
        margin: How far from the threshold the score of a labelled image lies at least.
    """

    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    margin: float

    @property
    def n_good(self) -> int:
        """Images that were labelled good."""
        return int((self.labels == LABEL_GOOD).sum())

    @property
    def n_anomaly(self) -> int:
        """Images that were labelled anomalous."""
        return int((self.labels == LABEL_ANOMALY).sum())

    @property
    def n_left_out(self) -> int:
        """Images within the margin."""
        return int((self.labels == LEFT_OUT).sum())

    def balanced(self, seed: int, most_good: int = MOST_GOOD_PER_ANOMALY) -> NDArray[np.intp]:
        """Choose the images that a network is fitted to: all anomalies, and a bounded number of good ones.

        Args:
            seed: Of the draw among good images.
            most_good: Of them for each anomaly, ``>= 1``.

        Returns:
            Rows, ascending; none of them is left out by the margin.
        """
        good = np.flatnonzero(self.labels == LABEL_GOOD)
        anomalous = np.flatnonzero(self.labels == LABEL_ANOMALY)
        most = most_good * len(anomalous)
        if len(good) > most:
            good = np.random.default_rng(seed).choice(good, most, replace=False)
        return np.sort(np.concatenate([good, anomalous]))


def label_by_score(
    scores: NDArray[np.floating],
    margin: float = DEFAULT_MARGIN,
    groups: Sequence[str] | None = None,
    min_parts: int = MIN_PARTS,
) -> PseudoLabels:
    """Turn calibrated scores into labels.

    Args:
        scores: Calibrated, shape ``(N,)``, in 0 to 1; :data:`THRESHOLD` is where the detector rejects.
        margin: An image is anomalous from ``0.5 + margin`` on and good below ``0.5 - margin``; in ``[0, 0.5)``. At 0
            every image has a label.
        groups: The part that each image shows; each its own where this is None.
        min_parts: Fewest parts of each class.

    Returns:
        The labels.

    Raises:
        InvalidInputError: If scores or margin are out of range, or a class has too few parts; the message says what to
            change.
    """
    if not 0 <= margin < THRESHOLD:
        raise InvalidInputError(f"margin must lie in [0, {THRESHOLD}), got {margin}")
    if scores.ndim != 1 or not np.isfinite(scores).all() or np.any((scores < 0) | (scores > 1)):
        raise InvalidInputError(f"scores must be calibrated, of shape (N,) and in 0 to 1, got shape {scores.shape}")
    own = tuple(map(str, range(len(scores)))) if groups is None else tuple(groups)
    if len(own) != len(scores):
        raise InvalidInputError(f"each score must have one group, got {len(scores)} and {len(own)}")
    labels = np.full(len(scores), LEFT_OUT, dtype=np.int64)
    labels[scores < THRESHOLD - margin] = LABEL_GOOD
    labels[scores >= THRESHOLD + margin] = LABEL_ANOMALY
    found = PseudoLabels(labels, own, margin)
    _check_enough(found, scores, min_parts)
    return found


def _check_enough(found: PseudoLabels, scores: NDArray[np.floating], least: int) -> None:
    for label, rejected in ((LABEL_ANOMALY, scores >= THRESHOLD), (LABEL_GOOD, scores < THRESHOLD)):
        have = len({found.groups[row] for row in np.flatnonzero(found.labels == label)})
        if have >= least:
            continue
        without = len({found.groups[row] for row in np.flatnonzero(rejected)})
        remedies = [f"a smaller margin than {found.margin:g} ({without} parts without one)"] if without >= least else []
        remedies += (
            ["more unlabelled images", "a larger share of false rejects", "another detector or other features"]
            if label == LABEL_ANOMALY
            else ["more unlabelled images", "good parts of the same camera and product to fit the detector on"]
        )
        raise InvalidInputError(
            f"at least {least} parts must be labelled {CLASSES[label]}, got {have} of {len(set(found.groups))} "
            f"({found.n_good} images good, {found.n_anomaly} anomalous, {found.n_left_out} left out); "
            f"take {', or '.join(remedies)}"
        )
