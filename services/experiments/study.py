"""The experiment on explanations, from data to table: for every network and seed split, fit, explain, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from services.experiments.classifiers import Fitted, FitSettings, fit_or_load  # isort: skip - OpenVINO before torch

import numpy as np

from services.core.errors import InvalidInputError
from services.core.explain.attribution import AttributionMap, Budget
from services.core.explain.heatmap import HeatScale, calibrate
from services.experiments.explaining import Plan, Record, explain_parts
from services.experiments.parts import SHARES, Part, split
from services.experiments.sheet import SheetRow, choose, reduce
from services.experiments.table import Verdict

Chosen = Literal["correct", "all"]

#: Good test parts whose maps set the scale of the colours.
CALIBRATION_PARTS: Final = 8
_GOOD_ON_SHEET: Final = 2
_WRITE_EVERY_S: Final = 120.0

Progress = Callable[[str, float, str], None]
"""Told the stage, its share that is done, and what is being done."""


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What is to be measured.

    Attributes:
        models: Names from ``resolve_model``.
        plan: Methods and their budget.
        seeds: Each splits, trains and draws masks anew.
        explained: ``correct`` takes the defective test parts that the model flags, as paper 1 does; ``all`` takes all.
        limit: Most parts explained a seed, an even sample over the kinds of defect; 0 takes all.
        sheet: Defective parts on the contact sheet, for each network.
        fit: How classifiers come about.
        cache: Folder for fitted weights.
    """

    models: tuple[str, ...]
    plan: Plan = field(default_factory=lambda: Plan(methods=(), budget=Budget()))
    seeds: int = 1
    explained: Chosen = "correct"
    limit: int = 0
    sheet: int = 10
    fit: FitSettings = field(default_factory=FitSettings)
    cache: Path | None = None


@dataclass(slots=True, eq=False)
class Study:
    """What was measured so far."""

    records: list[Record] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    sheet: list[SheetRow] = field(default_factory=list)
    scales: dict[tuple[str, str], HeatScale] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


def run_study(
    parts: Sequence[Part],
    settings: StudySettings,
    progress: Progress = lambda _stage, _share, _what: None,
    on_step: Callable[[Study], object] = lambda _: None,
) -> Study:
    """Measure every network with every seed.

    Args:
        parts: All parts.
        settings: What.
        progress: Told how far it is.
        on_step: Given the study after each network and seed, and every two minutes, so that a long one can be written
            down on its way.

    Returns:
        Everything that was measured.

    Raises:
        InvalidInputError: If there is nothing to explain: no flagged defective test part has a mask.
    """
    study = Study()
    for model in settings.models:
        for seed in range(settings.seeds):
            stage = f"{model}, seed {seed}"
            sets = split(parts, seed)
            fitted = fit_or_load(
                model,
                parts,
                sets,
                settings.fit,
                seed,
                cache=settings.cache,
                progress=lambda share, what, stage=stage: progress(f"{stage}: fitting", share, what),  # type: ignore[misc]
            )
            study.origins[fitted.name] = fitted.origin
            test = [parts[row] for row in sets["test"]]
            _measure(study, fitted, test, settings, seed, progress, stage, on_step)
            on_step(study)
    return study


def conditions(study: Study, parts: Sequence[Part], settings: StudySettings, source: str) -> dict[str, Any]:
    """Say in words and numbers what the figures hold for."""
    budget = settings.plan.budget
    return {
        "data": source,
        "parts": len(parts),
        "defective": sum(part.defective for part in parts),
        "groups": len({part.group for part in parts}),
        "split": ", ".join(f"{name} {share:.0%}" for name, share in SHARES.items()) + " of the groups, by group",
        "seeds": settings.seeds,
        "explained": "defective test parts with a mask"
        + (" that the model flags (score at least 0.5)" if settings.explained == "correct" else "")
        + (f", at most {settings.limit} a seed" if settings.limit else ""),
        "target": "anomaly score 1 - P(good); in invrise-soft a root of its odds where it lies above .88",
        "hidden parts show": "the most similar good part of the training side in invrise-soft and in deletion and "
        "insertion, the network's mean colour elsewhere",
        "weights": study.origins,
        "input": f"{settings.fit.side_px} px, letterbox with mirrored fill",
        "passes": f"at most {budget.max_passes}"
        + ("" if budget.min_stability is None else f", until the map is {budget.min_stability} stable"),
        "engine": f"{settings.fit.engine}, {settings.fit.precision}, {settings.fit.threads} threads",
        "intervals": "95 %, bootstrap over groups of parts",
    }


def _measure(
    study: Study,
    fitted: Fitted,
    test: Sequence[Part],
    settings: StudySettings,
    seed: int,
    progress: Progress,
    stage: str,
    on_step: Callable[[Study], object],
) -> None:
    progress(f"{stage}: scoring", 0.0, f"{len(test)} test parts")
    scores = fitted.scores(test)
    for part, score in zip(test, scores, strict=True):
        study.verdicts.append(Verdict(fitted.name, seed, part.group, float(score), part.defective))
    chosen = _chosen(test, scores, settings)
    if not chosen:
        raise InvalidInputError(
            f"at least one defective test part must have a mask and be flagged, got none of "
            f"{sum(part.defective for part in test)} defective ones"
        )
    shown: list[SheetRow] = []
    first = seed == 0
    written_at = time.monotonic()
    kept = {id(part) for part in _evenly(chosen, settings.sheet)}
    for explained in explain_parts(
        fitted, chosen, settings.plan, seed, lambda share, what: progress(f"{stage}: explaining", share, what)
    ):
        study.records.extend(explained.records)
        if first and id(explained.part) in kept:
            shown.append(reduce(explained, fitted.name))
        if time.monotonic() - written_at > _WRITE_EVERY_S:
            on_step(study)
            written_at = time.monotonic()
    if not first or not settings.sheet:
        return
    good = _evenly([part for part in test if not part.defective], CALIBRATION_PARTS)
    calm: list[SheetRow] = []
    maps: dict[str, list[AttributionMap]] = {}
    plan = Plan(settings.plan.methods, settings.plan.budget, faithful=False)
    for explained in explain_parts(
        fitted, good, plan, seed, lambda share, what: progress(f"{stage}: good parts", share, what)
    ):
        calm.append(reduce(explained, fitted.name))
        for method, values in explained.maps.items():
            maps.setdefault(method, []).append(values)
    study.scales |= {(fitted.name, method): calibrate(found) for method, found in maps.items()}
    study.sheet += [*shown, *choose(calm, _GOOD_ON_SHEET)]


def _chosen(test: Sequence[Part], scores: np.ndarray[Any, Any], settings: StudySettings) -> list[Part]:
    chosen = [
        part
        for part, score in zip(test, scores, strict=True)
        if part.mask is not None and (settings.explained == "all" or score >= 0.5)
    ]
    chosen.sort(key=lambda part: (part.kind, part.name))
    if settings.limit:
        chosen = _evenly(chosen, settings.limit)
    # Golden steps: wherever a run is cut off, what it has is spread over the kinds of defect.
    order = np.argsort(np.arange(len(chosen)) * 0.6180339887498949 % 1, kind="stable")
    return [chosen[index] for index in order]


def _evenly(parts: Sequence[Part], count: int) -> list[Part]:
    if len(parts) <= count:
        return list(parts)
    return [parts[index] for index in np.linspace(0, len(parts) - 1, count).round().astype(int)] if count else []
