"""What an explanation is, before it becomes colours: one number for each place of the model's input.

Every method takes the same prepared image and gives the same kind of map, so that a line may be explained by whichever
is trusted most, and a detector that finds its own places gives its map through the same door.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.core.errors import ExplanationError, InvalidInputError

Predict: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From prepared images, ``uint8`` ``(B, H, W, 3)``, to class probabilities ``(B, C)``; no row depends on the others."""

AttributionMap: TypeAlias = NDArray[np.float32]
"""``(h, w)`` over the whole model input, of any resolution; higher speaks more for the target; NaN is undefined."""

#: As they are named on the command line, in settings and in events.
METHODS: Final = (
    "rise",
    "rise-centred",
    "invrise",
    "invrise-soft",
    "gradcam",
    "hirescam",
    "lime",
    "occlusion",
    "contrast",
    "centre",
)

#: The map of a detector that finds places by itself; no other model has one.
OWN_MAP: Final = "anomaly-map"

#: Everything that may be asked for.
KNOWN_METHODS: Final = (*METHODS, OWN_MAP)

#: Those that look into the network instead of asking it.
NETWORK_METHODS: Final = frozenset({"gradcam", "hirescam"})

#: The target that stands for the anomaly score ``1 - P(good)`` instead of one class.
SCORE_TARGET: Final = -1

#: Share of a map that its hottest region takes (Dice, Jaccard, stability): paper 1, section 4.1.
TOP_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Budget:
    """What an explanation may cost.

    Attributes:
        max_passes: Most forward passes, at least 1.
        batch_size: Images of one forward pass, at least 1.
        min_stability: Stop as soon as the map is this stable (see ``Attribution.stability``); None spends everything.
        out_of_time: Asked between batches; True ends the work with what there is.
    """

    max_passes: int = 1000
    batch_size: int = 16
    min_stability: float | None = None
    out_of_time: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        for name, value in (("max_passes", self.max_passes), ("batch_size", self.batch_size)):
            if value < 1:
                raise InvalidInputError(f"{name} must be at least 1, got {value}")
        if self.min_stability is not None and not 0 < self.min_stability <= 1:
            raise InvalidInputError(f"min_stability must lie in (0, 1], got {self.min_stability}")


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """A map, finished or on its way.

    Attributes:
        method: One of :data:`METHODS`, or a detector's own name.
        values: The map.
        passes: Forward passes spent so far.
        stability: Dice of the hottest tenths of two maps from halves of the passes, in ``[0, 1]``; NaN for methods
            that draw nothing at random.
        final: Whether nothing follows.
        partial: Whether time ran out before the passes did.
    """

    method: str
    values: AttributionMap
    passes: int
    stability: float = math.nan
    final: bool = True
    partial: bool = False

    @property
    def coverage(self) -> float:
        """Share of the map that is defined, in ``[0, 1]``."""
        return float(np.isfinite(self.values).mean())


class Explainer(Protocol):
    """Explains what a model says of one image; needs nothing of the model but its answers."""

    def explain(
        self, image: NDArray[np.uint8], target: int, predict: Predict, *, seed: int, budget: Budget
    ) -> Iterator[Attribution]:
        """Yield maps that become better; the last one says so.

        Args:
            image: Prepared, ``uint8``, shape ``(H, W, 3)``.
            target: Class whose probability is explained, or :data:`SCORE_TARGET`.
            predict: The model.
            seed: Of whatever is drawn; equal seeds give equal maps.
            budget: Where to stop.

        Raises:
            ExplanationError: When the model gives something that cannot be explained, such as NaN.
        """
        ...


def target_values(probabilities: NDArray[np.float32], target: int) -> NDArray[np.float32]:
    """Pick what is explained out of the model's answers.

    Args:
        probabilities: Shape ``(B, C)``; class 0 is good.
        target: A class, or :data:`SCORE_TARGET`.

    Returns:
        Shape ``(B,)``, in ``[0, 1]``.

    Raises:
        InvalidInputError: If there is no such class.
        ExplanationError: If a probability is not finite.
    """
    if target == SCORE_TARGET:
        values = probabilities[:, 1:].sum(axis=1)
    elif 0 <= target < probabilities.shape[1]:
        values = probabilities[:, target]
    else:
        raise InvalidInputError(f"target must be -1 or a class in 0..{probabilities.shape[1] - 1}, got {target}")
    if not np.isfinite(values).all():
        raise ExplanationError("the model must answer finite probabilities, got NaN or infinity", "nan_scores")
    return np.asarray(values, dtype=np.float32)


def hottest(values: AttributionMap, share: float = TOP_SHARE) -> NDArray[np.bool_]:
    """Mark the hottest share of a map; ties are taken in reading order so that the share is exact.

    Args:
        values: The map; NaN is never hot.
        share: In ``(0, 1]``.

    Returns:
        ``bool``, of the map's shape, with ``round(share * size)`` pixels set (at least one), fewer where not defined.
    """
    flat = np.where(np.isfinite(values), values, -np.inf).ravel()
    count = min(max(1, round(share * flat.size)), int(np.isfinite(values).sum()))
    marked = np.zeros(flat.size, dtype=bool)
    marked[np.argsort(-flat, kind="stable")[:count]] = True
    return marked.reshape(values.shape)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Overlap of two regions of one shape, in ``[0, 1]``; two empty ones agree."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 1.0
