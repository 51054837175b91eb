"""Grad-CAM within the graph of a training step, so that a loss on the map trains the network.

Paper 2, section 4.1, equations 1-2, for a whole batch: ``alpha_k`` is the mean over all positions of the gradient of a
class's logit with respect to channel ``k``, the map is ``sum_k alpha_k A_k``. Where the head pools and is linear the
``alpha`` are rows of the last layer over the number of positions (see ``services.core.explain.cam``), so the map costs
one product and no second backward pass. Any other head is differentiated twice.

The map is left signed: what becomes of its negative side is the loss's decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from services.core.models.classifier import AverageMaxPool, AveragePool, Classifier, MultiScalePool


class HeatedPrediction(NamedTuple):
    """What a network says of a batch, and where it looked for the labelled class."""

    logits: Tensor
    """Shape ``(B, C)``."""
    heat: Tensor
    """Signed, shape ``(B, h, w)``, ``float32`` or ``float64``; depends on weights and activations."""


def predict_with_heat(
    model: Classifier, images: Tensor, labels: Tensor, *, train_backbone: bool = True
) -> HeatedPrediction:
    """Run one forward pass and give the labelled classes' maps with it.

    Args:
        model: The network; its mode (training, evaluation) is the caller's.
        images: ``uint8`` or float in 0..255, shape ``(B, 3, H, W)``.
        labels: Whose logit each map explains, ``int64``, shape ``(B,)``.
        train_backbone: False computes the features without a graph: logits and map then train the last layer only.

    Returns:
        Logits and maps.
    """
    with torch.set_grad_enabled(train_backbone and torch.is_grad_enabled()):
        features = model.features(model.normalise(images))
    pooled = isinstance(model.neck, AveragePool | AverageMaxPool | MultiScalePool)
    if not pooled and not _all(features)[0].requires_grad:
        for one in _all(features):
            one.requires_grad_()
    logits = model.linear(model.dropout(cast("Tensor", model.neck(features))))
    parts = _closed_form(model, features, labels) if pooled else _by_gradient(logits, features, labels)
    return HeatedPrediction(logits, _joined(parts))


def _all(features: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return list(features) if isinstance(features, list | tuple) else [cast("Tensor", features)]


def _closed_form(model: Classifier, features: Tensor | Sequence[Tensor], labels: Tensor) -> list[Tensor]:
    rows = _precise(model.linear.weight)[labels]
    parts, start = [], 0
    for activation in _all(features):
        channels, positions = activation.shape[1], activation.shape[2] * activation.shape[3]
        weights = rows[:, start : start + channels]
        start += channels
        if not isinstance(model.neck, AveragePool):
            weights = weights + rows[:, start : start + channels]
            start += channels
        parts.append(_weighted(weights / positions, _precise(activation)))
    return parts


def _by_gradient(logits: Tensor, features: Tensor | Sequence[Tensor], labels: Tensor) -> list[Tensor]:
    said = logits.gather(1, labels[:, None]).sum()
    activations = _all(features)
    slopes = torch.autograd.grad(said, activations, create_graph=True)
    return [
        _weighted(_precise(slope).mean(dim=(2, 3)), _precise(activation))
        for slope, activation in zip(slopes, activations, strict=True)
    ]


def _weighted(weights: Tensor, activation: Tensor) -> Tensor:
    """Sum of channels ``(B, K, h, w)`` with one weight for each, ``(B, K)``."""
    return torch.bmm(weights[:, None], activation.flatten(2)).view(len(activation), *activation.shape[2:])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The maps of several depths as one, at the finest resolution; sums stay what they are."""
    if len(parts) == 1:
        return parts[0]
    height, width = max(part.shape[1] for part in parts), max(part.shape[2] for part in parts)
    total = parts[0].new_zeros(len(parts[0]), height, width)
    for part in parts:
        spread = part.shape[1] * part.shape[2] / (height * width)
        total = total + spread * F.interpolate(part[:, None], (height, width), mode="bilinear")[:, 0]
    return total


def _precise(values: Tensor) -> Tensor:
    """At least single precision: sums over a map in half precision are no sums."""
    return values if values.dtype == torch.float64 else values.float()
