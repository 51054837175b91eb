"""The experiment on detectors: every one is fitted on the same good parts, calibrated and tested on the same others."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.detectors.backbone import Backbone
from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import LOCALISING, Detector, DetectorSpec, Images
from services.core.detectors.features import Features, fit_features, parse_features
from services.core.detectors.pyod_detectors import PyodDetector
from services.core.detectors.pyod_models import fit_model
from services.core.detectors.scale import fit_scale
from services.core.errors import SightlineError
from services.core.evaluation.localisation import aupro, pooled_pixel_auroc
from services.core.evaluation.metrics import auroc, best_f1, f1
from services.core.explain.resizing import resize_map
from services.experiments.detector_sample import SHARES, Sample, split_good

OWN_FEATURES: Final = "own"
"""What stands in place of the features' name at detectors that bring theirs."""

_T = TypeVar("_T")

Key = tuple[str, str]
"""A detector and its features."""

Progress = Callable[[str, float, str], None]
"""Told the stage, its share that is done, and what is being done."""

#: Share of good parts that the calibrated threshold may reject.
FALSE_REJECT_TARGET: Final = 0.01

_BATCH: Final = 16
_TIMED: Final = 8
_HELD_BYTES: Final = 512 * 1024**2
# What detectors and the libraries below them raise on data that they cannot take; anything else is a fault of ours.
_FAILURES: Final = (SightlineError, ArithmeticError, MemoryError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """What is to be compared.

    Attributes:
        detectors: Names, see ``services.core.detectors.detector``.
        features: Pipelines' names, for those of the fifteen.
        seeds: Each splits and fits anew.
        backbone: Network of features that need one.
    """

    detectors: tuple[str, ...]
    features: tuple[str, ...]
    seeds: int = 1
    backbone: str = "efficientnet-lite0"

    def table(self) -> list[Key]:
        """The rows of the table: each detector with each feature pipeline, and once where it brings its own."""
        own = [(name, OWN_FEATURES) for name in self.detectors if name in LOCALISING]
        fifteen = [name for name in self.detectors if name not in LOCALISING]
        return [(name, features) for features in self.features for name in fifteen] + own


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What one seed gave.

    Attributes:
        rows: Test parts, indices into the sample.
        scores: Their calibrated scores.
        defective: Whether each is.
        figures: By name, see ``services.experiments.detector_table``; NaN where not defined.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    defective: NDArray[np.bool_]
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one detector.

    Attributes:
        detector: Its name.
        features: Its features' name, or :data:`OWN_FEATURES`.
        seeds: How many were asked for.
        measured: One of each seed; empty of a detector that failed.
        error: Why it did.
    """

    detector: str
    features: str
    seeds: int
    measured: tuple[Measured, ...]
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Described:
    """Features of all sides of one split, with what they cost."""

    features: Features
    rows: Mapping[str, NDArray[np.float64]]
    fit_s: float
    single_s: float
    batch_s: float

    @property
    def size_bytes(self) -> int:
        return sum(rows.nbytes for rows in self.rows.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Raw scores of the held-out sides, the maps of the test side, and times."""

    calibrate: NDArray[np.float64]
    test: NDArray[np.float64]
    maps: NDArray[np.float32] | None
    fit_s: float
    single_s: float
    batch_s: float


def run_comparison(
    sample: Sample,
    settings: DetectorSettings,
    on_row: Callable[[Outcome], object],
    done: AbstractSet[Key] = frozenset(),
    progress: Progress = lambda _stage, _share, _what: None,
) -> None:
    """Compare detectors, one after the other, each with all seeds.

    Features are made once for each pipeline and seed and then shared; every detector is charged for them.

    Args:
        sample: The parts.
        settings: What.
        on_row: Given each outcome as soon as it is there.
        done: Rows that are there already.
        progress: Told how far it is.

    Raises:
        InvalidInputError: If the parts cannot be split, or a pipeline's name is none.
    """
    for name in settings.features:
        parse_features(name)
    sides = [split_good(sample.groups, sample.defective, seed) for seed in range(settings.seeds)]
    missing = [key for key in settings.table() if key not in done]
    shared: dict[int, _Described] = {}
    of = ""
    for number, (detector, features) in enumerate(missing):
        if features != of:
            shared, of = {}, features
        stage = f"{detector}, {features}" if features != OWN_FEATURES else detector

        def tell(share: float, what: str, number: int = number, stage: str = stage) -> None:
            progress(stage, (number + share) / len(missing), what)

        on_row(_compare(sample, settings, (detector, features), sides, shared, tell))


def describe_conditions(sample: Sample, settings: DetectorSettings, source: str) -> dict[str, Any]:
    """Say in words and numbers what the figures hold for; which detectors they are of is said by the rows."""
    content = hashlib.sha256("\n".join(sample.groups).encode())
    for values in (sample.images, sample.defective, *(mask for mask in sample.masks if mask is not None)):
        content.update(np.ascontiguousarray(values).data)
    drawn = [mask for mask, bad in zip(sample.masks, sample.defective, strict=True) if bad and mask is not None]
    return {
        "data": source,
        "content_sha256": content.hexdigest(),
        "parts": len(sample.groups),
        "defective": int(sample.defective.sum()),
        "masks": len(drawn),
        "groups": len(set(sample.groups)),
        "seeds": settings.seeds,
        "split": ", ".join(f"{name} {share:.0%}" for name, share in SHARES.items())
        + " of the groups without a defect; all others are tested",
        "input": f"{sample.images.shape[1]} px, letterbox with mirrored fill",
        "backbone": settings.backbone,
        "threshold": f"0.5 on a scale made of the calibration parts, for {FALSE_REJECT_TARGET:.0%} false rejects",
        "times": f"features made once and charged to every detector that shares them; single is the median of "
        f"{_TIMED} pictures, batch the mean over the test parts, {_BATCH} at a time",
        "intervals": "lowest and highest of the seeds",
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in ("pyod", "scikit-learn", "torch")},
    }


def _compare(
    sample: Sample,
    settings: DetectorSettings,
    key: Key,
    sides: Sequence[Mapping[str, NDArray[np.intp]]],
    shared: dict[int, _Described],
    progress: Callable[[float, str], None],
) -> Outcome:
    measured = []
    _warm_up(key)
    for seed, rows in enumerate(sides):
        start = seed / len(sides)

        def tell(share: float, what: str, start: float = start, seed: int = seed) -> None:
            progress(start + share / len(sides), f"seed {seed}: {what}")

        try:
            scored = _score(sample, settings, key, seed, rows, shared, tell)
            measured.append(_measure(sample, rows, scored))
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
            return Outcome(*key, len(sides), (), reason if len(sides) == 1 else f"seed {seed}: {reason}")
    return Outcome(*key, len(sides), tuple(measured))


def _score(
    sample: Sample,
    settings: DetectorSettings,
    key: Key,
    seed: int,
    rows: Mapping[str, NDArray[np.intp]],
    shared: dict[int, _Described],
    progress: Callable[[float, str], None],
) -> _Scored:
    detector, features = key
    progress(0.0, "fitting")
    if features == OWN_FEATURES:
        spec = DetectorSpec(detector, backbone=settings.backbone, seed=seed)
        return _score_images(sample.images, spec, rows, progress)
    spec = DetectorSpec(detector, features, settings.backbone, seed)
    described = shared.get(seed)
    if described is None:
        described = _describe(sample.images, spec, rows)
        if described.size_bytes + sum(one.size_bytes for one in shared.values()) <= _HELD_BYTES:
            shared[seed] = described
    progress(0.6, "fitting")
    return _score_features(described, spec, progress)


def _warm_up(key: Key) -> None:
    """Load what a detector loads, and compile what it compiles, before the clock runs."""
    if key[1] != OWN_FEATURES:
        with contextlib.suppress(*_FAILURES):
            fit_model(key[0], np.random.default_rng(0).normal(size=(64, 4)), 0, {})


def _score_images(
    images: Images,
    spec: DetectorSpec,
    rows: Mapping[str, NDArray[np.intp]],
    progress: Callable[[float, str], None],
) -> _Scored:
    """Ask a detector that looks at images."""
    fit_s, fitted = _timed(
        lambda: fit_detector(images[rows["fit"]], spec, lambda share, what: progress(0.6 * share, what))
    )
    progress(0.6, "scoring")
    test = rows["test"]
    fitted.examine(images[test[:1]])
    single_s = _median_s([partial(fitted.examine, images[row : row + 1]) for row in test[:_TIMED]])
    calibrate, _ = _examine(fitted, images, rows["calibrate"])
    batch_s, (scores, maps) = _timed(lambda: _examine(fitted, images, test))
    return _Scored(calibrate, scores, maps, fit_s, single_s, batch_s / len(test))


def _score_features(described: _Described, spec: DetectorSpec, progress: Callable[[float, str], None]) -> _Scored:
    """Ask one of the fifteen, which looks at features that are there already."""
    fit = described.rows["fit"]
    fit_s, model = _timed(lambda: fit_model(spec.detector, fit, spec.seed, {}))
    fitted = PyodDetector(spec, described.features, model, fit.shape[1])
    progress(0.8, "scoring")
    test = described.rows["test"]
    fitted.score_features(test[:1])
    single_s = _median_s([partial(fitted.score_features, test[row : row + 1]) for row in range(min(_TIMED, len(test)))])
    batch_s, scores = _timed(lambda: _in_batches(fitted.score_features, test))
    return _Scored(
        _in_batches(fitted.score_features, described.rows["calibrate"]),
        scores,
        None,
        described.fit_s + fit_s,
        described.single_s + single_s,
        described.batch_s + batch_s / len(test),
    )


def _describe(images: Images, spec: DetectorSpec, rows: Mapping[str, NDArray[np.intp]]) -> _Described:
    """Do what ``fit_pyod`` does before it comes to the detector."""
    wanted = parse_features(spec.features)
    fit = images[rows["fit"]]

    def fitted() -> tuple[Features, NDArray[np.float64]]:
        embed = Backbone.create(spec) if wanted.source == "embedding" else None
        features = fit_features(fit, wanted, spec.seed, embed)
        return features, features.transform(fit)

    fit_s, (features, known) = _timed(fitted)
    test = rows["test"]
    single_s = _median_s([partial(features.transform, images[row : row + 1]) for row in test[:_TIMED]])
    calibrate = features.transform(images[rows["calibrate"]])
    batch_s, tested = _timed(lambda: _in_batches(lambda some: features.transform(images[some]), test))
    numbers = {"fit": known, "calibrate": calibrate, "test": tested}
    return _Described(features, numbers, fit_s, single_s, batch_s / len(test))


def _measure(sample: Sample, rows: Mapping[str, NDArray[np.intp]], scored: _Scored) -> Measured:
    test = rows["test"]
    worst: dict[str, float] = {}
    for row, score in zip(rows["calibrate"], scored.calibrate, strict=True):
        group = sample.groups[row]
        worst[group] = max(float(score), worst.get(group, -math.inf))
    # One score for each part, its worst picture's, as a version's scale is made.
    scale = fit_scale(np.array([worst[group] for group in sorted(worst)]), FALSE_REJECT_TARGET)
    scores, defective = scale.apply(scored.test), sample.defective[test]
    figures = {
        "image_auroc": auroc(scored.test, defective),
        "f1_best": best_f1(scored.test, defective),
        "f1_calibrated": f1(scores >= 0.5, defective),
        "fit_s": scored.fit_s,
        "score_ms_single": 1000 * scored.single_s,
        "score_ms_batch": 1000 * scored.batch_s,
    }
    return Measured(test, scores, defective, figures | _pixel_figures(sample, test, scored.maps))


def _pixel_figures(sample: Sample, rows: NDArray[np.intp], whole: NDArray[np.float32] | None) -> dict[str, float]:
    if whole is None:
        return {"pixel_auroc": math.nan, "aupro": math.nan}
    maps, masks = [], []
    for row, values in zip(rows, whole, strict=True):
        mask, place = sample.masks[row], sample.places[row]
        if mask is not None:
            height, width = sample.images.shape[1:3]
            inside = resize_map(values, height, width)[
                place.y : place.y + place.height, place.x : place.x + place.width
            ]
            maps.append(inside)
            masks.append(mask)
    if not any(mask.any() for mask in masks):
        return {"pixel_auroc": math.nan, "aupro": math.nan}
    return {"pixel_auroc": pooled_pixel_auroc(maps, masks), "aupro": aupro(maps, masks)}


def _examine(
    fitted: Detector, images: Images, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    found = [fitted.examine(images[rows[start : start + _BATCH]]) for start in range(0, len(rows), _BATCH)]
    maps = [one.maps for one in found if one.maps is not None]
    return np.concatenate([one.scores for one in found]), np.concatenate(maps) if maps else None


def _in_batches(ask: Callable[[NDArray[Any]], NDArray[np.float64]], rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.concatenate([ask(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)])


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _median_s(works: Sequence[Callable[[], object]]) -> float:
    return float(np.median([_timed(work)[0] for work in works]))
