"""Explains parts with every method, and holds each map against the mask that a person drew."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from services.experiments.classifiers import Fitted  # isort: skip - OpenVINO must come before torch

import numpy as np
from numpy.typing import NDArray

from services.core.errors import ExplanationError
from services.core.explain import faithfulness, overlap
from services.core.explain.attribution import (
    NETWORK_METHODS,
    SCORE_TARGET,
    Attribution,
    AttributionMap,
    Budget,
    Predict,
)
from services.core.explain.content import Content
from services.core.explain.grade import Evidence, grade
from services.core.explain.registry import build_explainer
from services.core.explain.temper import temper_for
from services.core.preprocessing import map_back, placements, prepare
from services.experiments.engine import Remembered
from services.experiments.parts import Part

MASKED: Final = ("invrise-soft", "invrise", "rise-centred", "rise")
"""Those that hide parts of the picture, the one that a CAM is shown beside first."""
MODEL_FREE: Final = ("contrast", "centre")
"""Baselines that never ask the model; always part of a table."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the methods.

    Attributes:
        methods: Their names, in the order of the table.
        budget: Of one explanation.
        faithful: Whether deletion and insertion are measured, which costs passes of its own.
    """

    methods: tuple[str, ...]
    budget: Budget = field(default_factory=Budget)
    faithful: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """One method on one part. NaN is what does not exist for the method, or could not be measured.

    Attributes:
        model: Name of the network.
        method: Name of the method.
        seed: Of split, training and masks.
        part: Name of the part.
        group: What is resampled as one.
        kind: Class of the defect.
        score: The model's anomaly score.
        failure: Why there is no map; empty if there is one.
        dice: Of the hottest tenth against the mask (paper 1, section 4.1).
        jaccard: Of the same.
        hit: Whether the hottest place lies in the mask, 1 or 0.
        near: Whether it lies in the mask or within a twentieth of the picture's longer side of it, 1 or 0.
        pixel_auroc: Of the map's values against the mask.
        dice_own_area: Dice of as many of the hottest pixels as the mask has.
        dice_ceiling: The best Dice that a tenth of the picture can reach against this mask.
        deletion_auc: Mean of what is left of the score while the hottest pixels go first; lower is better.
        insertion_auc: Mean of the score while they come first; higher is better.
        random_auc: The same in random order.
        stability: See ``Attribution.stability``.
        coverage: Share of the map that is defined.
        agreement: Dice of the hottest tenths of this map and of the one it is shown beside.
        transplant: See ``services.core.explain.faithfulness.Faithfulness``.
        grade: A to D; empty without a map.
        trust: What the grade is cut from.
        seconds: What the map alone would have taken.
        passes: Forward passes for the map.
    """

    model: str
    method: str
    seed: int
    part: str
    group: str
    kind: str
    score: float
    failure: str = ""
    dice: float = 0.0
    jaccard: float = 0.0
    hit: float = 0.0
    near: float = 0.0
    pixel_auroc: float = 0.5
    dice_own_area: float = 0.0
    dice_ceiling: float = math.nan
    deletion_auc: float = math.nan
    insertion_auc: float = math.nan
    random_auc: float = math.nan
    stability: float = math.nan
    coverage: float = math.nan
    agreement: float = math.nan
    transplant: float = math.nan
    grade: str = ""
    trust: float = math.nan
    seconds: float = math.nan
    passes: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What grading a map takes beside the map."""

    plan: Plan
    predict: Predict
    content: Content
    hidden: tuple[int, int, int] | NDArray[np.uint8]
    temper: float
    seed: int
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """A part with its maps, on the picture's own frame, and what they are worth."""

    part: Part
    score: float
    maps: Mapping[str, AttributionMap]
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Timed:
    attribution: Attribution
    seconds: float


def explain_parts(
    fitted: Fitted,
    parts: Sequence[Part],
    plan: Plan,
    seed: int,
    progress: Callable[[float, str], None] = lambda _share, _what: None,
) -> Iterator[Explained]:
    """Explain the anomaly score of parts, one after the other.

    Args:
        fitted: The classifier.
        parts: Which; a part without a mask gets maps and no overlap.
        plan: How.
        seed: Of the masks, together with each part's name.
        progress: Told share and part.

    Yields:
        Each part with a record for each method; a method that cannot explain the model or the part is recorded with
        its reason, as a map that says nothing.
    """
    for number, part in enumerate(parts):
        progress(number / len(parts), part.name)
        yield _explain(fitted, part, plan, seed)
    progress(1.0, "done")


def mask_seed(name: str, seed: int) -> int:
    """Seed of the masks of one part, so that no two parts share their masks."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:6], "big")


_Explain = Callable[..., Iterator[Attribution]]


def _build(
    method: str, fitted: Fitted, backdrop: NDArray[np.uint8] | None, temper: float, content: Content
) -> _Explain | ExplanationError:
    try:
        explainer = build_explainer(
            method,
            fill=fitted.fill,
            backdrop=backdrop,
            temper=temper,
            content=content,
            classifier=fitted.classifier,
        )
    except ExplanationError as error:
        return error
    return explainer.explain


def _explain(fitted: Fitted, part: Part, plan: Plan, seed: int) -> Explained:
    image = prepare(part.image, fitted.preprocessing)[0]
    predict = Remembered(fitted.predict)
    whole = predict(image[np.newaxis])[0]
    score, temper = float(whole[1:].sum()), temper_for(whole, SCORE_TARGET)
    drawn = mask_seed(part.name, seed)
    found: dict[str, _Timed | ExplanationError] = {}
    height, width = part.image.shape[:2]
    place = placements(height, width, fitted.preprocessing)[0]
    content = Content.centred((image.shape[0], image.shape[1]), (place.height, place.width))
    backdrop = fitted.backdrop(image)
    for method in plan.methods:
        explain = _build(method, fitted, backdrop, temper, content)
        if isinstance(explain, ExplanationError):
            found[method] = explain
            continue
        started, saved_before = time.perf_counter(), predict.saved_s
        try:
            *_, last = explain(image, SCORE_TARGET, predict, seed=drawn, budget=plan.budget)
        except ExplanationError as error:
            found[method] = error
            continue
        found[method] = _Timed(last, time.perf_counter() - started + predict.saved_s - saved_before)
    hidden = fitted.fill if backdrop is None else content.crop(backdrop)
    work = _Work(plan, predict, content, hidden, temper, drawn, score)
    maps: dict[str, AttributionMap] = {}
    records = []
    for method, outcome in found.items():
        record = Record(fitted.name, method, seed, part.name, part.group, part.kind, score)
        if isinstance(outcome, ExplanationError):
            records.append(replace(record, failure=outcome.reason, dice_ceiling=_ceiling(part)))
            continue
        values = outcome.attribution.values
        on_picture = map_back(values[np.newaxis], fitted.preprocessing, *part.image.shape[:2])
        maps[method] = on_picture
        figures = _overlap(on_picture, part) | _evidence(image, method, found, work)
        records.append(replace(record, **figures))  # type: ignore[arg-type]
    return Explained(part, score, maps, tuple(records))


def _ceiling(part: Part) -> float:
    return math.nan if part.mask is None else overlap.dice_ceiling(part.mask)


def _overlap(values: AttributionMap, part: Part) -> dict[str, float]:
    if part.mask is None:
        return {}
    return {
        "dice": overlap.dice(values, part.mask),
        "jaccard": overlap.jaccard(values, part.mask),
        "hit": float(overlap.hit(values, part.mask)),
        "near": float(overlap.near(values, part.mask)),
        "pixel_auroc": overlap.pixel_auroc(values, part.mask),
        "dice_own_area": overlap.dice_at_own_area(values, part.mask),
        "dice_ceiling": overlap.dice_ceiling(part.mask),
    }


def _evidence(
    image: NDArray[np.uint8],
    method: str,
    found: Mapping[str, _Timed | ExplanationError],
    work: _Work,
) -> dict[str, float | str]:
    """What is known of a map without the mask, and what it is graded by."""
    mine = found[method]
    if isinstance(mine, ExplanationError):
        return {}
    attribution = mine.attribution
    known: dict[str, float] = {"stability": attribution.stability, "coverage": attribution.coverage}
    beside = found.get(_companion(method, found))
    if isinstance(beside, _Timed):
        known["agreement"] = faithfulness.agreement(attribution.values, beside.attribution.values)
    if work.plan.faithful:
        curves = faithfulness.measure(
            work.content.crop(image),
            work.content.crop_map(attribution.values),
            SCORE_TARGET,
            work.content.predict(work.predict),
            hidden=work.hidden,
            temper=work.temper,
            seed=work.seed,
            batch_size=work.plan.budget.batch_size,
        )
        known |= {
            "deletion_auc": curves.deletion_auc,
            "insertion_auc": curves.insertion_auc,
            "random_auc": curves.random_auc,
            "transplant": curves.transplant,
        }
    letter, trust = grade(Evidence(probability=work.score, method=method, **known))
    return {
        **known,
        "grade": letter.name,
        "trust": trust,
        "seconds": mine.seconds,
        "passes": float(attribution.passes),
    }


def _companion(method: str, found: Mapping[str, object]) -> str:
    """The map that this one is shown beside: of the other family."""
    others = MASKED if method in NETWORK_METHODS else ("gradcam", "hirescam")
    return next((name for name in others if isinstance(found.get(name), _Timed)), "")
