"""Translates a model version for OpenVINO: ``python -m services.serving.backend.translate FOLDER GRAPH.xml``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import openvino
import torch
from torch import Tensor, nn

from services.adapters.modelfolder import read_weights, verify_version
from services.core.models.serving import ServingModule, load_serving_module


class _Traceable(nn.Module):
    """The serving module's arithmetic without inference mode, whose tensors cannot be traced."""

    def __init__(self, module: ServingModule) -> None:
        super().__init__()
        self.normalise, self.features = module.normalise, module.features
        self.neck, self.linear = module.neck, module.linear

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, probabilities, embeddings."""
        embeddings = self.neck(self.features(self.normalise(images.permute(0, 3, 1, 2))))
        probabilities = torch.softmax(self.linear(embeddings), dim=1)
        return probabilities[:, 1:].sum(dim=1), probabilities, embeddings


def translate(folder: Path, graph: Path) -> None:
    """Write the version's network as an OpenVINO graph, in float32; the precision is chosen when it is compiled.

    Args:
        folder: The version's folder; verified.
        graph: Path of the ``.xml`` to write; its weights go to the ``.bin`` beside it.
    """
    manifest = verify_version(folder)
    module = load_serving_module(manifest, read_weights(folder), "cpu", "float32")
    model = convert(module, manifest.preprocessing.height_px, manifest.preprocessing.width_px)
    openvino.save_model(model, graph, compress_to_fp16=False)


def convert(module: ServingModule, height_px: int, width_px: int) -> openvino.Model:
    """Turn a network of torch into one of OpenVINO.

    Args:
        module: In float32, on the CPU.
        height_px: Rows of its input.
        width_px: Columns of its input.

    Returns:
        Takes ``uint8``, shape ``(B, height_px, width_px, 3)``; gives scores, probabilities and embeddings.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # The input's size is a constant of the version, so what depends on it may be one too.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return openvino.convert_model(
            _Traceable(module).eval(),
            example_input=torch.zeros(2, height_px, width_px, 3, dtype=torch.uint8),
            input=[([-1, height_px, width_px, 3], openvino.Type.u8)],
        )


if __name__ == "__main__":
    translate(Path(sys.argv[1]), Path(sys.argv[2]))
