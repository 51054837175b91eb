"""The Python-backend model that serves one version. Runs inside Triton's own process, one for each instance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from services.core.errors import SightlineError
from services.serving.backend.choice import build_engine
from services.serving.backend.engine import Answer, EngineRequest, InferenceEngine
from services.serving.backend.gently import gently
from services.serving.backend.tensors import make_tensor, read_tensor


class TritonPythonModel:
    """What Triton calls: ``initialize`` once, ``execute`` with every batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Verify the version's folder, build the network and, where nobody feels it, warm it.

        Raises:
            TritonModelException: Starting with the reason's token, for example ``model_format``.
        """
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        device = "cpu" if args["model_instance_kind"] == "CPU" else f"cuda:{args['model_instance_device_id']}"
        request = EngineRequest(
            Path(parameters["version_folder"]),
            device=device,
            precision=parameters["precision"],
            threads=int(parameters["threads"]),
            max_batch_size=config["max_batch_size"],
            cache=Path(parameters["cache_folder"]) if parameters["cache_folder"] else None,
            gentle=parameters["gentle"] == "true",
        )
        try:
            self._engine: InferenceEngine = build_engine(parameters["engine"], request)
        except SightlineError as error:
            raise pb_utils.TritonModelException(f"{error.reason}: {error}") from error
        if request.gentle:
            dims = [int(size) for size in config["input"][0]["dims"]]
            sizes = sorted({1, request.max_batch_size})
            gently(lambda: [self._engine(np.zeros((size, *dims), np.uint8)) for size in sizes])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request of a dynamic batch with one pass over all of their images."""
        answers: list[Any] = [None] * len(requests)
        batches: list[tuple[int, NDArray[np.uint8]]] = []
        for index, request in enumerate(requests):
            if request.is_cancelled():
                answers[index] = _refusal("the caller gave up", pb_utils.TritonError.CANCELLED)
            else:
                batches.append((index, read_tensor(request, "IMAGE")))
        for index, answer in self._answer(batches):
            answers[index] = answer
        return answers

    def _answer(self, batches: Sequence[tuple[int, NDArray[np.uint8]]]) -> list[tuple[int, Any]]:
        if not batches:
            return []
        try:
            # A copy of one batch too: the memory is Triton's, and marked as not to be written to.
            answer = self._engine(np.concatenate([images for _, images in batches]))
        except Exception as error:  # noqa: BLE001 - whatever it is, each request is answered with it
            if len(batches) == 1:
                return [(batches[0][0], _refusal(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL))]
            # One request must not take its batch mates with it.
            return [answered for batch in batches for answered in self._answer([batch])]
        answered, start = [], 0
        for index, images in batches:
            answered.append((index, _response(answer.rows(start, start + len(images)))))
            start += len(images)
        return answered


def _response(rows: Answer) -> Any:
    if not np.isfinite(rows.scores).all():
        return _refusal("a score must be finite, got NaN or infinity", pb_utils.TritonError.INVALID_ARG)
    disagreements = np.zeros_like(rows.scores) if rows.disagreements is None else rows.disagreements
    outputs = {
        "SCORE": rows.scores.reshape(-1, 1),
        "PROBABILITIES": rows.probabilities,
        "EMBEDDING": rows.embeddings,
        "DISAGREEMENT": disagreements.reshape(-1, 1),
    }
    return pb_utils.InferenceResponse([make_tensor(name, array) for name, array in outputs.items()])


def _refusal(why: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(why, code))
