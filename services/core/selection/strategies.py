"""Which part an operator is asked about next, and what one answer is worth: the strategies of paper 1, section 4.2."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError


class Query(enum.Enum):
    """How the next part is chosen."""

    RANDOM = "random"
    LOWEST_CONFIDENCE = "lowest-confidence"
    """Where the most probable class is the least probable: the paper's."""
    MARGIN = "margin"
    """Where the two most probable classes are closest."""
    DISAGREEMENT = "disagreement"
    """Where the members of a panel contradict each other most."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """NearCAIPI with parts of it switched off.

    Attributes:
        name: As on the command line.
        query: How the next part is chosen.
        near: Whether near hit and near miss follow a wrong verdict.
        refute: Whether an answer becomes refutations too.
    """

    name: str
    query: Query
    near: bool
    refute: bool


#: By name, in the order of the paper's tables.
STRATEGIES: Final = {
    strategy.name: strategy
    for strategy in (
        Strategy("random", Query.RANDOM, near=False, refute=False),
        Strategy("al", Query.LOWEST_CONFIDENCE, near=False, refute=False),
        Strategy("near-al", Query.LOWEST_CONFIDENCE, near=True, refute=False),
        Strategy("caipi", Query.LOWEST_CONFIDENCE, near=False, refute=True),
        Strategy("near-caipi", Query.LOWEST_CONFIDENCE, near=True, refute=True),
    )
}


def strategy_named(name: str) -> Strategy:
    """Find a strategy.

    Raises:
        InvalidInputError: If there is none of that name.
    """
    if name not in STRATEGIES:
        raise InvalidInputError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name[:80]!r}")
    return STRATEGIES[name]


def information(
    query: Query,
    probabilities: NDArray[np.floating],
    *,
    disagreement: NDArray[np.floating] | None = None,
    random: np.random.Generator | None = None,
) -> NDArray[np.float64]:
    """Say how much an answer to each part may teach.

    Args:
        query: By what.
        probabilities: Of the classes, shape ``(N, C)``, rows sum to 1.
        disagreement: Of a panel's members, 0..1, shape ``(N,)``; needed by ``DISAGREEMENT``.
        random: Draws; needed by ``RANDOM``.

    Returns:
        Shape ``(N,)``; the highest is asked about first.

    Raises:
        InvalidInputError: If what the query needs is not there, or shapes do not fit.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise InvalidInputError(f"probabilities must be (N, C) with C >= 2, got {probabilities.shape}")
    if query is Query.RANDOM:
        if random is None:
            raise InvalidInputError("random must be given for the query random, got none")
        return random.random(len(probabilities))
    if query is Query.DISAGREEMENT:
        if disagreement is None or disagreement.shape != (len(probabilities),):
            got = "none" if disagreement is None else str(disagreement.shape)
            raise InvalidInputError(f"disagreement must be ({len(probabilities)},), got {got}")
        return disagreement.astype(np.float64)
    ordered = np.sort(probabilities.astype(np.float64), axis=1)
    if query is Query.MARGIN:
        return np.asarray(ordered[:, -2] - ordered[:, -1])
    return np.asarray(1 - ordered[:, -1])
