"""What the fifteen detectors of paper 3 compare: pixels, principal components, a kernel's map of them, or embeddings.

One scikit-learn pipeline stands between an image's numbers and the detector (paper 3, "Method 1: Two model in
pipeline"): scaler, then PCA ("Kernel compare", step 1: 300 or 700 components), then a map to another space by a kernel
(step 2: linear, polynomial, RBF, sigmoid or cosine). The paper gives names only; chosen here are

- **pixels** scaled to 0 to 1; the paper's thermal images have one channel, and so have ours where all images of the fit
  are grey (their three channels are equal): then the mean of the channels is taken, of later images too;
- **the scaler**: each column to mean 0 and standard deviation 1, but never divided by less than one grey level (pixels)
  or 1e-4 (embeddings): where good parts hardly differ, camera noise would become the largest feature;
- **PCA** without whitening, so that distances keep their meaning. Components without variance are left out: centred, N
  images span at most N - 1 of them, and a detector that divides by a component's variance would divide by rounding;
- **kernels** with ``gamma = 1 / (columns * variance)``, polynomial of degree 3. Exact kernel PCA up to
  :data:`KERNEL_EXACT_IMAGES` images, Nystroem's approximation of it on a drawn sample beyond. The sigmoid is no kernel
  in Mercer's sense: components whose eigenvalue is not positive are left out.
- of these, **RBF and cosine have a blind side**. An image far from all others has an RBF value of 0 with each, and so
  is mapped near the middle of the map, where detectors find it as good as it gets (what tells it apart is its distance
  from the map: Hoffmann, "Kernel PCA for novelty detection", Pattern Recognition 40, 2007); the cosine forgets how
  far an image lies from the mean. Take them for small differences, or beside another pipeline;
- **a common unit** at the end of PCA and kernel: all columns are divided by one number, so that their mean variance is
  1. No neighbour changes, but the detectors' defaults that are lengths (a bandwidth, say) then fit all pipelines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, KernelPCA
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KernelCenterer, StandardScaler

from services.core.detectors.detector import Images, check_images
from services.core.errors import InvalidInputError

Source = Literal["pixels", "embedding"]
Kernel = Literal["linear", "poly", "rbf", "sigmoid", "cosine"]

KERNELS: Final[tuple[Kernel, ...]] = get_args(Kernel)
#: Fewest images of a fit.
MIN_IMAGES: Final = 10
#: Up to so many images kernel PCA is exact; it compares each with each.
KERNEL_EXACT_IMAGES: Final = 1000
#: Most bytes of the images' numbers as one float32 matrix; fitting PCA takes about three times as much for a while.
MAX_MATRIX_BYTES: Final = 1024**3

_NAME: Final = re.compile(r"(?:(raw)|(embedding)|(embedding-)?pca([1-9][0-9]{0,4})(?:-([a-z]+))?)\Z", re.ASCII)
_CHUNK: Final = 32
_PIXEL_FLOOR: Final = 1 / 255
_EMBEDDING_FLOOR: Final = 1e-4
_SMALLEST_EIGENVALUE: Final = 1e-9
_DOUBLE_BYTES: Final = 256 * 1024**2

Embed = Callable[[Images], NDArray[np.float32]]
"""Pooled embeddings, shape ``(N, D)``, of images."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """A feature pipeline, as its name says it.

    Attributes:
        source: What the numbers of an image are.
        components: Principal components to keep at most; 0 for no PCA.
        kernel: Kernel of the map after the PCA; None for none.
    """

    source: Source
    components: int = 0
    kernel: Kernel | None = None


def parse_features(name: str) -> FeatureSpec:
    """Read a pipeline's name.

    Args:
        name: ``raw``, ``embedding``, ``pca300`` (any number), ``pca300-rbf`` (any of :data:`KERNELS`), or
            ``embedding-`` before one with PCA.

    Raises:
        InvalidInputError: If the name is none of these.

    Example:
        >>> parse_features("pca300-rbf")
        FeatureSpec(source='pixels', components=300, kernel='rbf')
    """
    match = _NAME.match(name)
    kernel = match[5] if match else None
    if match is None or (kernel is not None and kernel not in KERNELS):
        raise InvalidInputError(
            "features must be raw, embedding, pcaN, pcaN-KERNEL, embedding-pcaN or embedding-pcaN-KERNEL with N in "
            f"1..99999 and KERNEL one of {', '.join(KERNELS)}, got {ascii(name)[:80]}"
        )
    source: Source = "embedding" if match[2] or match[3] else "pixels"
    return FeatureSpec(source, int(match[4] or 0), cast("Kernel | None", kernel))


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """A fitted feature pipeline.

    Attributes:
        spec: What was asked for.
        image_shape: ``(H, W, 3)`` of the images.
        channels: Of pixels: 1 where the images of the fit were grey, else 3; 0 of embeddings.
        pipeline: Fitted steps ``scale``, and where there are any ``pca``, ``kernel`` and ``unit``.
        embed: The backbone, for embeddings.
    """

    spec: FeatureSpec
    image_shape: tuple[int, int, int]
    channels: int
    pipeline: Pipeline
    embed: Embed | None = None

    @property
    def components(self) -> int:
        """Principal components that there really are; 0 without PCA."""
        return int(self.pipeline["pca"].n_components_) if self.spec.components else 0

    def transform(self, images: Images) -> NDArray[np.float64]:
        """Give the features of images of the fit's shape, ``(N, D)``, a bounded number of images at a time.

        Raises:
            InvalidInputError: If images have another shape, or all their numbers together take too much memory.
        """
        check_images(images, self.image_shape)
        if not self.spec.components:
            _check_bound(len(images), images[:1], self.channels)
        parts = [self._apply(_numbers(chunk, self.channels, self.embed)) for chunk in _chunks(images)]
        if not parts:
            parts = [self._apply(_numbers(np.zeros((1, *self.image_shape), np.uint8), self.channels, self.embed))[:0]]
        return np.concatenate(parts)

    def _apply(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        values: NDArray[Any] = rows
        for name, step in self.pipeline.steps:
            # A kernel amplifies rounding by the root of its smallest eigenvalue.
            values = step.transform(values.astype(np.float64) if name == "kernel" else values)
        return np.ascontiguousarray(values, dtype=np.float64)


def fit_features(images: Images, spec: FeatureSpec, seed: int, embed: Embed | None = None) -> Features:
    """Fit a feature pipeline to images of good parts.

    Args:
        images: Shape ``(N, H, W, 3)`` with ``N >= MIN_IMAGES``.
        spec: The pipeline.
        seed: Of PCA's randomised solver and of Nystroem's sample.
        embed: The backbone; needed for embeddings.

    Raises:
        InvalidInputError: If there are too few images, they are all the same, or they take too much memory.
    """
    check_images(images)
    if len(images) < MIN_IMAGES:
        raise InvalidInputError(f"a detector must be fitted to at least {MIN_IMAGES} images, got {len(images)}")
    if all(np.array_equal(image, images[0]) for image in images[1:]):
        raise InvalidInputError(f"images must differ for a detector to learn from, got {len(images)} equal ones")
    if spec.source == "embedding" and embed is None:
        raise InvalidInputError("embedding features need a backbone, got none")
    channels = _channels(images) if spec.source == "pixels" else 0
    _check_bound(len(images), images[:1], channels)
    rows = _matrix(images, channels, embed if spec.source == "embedding" else None)
    steps = [("scale", _fit_scaler(rows, _PIXEL_FLOOR if channels else _EMBEDDING_FLOOR))]
    if spec.components:
        # Standardised in place: a second matrix of this size is what the bound is about.
        rows -= steps[0][1].mean_.astype(np.float32)
        rows /= steps[0][1].scale_.astype(np.float32)
        pca = _fit_pca(rows, spec.components, seed)
        reduced = np.asarray(pca.transform(rows), dtype=np.float64)
        steps.append(("pca", pca))
        if spec.kernel is not None:
            kernel = _fit_kernel(reduced, spec.kernel, seed)
            reduced = kernel.transform(reduced)
            steps.append(("kernel", kernel))
        steps.append(("unit", _fit_unit(reduced)))
    height, width, _ = images.shape[1:]
    return Features(spec, (height, width, 3), channels, Pipeline(steps), embed if not channels else None)


def _chunks(images: Images) -> Iterator[Images]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK]


def _channels(images: Images) -> int:
    grey = all(
        np.array_equal(chunk[..., 0], chunk[..., 1]) and np.array_equal(chunk[..., 0], chunk[..., 2])
        for chunk in _chunks(images)
    )
    return 1 if grey else 3


def _check_bound(count: int, image: Images, channels: int) -> None:
    size = count * int(np.prod(image.shape[1:3])) * channels * 4
    if size > MAX_MATRIX_BYTES:
        raise InvalidInputError(
            f"pixels of all images together must take at most {MAX_MATRIX_BYTES} bytes, got {size} for {count} images "
            f"of {image.shape[1]} x {image.shape[2]}: take fewer or smaller images, or embedding features"
        )


def _numbers(images: Images, channels: int, embed: Embed | None) -> NDArray[np.float32]:
    if channels == 0:
        if embed is None:
            raise InvalidInputError("embedding features need a backbone, got none")
        return embed(images)
    rows = images.mean(axis=3, dtype=np.float32) if channels == 1 else images.astype(np.float32)
    return np.asarray(rows.reshape(len(images), -1) / np.float32(255), dtype=np.float32)


def _matrix(images: Images, channels: int, embed: Embed | None) -> NDArray[np.float32]:
    first = _numbers(images[:1], channels, embed)
    rows = np.empty((len(images), first.shape[1]), np.float32)
    for start in range(0, len(images), _CHUNK):
        rows[start : start + _CHUNK] = _numbers(images[start : start + _CHUNK], channels, embed)
    if not np.isfinite(rows).all():
        raise InvalidInputError("embeddings must be finite, got NaN or infinity from the backbone")
    return rows


def _fit_scaler(rows: NDArray[np.float32], floor: float) -> StandardScaler:
    """Fit a standard scaler with a floor, without scikit-learn's two float64 copies of all rows."""
    mean = rows.mean(axis=0, dtype=np.float64)
    variance = np.zeros_like(mean)
    for start in range(0, len(rows), _CHUNK):
        variance += np.square(rows[start : start + _CHUNK] - mean).sum(axis=0)
    variance /= len(rows)
    if not variance.max() > 0:
        raise InvalidInputError("features must vary between images, got zero variance in every one of them")
    scaler = StandardScaler()
    scaler.mean_, scaler.var_ = mean, variance
    scaler.scale_ = np.maximum(np.sqrt(variance), floor)
    scaler.n_features_in_, scaler.n_samples_seen_ = rows.shape[1], len(rows)
    return scaler


def _fit_pca(rows: NDArray[np.float32], components: int, seed: int) -> PCA:
    """Fit PCA; scikit-learn picks the randomised solver where it saves work. It keeps float32."""
    most = min(components, len(rows) - 1, rows.shape[1])
    pca = PCA(n_components=most, svd_solver="auto", copy=True, random_state=seed).fit(rows)
    strength = pca.singular_values_
    kept = int((strength > strength[0] * max(rows.shape) * np.finfo(np.float32).eps).sum())
    if kept < most:
        pca.components_, pca.n_components_ = pca.components_[:kept].copy(), kept
        pca.singular_values_ = strength[:kept].copy()
        pca.explained_variance_ = pca.explained_variance_[:kept].copy()
        pca.explained_variance_ratio_ = pca.explained_variance_ratio_[:kept].copy()
    if pca.components_.size * 8 <= _DOUBLE_BYTES:
        # In float32 the sum over pixels depends on how many images are projected together: a score by up to 1e-4 of
        # the good parts' standard deviation. Larger projections stay in float32, or they would take twice the memory.
        pca.components_, pca.mean_ = pca.components_.astype(np.float64), pca.mean_.astype(np.float64)
    return pca


def _fit_kernel(rows: NDArray[np.float64], kernel: Kernel, seed: int) -> KernelPCA | Nystroem:
    parameters: dict[str, Any] = {"kernel": kernel}
    if kernel in ("poly", "rbf", "sigmoid"):
        parameters["gamma"] = float(1 / (rows.shape[1] * rows.var()))
    if kernel in ("poly", "sigmoid"):
        parameters["coef0"] = 1.0
    if kernel == "poly":
        parameters["degree"] = 3
    if len(rows) > KERNEL_EXACT_IMAGES:
        return Nystroem(n_components=min(rows.shape[1], len(rows)), random_state=seed, **parameters).fit(rows)
    known = {name: value for name, value in parameters.items() if name != "kernel"}
    matrix = KernelCenterer().fit_transform(pairwise_kernels(rows, metric=kernel, **known))
    eigenvalues = np.linalg.eigvalsh(matrix)
    positive = int((eigenvalues > _SMALLEST_EIGENVALUE * eigenvalues[-1]).sum()) if eigenvalues[-1] > 0 else 0
    if positive == 0:
        raise InvalidInputError(f"the kernel {kernel} must tell images apart, got a map without any variance")
    count = min(rows.shape[1], positive)
    return KernelPCA(n_components=count, eigen_solver="dense", remove_zero_eig=True, **parameters).fit(rows)


def _fit_unit(rows: NDArray[np.float64]) -> StandardScaler:
    """One number that all columns are divided by."""
    unit = StandardScaler(with_mean=False)
    unit.var_ = np.full(rows.shape[1], rows.var(axis=0).mean())
    unit.scale_ = np.sqrt(unit.var_)
    unit.mean_, unit.n_features_in_, unit.n_samples_seen_ = None, rows.shape[1], len(rows)
    return unit
