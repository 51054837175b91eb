"""A fitted detector with the scale that its scores are read on: what a model version keeps, whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.detectors.catalogue import load_detector
from services.core.detectors.detector import Detector, Examined, Files, Images
from services.core.detectors.header import spec_from_json, spec_to_json
from services.core.detectors.scale import ScoreScale
from services.core.errors import ModelFormatError
from services.core.manifest import load_json

_SCALE: Final = "scale.json"
_SPEC: Final = "spec.json"


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
        spec = (json.dumps(spec_to_json(self.detector.spec), indent=1, sort_keys=True) + "\n").encode()
        return {**self.detector.files(), _SCALE: self.scale.to_json(), _SPEC: spec}

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
        rest = dict(files)
        missing = sorted({_SCALE, _SPEC} - set(rest))
        if missing:
            raise ModelFormatError(f"a detector must be kept with {', '.join(missing)}, got {sorted(files)}")
        scale = ScoreScale.from_json(rest.pop(_SCALE))
        spec = spec_from_json(load_json(rest.pop(_SPEC), _SPEC))
        if spec.detector != name:
            raise ModelFormatError(f"{_SPEC}: must be of {name}, got {spec.detector}")
        return cls(load_detector(spec, image_shape, rest), scale)
