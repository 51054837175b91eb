"""The fifteen models themselves: how each is built from PyOD, what it may be told, and how it is asked.

Paper 3 ("Method 1", list of detection models) names them and no parameter, so PyOD's defaults hold, except where they
break on few images of many features:

- neighbourhoods (LOF, feature bagging, LSCP) are no larger than the images allow;
- the Gaussian mixture takes a full covariance only with at least twice as many images as features, and no more than
  1000 features; otherwise a diagonal one, which is the same thing on principal components;
- the PCA detector divides by the variance of each component, so it takes only those that have any;
- LSCP selects among four LOFs (5, 10, 15 and 20 neighbours).

INNE's score ends at 1, which it gives to every image that none of its spheres covers; of many features (a pooled
embedding without PCA) good parts may get it as well, and then nothing scores above them.

**Two of them do not score an image by itself in PyOD, and do here.**

*LMDD* scores each image against the batch that it comes in, and ignores what it was fitted to. Here it is given a
reference set with each image: :data:`LMDD_REFERENCE` images of the fit, drawn from the half of them nearest to the
median, so that a hidden defect cannot become the measure. One image at a time; the cost is that of PyOD's call on
reference and image.

*LSCP* draws random subspaces with a generator that moves on from call to call. Here each call draws with a generator
fresh from the seed: the same subspaces for every image, in any batch, at any time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pyod.models.abod import ABOD
from pyod.models.cblof import CBLOF
from pyod.models.feature_bagging import FeatureBagging
from pyod.models.gmm import GMM
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.inne import INNE
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.lmdd import LMDD
from pyod.models.lof import LOF
from pyod.models.lscp import LSCP
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA

from services.core.detectors import safe_state
from services.core.errors import DetectorFitError, InvalidInputError, ModelFormatError
from services.core.manifest import OptionValue

Rows = NDArray[np.float64]
Options = Mapping[str, OptionValue]

#: Images of the fit that LMDD compares each image with.
LMDD_REFERENCE: Final = 16
#: Most bytes of a fitted detector.
MAX_MODEL_BYTES: Final = safe_state.MAX_STATE_BYTES

#: What each may be told beyond its defaults; PyOD's names, and LMDD's ``reference``.
OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "abod": frozenset({"n_neighbors"}),
    "cblof": frozenset({"n_clusters", "alpha", "beta", "use_weights"}),
    "feature-bagging": frozenset({"n_estimators", "max_features", "combination"}),
    "hbos": frozenset({"n_bins", "alpha", "tol"}),
    "iforest": frozenset({"n_estimators", "max_samples", "max_features", "bootstrap"}),
    "knn": frozenset({"n_neighbors"}),
    "average-knn": frozenset({"n_neighbors"}),
    "lof": frozenset({"n_neighbors"}),
    "ocsvm": frozenset({"kernel", "nu", "gamma", "degree", "coef0"}),
    "pca": frozenset({"n_components", "n_selected_components", "weighted", "whiten"}),
    "lscp": frozenset({"local_region_size", "local_max_features"}),
    "inne": frozenset({"n_estimators", "max_samples"}),
    "gmm": frozenset({"n_components", "covariance_type", "reg_covar", "max_iter", "n_init"}),
    "kde": frozenset({"bandwidth"}),
    "lmdd": frozenset({"n_iter", "dis_measure", "reference"}),
}

_LSCP_NEIGHBOURS: Final = (5, 10, 15, 20)
_LSCP_REGION: Final = 30
_FULL_COVARIANCE: Final = 1000
_NO_VARIANCE: Final = 1e-10
_FLOAT: Final = 8
_FIT_ERRORS: Final = (ArithmeticError, AssertionError, LookupError, MemoryError, TypeError, ValueError)


class Model(Protocol):
    """A fitted model."""

    @property
    def lowest(self) -> float:
        """Least score of the fit: that of an image which is as good as it gets."""
        ...

    def score(self, rows: Rows) -> NDArray[np.float64]:
        """Score features of shape ``(N, D)``, ``N >= 1``; higher is worse."""
        ...

    def files(self) -> dict[str, bytes]:
        """What :func:`load_model` makes the same model of."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A model that PyOD scores image by image."""

    kind: str
    fitted: Any

    @property
    def lowest(self) -> float:
        """Least finite score of the fit."""
        scores = np.asarray(self.fitted.decision_scores_)
        return float(scores[np.isfinite(scores)].min())

    def score(self, rows: Rows) -> NDArray[np.float64]:
        """Ask PyOD."""
        return np.asarray(self.fitted.decision_function(rows), dtype=np.float64)

    def files(self) -> dict[str, bytes]:
        """One skops file."""
        return {_file(self.kind): safe_state.dump_state(self.fitted, self.kind)}


@dataclass(frozen=True, slots=True, eq=False)
class Frozen(Plain):
    """LSCP, whose subspaces are the same at every call."""

    seed: int

    def score(self, rows: Rows) -> NDArray[np.float64]:
        """Ask a shallow copy with a fresh generator: callers in other threads move nobody's on."""
        one = copy.copy(self.fitted)
        one.random_state = np.random.RandomState(self.seed)
        return np.asarray(one.decision_function(rows), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Referenced:
    """LMDD, which is given the reference set with each image."""

    reference: Rows
    deviation: Any
    lowest: float = 0.0

    def score(self, rows: Rows) -> NDArray[np.float64]:
        """Ask PyOD for one image after the other."""
        batch = np.vstack([self.reference, rows[:1]])
        scores = np.empty(len(rows))
        for index, row in enumerate(rows):
            batch[-1] = row
            scores[index] = self.deviation.decision_function(batch)[-1]
        return scores

    def files(self) -> dict[str, bytes]:
        """The reference set; its parameters stand in the specification."""
        return {_file("lmdd"): safetensors.numpy.save({"reference": np.ascontiguousarray(self.reference)})}


def check_options(kind: str, options: Options) -> None:
    """Refuse options that the detector does not take.

    Raises:
        InvalidInputError: If there is one.
    """
    unknown = sorted(set(options) - OPTIONS[kind])
    if unknown:
        raise InvalidInputError(
            f"{kind} takes the options {', '.join(sorted(OPTIONS[kind]))}, got {', '.join(unknown)}"
        )


def fit_model(kind: str, rows: Rows, seed: int, options: Options) -> Model:
    """Fit one of the fifteen.

    Args:
        kind: Its name.
        rows: Features of good parts, shape ``(N, D)``, finite.
        seed: Of everything random.
        options: See :data:`OPTIONS`.

    Raises:
        InvalidInputError: If an option is unknown, or the fitted model would take too much memory.
        DetectorFitError: If PyOD cannot fit it; the reason and the message say why and what to change.
    """
    check_options(kind, options)
    random = seed % 2**31
    try:
        check_memory(kind, rows.shape, options)
        if kind == "lmdd":
            return _fit_lmdd(rows, random, options)
        fitted = _build(kind, rows, random, options).fit(rows)
        if kind == "pca" and "n_components" not in options:
            fitted = _without_empty_components(fitted, rows, random, options)
    except _FIT_ERRORS as error:
        raise _explained(kind, rows, options, error) from error
    if not np.isfinite(fitted.decision_scores_).any():
        raise DetectorFitError(
            f"{kind} must give some image of the fit a finite score, got none: where every image has equal ones beside "
            "it, take each once, or another detector",
            "no_scores",
        )
    if kind == "lscp":
        fitted.random_state = random
        return Frozen(kind, fitted, random)
    return Plain(kind, fitted)


def load_model(kind: str, files: Mapping[str, bytes], seed: int, options: Options) -> Model:
    """Read a fitted model.

    Raises:
        ModelFormatError: If its file is missing or is not such a model.
    """
    name, random = _file(kind), seed % 2**31
    if name not in files:
        raise ModelFormatError(f"{kind} must have {name}, got {', '.join(sorted(files)) or 'no files'}")
    if kind == "lmdd":
        return Referenced(_read_reference(files[name], name), _lmdd(random, options))
    fitted = safe_state.load_state(files[name], kind, name)
    return Frozen(kind, fitted, random) if kind == "lscp" else Plain(kind, fitted)


def check_memory(kind: str, shape: tuple[int, ...], options: Options) -> None:
    """Refuse to fit what would not fit into memory.

    Raises:
        InvalidInputError: If the fitted model would take more than :data:`MAX_MODEL_BYTES`.
    """
    size = _FLOAT * _numbers_kept(kind, shape[0], shape[1], options)
    if size > MAX_MODEL_BYTES:
        raise InvalidInputError(
            f"a fitted {kind} must take at most {MAX_MODEL_BYTES} bytes, got about {size} for {shape[0]} images of "
            f"{shape[1]} features: take features with PCA, fewer images, or fewer estimators"
        )


def _numbers_kept(kind: str, images: int, features: int, options: Options) -> int:
    rows = images * features
    if kind in ("feature-bagging", "lscp"):
        # Each LOF keeps its rows once more, feature bagging three quarters of the columns.
        each = (
            1.5 * int(options.get("n_estimators", 10)) if kind == "feature-bagging" else 1 + 2 * len(_LSCP_NEIGHBOURS)
        )
        return int(each * rows)
    if kind == "inne":
        drawn = options.get("max_samples", 8)
        count = drawn * images if isinstance(drawn, float) else int(drawn)
        return int(int(options.get("n_estimators", 200)) * count * features)
    if kind == "gmm":
        covariance = options.get("covariance_type", _covariance(images, features))
        return int(options.get("n_components", 1)) * 3 * features * (features if covariance == "full" else 1)
    return {"abod": 3, "knn": 2, "average-knn": 2, "lof": 2, "ocsvm": 2, "pca": 3, "kde": 2}.get(kind, 1) * rows


def _build(kind: str, rows: Rows, seed: int, given: Options) -> Any:
    images, features = rows.shape
    near = min(20, images - 1)
    options = dict(given)
    builders: dict[str, tuple[Any, dict[str, Any]]] = {
        "abod": (ABOD, {}),
        "cblof": (CBLOF, {"random_state": seed}),
        "feature-bagging": (FeatureBagging, {"random_state": seed, "estimator_params": {"n_neighbors": near}}),
        "hbos": (HBOS, {}),
        "iforest": (IForest, {"random_state": seed}),
        "knn": (KNN, {}),
        "average-knn": (KNN, {"method": "mean"}),
        "lof": (LOF, {"n_neighbors": near}),
        "ocsvm": (OCSVM, {}),
        "pca": (PCA, {"random_state": seed, "n_components": min(images - 1, features)}),
        "inne": (INNE, {"random_state": seed}),
        "gmm": (GMM, {"random_state": seed, "covariance_type": _covariance(images, features)}),
        "kde": (KDE, {}),
    }
    if kind == "lscp":
        return _lscp(images, seed, options)
    model, defaults = builders[kind]
    return model(**(defaults | options))


def _covariance(images: int, features: int) -> str:
    return "full" if features <= _FULL_COVARIANCE and images >= 2 * features else "diag"


def _lscp(images: int, seed: int, options: dict[str, Any]) -> Any:
    members = [LOF(n_neighbors=min(near, images - 1)) for near in _LSCP_NEIGHBOURS]
    region = {"local_region_size": min(_LSCP_REGION, images)}
    model = LSCP(members, n_bins=len(members), random_state=seed, **(region | options))
    # Below this PyOD warns at every call.
    model.local_region_min = min(model.local_region_min, model.local_region_size)
    return model


def _without_empty_components(fitted: Any, rows: Rows, seed: int, options: Options) -> Any:
    ratio = fitted.explained_variance_ratio_
    kept = int((ratio > _NO_VARIANCE * ratio[0]).sum())
    return fitted if kept == len(ratio) else _build("pca", rows, seed, {**options, "n_components": kept}).fit(rows)


def _fit_lmdd(rows: Rows, seed: int, options: Options) -> Referenced:
    count = options.get("reference", LMDD_REFERENCE)
    if not isinstance(count, int) or not 2 <= count <= 256:
        raise InvalidInputError(f"reference must be a number of images in 2..256, got {count!r}")
    distance = np.square(rows - np.median(rows, axis=0)).sum(axis=1)
    central = np.sort(np.argsort(distance, kind="stable")[: max(count, (len(rows) + 1) // 2)])
    chosen = np.random.default_rng(seed).choice(central, min(count, len(central)), replace=False)
    reference = np.ascontiguousarray(rows[np.sort(chosen)])
    model = Referenced(reference, _lmdd(seed, options))
    model.score(rows[:1])  # so that options which PyOD refuses are refused now
    return model


def _lmdd(seed: int, options: Options) -> Any:
    return LMDD(random_state=seed, **{name: value for name, value in options.items() if name != "reference"})


def _read_reference(data: bytes, name: str) -> Rows:
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelFormatError(f"{name}: must be a safetensors file, got {error}") from error
    reference: NDArray[Any] = arrays["reference"] if set(arrays) == {"reference"} else np.empty(0)
    if reference.ndim != 2 or reference.dtype != np.float64 or len(reference) < 2:
        raise ModelFormatError(
            f"{name}: must hold one float64 array, reference, of at least two rows, got {', '.join(sorted(arrays))} "
            f"with {reference.dtype} {reference.shape}"
        )
    if not np.isfinite(reference).all():
        raise ModelFormatError(f"{name}: reference must be finite, got NaN or infinity")
    return np.asarray(reference)


def _file(kind: str) -> str:
    return "detector.safetensors" if kind == "lmdd" else "detector.skops"


def _explained(kind: str, rows: Rows, options: Options, error: Exception) -> DetectorFitError:
    said = f"{kind} cannot be fitted to {rows.shape[0]} images of {rows.shape[1]} features"
    if kind == "cblof" and "valid cluster separation" in str(error):
        # The smallest of k clusters holds at most 1/k: with k >= 1 / (1 - alpha) the others hold alpha.
        alpha = float(options.get("alpha", 0.9))
        enough = int(np.ceil(1 / (1 - alpha) - 1e-9))
        return DetectorFitError(
            f"{said}: their {options.get('n_clusters', 8)} clusters are of about one size, so none is small enough to "
            f"be odd (alpha {alpha:g}); take n_clusters of at least {enough}, or a smaller alpha",
            "no_cluster_separation",
        )
    if isinstance(error, MemoryError):
        return DetectorFitError(f"{said}: {error}; take features with PCA or fewer images", "out_of_memory")
    if "n_samples" in str(error):
        return DetectorFitError(f"{said}: {error}; take more images, or smaller neighbourhoods", "too_few_images")
    return DetectorFitError(f"{said}: {error}; check the options {dict(options)}", "detector_fit_failed")
