"""The experiment on two models in a pipeline: detector, pseudo-labels, network, its maps; against detectors with maps.

Paper 3 asks which serves better: a detector whose verdicts a network is fitted to, so that what explains networks can
say where (method 1), or one model that finds places by itself (method 2). Both are asked here on one split. The true
labels of the pool are read once, after the pseudo-labels are made, to say how right those were.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Final

from services.experiments.classifiers import Fitted, FitSettings, ready  # isort: skip - OpenVINO must come before torch

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import LOCALISING, PATCH_KNN, UTRAD, Detector, DetectorSpec
from services.core.detectors.pseudo_labels import DEFAULT_MARGIN, LABEL_ANOMALY, PseudoLabels, label_by_score
from services.core.detectors.scale import fit_scale
from services.core.errors import SightlineError
from services.core.evaluation.metrics import auroc
from services.core.explain import overlap
from services.core.explain.attribution import OWN_MAP, Budget
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model, usual_weights
from services.core.preprocessing import Preprocessing, map_back
from services.core.training.finetune import TrainingSettings
from services.core.training.pseudo_fit import fit_to_pseudo_labels
from services.experiments.detecting import DetectorSettings, describe_conditions
from services.experiments.detector_sample import Sample
from services.experiments.engine import Engine
from services.experiments.explaining import Plan, Record, explain_parts
from services.experiments.parts import Part
from services.experiments.two_stage_sample import GOOD_SHARES, SPOILED_SHARES, split_pool

ALL: Final = "all"
"""What stands for every kind of anomaly together."""

NONE: Final = "none"
"""What stands in place of a classifier, or of a map, where there is none."""

ALL_IN_ONE: Final = (PATCH_KNN, UTRAD)
"""What the pipeline is compared with."""

FIGURES: Final = (
    "pseudo_precision",
    "pseudo_recall",
    "image_auroc",
    "hit_accuracy",
    "pixel_auroc",
    "seconds",
    "fit_seconds",
)
"""Names of a row's figures."""

Progress = Callable[[str, float, str], None]
"""Told the stage, its share that is done, and what is being done."""

Tell = Callable[[float, str], None]

_BATCH: Final = 16
_PATIENCE: Final = 3
# What detectors and networks raise on data that they cannot take; anything else is a fault of ours.
_FAILURES: Final = (SightlineError, ArithmeticError, MemoryError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class TwoStageSettings:
    """What is to be compared.

    Attributes:
        detectors: Whose verdicts a network is fitted to, each in its own pipeline.
        features: Of the fifteen among them.
        classifier: The network, a name for ``services.core.models``.
        methods: What explains it.
        margin: See :func:`services.core.detectors.pseudo_labels.label_by_score`.
        false_rejects: Share of good parts that the detector's threshold may reject.
        contamination: Largest share of defective pictures in the unlabelled pool.
        seeds: Each splits and fits anew.
        epochs: Most passes over the pool.
        learning_rate: Peak of the training.
        limit: Most defective test parts whose maps are measured, evenly over the kinds; 0 for all.
        passes: Most forward passes of an explanation.
        engine: What runs the network's passes.
        threads: CPU threads.
    """

    detectors: tuple[str, ...]
    features: str = "embedding-pca64"
    classifier: str = "efficientnet-lite0"
    methods: tuple[str, ...] = ("gradcam", "lime")
    margin: float = DEFAULT_MARGIN
    false_rejects: float = 0.05
    contamination: float = 0.3
    seeds: int = 1
    epochs: int = 8
    learning_rate: float = 5e-4
    limit: int = 40
    passes: int = 300
    engine: Engine = "auto"
    threads: int = 1

    def stages(self) -> list[Stage]:
        """Everything that is measured, one after the other."""
        own = [Stage(name, NONE, (OWN_MAP,)) for name in ALL_IN_ONE]
        return [*own, *(Stage(name, self.classifier, self.methods) for name in self.detectors)]


@dataclass(frozen=True, slots=True)
class Stage:
    """A pipeline, or a detector that finds places by itself.

    Attributes:
        detector: Its name.
        classifier: The network that is fitted to its verdicts, or :data:`NONE`.
        methods: Whose maps are measured.
    """

    detector: str
    classifier: str
    methods: tuple[str, ...]

    @property
    def is_pipeline(self) -> bool:
        """Whether a network is fitted to the detector's verdicts."""
        return self.classifier != NONE


RowKey = tuple[str, str, str, str]
"""Detector, classifier, method, kind of anomaly."""

Trial = Mapping[RowKey, Mapping[str, float]]
"""Figures of one seed, by row; NaN where one is not defined."""


@dataclass(frozen=True, slots=True, eq=False)
class StageOutcome:
    """What became of a stage.

    Attributes:
        stage: Which.
        trials: One of each seed; empty of a stage that failed.
        seeds: How many were asked for.
        error: Why it failed.
    """

    stage: Stage
    trials: tuple[Trial, ...]
    seeds: int
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """One seed's split, with what all of its stages share."""

    parts: Sequence[Part]
    sample: Sample
    sides: Mapping[str, NDArray[np.intp]]
    explained: NDArray[np.intp]
    preprocessing: Preprocessing
    seed: int

    @property
    def kinds(self) -> NDArray[np.str_]:
        """``good``, or what is wrong, of every part."""
        return np.array([part.kind for part in self.parts])

    @property
    def faults(self) -> list[str]:
        """Kinds of anomaly on the test side."""
        test = self.sides["test"]
        return sorted(set(self.kinds[test[self.sample.defective[test]]].tolist()))


def run_two_stage(
    parts: Sequence[Part],
    sample: Sample,
    settings: TwoStageSettings,
    on_stage: Callable[[StageOutcome], object],
    done: AbstractSet[Stage] = frozenset(),
    progress: Progress = lambda _stage, _share, _what: None,
) -> None:
    """Measure every pipeline and every detector with a map, one after the other, each with all seeds.

    Args:
        parts: All parts, with their masks.
        sample: The same, prepared.
        settings: What.
        on_stage: Given each outcome as soon as it is there.
        done: Stages that are there already.
        progress: Told how far it is.

    Raises:
        InvalidInputError: If the parts cannot be split, or there is no such network.
        UnavailableError: If the network's first weights cannot be had; nothing is fitted then.
    """
    missing = [stage for stage in settings.stages() if stage not in done]
    if any(stage.is_pipeline for stage in missing):
        _network(settings.classifier, 0)
    torch.set_num_threads(settings.threads)
    side = sample.images.shape[1]
    preprocessing = Preprocessing(height_px=side, width_px=side)
    kinds = [part.kind for part in parts]
    data = []
    for seed in range(settings.seeds):
        sides = split_pool(sample.groups, kinds, settings.contamination, seed)
        explained = _explained(parts, sides["test"], settings.limit)
        data.append(_Data(parts, sample, sides, explained, preprocessing, seed))
    for number, stage in enumerate(missing):
        name = f"{stage.detector} > {stage.classifier}" if stage.is_pipeline else stage.detector

        def tell(share: float, what: str, number: int = number, name: str = name) -> None:
            progress(name, (number + share) / len(missing), what)

        on_stage(_run_stage(stage, settings, data, tell))


def two_stage_conditions(sample: Sample, settings: TwoStageSettings, source: str) -> dict[str, Any]:
    """Say in words and numbers what the figures hold for; which detectors they are of is said by the rows."""
    shares = [
        ", ".join(f"{name} {share:.0%}" for name, share in sides.items()) for sides in (GOOD_SHARES, SPOILED_SHARES)
    ]
    own = {
        "features": settings.features,
        "classifier": settings.classifier,
        "methods": ", ".join(settings.methods),
        "margin": settings.margin,
        "split": f"groups without a defect: {shares[0]}; groups with one: {shares[1]}; at most "
        f"{settings.contamination:.0%} of the pool is defective, what is beyond is tested",
        "threshold": f"0.5 on a scale made of the calibration parts, for {settings.false_rejects:.0%} false rejects",
        "training": f"at most {settings.epochs} epochs over all layers, learning rate {settings.learning_rate:g}, "
        f"batch norm taken anew after each; ended after {_PATIENCE} without a better one on a fifth of the labelled "
        "parts",
        "maps": f"of at most {settings.limit} defective test parts with a mask, flagged or not"
        if settings.limit
        else "of all defective test parts with a mask, flagged or not",
        "passes": settings.passes,
        "times": "seconds: the map of one test part; fit_seconds: everything before the first test part",
        # As they will be: until the run begins, torch has as many as whoever came before it left.
        "threads": settings.threads,
    }
    fifteen = DetectorSettings(settings.detectors, (settings.features,), settings.seeds)
    return describe_conditions(sample, fifteen, source) | own


def _run_stage(stage: Stage, settings: TwoStageSettings, data: Sequence[_Data], progress: Tell) -> StageOutcome:
    trials = []
    for one in data:
        start = one.seed / len(data)

        def tell(share: float, what: str, start: float = start, seed: int = one.seed) -> None:
            progress(start + share / len(data), f"seed {seed}: {what}")

        try:
            trials.append(_pipeline(stage, settings, one, tell) if stage.is_pipeline else _all_in_one(stage, one, tell))
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
            reason = reason if len(data) == 1 else f"seed {one.seed}: {reason}"
            return StageOutcome(stage, (), len(data), reason)
    return StageOutcome(stage, tuple(trials), len(data))


def _pipeline(stage: Stage, settings: TwoStageSettings, data: _Data, progress: Tell) -> Trial:
    started = time.perf_counter()
    progress(0.0, "fitting the detector")
    spec = DetectorSpec(stage.detector, settings.features, seed=data.seed)
    detector = fit_detector(
        data.sample.images[data.sides["fit"]], spec, lambda share, what: progress(0.2 * share, what)
    )
    progress(0.2, "labelling the pool")
    labels = _labelled(detector, settings, data)
    fitted = _fitted(stage.classifier, labels, settings, data, lambda share, what: progress(0.3 + 0.4 * share, what))
    fit_seconds = time.perf_counter() - started
    figures: dict[RowKey, dict[str, float]] = {}
    if stage.detector not in LOCALISING:
        alone = _scores(detector, data, data.sides["test"])
        for kind, area in _by_kind(alone, data).items():
            figures[stage.detector, NONE, NONE, kind] = dict.fromkeys(FIGURES, math.nan) | {"image_auroc": area}
    progress(0.7, "scoring")
    test = data.sides["test"]
    answers = [
        fitted.predict(data.sample.images[test[start : start + _BATCH]]) for start in range(0, len(test), _BATCH)
    ]
    areas = _by_kind(np.concatenate(answers)[:, 1:].sum(axis=1).astype(np.float64), data)
    found = _pseudo_figures(labels, data)
    plan = Plan(stage.methods, Budget(max_passes=settings.passes, batch_size=_BATCH), faithful=False)
    chosen = [data.parts[row] for row in data.explained]
    records = [
        record
        for one in explain_parts(
            fitted, chosen, plan, data.seed, lambda share, what: progress(0.75 + 0.25 * share, f"explaining {what}")
        )
        for record in one.records
    ]
    for method in stage.methods:
        mine = [record for record in records if record.method == method]
        for kind in (ALL, *data.faults):
            known = {"image_auroc": areas[kind], "fit_seconds": fit_seconds} | found[kind]
            figures[stage.detector, stage.classifier, method, kind] = known | _map_figures(mine, kind)
    return figures


def _all_in_one(stage: Stage, data: _Data, progress: Tell) -> Trial:
    started = time.perf_counter()
    spec = DetectorSpec(stage.detector, seed=data.seed)
    fitted = fit_detector(data.sample.images[data.sides["fit"]], spec, lambda share, what: progress(0.6 * share, what))
    fit_seconds = time.perf_counter() - started
    progress(0.6, "scoring")
    scores = _scores(fitted, data, data.sides["test"])
    areas = _by_kind(scores, data)
    records = []
    for number, row in enumerate(data.explained):
        progress(0.8 + 0.2 * number / len(data.explained), "looking for places")
        records.append(_looked(fitted, data.parts[row], data, int(row)))
    known = {"pseudo_precision": math.nan, "pseudo_recall": math.nan, "fit_seconds": fit_seconds}
    return {
        (stage.detector, NONE, OWN_MAP, kind): known | {"image_auroc": areas[kind]} | _map_figures(records, kind)
        for kind in (ALL, *data.faults)
    }


def _looked(fitted: Detector, part: Part, data: _Data, row: int) -> Record:
    """Hold a detector's own map against the mask, on the picture's own frame, as maps of networks are."""
    started = time.perf_counter()
    maps = fitted.examine(data.sample.images[row : row + 1]).maps
    seconds = time.perf_counter() - started
    record = Record(fitted.spec.detector, OWN_MAP, data.seed, part.name, part.group, part.kind, math.nan)
    if maps is None or part.mask is None:
        return record
    values = map_back(maps, data.preprocessing, *part.image.shape[:2])
    hit, area = float(overlap.hit(values, part.mask)), overlap.pixel_auroc(values, part.mask)
    return replace(record, hit=hit, pixel_auroc=area, seconds=seconds)


def _labelled(detector: Detector, settings: TwoStageSettings, data: _Data) -> PseudoLabels:
    groups = data.sample.groups
    raw = _scores(detector, data, data.sides["calibrate"])
    worst: dict[str, float] = {}
    for row, score in zip(data.sides["calibrate"], raw, strict=True):
        worst[groups[row]] = max(float(score), worst.get(groups[row], -math.inf))
    # One score for each part, its worst picture's, as a version's scale is made.
    scale = fit_scale(np.array([worst[group] for group in sorted(worst)]), settings.false_rejects)
    pool = data.sides["pool"]
    scores = _scores(detector, data, pool)
    return label_by_score(scale.apply(scores), settings.margin, [groups[row] for row in pool])


def _fitted(classifier: str, labels: PseudoLabels, settings: TwoStageSettings, data: _Data, progress: Tell) -> Fitted:
    model = _network(classifier, data.seed)
    training = TrainingSettings(
        epochs=settings.epochs,
        batch_size=_BATCH,
        learning_rate=settings.learning_rate,
        patience=_PATIENCE,
        seed=data.seed,
    )
    fit_to_pseudo_labels(
        model,
        data.sample.images[data.sides["pool"]],
        labels,
        training,
        lambda epoch: progress(
            epoch.epoch / settings.epochs, f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.3f}"
        ),
    )
    good = [data.parts[row].image for row in data.sides["fit"]]
    fit = FitSettings(side_px=data.preprocessing.height_px, engine=settings.engine, threads=settings.threads)
    return ready(classifier, model, data.preprocessing, "pseudo-labels", fit, good)


def _network(classifier: str, seed: int) -> Classifier:
    return create_model(classifier, 2, usual_weights(classifier), seed=seed)


def _scores(detector: Detector, data: _Data, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    images = data.sample.images
    return np.concatenate(
        [detector.examine(images[rows[start : start + _BATCH]]).scores for start in range(0, len(rows), _BATCH)]
    )


def _by_kind(scores: NDArray[np.float64], data: _Data) -> dict[str, float]:
    """AUROC of all defective test parts, and of each kind, against all good ones."""
    test = data.sides["test"]
    defective, kinds = data.sample.defective[test], data.kinds[test]
    areas = {ALL: auroc(scores, defective)}
    for kind in data.faults:
        chosen = ~defective | (kinds == kind)
        areas[kind] = auroc(scores[chosen], defective[chosen])
    return areas


def _pseudo_figures(labels: PseudoLabels, data: _Data) -> dict[str, dict[str, float]]:
    """How right the labels are; what is left out counts as not found. Precision is of all kinds together only."""
    pool = data.sides["pool"]
    called, defective, kinds = labels.labels == LABEL_ANOMALY, data.sample.defective[pool], data.kinds[pool]
    figures = {ALL: {"pseudo_precision": _share(defective[called]), "pseudo_recall": _share(called[defective])}}
    for kind in data.faults:
        figures[kind] = {"pseudo_precision": math.nan, "pseudo_recall": _share(called[kinds == kind])}
    return figures


def _share(values: NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _map_figures(records: Sequence[Record], kind: str) -> dict[str, float]:
    mine = [record for record in records if kind in (ALL, record.kind)]
    if not mine:
        return dict.fromkeys(("hit_accuracy", "pixel_auroc", "seconds"), math.nan)
    seconds = [record.seconds for record in mine if math.isfinite(record.seconds)]
    return {
        "hit_accuracy": float(np.mean([record.hit for record in mine])),
        "pixel_auroc": float(np.mean([record.pixel_auroc for record in mine])),
        "seconds": float(np.mean(seconds)) if seconds else math.nan,
    }


def _explained(parts: Sequence[Part], test: NDArray[np.intp], limit: int) -> NDArray[np.intp]:
    """Defective test parts with a mask, evenly over the kinds."""
    drawn = [int(row) for row in test if parts[row].defective and parts[row].mask is not None]
    drawn.sort(key=lambda row: (parts[row].kind, parts[row].name))
    if 0 < limit < len(drawn):
        drawn = [drawn[at] for at in np.linspace(0, len(drawn) - 1, limit).round().astype(int)]
    return np.array(drawn, dtype=np.intp)
