"""A detector that learns from good parts, as an engine: its calibrated score is the probability of a defect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import read_detector, verify_version
from services.core.detectors.catalogue import load_detector
from services.core.detectors.detector import Detector, Examined
from services.core.detectors.header import spec_from_json
from services.core.detectors.scale import ScoreScale
from services.core.errors import ModelFormatError
from services.serving.backend.engine import Answer, EngineRequest

#: Files of a version beside the detector's own.
SCALE = "scale.json"
SPEC = "spec.json"


class DetectorEngine:
    """An ``InferenceEngine`` on a detector of ``services.core.detectors``.

    Args:
        request: The version, and how to run it; detectors run on the CPU, whatever device is named.

    Raises:
        ModelFormatError: If the version's files are not of the detector that its manifest names.
    """

    def __init__(self, request: EngineRequest) -> None:
        manifest = verify_version(request.folder)
        files = read_detector(request.folder)
        for name in (SCALE, SPEC):
            if name not in files:
                raise ModelFormatError(f"detector/{name}: must be there, got {', '.join(sorted(files)) or 'nothing'}")
        self._scale = ScoreScale.from_json(files.pop(SCALE))
        spec = spec_from_json(files.pop(SPEC))
        if spec.detector != manifest.detector:
            raise ModelFormatError(f"detector/{SPEC}: must be of {manifest.detector}, got {spec.detector}")
        size = manifest.preprocessing
        _limit_threads(request.threads)
        self._detector: Detector = load_detector(spec, (size.height_px, size.width_px, 3), files)
        if self._detector.embedding_size != manifest.embedding_size:
            raise ModelFormatError(
                f"model.json: embedding_size must be the detector's {self._detector.embedding_size}, "
                f"got {manifest.embedding_size}"
            )

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score a batch; class 1 is *anomaly*, its probability the calibrated score."""
        found = self._detector.examine(images)
        scores = self._scale.apply(found.scores).astype(np.float32)
        return Answer(scores, np.stack([1 - scores, scores], axis=1), found.embeddings.astype(np.float32))

    def examine(self, images: NDArray[np.uint8]) -> Examined:
        """What the detector itself says, its maps included."""
        return self._detector.examine(images)


def _limit_threads(threads: int) -> None:
    import threadpoolctl  # noqa: PLC0415 - where detectors run, and nowhere else
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)
