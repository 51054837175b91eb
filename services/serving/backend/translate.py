"""Translates a model version: ``python -m services.serving.backend.translate FOLDER GRAPH.xml|GRAPH.onnx [PRECISION]``.

The ending of the graph's name says for whom: OpenVINO or ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Final, cast

with contextlib.suppress(ImportError):
    # Before torch, where both are: each brings its own threads. A line may have ONNX Runtime instead.
    import openvino
import torch

from services.adapters.modelfolder import read_weights, verify_version
from services.core.models.compiled import Traceable, convert
from services.core.models.serving import Precision, ServingModule, load_serving_module

ONNX_INPUT: Final = "IMAGE"
ONNX_OUTPUTS: Final = ("SCORE", "PROBABILITIES", "EMBEDDING")


def translate(folder: Path, graph: Path, precision: Precision = "float32") -> None:
    """Write a version's network as a graph.

    Args:
        folder: The version's folder; verified.
        graph: The ``.onnx`` to write or, for OpenVINO, the ``.xml``, whose weights go to the ``.bin`` beside it.
        precision: Of the features. OpenVINO takes float32 and is told the precision when it compiles.
    """
    manifest = verify_version(folder)
    module = load_serving_module(manifest, read_weights(folder), "cpu", precision)
    height_px, width_px = manifest.preprocessing.height_px, manifest.preprocessing.width_px
    if graph.suffix == ".onnx":
        export(module, height_px, width_px, graph)
        return
    openvino.save_model(convert(module, height_px, width_px), graph, compress_to_fp16=False)


def export(module: ServingModule, height_px: int, width_px: int, graph: Path) -> None:
    """Write a network of torch as an ONNX file that holds its weights and takes batches of any size.

    Args:
        module: On the CPU.
        height_px: Rows of its input.
        width_px: Columns of its input.
        graph: The file.
    """
    with torch.no_grad():
        torch.onnx.export(
            Traceable(module).eval(),
            (torch.zeros(2, height_px, width_px, 3, dtype=torch.uint8),),
            graph,
            input_names=[ONNX_INPUT],
            output_names=list(ONNX_OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


if __name__ == "__main__":
    translate(Path(sys.argv[1]), Path(sys.argv[2]), cast("Precision", (*sys.argv[3:], "float32")[0]))
