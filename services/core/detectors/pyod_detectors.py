"""The fifteen detectors of paper 3 as :class:`~services.core.detectors.detector.Detector`: features, then a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from services.core.detectors import safe_state
from services.core.detectors.backbone import BACKBONE_OPTIONS, Backbone
from services.core.detectors.detector import PYOD_DETECTORS, DetectorSpec, Examined, Files, Images, Progress
from services.core.detectors.features import Features, FeatureSpec, fit_features, parse_features
from services.core.detectors.header import describe, pack, unpack
from services.core.detectors.pyod_models import Model, Options, check_options, fit_model, load_model
from services.core.errors import InvalidInputError, ModelFormatError

_FEATURES: Final = "features.skops"
_BACKBONE: Final = "backbone.safetensors"
_HIGHEST: Final = 1e300


@dataclass(frozen=True, slots=True, eq=False)
class PyodDetector:
    """A fitted detector.

    Attributes:
        spec: What it is.
        features: What it compares.
        model: What compares it.
        embedding_size: Features of an image.
    """

    spec: DetectorSpec
    features: Features
    model: Model
    embedding_size: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(H, W, 3)`` of the images that it was fitted on."""
        return self.features.image_shape

    @property
    def components(self) -> int:
        """Principal components that there really are; 0 where the features have no PCA."""
        return self.features.components

    def examine(self, images: Images) -> Examined:
        """Say how far images are from good; none of the fifteen says where.

        Raises:
            InvalidInputError: If the images have another shape than those of the fit.
        """
        rows = self.features.transform(images)
        return Examined(self.score_features(rows), rows.astype(np.float32), None)

    def score_features(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score images by their features.

        Args:
            rows: Shape ``(N, D)``.

        Returns:
            Raw scores, shape ``(N,)``. Where PyOD has none, because an image equals its neighbours and forms no angle
            with them (ABOD), it is the lowest of the fit.

        Raises:
            InvalidInputError: If ``D`` is not that of the fit.
        """
        if rows.ndim != 2 or rows.shape[1] != self.embedding_size:
            raise InvalidInputError(f"features must have shape (N, {self.embedding_size}), got {rows.shape}")
        if not len(rows):
            return np.empty(0)
        scores = self.model.score(rows)
        if not np.isfinite(scores).all():
            lowest = self.model.lowest
            scores = np.nan_to_num(scores, nan=lowest, posinf=_HIGHEST, neginf=lowest)
        return scores

    def files(self) -> dict[str, bytes]:
        """Give what :func:`load_pyod` makes the same detector of; embeddings bring their backbone's weights along."""
        files = {_FEATURES: safe_state.dump_state(self.features.pipeline, "features"), **self.model.files()}
        if isinstance(self.features.embed, Backbone):
            files[_BACKBONE] = self.features.embed.save()
        size, channels, components = self.embedding_size, self.features.channels, self.components
        return pack(describe(self.spec, self.image_shape, size, channels=channels, components=components), files)


def fit_pyod(images: Images, spec: DetectorSpec, progress: Progress) -> PyodDetector:
    """Fit one of the fifteen to images of good parts.

    Args:
        images: Shape ``(N, H, W, 3)``.
        spec: What to fit.
        progress: Told how far it is.

    Raises:
        InvalidInputError: If the images, the features or the options cannot be used.
        DetectorFitError: If the detector cannot be fitted to these images.
    """
    wanted, options = _checked(spec)
    progress(0.0, "features")
    embed = Backbone.create(spec) if wanted.source == "embedding" else None
    features = fit_features(images, wanted, spec.seed % 2**31, embed)
    rows = features.transform(images)
    progress(0.6, spec.detector)
    model = fit_model(spec.detector, rows, spec.seed, options)
    progress(1.0, "done")
    return PyodDetector(spec, features, model, rows.shape[1])


def load_pyod(spec: DetectorSpec, image_shape: tuple[int, int, int], files: Files) -> PyodDetector:
    """Read one of the fifteen.

    Args:
        spec: What it must be.
        image_shape: ``(H, W, 3)`` of the images that it must take.
        files: What :meth:`PyodDetector.files` gave.

    Raises:
        ModelFormatError: If it is another detector, or a file is missing, damaged or holds anything else.
    """
    wanted, options = _checked(spec)
    header = unpack(spec, image_shape, files)
    if _FEATURES not in files or (wanted.source == "embedding") != (_BACKBONE in files):
        raise ModelFormatError(
            f"a detector must have {_FEATURES}, and {_BACKBONE} for embeddings only, got {', '.join(sorted(files))}"
        )
    pipeline = safe_state.load_state(files[_FEATURES], "features", _FEATURES)
    _check_steps(pipeline, wanted)
    embed = Backbone.load(spec, files[_BACKBONE]) if wanted.source == "embedding" else None
    channels = 0 if embed else header.channels
    if channels != header.channels or channels not in ((0,) if embed else (1, 3)):
        raise ModelFormatError(f"detector.json: channels must be 1 or 3, and 0 for embeddings, got {header.channels}")
    features = Features(wanted, image_shape, channels, pipeline, embed)
    model = load_model(spec.detector, files, spec.seed, options)
    detector = PyodDetector(spec, features, model, header.embedding_size)
    _check_works(detector, header.components)
    return detector


def _checked(spec: DetectorSpec) -> tuple[FeatureSpec, Options]:
    if spec.detector not in PYOD_DETECTORS:
        raise InvalidInputError(f"detector must be one of {', '.join(PYOD_DETECTORS)}, got {spec.detector!r}")
    wanted = parse_features(spec.features)
    taken = BACKBONE_OPTIONS if wanted.source == "embedding" else ()
    options = {name: value for name, value in spec.options.items() if name not in taken}
    check_options(spec.detector, options)
    return wanted, options


def _check_steps(pipeline: Pipeline, wanted: FeatureSpec) -> None:
    expected = [("scale", "StandardScaler")]
    if wanted.components:
        expected.append(("pca", "PCA"))
        if wanted.kernel is not None:
            expected.append(("kernel", "KernelPCA|Nystroem"))
        expected.append(("unit", "StandardScaler"))
    given = [(name, type(step).__name__) for name, step in getattr(pipeline, "steps", [])]
    fits = len(given) == len(expected) and all(
        name == known and kind in kinds.split("|") for (name, kind), (known, kinds) in zip(given, expected, strict=True)
    )
    if not fits:
        raise ModelFormatError(f"{_FEATURES}: must have the steps {expected}, got {given}")


def _check_works(detector: PyodDetector, components: int) -> None:
    """Ask about a black image: parts that are each in order need not go together."""
    try:
        found = detector.examine(np.zeros((1, *detector.image_shape), np.uint8))
        size, scores = found.embeddings.shape[1], found.scores
    except (ArithmeticError, AttributeError, InvalidInputError, LookupError, TypeError, ValueError) as error:
        raise ModelFormatError(f"a detector's files must go together, got {error}") from error
    if detector.components != components:
        raise ModelFormatError(f"detector.json: components must be {detector.components}, got {components}")
    if size != detector.embedding_size or not np.isfinite(scores).all():
        raise ModelFormatError(f"a detector's files must give a finite score, got {scores} of {size} features")
