"""What the detectors that find places are kept as beside their header: tensors in safetensors, checked on load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from services.core.detectors.detector import DetectorSpec, Files, Images, check_images
from services.core.detectors.patch_features import PatchFeatures, PatchSettings, create_patch_features
from services.core.errors import InvalidInputError, ModelFormatError
from services.core.models.state import load_state, save_state

BACKBONE: Final = "backbone.safetensors"


def check_fit_images(images: Images, least: int) -> tuple[int, int, int]:
    """Check what a detector is to be fitted on.

    Args:
        images: The good parts.
        least: Fewest that will do.

    Returns:
        The images' shape.

    Raises:
        InvalidInputError: If they are no RGB images, or too few.
    """
    check_images(images)
    if len(images) < least:
        raise InvalidInputError(f"a fit must have at least {least} images of good parts, got {len(images)}")
    return int(images.shape[1]), int(images.shape[2]), 3


def file_of(files: Files, name: str) -> bytes:
    """Take one file.

    Raises:
        ModelFormatError: If there is none.
    """
    if name not in files:
        raise ModelFormatError(f"a detector must have the file {name}, got {sorted(files)}")
    return files[name]


def save_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Write tensors as a safetensors file; equal tensors give equal bytes."""
    return safetensors.torch.save({name: tensors[name].contiguous() for name in sorted(tensors)})


def load_tensors(
    files: Files, name: str, wanted: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
) -> dict[str, Tensor]:
    """Read tensors and check them.

    Args:
        files: What was read.
        name: Of the file.
        wanted: Type and shape of each tensor; -1 stands for any length above 0.

    Returns:
        The tensors, all of them and no others.

    Raises:
        ModelFormatError: If the file is missing or damaged, or a tensor is missing, unknown, of another type or shape,
            or not finite.
    """
    try:
        found = safetensors.torch.load(file_of(files, name))
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise ModelFormatError(f"{name}: must be a safetensors file, got {error}") from error
    if set(found) != set(wanted):
        raise ModelFormatError(f"{name}: must hold {sorted(wanted)}, got {sorted(found)}")
    for key, (dtype, shape) in wanted.items():
        own = found[key]
        fits = own.dim() == len(shape) and all(
            length == given or (length < 0 < given) for length, given in zip(shape, own.shape, strict=True)
        )
        if own.dtype != dtype or not fits:
            raise ModelFormatError(f"{name}: {key} must be {dtype} {shape}, got {own.dtype} {tuple(own.shape)}")
        if not bool(torch.isfinite(own).all()):
            raise ModelFormatError(f"{name}: {key} must be finite, got NaN or infinity")
    return found


def save_backbone(features: PatchFeatures) -> bytes:
    """Write the weights up to the last tap, so that a fitted detector needs no package and no network to load."""
    return save_state(features)


def load_backbone(spec: DetectorSpec, files: Files) -> PatchFeatures:
    """Build the frozen network of a kept detector.

    Args:
        spec: What the detector is.
        files: What was read.

    Returns:
        The network.

    Raises:
        ModelFormatError: If the weights are missing, damaged or of another network.
    """
    features = create_patch_features(PatchSettings.of(spec), trained=False)
    data = file_of(files, BACKBONE)
    try:
        load_state(features, data)
    except ModelFormatError as error:
        raise ModelFormatError(f"{BACKBONE}: {error}") from error
    return features
