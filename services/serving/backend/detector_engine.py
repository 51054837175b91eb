"""A detector that learns from good parts, as an engine: its calibrated score is the probability of an anomaly."""

from __future__ import annotations

import numpy as np
import threadpoolctl
import torch
from numpy.typing import NDArray

from services.adapters.modelfolder import read_detector, verify_version
from services.core.detectors.calibrated import CalibratedDetector
from services.core.errors import ModelFormatError
from services.serving.backend.engine import Answer, EngineRequest


class DetectorEngine:
    """An ``InferenceEngine`` on a detector of ``services.core.detectors``.

    Detectors run on the CPU, whatever device is named; the threads that are set are the whole process's.

    Args:
        request: The version, and how to run it.

    Raises:
        ModelFormatError: If the version's files are not of the detector that its manifest names.
    """

    def __init__(self, request: EngineRequest) -> None:
        torch.set_num_threads(request.threads)
        threadpoolctl.threadpool_limits(request.threads)
        manifest = verify_version(request.folder)
        size = manifest.preprocessing
        self._calibrated = CalibratedDetector.load(
            manifest.detector, (size.height_px, size.width_px, 3), read_detector(request.folder)
        )
        length = self._calibrated.detector.embedding_size
        if length != manifest.embedding_size:
            raise ModelFormatError(
                f"model.json: embedding_size must be the detector's {length}, got {manifest.embedding_size}"
            )

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score a batch; class 1 is *anomaly*."""
        scores, found = self._calibrated.examine(images)
        disagreements = None if found.disagreements is None else found.disagreements.astype(np.float32)
        probabilities = np.stack([1 - scores, scores], axis=1)
        return Answer(scores, probabilities, found.embeddings.astype(np.float32), disagreements)

    def maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The detector's own anomaly maps, shape ``(N, h, w)``; None of one that finds no places."""
        return self._calibrated.detector.examine(images).maps
