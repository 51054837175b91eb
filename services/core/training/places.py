"""Where parts show what they are: what a fit of the last layer learns of people's drawings.

A layer that is fitted to labels alone may tell a defect by anything that its picture has. Where a person drew the
defect, the evidence for its class over the class *good* should lie there. The evidence at a place is what Grad-CAM
shows (paper 2, section 4.1, equations 1-2): for a head that pools and is linear, the product of the activations at that
place with the difference of two rows of the layer. A softmax over all places makes it a share, and its cross-entropy
with the drawing, spread evenly over the cells that it covers, is a convex function of the layer: the fit keeps its one
solution. It asks the same as the overlap distance of ``services.core.losses.ceod``, in a form for frozen features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from services.core.errors import InvalidInputError
from services.core.models.classifier import AverageMaxPool, AveragePool, Classifier, MultiScalePool

_LEAST: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """What frozen features see at every place of some defective parts, and where the defect is.

    Attributes:
        activations: Of each depth that the head pools, ``float32``, shape ``(N, K, h, w)``.
        with_maximum: Whether the head pools the maximum beside the mean.
        shares: Of the drawing on each cell of the finest depth, shape ``(N, h * w)``; rows sum to 1.
        labels: Classes, shape ``(N,)``, none of them 0.
    """

    activations: tuple[Tensor, ...]
    with_maximum: bool
    shares: Tensor
    labels: Tensor

    def distance(self, weight: Tensor) -> Tensor:
        """Mean divergence of where a layer sees its reason and where it was drawn, ``>= 0``, convex in the layer.

        Args:
            weight: The layer's, on raw embeddings, shape ``(C, D)``.
        """
        direction = weight[self.labels] - weight[0]
        size = max((one.shape[2:] for one in self.activations), key=lambda shape: shape[0] * shape[1])
        total, start = torch.zeros(len(self.labels), *size), 0
        for one in self.activations:
            count, channels = one.shape[:2]
            of_place = direction[:, start : start + channels]
            start += channels
            if self.with_maximum:
                of_place = of_place + direction[:, start : start + channels]
                start += channels
            evidence = torch.bmm(of_place[:, None], one.flatten(2)).view(count, 1, *one.shape[2:])
            if one.shape[2:] != size:
                evidence = F.interpolate(evidence, size, mode="bilinear")
            total = total + evidence[:, 0]
        said = F.log_softmax(total.flatten(1), dim=1)
        drawn = self.shares.clamp_min(_LEAST).log()
        return (self.shares * (drawn - said)).sum(dim=1).mean()


def pools_places(model: Classifier) -> bool:
    """Whether a network's head pools places and is linear, so that it can learn of drawings here."""
    return isinstance(model.neck, AveragePool | AverageMaxPool | MultiScalePool)


@torch.no_grad()
def see_places(
    model: Classifier,
    images: Sequence[NDArray[np.uint8]],
    areas: Sequence[NDArray[np.bool_]],
    labels: Sequence[int],
) -> Places:
    """Look at defective parts with frozen features.

    Args:
        model: In evaluation mode; see :func:`pools_places`.
        images: Prepared, each ``(H, W, 3)``, at least one.
        areas: Where each one's defect is, ``bool``, ``(H, W)``, not empty.
        labels: Classes, none of them 0.

    Raises:
        InvalidInputError: If the head is another, an area is empty, or a part is good.
    """
    if not pools_places(model):
        raise InvalidInputError(f"the head must pool places, got {type(model.neck).__name__}")
    if not images or not len(images) == len(areas) == len(labels):
        raise InvalidInputError(
            f"one area and one label for each of at least one image, got {len(images)}, {len(areas)}, {len(labels)}"
        )
    if min(labels) < 1 or not all(area.any() for area in areas):
        raise InvalidInputError("places are learnt of defective parts with an area, got one that is good or has none")
    found: list[list[Tensor]] = []
    for image in images:
        pixels = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
        features = model.features(model.normalise(pixels))
        found.append([one[0].float() for one in (features if isinstance(features, list | tuple) else [features])])
    depths = tuple(torch.stack([one[depth] for one in found]) for depth in range(len(found[0])))
    height, width = max((one.shape[2:] for one in depths), key=lambda shape: shape[0] * shape[1])
    covered = [cv2.resize(area.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for area in areas]
    shares = torch.from_numpy(np.stack(covered)).flatten(1)
    return Places(
        depths,
        not isinstance(model.neck, AveragePool),
        shares / shares.sum(dim=1, keepdim=True),
        torch.tensor(list(labels)),
    )
