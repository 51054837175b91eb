"""The same network compiled by OpenVINO for this CPU.

The translation from torch takes seconds and most of a process's memory, so it runs in a process of its own, once for
each version, and its result is kept on the local disk.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino
from numpy.typing import NDArray

from services.adapters.modelfolder import verify_version
from services.core.errors import InvalidInputError
from services.serving.backend.apart import derived, run_apart, version_digest
from services.serving.backend.engine import Answer, EngineRequest, EngineUnavailableError, resolve_precision

_HINTS: Final = {"bfloat16": "bf16", "float32": "f32", "float16": "f16"}
_TRANSLATION_TIMEOUT_S: Final = 300.0
_GRAPH: Final = "graph.xml"


class OpenVinoEngine:
    """An ``InferenceEngine`` on OpenVINO."""

    def __init__(self, request: EngineRequest) -> None:
        if request.device != "cpu":
            raise InvalidInputError(f"the engine openvino runs on a cpu, got {request.device}")
        verify_version(request.folder)
        precision = resolve_precision(request.precision)
        if request.cache is not None:
            self._network = Network(translated(request.folder, request.cache), precision, request.threads)
            return
        with tempfile.TemporaryDirectory(prefix="sightline-openvino-") as cache:
            self._network = Network(translated(request.folder, Path(cache)), precision, request.threads)

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score a batch."""
        return self._network(images)


class Network:
    """A translated network, compiled for this CPU.

    Args:
        graph: The translation, or the path of its ``.xml``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        threads: CPU threads.
    """

    def __init__(self, graph: Path | openvino.Model, precision: str, threads: int) -> None:
        properties = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Another instance, or another version, may be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: Any = openvino.Core().compile_model(graph, "CPU", properties)

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score ``uint8`` images of shape ``(B, H, W, 3)``."""
        answers = self._compiled(np.ascontiguousarray(images), share_inputs=True)
        # Copied: the next answer is written into the same memory.
        return Answer(*(np.array(answers[index], np.float32) for index in range(3)))


def translated(folder: Path, cache: Path) -> Path:
    """Translate a version, or find its translation from before.

    Args:
        folder: The version's folder, verified.
        cache: Where translations are kept, each in a folder named after the version's checksums.

    Returns:
        Path of OpenVINO's graph; its weights lie beside it.

    Raises:
        EngineUnavailableError: If the version cannot be translated.
    """
    name = f"openvino-{version_digest(folder)}-{package_version('openvino')}"

    def make(target: Path) -> None:
        arguments = [str(folder), str(target / _GRAPH)]
        failure = run_apart("services.serving.backend.translate", arguments, _TRANSLATION_TIMEOUT_S)
        if failure:
            raise EngineUnavailableError(f"the network must be one that OpenVINO can translate, got: {failure}")

    return derived(cache, name, (_GRAPH, _GRAPH.replace(".xml", ".bin")), make) / _GRAPH
