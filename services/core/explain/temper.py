"""Explaining a network that is too sure: the root of its odds in place of its confidence.

A network that answers .9999 for the whole image goes on to answer .999 until the very last of a fault is hidden, so
most masks teach nothing, and each that does teaches about many places at once. The odds have no such ceiling. Where the
confidence in the target lies above ``1 / (1 + e^-2) = .88``, what is explained is the odds to the power ``1 / T``, with
``T`` such that the whole image comes out at .88 (Guo et al. 2017, "On calibration of modern neural networks", scale
logits likewise to mend overconfidence). It rises and falls with the confidence, and up to .88 it *is* the confidence.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import SCORE_TARGET, target_values

_MOST_LOG_ODDS: Final = 2.0
_LEAST: Final = 1e-30


def temper_for(probabilities: NDArray[np.float32], target: int) -> float:
    """Choose the root for one image.

    Args:
        probabilities: Of the whole image, shape ``(C,)``.
        target: As in :class:`services.core.explain.attribution.Explainer`.

    Returns:
        ``T >= 1``; 1 leaves the confidence as it is.

    Raises:
        InvalidInputError: If there is no such class.
        ExplanationError: If a probability is not finite.
    """
    return max(1.0, float(_log_odds(probabilities[np.newaxis], target)[0]) / _MOST_LOG_ODDS)


def tempered_values(probabilities: NDArray[np.float32], target: int, temper: float) -> NDArray[np.float32]:
    """What is explained, under a root of the odds.

    Args:
        probabilities: Shape ``(B, C)``.
        target: As in :func:`services.core.explain.attribution.target_values`.
        temper: ``T``, at least 1.

    Returns:
        Shape ``(B,)``, in ``[0, 1]``.

    Raises:
        InvalidInputError: If there is no such class.
        ExplanationError: If a probability is not finite.
    """
    if temper == 1:
        return target_values(probabilities, target)
    return np.asarray(1.0 / (1.0 + np.exp(-_log_odds(probabilities, target) / temper)), dtype=np.float32)


def _log_odds(probabilities: NDArray[np.float32], target: int) -> NDArray[np.float64]:
    """``log(p / (1 - p))``; ``1 - p`` is summed from the other classes, where it keeps its digits."""
    values = target_values(probabilities, target).astype(np.float64)
    others = probabilities[:, 0] if target == SCORE_TARGET else np.delete(probabilities, target, axis=1).sum(axis=1)
    return np.asarray(np.log(np.maximum(values, _LEAST)) - np.log(np.maximum(others.astype(np.float64), _LEAST)))
