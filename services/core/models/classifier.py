"""What every network here looks like from outside: bytes in, class logits and the embedding out, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from services.core.manifest import Normalisation


class Prediction(NamedTuple):
    """What a network says of a batch."""

    logits: Tensor
    """Shape ``(B, C)``; class 0 is good."""
    embedding: Tensor
    """Input of the last linear layer, shape ``(B, D)``."""


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel, on values in 0..255.

    Its numbers belong to the manifest, not to the weights, so they are no part of the state dict.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images of shape ``(B, 3, H, W)``; ``uint8`` becomes ``float32``, floats keep their type."""
        if not images.is_floating_point():
            images = images.float()
        return (images - self.mean) / self.std


class AveragePool(nn.Module):
    """Mean over all positions: ``(B, C, H, W)`` to ``(B, C)``."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return features.mean(dim=(2, 3))


class AverageMaxPool(nn.Module):
    """Mean and maximum over all positions side by side: ``(B, C, H, W)`` to ``(B, 2 C)``."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


class Classifier(nn.Module):
    """Normalisation, convolutional features, neck, one linear layer.

    Attributes:
        features: ``(B, 3, H, W)`` normalised to ``(B, C, h, w)``; its output is the last convolutional activation,
            which is what Grad-CAM looks at.
        neck: ``(B, C, h, w)`` to the embedding ``(B, D)``.
        dropout: Between embedding and linear layer; the embedding itself is never dropped.
        linear: ``(B, D)`` to class logits.
    """

    def __init__(
        self,
        features: nn.Module,
        neck: nn.Module,
        linear: nn.Linear,
        normalisation: Normalisation,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(normalisation)
        self.features = features
        self.neck = neck
        self.dropout = nn.Dropout(dropout)
        self.linear = linear

    def forward(self, images: Tensor) -> Prediction:
        """Classify images.

        Args:
            images: ``uint8`` or float in 0..255, shape ``(B, 3, H, W)``, RGB.

        Returns:
            Logits and embedding.
        """
        embedding = self.embed(images)
        return Prediction(self.linear(self.dropout(embedding)), embedding)

    def embed(self, images: Tensor) -> Tensor:
        """Give the embedding alone, shape ``(B, D)``; for fitting a head on a frozen backbone."""
        return cast("Tensor", self.neck(self.features(self.normalise(images))))

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return self.linear.in_features

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.linear.out_features

    @property
    def normalisation(self) -> Normalisation:
        """What is done to the input first."""
        return self.normalise.normalisation

    @property
    def has_pooled_linear_head(self) -> bool:
        """Whether the logits are linear in pooled features, so that Grad-CAM's weights are known in closed form."""
        return isinstance(self.neck, AveragePool | AverageMaxPool)

    @property
    def last_conv(self) -> nn.Conv2d:
        """The last convolution of the features, by order of registration."""
        convolutions = [module for module in self.features.modules() if isinstance(module, nn.Conv2d)]
        return convolutions[-1]


class MultiScalePool(nn.Module):
    """Pools several depths of a backbone into one embedding.

    Small defects are gone from the deepest layer's mean; the maximum over a shallower map still holds them.
    """

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Concatenate mean and maximum of each map; maps of shape ``(B, C_i, h_i, w_i)``."""
        pooled = [part for features in maps for part in (features.mean(dim=(2, 3)), features.amax(dim=(2, 3)))]
        return torch.cat(pooled, dim=1)
