"""The rows of an experiment: one for each network and method, every figure with its interval over parts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.evaluation.metrics import auroc, bootstrap, mcc
from services.experiments.explaining import Record

SCHEMA: Final = 1

Figure: TypeAlias = dict[str, float | None]
"""``mean``, and the ends ``low`` and ``high`` of its interval; None where it is not defined."""

FIGURES: Final[Mapping[str, str]] = {
    "dice": "dice",
    "jaccard": "jaccard",
    "hit_accuracy": "hit",
    "near_accuracy": "near",
    "pixel_auroc": "pixel_auroc",
    "dice_own_area": "dice_own_area",
    "dice_ceiling": "dice_ceiling",
    "deletion_auc": "deletion_auc",
    "insertion_auc": "insertion_auc",
    "random_auc": "random_auc",
    "transplant": "transplant",
    "stability": "stability",
    "coverage": "coverage",
    "agreement": "agreement",
    "trust": "trust",
    "seconds_per_image": "seconds",
    "passes_per_image": "passes",
}
"""Names of a row's figures, and of the field of a record that each is the mean of."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model said of one test part."""

    model: str
    seed: int
    group: str
    score: float
    defective: bool


def rows(records: Sequence[Record], verdicts: Sequence[Verdict], repeats: int = 1000) -> list[dict[str, Any]]:
    """Sum up an experiment.

    Args:
        records: Of all networks, methods, parts and seeds.
        verdicts: On every test part of every seed, good ones included.
        repeats: Resamples of the parts.

    Returns:
        One row for each network and method, in the order they first came. Parts that several seeds tested are
        resampled together.
    """
    found = []
    models = {
        model: model_figures([verdict for verdict in verdicts if verdict.model == model], repeats)
        for model in dict.fromkeys(record.model for record in records)
    }
    for model, method in dict.fromkeys((record.model, record.method) for record in records):
        own = [record for record in records if (record.model, record.method) == (model, method)]
        failures = Counter(record.failure for record in own if record.failure)
        figures = {name: _mean(own, field, repeats) for name, field in FIGURES.items()}
        grades = Counter(record.grade for record in own if record.grade)
        row = {"model": model, "method": method, "n": len(own), "n_groups": len({record.group for record in own})}
        found.append(
            row | models[model] | figures | {"grades": dict(sorted(grades.items())), "failures": dict(failures)}
        )
    return found


def model_figures(verdicts: Sequence[Verdict], repeats: int = 1000) -> dict[str, Any]:
    """Say how good the explained model is on its test parts, cutting at one half."""
    scores = np.array([verdict.score for verdict in verdicts])
    truth = np.array([verdict.defective for verdict in verdicts])
    groups = [verdict.group for verdict in verdicts]
    flagged = scores >= 0.5
    accuracy = _figure(lambda chosen: float(np.mean(flagged[chosen] == truth[chosen])), groups, repeats)
    correlation = _figure(lambda chosen: mcc(flagged[chosen], truth[chosen]), groups, repeats)
    return {
        "model_accuracy": accuracy["mean"],
        "model_mcc": correlation["mean"],
        "model_accuracy_interval": accuracy,
        "model_mcc_interval": correlation,
        "model_auroc": _figure(lambda chosen: auroc(scores[chosen], truth[chosen]), groups, repeats),
        "n_test": len(verdicts),
    }


def trust_auroc(records: Sequence[Record], repeats: int = 1000, found: str = "near") -> Figure:
    """Say how well trust, which never sees the mask, tells maps that point at the defect from those that do not.

    Args:
        records: With masks; those without a map are left out.
        repeats: Resamples of the parts.
        found: What counts as pointing at it: ``near``, which is what a grade promises, or ``hit``, to the pixel.

    Returns:
        AUROC of trust for that; None where every map does it, or none.
    """
    graded = [record for record in records if not record.failure and math.isfinite(record.trust)]
    trust = np.array([record.trust for record in graded])
    hit = np.array([getattr(record, found) >= 0.5 for record in graded], dtype=bool)
    if not graded:
        return {"mean": None, "low": None, "high": None}
    return _figure(lambda chosen: auroc(trust[chosen], hit[chosen]), [record.group for record in graded], repeats)


def to_json(
    records: Sequence[Record], verdicts: Sequence[Verdict], conditions: Mapping[str, Any], repeats: int = 1000
) -> str:
    """Write an experiment down; the schema is described in ``docs/experiments.md``."""
    document = {
        "schema": SCHEMA,
        "conditions": dict(conditions),
        "rows": rows(records, verdicts, repeats),
        "grade": {
            "trust_predicts_near_auroc": trust_auroc(records, repeats),
            "trust_predicts_hit_auroc": trust_auroc(records, repeats, "hit"),
            "by_method": {
                method: trust_auroc([record for record in records if record.method == method], repeats)
                for method in dict.fromkeys(record.method for record in records)
            },
        },
        "parts": [_plain(asdict(record)) for record in records],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _mean(records: Sequence[Record], field: str, repeats: int) -> Figure:
    values = np.array([getattr(record, field) for record in records], dtype=np.float64)
    known = np.isfinite(values)
    groups = [record.group for record, use in zip(records, known, strict=True) if use]
    values = values[known]
    return _figure(lambda chosen: float(np.mean(values[chosen])), groups, repeats)


def _figure(measure: Callable[[NDArray[np.intp]], float], groups: Sequence[str], repeats: int) -> Figure:
    try:
        metric = bootstrap(measure, groups, seed=0, repeats=repeats)
    except InvalidInputError:
        return {"mean": None, "low": None, "high": None}
    return {"mean": metric.value, "low": metric.low, "high": metric.high}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """NaN is not JSON."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
