"""A model version as it is served: bytes of pixels in, score, probabilities and embedding out.

Batch norm is folded into the convolutions before it, pixels arrive with channels last and stay so, the features run in
the asked precision, and the last layer runs in float32, so that the score's resolution is not the precision's.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from services.core.errors import InvalidInputError, ModelFormatError
from services.core.manifest import ModelManifest
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model
from services.core.models.state import load_state

Precision = Literal["float32", "bfloat16", "float16"]

_DTYPES: Final[dict[str, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class ServedBatch(NamedTuple):
    """What is said of a batch, all float32, on the module's device."""

    scores: Tensor
    """Anomaly score ``1 - P(good)``, shape ``(B,)``; higher is worse."""
    probabilities: Tensor
    """Shape ``(B, C)``; rows sum to 1."""
    embeddings: Tensor
    """Input of the last layer, shape ``(B, D)``."""


class ServingModule(nn.Module):
    """A classifier made ready to serve.

    Args:
        model: The classifier, with its weights, float32, on the CPU; it is changed in place and given away.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Of the features.
    """

    def __init__(self, model: Classifier, device: str = "cpu", precision: Precision = "bfloat16") -> None:
        super().__init__()
        if precision not in _DTYPES:
            raise InvalidInputError(f"precision must be one of {', '.join(_DTYPES)}, got {precision!r}")
        model.eval().requires_grad_(requires_grad=False)
        fold_batch_norm(model.features)
        self.dtype = _DTYPES[precision]
        self.device = torch.device(device)
        self.normalise = model.normalise.to(self.device)
        self.features = model.features.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.neck = model.neck.to(self.device, self.dtype)
        self.linear = model.linear.to(self.device, torch.float32)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> ServedBatch:
        """Score images.

        Args:
            images: ``uint8``, shape ``(B, H, W, 3)``, RGB, as ``services.core.preprocessing.prepare`` gives them; on
                any device.

        Returns:
            Scores, probabilities and embeddings. No row depends on the others.
        """
        # Channels are last already: the permuted view *is* the channels_last layout, nothing is copied.
        x = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        # In float32: bfloat16 has too few digits for a mean such as 123.675.
        x = self.normalise(x).to(self.dtype)
        embeddings = cast("Tensor", self.neck(self.features(x))).float()
        probabilities = torch.softmax(self.linear(embeddings), dim=1)
        # Summed over the faults rather than 1 - P(good), which has no digits left for very good parts.
        return ServedBatch(probabilities[:, 1:].sum(dim=1), probabilities, embeddings)


def build_model(manifest: ModelManifest, weights: bytes) -> Classifier:
    """Rebuild the network that a manifest describes, with its weights.

    Args:
        manifest: The version's ``model.json``.
        weights: The version's ``weights.safetensors``.

    Returns:
        The network, in evaluation mode, on the CPU in float32.

    Raises:
        ModelFormatError: If the manifest and the weights do not describe the same network.
    """
    try:
        model = create_model(
            manifest.architecture, len(manifest.classes), "none", options=manifest.architecture_options
        )
    except InvalidInputError as error:
        raise ModelFormatError(f"model.json: {error}") from error
    if model.embedding_size != manifest.embedding_size:
        raise ModelFormatError(
            f"model.json: embedding_size of {manifest.architecture} must be {model.embedding_size}, "
            f"got {manifest.embedding_size}"
        )
    if model.normalisation != manifest.normalisation:
        raise ModelFormatError(
            f"model.json: normalisation of {manifest.architecture} must be {model.normalisation}, "
            f"got {manifest.normalisation}"
        )
    load_state(model, weights)
    return model.eval()


def load_serving_module(
    manifest: ModelManifest, weights: bytes, device: str = "cpu", precision: Precision = "bfloat16"
) -> ServingModule:
    """Make a model version ready to serve.

    Args:
        manifest: The version's ``model.json``.
        weights: The version's ``weights.safetensors``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Of the features.

    Returns:
        A callable from ``uint8`` ``(B, H, W, 3)`` to :class:`ServedBatch`.

    Raises:
        ModelFormatError: If the manifest and the weights do not describe the same network.
        InvalidInputError: If the precision is not known.
    """
    return ServingModule(build_model(manifest, weights), device, precision)


def fold_batch_norm(module: nn.Module) -> None:
    """Fold each batch norm that directly follows a convolution into it, in place.

    Follows the order of registration within each module, which in every network here is the order of use.

    Args:
        module: In evaluation mode.
    """
    previous: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if (
            isinstance(child, nn.BatchNorm2d)
            and previous is not None
            and previous[1].out_channels == child.num_features
        ):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
            previous = None
        elif isinstance(child, nn.Conv2d):
            previous = (name, child)
        else:
            previous = None
            fold_batch_norm(child)
