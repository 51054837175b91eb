"""What a frozen backbone says of every place of an image: the input of the detectors that find places.

A backbone's features are layers run one after another. The deepest layer of each chosen stride is tapped and what comes
behind the last tap is left out, which for EfficientNet-Lite0 at strides 8 and 16 spares 80 % of the weights. Each map
is averaged over a small neighbourhood (PatchCore, Roth et al. 2022, section 3.1: a patch sees around itself, and a
shift by a pixel changes little), brought to the finest grid and set beside the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.core.detectors.detector import DetectorSpec, Images
from services.core.errors import InvalidInputError
from services.core.manifest import OptionValue
from services.core.models.classifier import Normalise
from services.core.models.efficientnet_lite import EfficientNetLite0
from services.core.models.factory import create_model
from services.core.models.pretrained import Weights
from services.core.models.serving import fold_batch_norm

DEFAULT_STRIDES: Final = "8,16"
DEFAULT_NEIGHBOURHOOD: Final = 3
#: Options of :class:`PatchSettings`, which the detectors built on it take too.
PATCH_OPTIONS: Final = frozenset({"strides", "neighbourhood", "weights"})

_PROBE_SIDE_PX: Final = 256
_OFFLINE: Final = "efficientnet-lite0"
_UNTRAINED: Final = "customnet"


@dataclass(frozen=True, slots=True)
class PatchSettings:
    """Which features.

    Attributes:
        backbone: Architecture of ``services.core.models.factory``.
        weights: Where the weights come from, when it is fitted; a fitted detector carries its own.
        strides: Pixels of the image for one of a tapped map, ascending powers of two; the first is the grid's.
        neighbourhood: Side of the square that each map is averaged over, odd; 1 averages nothing.
    """

    backbone: str = _OFFLINE
    weights: Weights = "offline"
    strides: tuple[int, ...] = (8, 16)
    neighbourhood: int = DEFAULT_NEIGHBOURHOOD

    def __post_init__(self) -> None:
        if self.weights not in get_args(Weights):
            raise InvalidInputError(f"weights must be one of {', '.join(get_args(Weights))}, got {self.weights!r}")
        if not self.strides or list(self.strides) != sorted(set(self.strides)) or not all(map(_is_power, self.strides)):
            raise InvalidInputError(f"strides must be ascending powers of two, got {list(self.strides)}")
        if self.neighbourhood < 1 or self.neighbourhood % 2 == 0:
            raise InvalidInputError(f"neighbourhood must be odd and at least 1, got {self.neighbourhood}")

    @classmethod
    def of(cls, spec: DetectorSpec) -> PatchSettings:
        """Read the settings out of a detector's options.

        Args:
            spec: Its options ``strides`` (as text, ``"8,16"``), ``neighbourhood`` and ``weights`` are read. Weights
                default to the offline ones where the backbone has them, to ``none`` where it never has any, and to
                torchvision's otherwise.

        Returns:
            The settings.

        Raises:
            InvalidInputError: If one of them is not valid.
        """
        usual = {_OFFLINE: "offline", _UNTRAINED: "none"}.get(spec.backbone, "imagenet")
        return cls(
            backbone=spec.backbone,
            weights=cast("Weights", str(spec.options.get("weights", usual))),
            strides=_parse_strides(spec.options.get("strides", DEFAULT_STRIDES)),
            neighbourhood=whole_number(spec.options, "neighbourhood", DEFAULT_NEIGHBOURHOOD, 1),
        )


class PatchFeatures(nn.Module):
    """A backbone up to its last tap; batch norm folded, frozen, on the CPU.

    Args:
        normalise: The backbone's own.
        stages: From one tap to the next.
        neighbourhood: See :class:`PatchSettings`.

    Attributes:
        channels: Of each tapped map, finest first.
    """

    def __init__(self, normalise: Normalise, stages: Sequence[nn.Module], neighbourhood: int) -> None:
        super().__init__()
        self.normalise = normalise
        self.stages = nn.ModuleList(stages)
        self.neighbourhood = neighbourhood
        self.eval().requires_grad_(requires_grad=False)
        self.channels = tuple(one.shape[1] for one in self.maps(torch.zeros(1, 3, _PROBE_SIDE_PX, _PROBE_SIDE_PX)))

    @property
    def size(self) -> int:
        """Numbers that describe a patch."""
        return sum(self.channels)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Run the backbone.

        Args:
            images: ``uint8`` or float in 0..255, shape ``(B, 3, H, W)``, RGB.

        Returns:
            One map for each stride, ``(B, C_i, h_i, w_i)``, finest first, as the network gives them.
        """
        with torch.inference_mode():
            x = self.normalise(images)
            found = []
            for stage in self.stages:
                x = stage(x)
                found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Describe every patch.

        Args:
            images: As of :meth:`maps`.

        Returns:
            ``float32``, shape ``(B, C, h, w)`` on the finest grid, ``C`` the sum over all maps.
        """
        maps = self.maps(images)
        with torch.inference_mode():
            parts = []
            for one in maps:
                # What lies outside of the image counts as nothing, so that features fade towards the border, and with
                # them what the padding of the network's own convolutions makes of it: on 400 magnetic tiles patch k-NN
                # tells .71 and .80 of images and pixels (AUROC), .65 and .78 where only what is inside is averaged.
                mean = F.avg_pool2d(one, self.neighbourhood, 1, self.neighbourhood // 2).contiguous()
                parts.append(F.interpolate(mean, maps[0].shape[-2:], mode="bilinear", align_corners=False))
            return torch.cat(parts, dim=1)

    def each(self, images: Images) -> Iterator[Tensor]:
        """Describe images one by one, so that none can depend on its batch mates in any bit.

        A batch gains nothing on a CPU: 26 ms an image alone and 38 ms in eights (one core, Lite0, 224 px).

        Args:
            images: Shape ``(N, H, W, 3)``.

        Yields:
            Shape ``(h, w, C)``.
        """
        for image in images:
            pixels = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
            yield self(pixels)[0].permute(1, 2, 0)

    def grid(self, image_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Rows and columns of patches of an image ``(H, W, 3)``.

        Raises:
            InvalidInputError: If the image is too small for the deepest tap.
        """
        try:
            height, width = self.maps(torch.zeros(1, 3, *image_shape[:2]))[0].shape[-2:]
        except RuntimeError as error:
            raise InvalidInputError(
                f"an image must be large enough for the backbone, got {image_shape}: {error}"
            ) from error
        return int(height), int(width)


def create_patch_features(settings: PatchSettings, *, trained: bool = True, seed: int = 0) -> PatchFeatures:
    """Build the frozen network.

    Args:
        settings: Which.
        trained: False leaves the weights random, for what brings its own.
        seed: Of weights that are random.

    Returns:
        The network, whose ``state_dict`` is all that another one with the same settings needs.

    Raises:
        InvalidInputError: If the backbone is not known, or has no layer of one of the strides.
        UnavailableError: If weights would have to be downloaded and cannot be.
        NotFoundError: If the package that carries the offline weights is not installed.
    """
    weights = settings.weights if trained else "none"
    classifier = create_model(settings.backbone, 2, weights, seed=seed)
    fold_batch_norm(classifier.features)
    layers = _in_order(classifier.features)
    ends = _deepest_of_each_stride(layers)
    missing = [stride for stride in settings.strides if stride not in ends]
    if missing:
        raise InvalidInputError(
            f"strides must be among {sorted(ends)} of {settings.backbone}, got {list(settings.strides)}"
        )
    stages, start = [], 0
    for stride in settings.strides:
        stages.append(nn.Sequential(*layers[start : ends[stride]]))
        start = ends[stride]
    return PatchFeatures(classifier.normalise, stages, settings.neighbourhood)


def _in_order(features: nn.Module) -> list[nn.Module]:
    if isinstance(features, EfficientNetLite0):
        return [features.stem, *features.blocks, features.head]
    if isinstance(features, nn.Sequential):
        return list(features)
    raise InvalidInputError(f"a backbone must be layers one after another, got {type(features).__name__}")


def _deepest_of_each_stride(layers: Sequence[nn.Module]) -> dict[int, int]:
    """From each stride, rounded to a power of two (AlexNet's are not exact), to the number of layers up to it."""
    ends = {}
    with torch.inference_mode():
        x = torch.zeros(1, 3, _PROBE_SIDE_PX, _PROBE_SIDE_PX)
        for count, layer in enumerate(layers, start=1):
            x = layer(x)
            ends[2 ** round(math.log2(_PROBE_SIDE_PX / x.shape[-1]))] = count
    return ends


def _is_power(number: int) -> bool:
    return number >= 1 and number & (number - 1) == 0


def _parse_strides(value: OptionValue) -> tuple[int, ...]:
    try:
        return tuple(int(stride) for stride in str(value).split(","))
    except ValueError as error:
        raise InvalidInputError(f"strides must be numbers such as '8,16', got {value!r}") from error


def whole_number(options: Mapping[str, OptionValue], name: str, default: int, least: int) -> int:
    """Read an option that is a whole number.

    Args:
        options: A detector's.
        name: Of the option.
        default: Where it is not given.
        least: Smallest allowed.

    Returns:
        Its value.

    Raises:
        InvalidInputError: If it is no whole number, or too small.
    """
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def real_number(options: Mapping[str, OptionValue], name: str, default: float, least: float, most: float) -> float:
    """Read an option that is a number in a closed interval; see :func:`whole_number`."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidInputError(f"{name} must be a number in {least}..{most}, got {value!r}")
    return float(value)


def check_options(spec: DetectorSpec, known: frozenset[str]) -> None:
    """Refuse options that a detector does not take.

    Raises:
        InvalidInputError: If there is one; the message names all that it takes.
    """
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise InvalidInputError(f"{spec.detector} takes the options {sorted(known)}, got {', '.join(unknown)}")
