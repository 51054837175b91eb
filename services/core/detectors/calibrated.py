"""A fitted detector with the scale that its scores are read on: what a model version keeps, whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.detectors.catalogue import load_detector
from services.core.detectors.detector import Detector, Examined, Files, Images
from services.core.detectors.header import HEADER, kept_spec
from services.core.detectors.scale import ScoreScale
from services.core.errors import ModelFormatError

_SCALE: Final = "scale.json"


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedDetector:
    """A detector whose scores mean something.

    Attributes:
        detector: What looks.
        scale: From its raw scores to calibrated ones, 0.5 at the threshold.
    """

    detector: Detector
    scale: ScoreScale

    def examine(self, images: Images) -> tuple[NDArray[np.float32], Examined]:
        """Give calibrated scores, shape ``(N,)``, and what the detector itself says."""
        found = self.detector.examine(images)
        return self.scale.apply(found.scores).astype(np.float32), found

    def files(self) -> dict[str, bytes]:
        """What :meth:`load` makes the same of."""
        return {**self.detector.files(), _SCALE: self.scale.to_json()}

    @classmethod
    def load(cls, name: str, image_shape: tuple[int, int, int], files: Files) -> CalibratedDetector:
        """Read one back.

        Args:
            name: Which detector it must be.
            image_shape: ``(H, W, 3)`` of the images that it must take.
            files: What :meth:`files` gave.

        Raises:
            ModelFormatError: If files are missing, damaged, or of another detector.
        """
        if _SCALE not in files:
            raise ModelFormatError(f"a detector must be kept with {_SCALE}, got {sorted(files)}")
        rest = {file: data for file, data in files.items() if file != _SCALE}
        spec = kept_spec(rest)
        if spec.detector != name:
            raise ModelFormatError(f"{HEADER}: must be of {name}, got {spec.detector}")
        return cls(load_detector(spec, image_shape, rest), ScoreScale.from_json(files[_SCALE]))
