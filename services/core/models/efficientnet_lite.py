"""EfficientNet-Lite0 (Google, 2020): EfficientNet-B0 without squeeze-and-excitation and with ReLU6.

Written here because it is small and because its parts must be plain to see for explanations, fusing and export. It
computes what the published TensorFlow weights were trained for, their asymmetric padding included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.core.errors import ModelFormatError
from services.core.manifest import Normalisation

LITE_NORMALISATION: Final = Normalisation((127.0,) * 3, (128.0,) * 3)
FEATURES: Final = 1280

# repeats, kernel, stride, expansion, inputs, outputs
_STAGES: Final = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class SamePaddedConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does: the output has ``ceil(size / stride)``, the odd row goes last."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if self.stride[0] > 1:
            pad_rows = self._missing(x.shape[2])
            pad_columns = self._missing(x.shape[3])
            x = F.pad(x, (pad_columns // 2, pad_columns - pad_columns // 2, pad_rows // 2, pad_rows - pad_rows // 2))
            return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return super().forward(x)

    def _missing(self, size: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((-(-size // stride) - 1) * stride + kernel - size, 0)


def _conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        SamePaddedConv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]


class InvertedResidual(nn.Module):
    """Expand, convolve depth-wise, project; add the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv_norm(inputs, hidden), nn.ReLU6(inplace=True)]
        layers += [*_conv_norm(hidden, hidden, kernel, stride, groups=hidden), nn.ReLU6(inplace=True)]
        layers += _conv_norm(hidden, outputs)
        self.layers = nn.Sequential(*layers)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = cast("Tensor", self.layers(x))
        return x + y if self.has_skip else y


class EfficientNetLite0(nn.Module):
    """The convolutional part: normalised ``(B, 3, H, W)`` to ``(B, 1280, H / 32, W / 32)``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(3, 32, 3, 2), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        for repeats, kernel, stride, expansion, inputs, outputs in _STAGES:
            for repeat in range(repeats):
                first = repeat == 0
                blocks.append(
                    InvertedResidual(inputs if first else outputs, outputs, kernel, stride if first else 1, expansion)
                )
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*_conv_norm(320, FEATURES), nn.ReLU6(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Give the deepest features."""
        return cast("Tensor", self.head(self.blocks(self.stem(x))))


class MultiScaleLite0(EfficientNetLite0):
    """The same network, giving the outputs of chosen blocks beside the deepest features.

    Args:
        taps: Blocks (0 to 15) whose outputs are given, in ascending order. Block 4 ends stride 8, block 10 stride 16.
    """

    def __init__(self, taps: Sequence[int]) -> None:
        super().__init__()
        if not taps or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= len(self.blocks):
            raise ValueError(f"taps must ascend within 0..{len(self.blocks) - 1}, got {list(taps)}")
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Give the maps of the taps and the deepest one."""
        x = self.stem(x)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        maps.append(self.head(x))
        return maps


def tap_channels(taps: Sequence[int]) -> int:
    """Count the channels of :class:`MultiScaleLite0`'s maps, the deepest included.

    Args:
        taps: Blocks, 0 to 15.

    Returns:
        The sum over all maps.
    """
    outputs = [stage[5] for stage in _STAGES for _ in range(stage[0])]
    return sum(outputs[tap] for tap in taps) + FEATURES


def convert_published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the published PyTorch port's weights to this module's names; the classifier is left out.

    Args:
        state: State dict of ``efficientnet_lite_pytorch``'s EfficientNet-Lite0.

    Returns:
        State dict of :class:`EfficientNetLite0`.

    Raises:
        ModelFormatError: If the weights do not fit.
    """
    ours = EfficientNetLite0().state_dict()
    theirs = [
        name
        for name in sorted(state, key=_published_order)
        if not name.startswith("_fc.") and not name.endswith("num_batches_tracked")
    ]
    names = [name for name in ours if not name.endswith("num_batches_tracked")]
    if len(theirs) != len(names):
        raise ModelFormatError(f"EfficientNet-Lite0 must have {len(names)} tensors, got {len(theirs)}")
    converted = {name: torch.zeros_like(ours[name]) for name in ours if name.endswith("num_batches_tracked")}
    for name, source in zip(names, theirs, strict=True):
        if ours[name].shape != state[source].shape:
            raise ModelFormatError(
                f"{source} must have shape {tuple(ours[name].shape)}, got {tuple(state[source].shape)}"
            )
        converted[name] = state[source]
    return converted


_PUBLISHED_PARTS: Final = ("_conv_stem", "_bn0", "_blocks", "_conv_head", "_bn1")
_PUBLISHED_LAYERS: Final = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
_PUBLISHED_TENSORS: Final = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _published_order(name: str) -> tuple[int, ...]:
    """Sort key: the order in which the tensors are used, which is the order in which ours are declared."""
    part, *rest = name.split(".")
    if part not in _PUBLISHED_PARTS:
        return (len(_PUBLISHED_PARTS),)
    if part == "_blocks":
        block, layer, tensor = rest
        return (
            _PUBLISHED_PARTS.index(part),
            int(block),
            _PUBLISHED_LAYERS.index(layer),
            _PUBLISHED_TENSORS.index(tensor),
        )
    return (_PUBLISHED_PARTS.index(part), _PUBLISHED_TENSORS.index(rest[0]))
