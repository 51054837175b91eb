"""Near hits, near misses and the farthest: what resembles a part whose verdict a person corrected.

Algorithm 1 of NearCAIPI (paper 1, section 3.4) asks about more images once a verdict was wrong: the near hit, the most
similar one of the same class; the near miss, the most similar one of the other class; figure 4 adds the farthest image.
Similar is the cosine of two embeddings, the input of the model's last layer (eq. 3), so only embeddings of one model
version are ever compared.

The pool is unlabelled, so a neighbour's class is what people settled on where they did, and the model's prediction
elsewhere; the paper does not say which. The case's own class is the person's, as in the paper.

Another picture of the same part is never a neighbour: it resembles the case more than anything else does and teaches
nothing that the case did not.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.review import QueuedCase
from services.core.types import Inspection, Verdict


class Relation(enum.Enum):
    """What a neighbour is to a case."""

    NEAR_HIT = "near_hit"
    """The most similar of the same class."""
    NEAR_MISS = "near_miss"
    """The most similar of the other class."""
    FARTHEST = "farthest"
    """The least similar of all."""


class Flaw(enum.Enum):
    """Why an embedding cannot be compared."""

    EMPTY = "empty"
    NOT_FINITE = "not_finite"
    ZERO = "zero"
    OTHER_LENGTH = "other_length"
    """It has another length than the others of its model version."""


#: Similarities are given to so many decimals: half floats carry no more, and what differs only beyond them is equal.
DECIMALS: Final = 5
#: Order in which neighbours are given.
RELATIONS: Final = (Relation.NEAR_HIT, Relation.NEAR_MISS, Relation.FARTHEST)

_OTHER: Final = {Verdict.PASS: Verdict.FAIL, Verdict.FAIL: Verdict.PASS}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place in an index of embeddings, and how much it resembles the question."""

    place: int
    similarity: float
    """Cosine, -1 to 1."""
    captured_at_ns: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One neighbour of a case."""

    relation: Relation
    similarity: float
    """Cosine, -1 to 1."""
    neighbour_id: str
    """Of the case that it is, or would be."""
    inspection: Inspection
    case: QueuedCase | None = None
    """The case, where it is one."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What was found for a case."""

    neighbours: tuple[Neighbour, ...]
    """Near hit, near miss, farthest, each at most once."""
    compared: int
    """Embeddings that the case was compared with."""
    exact: bool
    """Whether each of them was; False where an approximate index stood in between."""
    queued: tuple[QueuedCase, ...] = ()
    """What comes next in the queue of whoever asked, the first in front."""


def predicted_class(inspection: Inspection) -> Verdict | None:
    """Say what the model takes a part for.

    Args:
        inspection: The verdict. Where the model asked for a person, its score against the threshold decides.

    Returns:
        PASS or FAIL; None where no model saw the image.
    """
    if inspection.verdict is not Verdict.REVIEW:
        return inspection.verdict
    score, threshold = inspection.score, inspection.operating_point.threshold
    if not (math.isfinite(score) and math.isfinite(threshold)):
        return None
    return Verdict.FAIL if score >= threshold else Verdict.PASS


def class_of(inspection: Inspection, settled: Verdict | None) -> Verdict | None:
    """Say what a part counts as: what people settled on, else what the model takes it for; None where nobody knows."""
    return settled if settled is not None else predicted_class(inspection)


def class_wanted(relation: Relation, own: Verdict | None) -> Verdict | None:
    """Say of which class a neighbour must be.

    Args:
        relation: What it is to be.
        own: Class of the case, PASS or FAIL.

    Returns:
        PASS or FAIL; None where any will do.

    Raises:
        InvalidInputError: If a hit or a miss is asked for of a case that has no class.
    """
    if relation is Relation.FARTHEST:
        return None
    if own not in _OTHER:
        got = own.value if own else "none"
        raise InvalidInputError(f"a near hit or near miss must be asked for with pass or fail, got {got}")
    return own if relation is Relation.NEAR_HIT else _OTHER[own]


def flaw_of(embedding: NDArray[np.floating]) -> Flaw | None:
    """Say why an embedding cannot be compared with any other; None where it can.

    Args:
        embedding: Shape ``(D,)``.
    """
    if not embedding.size:
        return Flaw.EMPTY
    if not np.isfinite(embedding).all():
        return Flaw.NOT_FINITE
    return None if embedding.any() else Flaw.ZERO


def unit(embedding: NDArray[np.floating]) -> NDArray[np.float16]:
    """Scale an embedding to length 1, so that a cosine is an inner product.

    Args:
        embedding: Shape ``(D,)``.

    Returns:
        Half precision, which moves a cosine by less than a thousandth.

    Raises:
        InvalidInputError: If it has a flaw; see :func:`flaw_of`.
    """
    flaw = flaw_of(embedding)
    if flaw is not None:
        raise InvalidInputError(f"an embedding must be finite and not zero to have a direction, got {flaw.value}")
    values = embedding.astype(np.float64)
    # By the largest value first: squares of numbers near the end of a float's range leave it.
    values /= np.abs(values).max()
    return (values / np.linalg.norm(values)).astype(np.float16)


def in_order(candidates: Sequence[Candidate], relation: Relation) -> list[Candidate]:
    """Put candidates in order, the best first; of equals the older frame, and of those the one that came first."""
    sign = 1.0 if relation is Relation.FARTHEST else -1.0
    return sorted(candidates, key=lambda one: (sign * one.similarity, one.captured_at_ns, one.place))
