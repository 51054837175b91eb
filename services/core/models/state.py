"""Weights to bytes and back: safetensors only, names and shapes checked, nothing unpickled."""

from __future__ import annotations

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from services.core.errors import ModelFormatError

_SHOWN: int = 3


def save_state(model: nn.Module) -> bytes:
    """Write a model's weights; equal weights give equal bytes.

    Args:
        model: Any module.

    Returns:
        A safetensors file.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.state_dict().items())}
    return safetensors.torch.save(state)


def load_state(model: nn.Module, data: bytes) -> None:
    """Put weights into a model, all of them and no others.

    Args:
        model: The network that the manifest describes.
        data: A safetensors file.

    Raises:
        ModelFormatError: If the file is damaged, or a tensor is unknown, missing, of another shape or type, or holds
            numbers that are not finite; the message names the first of them. The model is then unchanged.
    """
    try:
        state = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise ModelFormatError(f"weights.safetensors: must be a safetensors file, got {error}") from error
    own = model.state_dict()
    unknown, missing = sorted(set(state) - set(own)), sorted(set(own) - set(state))
    if unknown:
        raise ModelFormatError(f"weights.safetensors: must hold only known tensors, got {_some(unknown)}")
    if missing:
        raise ModelFormatError(f"weights.safetensors: must hold every tensor, missing {_some(missing)}")
    for name in sorted(own):
        _check_tensor(name, own[name], state[name])
    model.load_state_dict(state)


def _check_tensor(name: str, own: Tensor, given: Tensor) -> None:
    if own.shape != given.shape:
        raise ModelFormatError(
            f"weights.safetensors: {name} must have shape {tuple(own.shape)}, got {tuple(given.shape)}"
        )
    if own.dtype != given.dtype:
        raise ModelFormatError(f"weights.safetensors: {name} must be of type {own.dtype}, got {given.dtype}")
    if given.is_floating_point() and not bool(torch.isfinite(given).all()):
        raise ModelFormatError(f"weights.safetensors: {name} must be finite, got NaN or infinity")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
