"""Fitting the last layer on frozen embeddings: a multinomial logistic regression, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from services.core.errors import InvalidInputError
from services.core.models.classifier import Classifier
from services.core.training.places import Places

DEFAULT_REGULARISATION: Final = 3e-2
_MIN_SPREAD: Final = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """A linear layer on raw embeddings.

    Attributes:
        weight: ``float32``, shape ``(C, D)``.
        bias: ``float32``, shape ``(C,)``.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probabilities(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Class probabilities of embeddings of shape ``(N, D)``; shape ``(N, C)``, rows sum to 1."""
        logits = embeddings.astype(np.float64) @ self.weight.astype(np.float64).T + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def scores(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Anomaly scores ``1 - P(good)`` of embeddings of shape ``(N, D)``; shape ``(N,)``."""
        return np.asarray(self.probabilities(embeddings)[:, 1:].sum(axis=1))


def fit_head(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.integer],
    num_classes: int,
    regularisation: float = DEFAULT_REGULARISATION,
    max_steps: int = 150,
    sample_weight: NDArray[np.floating] | None = None,
    places: Places | None = None,
    place_weight: float = 0.0,
) -> LinearHead:
    """Fit the last layer.

    Columns are standardised for the fit and the standardisation is folded into the layer afterwards. Classes are
    weighted so that good and the sum of all faults count alike, and the faults among themselves, however many parts of
    each there are.

    Args:
        embeddings: Shape ``(N, D)``, finite.
        labels: Shape ``(N,)``, in ``0..num_classes - 1``; 0 is good. Every class must occur.
        num_classes: Number of logits, ``>= 2``.
        regularisation: Inverse strength of the L2 penalty, ``> 0`` (scikit-learn's ``C``); smaller is stronger.
        max_steps: Most steps of L-BFGS.
        sample_weight: How much each row counts against others of its class, shape ``(N,)``, above 0; a row of weight 3
            is as good as three rows. Classes keep their shares. None counts all alike.
        places: Where parts show their class; of the network whose embeddings these are.
        place_weight: How much the distance of ``places`` counts against the mean cross-entropy, ``>= 0``.

    Returns:
        The layer. The problem is convex and starts from zero: the same data give the same layer.

    Raises:
        InvalidInputError: If a class does not occur, embeddings are not finite, or a weight is not above 0.
    """
    if embeddings.ndim != 2 or labels.shape != (len(embeddings),) or not np.isfinite(embeddings).all():
        raise InvalidInputError(
            f"embeddings must be finite and (N, D) with one label each, got {embeddings.shape} and {labels.shape}"
        )
    present = set(np.unique(labels).tolist())
    if present != set(range(num_classes)):
        raise InvalidInputError(
            f"every class of 0..{num_classes - 1} must occur among the labels, got {sorted(present)}"
        )
    data, target = torch.from_numpy(embeddings.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
    counted = torch.ones(len(target)) if sample_weight is None else _counted(sample_weight, len(target))
    # Over almost constant columns the division would blow rounding up into a feature.
    mean, spread = data.mean(dim=0), data.std(dim=0, correction=0).clamp_min(_MIN_SPREAD)

    def far(standardised: Tensor) -> Tensor:
        return place_weight * places.distance(standardised / spread) if places is not None else torch.zeros(())

    weight, bias = _minimise((data - mean) / spread, target, counted, num_classes, regularisation, max_steps, far)
    folded = weight / spread
    return LinearHead(folded.numpy(), (bias - folded @ mean).numpy())


def _counted(sample_weight: NDArray[np.floating], rows: int) -> Tensor:
    if sample_weight.shape != (rows,) or not (np.isfinite(sample_weight) & (sample_weight > 0)).all():
        raise InvalidInputError(
            f"sample weights must be finite and above 0, one for each of {rows} rows, got {sample_weight.shape}"
        )
    return torch.from_numpy(sample_weight.astype(np.float32))


def _minimise(
    data: Tensor,
    target: Tensor,
    counted: Tensor,
    num_classes: int,
    regularisation: float,
    max_steps: int,
    beside: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Weighted multinomial logistic regression by full-batch L-BFGS."""
    share = torch.full((num_classes,), 0.5 / (num_classes - 1))
    share[0] = 0.5
    of_class = torch.zeros(num_classes).index_add_(0, target, counted)
    sample_weight = counted * (share / of_class)[target]
    penalty = 0.5 / (regularisation * float(counted.sum()))
    weight = torch.zeros(num_classes, data.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=max_steps, history_size=10, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        losses = F.cross_entropy(data @ weight.T + bias, target, reduction="none")
        loss = (losses * sample_weight).sum() + penalty * weight.square().sum() + beside(weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def install_head(model: Classifier, head: LinearHead) -> None:
    """Put a fitted layer into a network.

    Args:
        model: A network with as many classes and the same embedding.
        head: The layer.

    Raises:
        InvalidInputError: If the shapes differ.
    """
    expected = (model.num_classes, model.embedding_size)
    if head.weight.shape != expected:
        raise InvalidInputError(f"the head must have shape {expected}, got {head.weight.shape}")
    with torch.no_grad():
        model.linear.weight.copy_(torch.from_numpy(head.weight))
        model.linear.bias.copy_(torch.from_numpy(head.bias))
