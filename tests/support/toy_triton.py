"""A tiny Triton model whose answers can be computed by hand, without torch, so that it loads in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MODEL = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils

from services.serving.backend.tensors import make_tensor, read_tensor


class TritonPythonModel:
    def initialize(self, args):
        if {broken!r}:
            raise RuntimeError("this model was made to fail")

    def execute(self, requests):
        time.sleep({delay_s})
        answers = []
        for request in requests:
            images = read_tensor(request, "IMAGE")
            if images.max() == 13:
                error = pb_utils.TritonError("thirteen is refused", pb_utils.TritonError.INVALID_ARG)
                answers.append(pb_utils.InferenceResponse(error=error))
                continue
            channels = images.astype(np.float32).mean(axis=(1, 2))
            score = channels.mean(axis=1, keepdims=True) * np.float32({scale}) / 255
            outputs = {{
                "SCORE": score,
                "PROBABILITIES": np.concatenate([1 - score, score], axis=1),
                "EMBEDDING": channels,
                # Tells rows apart, and stays below what would make a verdict REVIEW.
                "DISAGREEMENT": channels[:, :1] / 510,
            }}
            answers.append(pb_utils.InferenceResponse([make_tensor(name, value) for name, value in outputs.items()]))
        return answers
"""

_CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 16
input [{{ name: "IMAGE" data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] }}]
output [
  {{ name: "SCORE" data_type: TYPE_FP32 dims: [ 1 ] }},
  {{ name: "PROBABILITIES" data_type: TYPE_FP32 dims: [ 2 ] }},
  {{ name: "EMBEDDING" data_type: TYPE_FP32 dims: [ 3 ] }},
  {{ name: "DISAGREEMENT" data_type: TYPE_FP32 dims: [ 1 ] }}
]
dynamic_batching {{ }}
instance_group [{{ count: 1 kind: KIND_CPU }}]
"""


def write_toy_model(
    repository: Path, name: str, *, size: int = 8, scale: float = 1.0, delay_s: float = 0.0, broken: bool = False
) -> None:
    """Put the model into a repository.

    Args:
        repository: Triton's model repository.
        name: Name of the model.
        size: Height and width of its input, pixels.
        scale: The score is the mean of the image times this, over 255.
        delay_s: How long each batch takes.
        broken: Make it fail when it is loaded.
    """
    folder = repository / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(_MODEL.format(scale=scale, delay_s=delay_s, broken=broken))
    (folder.parent / "config.pbtxt").write_text(_CONFIG.format(name=name, size=size))


def expected_scores(images: NDArray[np.uint8], scale: float = 1.0) -> NDArray[np.float32]:
    """What the model must answer, shape ``(B,)``."""
    means = images.astype(np.float32).mean(axis=(1, 2)).mean(axis=1)
    scores: NDArray[np.float32] = (means * np.float32(scale) / 255).astype(np.float32)
    return scores


def toy_images(count: int, *, seed: int = 0, size: int = 8) -> NDArray[np.uint8]:
    """Random images, none of which the model refuses."""
    images = np.random.default_rng(seed).integers(0, 255, (count, size, size, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = 200
    return images
