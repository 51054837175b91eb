"""CustomNet, the small network of the CEOD paper, reconstructed from the totals in its text."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import nn

from services.core.manifest import Normalisation
from services.core.models.classifier import AverageMaxPool, Classifier

_CHANNELS: Final = (16, 16, 32, 32, 64, 64, 128, 128)
_NORMALISATION: Final = Normalisation((127.5,) * 3, (127.5,) * 3)


class CustomNet(Classifier):
    """Eight 3x3 convolutions with batch norm, average- and max-pooled features side by side, one linear layer.

    Channels 16, 16, 32, 32, 64, 64, 128, 128 with a max-pool after every two. With two classes: 294 994 parameters and
    0.657 G multiply-adds at 224 px.

    Args:
        num_classes: Number of logits, ``>= 2``.
    """

    def __init__(self, num_classes: int = 2) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = 3
        for index, outputs in enumerate(_CHANNELS, start=1):
            layers[f"conv{index}"] = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
            layers[f"norm{index}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{index}"] = nn.ReLU(inplace=True)
            if index % 2 == 0:
                layers[f"pool{index}"] = nn.MaxPool2d(2)
            inputs = outputs
        super().__init__(
            features=nn.Sequential(layers),
            neck=AverageMaxPool(),
            linear=nn.Linear(2 * inputs, num_classes),
            normalisation=_NORMALISATION,
        )
