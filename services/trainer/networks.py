"""A network as it answers while a candidate is made: by the engine that serves it where there is one here."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

try:
    # Before torch, where both are: each brings its own threads.
    import openvino
except ImportError:  # pragma: no cover - it is an extra
    openvino = None
import numpy as np
import torch
from numpy.typing import NDArray

from services.core.explain.attribution import SCORE_TARGET, AttributionMap, Budget
from services.core.explain.cam import CamMethod, ClassActivation
from services.core.models.classifier import Classifier
from services.core.models.compiled import convert
from services.core.models.serving import ServingModule
from services.core.preprocessing import Preprocessing

#: What is asked where the defect lies: one pass a part, and what the overlap loss and the fit's places are about.
MAP_METHOD: Final[CamMethod] = "gradcam"

_BATCH: Final = 16

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From prepared pictures ``(B, H, W, 3)`` to embeddings ``(B, D)``."""


class AnsweringNetwork:
    """A network that answers prepared pictures, in single precision, as a line on a CPU serves it.

    Args:
        model: The network; not changed.
        preprocessing: Of its version.
        threads: CPU threads.
        device: ``cpu`` answers by OpenVINO where it is installed, else by torch; ``cuda`` by torch.
    """

    def __init__(self, model: Classifier, preprocessing: Preprocessing, threads: int, device: str = "cpu") -> None:
        module = ServingModule(copy.deepcopy(model).cpu(), device, "float32")
        self._module: ServingModule | None = module
        if openvino is None or device != "cpu":
            return
        graph = convert(module, preprocessing.height_px, preprocessing.width_px)
        properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: Any = openvino.Core().compile_model(graph, "CPU", properties)
        self._module = None

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of prepared pictures, some at a time, shape ``(N, D)``."""
        found = [self._answer(images[start : start + _BATCH])[1] for start in range(0, len(images), _BATCH)]
        return np.concatenate(found)

    def latency_ms(self, images: Sequence[NDArray[np.uint8]], answers: int) -> NDArray[np.float64]:
        """Time single answers, after some that are not timed; shape ``(answers,)``, empty without pictures."""
        if not images or not answers:
            return np.empty(0)
        taken = []
        for number in range(-min(5, answers), answers):
            started = time.perf_counter()
            self._answer(images[number % len(images)][np.newaxis])
            if number >= 0:
                taken.append((time.perf_counter() - started) * 1_000)
        return np.array(taken)

    def _answer(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._module is not None:
            said = self._module(torch.from_numpy(np.ascontiguousarray(images)))
            return said.scores.cpu().numpy(), said.embeddings.cpu().numpy()
        answers = self._compiled(np.ascontiguousarray(images), share_inputs=True)
        # Copied: the next answer is written into the same memory.
        return np.array(answers[0], np.float32), np.array(answers[2], np.float32)


def map_of(model: Classifier, image: NDArray[np.uint8]) -> AttributionMap:
    """Say where a network sees the reason of its score, shape ``(h, w)``, over a prepared picture."""
    explainer = ClassActivation(model, MAP_METHOD)
    (found,) = explainer.explain(image, SCORE_TARGET, _asks_nothing, seed=0, budget=Budget())
    return found.values


def _asks_nothing(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise RuntimeError(f"an activation map looks into the network itself, got a question about {len(images)} pictures")


def points_into(values: AttributionMap, region: NDArray[np.bool_]) -> bool:
    """Whether a map's maximum lies in a region: the cell of the map that is hottest touches it.

    A map says nothing finer than its cells, some 16 px wide, and a drawing may be thinner than that.

    Args:
        values: The map over the whole picture, shape ``(h, w)``.
        region: ``bool``, shape ``(H, W)``.
    """
    if not np.isfinite(values).any():
        return False
    row, column = np.unravel_index(int(np.nanargmax(values)), values.shape)
    height, width = region.shape[0] / values.shape[0], region.shape[1] / values.shape[1]
    rows = slice(int(row * height), int(np.ceil((row + 1) * height)))
    columns = slice(int(column * width), int(np.ceil((column + 1) * width)))
    return bool(region[rows, columns].any())
