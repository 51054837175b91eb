"""Detectors by name: fit one, or read one back."""

from __future__ import annotations

import importlib
from typing import Final, cast

from services.core.detectors.detector import PANEL, PATCH_KNN, UTRAD, Detector, DetectorSpec, Files, Images, Progress
from services.core.errors import InvalidInputError

#: Where detectors live: module, how to fit one, how to read one. Each loads libraries that the others do without.
_HOMES: Final = {
    PATCH_KNN: ("services.core.detectors.patch_knn", "fit_patch_knn", "load_patch_knn"),
    UTRAD: ("services.core.detectors.utrad", "fit_utrad", "load_utrad"),
}
#: A panel is fitted by what also has parts for its members' scales.
_PANEL: Final = ("services.core.detectors.panel", "", "load_panel")
_FIFTEEN: Final = ("services.core.detectors.pyod_detectors", "fit_pyod", "load_pyod")


def fit_detector(images: Images, spec: DetectorSpec, progress: Progress | None = None) -> Detector:
    """Fit a detector to images of good parts.

    Args:
        images: Prepared images, RGB, ``uint8``, shape ``(N, H, W, 3)``.
        spec: Which detector, of which features, with which seed and options. Of the fifteen, the options
            ``backbone_weights`` and ``backbone_taps`` go to the network of embeddings, see
            :meth:`services.core.detectors.backbone.Backbone.create`.
        progress: Told the share that is done and what is being done.

    Returns:
        The detector; the same images and the same specification give the same scores.

    Raises:
        InvalidInputError: If images, features or options cannot be used.
        DetectorFitError: If the detector cannot be fitted to these images; the message says what to change.
    """
    tell = progress if progress is not None else _tell_nobody
    if spec.detector == PANEL:
        raise InvalidInputError("a panel is fitted with good parts for its members' scales, by panel.fit_panel")
    module, fit, _ = _HOMES.get(spec.detector, _FIFTEEN)
    return cast("Detector", getattr(importlib.import_module(module), fit)(images, spec, tell))


def load_detector(spec: DetectorSpec, image_shape: tuple[int, int, int], files: Files) -> Detector:
    """Read a detector.

    Args:
        spec: What it must be.
        image_shape: ``(H, W, 3)`` of the images that it must take.
        files: What its ``files()`` gave.

    Raises:
        ModelFormatError: If the files are not of that detector, or are damaged or tampered with.
    """
    module, _, load = _PANEL if spec.detector == PANEL else _HOMES.get(spec.detector, _FIFTEEN)
    return cast("Detector", getattr(importlib.import_module(module), load)(spec, image_shape, files))


def _tell_nobody(_share: float, _doing: str) -> None:
    pass
