"""A network made ready for OpenVINO: the serving module's arithmetic, traced.

Whoever fits, serves or learns on a CPU comes through here, so that a threshold is cut on the scores that are served.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, cast

with contextlib.suppress(ImportError):
    # Before torch, where both are: each brings its own threads. A line may have ONNX Runtime instead.
    import openvino
import torch
from torch import Tensor, nn

from services.core.models.serving import ServingModule


class Traceable(nn.Module):
    """The serving module's arithmetic without inference mode, whose tensors cannot be traced."""

    def __init__(self, module: ServingModule) -> None:
        super().__init__()
        self.dtype = module.dtype
        self.normalise, self.features = module.normalise, module.features
        self.neck, self.linear = module.neck, module.linear

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, probabilities, embeddings."""
        pixels = self.normalise(images.permute(0, 3, 1, 2)).to(self.dtype)
        embeddings = cast("Tensor", self.neck(self.features(pixels))).float()
        probabilities = torch.softmax(self.linear(embeddings), dim=1)
        return probabilities[:, 1:].sum(dim=1), probabilities, embeddings


def convert(module: ServingModule, height_px: int, width_px: int) -> Any:
    """Turn a network of torch into one of OpenVINO.

    Args:
        module: In float32, on the CPU.
        height_px: Rows of its input.
        width_px: Columns of its input.

    Returns:
        An ``openvino.Model`` that takes ``uint8``, shape ``(B, height_px, width_px, 3)``; gives scores, probabilities
        and embeddings.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # The input's size is a constant of the version, so what depends on it may be one too.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return openvino.convert_model(
            Traceable(module).eval(),
            example_input=torch.zeros(2, height_px, width_px, 3, dtype=torch.uint8),
            input=[([-1, height_px, width_px, 3], openvino.Type.u8)],
        )
