"""What every detector that learns from good parts looks like from outside.

A detector is fitted once, on images of good parts, and is immutable afterwards. It says of each image how far it is
from good, and, where it can, where. No image's score depends on the images that it is asked together with: a line asks
about one part at a time or about a batch, and must get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.manifest import OptionValue

Images: TypeAlias = NDArray[np.uint8]
"""Prepared images, RGB, shape ``(N, H, W, 3)``."""

Progress: TypeAlias = Callable[[float, str], None]
"""Told the share that is done, 0 to 1, and what is being done."""

Files: TypeAlias = Mapping[str, bytes]
"""What a fitted detector is kept as: file names (no folders) and their contents; nothing of it is ever unpickled."""

#: The fifteen of paper 3, by the names of the command line, in the paper's order.
PYOD_DETECTORS: Final = (
    "abod",
    "cblof",
    "feature-bagging",
    "hbos",
    "iforest",
    "knn",
    "average-knn",
    "lof",
    "ocsvm",
    "pca",
    "lscp",
    "inne",
    "gmm",
    "kde",
    "lmdd",
)

#: Detectors that find places by themselves.
PATCH_KNN: Final = "patch-knn"
UTRAD: Final = "utrad"

#: Those that have a map of their own.
LOCALISING: Final = frozenset({PATCH_KNN, UTRAD})

DETECTORS: Final = (*PYOD_DETECTORS, PATCH_KNN, UTRAD)

#: Several of them in one, see ``panel``.
PANEL: Final = "panel"


class Examined(NamedTuple):
    """What a detector says of a batch of images; one row for each."""

    scores: NDArray[np.float64]
    """Raw anomaly scores, shape ``(N,)``, finite; higher is worse. No common unit: see ``scale.ScoreScale``."""
    embeddings: NDArray[np.float32]
    """What the detector compares, shape ``(N, D)``; for near hits and near misses."""
    maps: NDArray[np.float32] | None
    """Anomaly maps over the whole image, shape ``(N, h, w)``, in the unit of the scores; None of one that has none."""
    disagreements: NDArray[np.float64] | None = None
    """How far the members of a panel disagree, shape ``(N,)``, in 0 to 1; None of a single detector."""


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """Everything that decides what a detector is, except for the images.

    Attributes:
        detector: One of :data:`DETECTORS`, or :data:`PANEL`, whose options list its members.
        features: Of the fifteen: a pipeline's name, see ``features.parse_features``: ``raw``, ``pca300``, ``pca700``,
            ``pca300-rbf``, ``embedding`` and so on. The last two have their own.
        backbone: Network of ``services.core.models`` for features that need one.
        seed: Of everything random.
        options: Keyword arguments of the detector beyond its defaults.
    """

    detector: str
    features: str = "embedding"
    backbone: str = "efficientnet-lite0"
    seed: int = 0
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.detector not in (*DETECTORS, PANEL):
            raise InvalidInputError(f"a detector must be one of {', '.join(DETECTORS)}, got {self.detector!r}")
        if self.seed < 0:
            raise InvalidInputError(f"seed must be >= 0, got {self.seed}")


class Detector(Protocol):
    """A fitted detector."""

    @property
    def spec(self) -> DetectorSpec:
        """What it is."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(H, W, 3)`` of the images that it was fitted on; it takes no others."""
        ...

    @property
    def embedding_size(self) -> int:
        """``D`` of :attr:`Examined.embeddings`."""
        ...

    def examine(self, images: Images) -> Examined:
        """Say how far images are from good.

        Raises:
            InvalidInputError: If the images have another shape than those of the fit.
        """
        ...

    def files(self) -> dict[str, bytes]:
        """What :func:`services.core.detectors.catalogue.load_detector` makes the same detector of."""
        ...


def check_images(images: Images, shape: tuple[int, int, int] | None = None) -> None:
    """Refuse what is no batch of images.

    Args:
        images: What came.
        shape: ``(H, W, 3)`` that they must have; None for any.

    Raises:
        InvalidInputError: If type, dimensions or shape are wrong.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise InvalidInputError(f"images must be a uint8 array, got {getattr(images, 'dtype', type(images).__name__)}")
    if images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:]) < 1:
        raise InvalidInputError(f"images must have shape (N, H, W, 3), got {images.shape}")
    if shape is not None and images.shape[1:] != shape:
        raise InvalidInputError(f"images must have the shape of the fit, {shape}, got {images.shape[1:]}")
