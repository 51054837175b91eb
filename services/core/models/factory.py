"""One factory for every network: a name and a number of classes in, a :class:`Classifier` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from services.core.errors import InvalidInputError
from services.core.manifest import Normalisation, OptionValue
from services.core.models.classifier import AveragePool, Classifier, MultiScalePool
from services.core.models.customnet import CustomNet
from services.core.models.efficientnet_lite import (
    FEATURES,
    LITE_NORMALISATION,
    EfficientNetLite0,
    MultiScaleLite0,
    tap_channels,
)
from services.core.models.pretrained import Weights, lite0_state, torchvision_state
from services.core.models.torchvision_import import torchvision_models

IMAGENET_NORMALISATION: Final = Normalisation(
    (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)
)


def create_model(
    architecture: str,
    num_classes: int,
    weights: Weights = "offline",
    *,
    options: Mapping[str, OptionValue] | None = None,
    seed: int = 0,
) -> Classifier:
    """Build a network.

    Args:
        architecture: One of ``ARCHITECTURES``.
        num_classes: Number of logits, ``>= 2``; class 0 is good.
        weights: ``offline`` = ImageNet weights that come with an installed package (``efficientnet-lite0`` only),
            ``imagenet`` = torchvision's own, cached or downloaded, ``none`` = random. The last layer is always new.
        options: What the architecture takes beyond that: ``efficientnet-lite0`` takes ``taps``, the blocks whose pooled
            outputs join the embedding, as text, e.g. ``"4,10"``.
        seed: Seeds everything random; torch's global generator is left as it was.

    Returns:
        The network, in evaluation mode, on the CPU in float32.

    Raises:
        InvalidInputError: If the architecture, the weights, an option or the number of classes is not known.
        UnavailableError: If weights would have to be downloaded and cannot be.
        NotFoundError: If the package that carries the offline weights is not installed.
    """
    if architecture not in _BUILDERS:
        raise InvalidInputError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    if weights not in get_args(Weights):
        raise InvalidInputError(f"weights must be one of {', '.join(get_args(Weights))}, got {weights!r}")
    if num_classes < 2:
        raise InvalidInputError(f"num_classes must be at least 2, got {num_classes}")
    known = _OPTIONS.get(architecture, frozenset())
    unknown = sorted(set(options or {}) - known)
    if unknown:
        raise InvalidInputError(f"{architecture} takes the options {sorted(known)}, got {', '.join(unknown)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _BUILDERS[architecture](num_classes, weights, options or {}).eval()


def usual_weights(architecture: str) -> Weights:
    """Say where a network's first weights come from where nobody says otherwise: as near as they can be had."""
    known: dict[str, Weights] = {"efficientnet-lite0": "offline", "customnet": "none"}
    return known.get(architecture, "imagenet")


def _lite0(num_classes: int, weights: Weights, options: Mapping[str, OptionValue]) -> Classifier:
    taps = _parse_taps(options.get("taps", ""))
    features = MultiScaleLite0(taps) if taps else EfficientNetLite0()
    if weights != "none":
        features.load_state_dict(lite0_state())
    if taps:
        linear = nn.Linear(2 * tap_channels(taps), num_classes)
        return Classifier(features, MultiScalePool(), linear, LITE_NORMALISATION)
    return Classifier(features, AveragePool(), nn.Linear(FEATURES, num_classes), LITE_NORMALISATION, dropout=0.2)


def _parse_taps(value: OptionValue) -> tuple[int, ...]:
    if value == "":
        return ()
    try:
        taps = tuple(int(tap) for tap in str(value).split(","))
        MultiScaleLite0(taps)
    except ValueError as error:
        raise InvalidInputError(
            f"taps must be ascending block numbers such as '4,10', got {value!r}: {error}"
        ) from error
    return taps


def _custom(num_classes: int, weights: Weights, _: Mapping[str, OptionValue]) -> Classifier:
    if weights != "none":
        raise InvalidInputError(f"customnet has no pre-trained weights: use 'none', got {weights!r}")
    return CustomNet(num_classes)


def _residual(name: str) -> Callable[[int, Weights, Mapping[str, OptionValue]], Classifier]:
    def build(num_classes: int, weights: Weights, _: Mapping[str, OptionValue]) -> Classifier:
        net = _torchvision_net(name, weights)
        features = nn.Sequential()
        for part in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            features.add_module(part, getattr(net, part))
        return Classifier(features, AveragePool(), nn.Linear(net.fc.in_features, num_classes), IMAGENET_NORMALISATION)

    return build


def _efficientnet_b0(num_classes: int, weights: Weights, _: Mapping[str, OptionValue]) -> Classifier:
    net = _torchvision_net("efficientnet_b0", weights)
    linear = nn.Linear(net.classifier[1].in_features, num_classes)
    return Classifier(net.features, AveragePool(), linear, IMAGENET_NORMALISATION, dropout=0.2)


def _fully_connected(name: str) -> Callable[[int, Weights, Mapping[str, OptionValue]], Classifier]:
    def build(num_classes: int, weights: Weights, _: Mapping[str, OptionValue]) -> Classifier:
        net = _torchvision_net(name, weights)
        *hidden, last = net.classifier
        neck = nn.Sequential(net.avgpool, nn.Flatten(), *hidden)
        return Classifier(net.features, neck, nn.Linear(last.in_features, num_classes), IMAGENET_NORMALISATION)

    return build


def _torchvision_net(name: str, weights: Weights) -> Any:
    if weights == "offline":
        raise InvalidInputError(
            f"offline weights exist for efficientnet-lite0 only: use 'imagenet' (needs a network) or 'none' for {name}"
        )
    net = torchvision_models().get_model(name, weights=None)
    if weights == "imagenet":
        state: dict[str, Tensor] = torchvision_state(name)
        net.load_state_dict(state)
    return net


_BUILDERS: Final[dict[str, Callable[[int, Weights, Mapping[str, OptionValue]], Classifier]]] = {
    "alexnet": _fully_connected("alexnet"),
    "vgg16": _fully_connected("vgg16"),
    "resnet18": _residual("resnet18"),
    "resnet50": _residual("resnet50"),
    "resnext50": _residual("resnext50_32x4d"),
    "efficientnet-b0": _efficientnet_b0,
    "efficientnet-lite0": _lite0,
    "customnet": _custom,
}
_OPTIONS: Final[dict[str, frozenset[str]]] = {"efficientnet-lite0": frozenset({"taps"})}

#: Names that :func:`create_model` takes.
ARCHITECTURES: Final = tuple(sorted(_BUILDERS))
