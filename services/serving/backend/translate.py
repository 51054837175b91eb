"""Translates a model version for OpenVINO: ``python -m services.serving.backend.translate FOLDER GRAPH.xml``."""

from __future__ import annotations

import sys
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
    height, width = manifest.preprocessing.height_px, manifest.preprocessing.width_px
    module = _Traceable(load_serving_module(manifest, read_weights(folder), "cpu", "float32")).eval()
    with torch.no_grad():
        model = openvino.convert_model(
            module,
            example_input=torch.zeros(2, height, width, 3, dtype=torch.uint8),
            input=[([-1, height, width, 3], openvino.Type.u8)],
        )
    openvino.save_model(model, graph, compress_to_fp16=False)


if __name__ == "__main__":
    translate(Path(sys.argv[1]), Path(sys.argv[2]))
