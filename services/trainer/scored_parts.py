"""Parts that a version is made of: split into sides, scored, and written down with what was measured on them.

Shared by all ways to a version: of a detector, of a panel, and of a network that was fitted to what a detector said.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.adapters.datasets import LabelledImage
from services.adapters.modelfolder import Holdout, HoldoutPart, Reference
from services.core.calibration import false_reject_threshold, parts_needed
from services.core.decision import decide
from services.core.detectors.detector import Examined, Images
from services.core.detectors.scale import MIN_PARTS, ScoreScale, worst_by_group
from services.core.errors import ImageError, InvalidInputError
from services.core.evaluation.metrics import bootstrap, rate
from services.core.evaluation.report import evaluate
from services.core.evaluation.splits import split_by_group
from services.core.imaging import ImageLimits, decode
from services.core.manifest import GOOD, Calibration, Metric
from services.core.preprocessing import Preprocessing, prepare
from services.core.types import Decision, OperatingPoint, Reason, Verdict

ProgressReport = Callable[[float, str], None]

MOST_IMAGE_BYTES: Final = 4_000_000_000
RESAMPLES: Final = 500

_CALIBRATING: Final = frozenset({"calibrate", "members", "scale"})
_SEVERITY: Final = (Verdict.PASS, Verdict.REVIEW, Verdict.FAIL)
_REFERENCE_PARTS: Final = 200
_BATCH: Final = 16


class Examiner(Protocol):
    """What scores images: a detector, or a network that was fitted to one."""

    @property
    def embedding_size(self) -> int:
        """Length of an embedding."""
        ...

    def examine(self, images: Images) -> Examined:
        """Give raw scores and embeddings."""
        ...


class Scale(Protocol):
    """From raw scores to those that verdicts are made of, 0.5 at the threshold."""

    def apply(self, raw: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrate scores of any shape."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSet:
    """Images of one side of the split, with what the model says of them; disagreements are a panel's."""

    images: tuple[LabelledImage, ...]
    scores: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    disagreements: NDArray[np.float64] | None = None


def split_good(
    good: Sequence[LabelledImage], seed: int, shares: Mapping[str, float]
) -> dict[str, tuple[LabelledImage, ...]]:
    """Split good parts by group into sides of given shares; every side that a scale is made of has enough for it.

    Args:
        good: Images of good parts.
        seed: Of the split.
        shares: Of each side, by name; scales are made of ``calibrate`` and, where they are there, ``members`` and
            ``scale``.

    Raises:
        InvalidInputError: If there are too few.
    """
    groups = [one.group for one in good]
    least = math.ceil(MIN_PARTS / min(share for name, share in shares.items() if name in _CALIBRATING))
    if len(set(groups)) < least:
        raise InvalidInputError(f"at least {least} good parts (groups) are needed, got {len(set(groups))}")
    rows = split_by_group(groups, [GOOD] * len(good), shares, seed)
    return {name: tuple(good[row] for row in chosen) for name, chosen in rows.items()}


def prepared(
    images: Sequence[LabelledImage], preprocessing: Preprocessing, progress: Callable[[float], None]
) -> NDArray[np.uint8]:
    """Read images and bring them into a model's shape, ``uint8``, ``(N, H, W, 3)``.

    Raises:
        InvalidInputError: If they would take too much memory, or one cannot be used; the message names it.
    """
    needed = len(images) * preprocessing.height_px * preprocessing.width_px * 3
    if needed > MOST_IMAGE_BYTES:
        raise InvalidInputError(
            f"prepared images must fit into {MOST_IMAGE_BYTES} bytes, got {len(images)} images that need {needed}"
        )
    pixels = np.empty((len(images), preprocessing.height_px, preprocessing.width_px, 3), dtype=np.uint8)
    for number, one in enumerate(images):
        pixels[number] = _pixels(one, preprocessing)
        progress((number + 1) / len(images))
    return pixels


def _pixels(one: LabelledImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    try:
        return np.asarray(prepare(decode(one.path.read_bytes(), ImageLimits()), preprocessing)[0])
    except ImageError as error:
        raise InvalidInputError(f"every image of the folder must be usable, got {one.path.name}: {error}") from error


def examined(
    detector: Examiner,
    images: tuple[LabelledImage, ...],
    preprocessing: Preprocessing,
) -> ScoredSet:
    """Score the images of one side, a few at a time."""
    found = [
        detector.examine(prepared(images[start : start + _BATCH], preprocessing, lambda _: None))
        for start in range(0, len(images), _BATCH)
    ]
    if not found:
        return ScoredSet((), np.empty(0), np.empty((0, detector.embedding_size), np.float32))
    split = [one.disagreements for one in found if one.disagreements is not None]
    return ScoredSet(
        images,
        np.concatenate([one.scores for one in found]),
        np.concatenate([one.embeddings for one in found]),
        np.concatenate(split) if split else None,
    )


def by_group(side: ScoredSet) -> NDArray[np.float64]:
    """One score for each part: its worst image, as the line has it."""
    return worst_by_group(side.scores, [one.group for one in side.images])


def review_from(side: ScoredSet, scale: Scale, target: float) -> float:
    """Calibrated score from which a part is for a person; the threshold itself where there are too few parts to say."""
    parts = by_group(side)
    if len(parts) < parts_needed(target, 0.0):
        return 0.5
    return min(0.5, float(scale.apply(np.array([false_reject_threshold(parts, target, 0.0)]))[0]))


def calibration_record(side: ScoredSet, kept: ScoreScale, scale: Scale, point: OperatingPoint) -> Calibration:
    """Write down how a threshold was chosen on good parts alone.

    Args:
        side: The good parts.
        kept: What the promise became on them.
        scale: Of the scores that verdicts are made of.
        point: Where they are cut.
    """
    verdicts = _verdicts_by_part(side, scale, point)
    return Calibration(
        rule="false_reject_rate",
        target=kept.false_reject_target,
        confidence=kept.confidence if kept.basis == "confidence" else 0.0,
        method={"confidence": "clopper-pearson", "average": "conformal", "maximum": "maximum"}[kept.basis],
        n_good=len(verdicts),
        n_defective=0,
        other_target=0.0,
        escape_rate=0.0,
        false_reject_rate=rate(verdicts == Verdict.FAIL),
        review_rate_good=rate(verdicts == Verdict.REVIEW),
        review_rate_defective=0.0,
    )


def held_out_figures(
    told: Mapping[str, ScoredSet], scale: Scale, point: OperatingPoint, seed: int
) -> dict[str, Metric]:
    """Measure a version on the sides ``holdout`` and ``bad``; without defects, what good parts alone tell."""
    good, bad = told["holdout"], told["bad"]
    scores = scale.apply(np.concatenate([good.scores, bad.scores]))
    split = None if good.disagreements is None else np.concatenate([good.disagreements, _split_of(bad)])
    groups = [one.group for one in (*good.images, *bad.images)]
    defective = np.repeat([False, True], [len(good.images), len(bad.images)])
    if bad.images:
        return evaluate(scores, defective, groups, point, seed, RESAMPLES, split)
    decisions = _decisions(good, scale, point)

    def share(told: Callable[[Decision], bool]) -> Metric:
        said = np.array([told(decision) for decision in decisions])
        return bootstrap(lambda rows: rate(said[rows]), groups, seed, RESAMPLES)

    figures = {
        "good_pass_rate": share(lambda one: one.verdict is Verdict.PASS),
        "false_reject_rate": share(lambda one: one.verdict is Verdict.FAIL),
    }
    if split is not None:
        figures["disagreement_rate_good"] = share(lambda one: one.reason is Reason.DISAGREEMENT)
    return figures


def _decisions(side: ScoredSet, scale: Scale, point: OperatingPoint) -> list[Decision]:
    scores = scale.apply(side.scores)
    return [decide(float(one), point, float(far)) for one, far in zip(scores, _split_of(side), strict=True)]


def _verdicts_by_part(side: ScoredSet, scale: Scale, point: OperatingPoint) -> NDArray[np.object_]:
    """The worst verdict of each part's images."""
    worst: dict[str, Verdict] = {}
    for one, decision in zip(side.images, _decisions(side, scale, point), strict=True):
        worst[one.group] = max(worst.get(one.group, Verdict.PASS), decision.verdict, key=_SEVERITY.index)
    return np.array([worst[group] for group in sorted(worst)], dtype=object)


def _split_of(side: ScoredSet) -> NDArray[np.float64]:
    return np.zeros(len(side.scores)) if side.disagreements is None else side.disagreements


def holdout_parts(told: Mapping[str, ScoredSet]) -> Holdout:
    """List the parts of the sides ``holdout`` and ``bad``."""
    return Holdout(
        tuple(
            HoldoutPart(
                part_id=one.path.stem,
                product="",
                label=one.defect_class if one.defect else GOOD,
                source=one.path.name,
                sha256=hashlib.sha256(one.path.read_bytes()).hexdigest(),
            )
            for one in (*told["holdout"].images, *told["bad"].images)
        )
    )


def reference_parts(
    images: Sequence[LabelledImage], scores: NDArray[np.floating], embeddings: NDArray[np.floating]
) -> Reference:
    """Keep held-out good parts with what the version says of them.

    Args:
        images: Of good parts of the hold-out; evenly chosen where there are more than are kept.
        scores: As verdicts are made of, shape ``(N,)``.
        embeddings: Shape ``(N, D)``.
    """
    count = min(_REFERENCE_PARTS, len(images))
    rows = [index * len(images) // count for index in range(count)]
    names = [f"good-{number:04d}{images[row].path.suffix.lower()}" for number, row in enumerate(rows)]
    return Reference(
        images={name: images[row].path.read_bytes() for name, row in zip(names, rows, strict=True)},
        files=tuple(names),
        scores=scores[rows].astype(np.float32),
        embeddings=embeddings[rows].astype(np.float16),
    )


def digest(images: Sequence[LabelledImage]) -> str:
    """Name what a version was made from: names and contents of its images."""
    state = hashlib.sha256()
    for one in images:
        state.update(f"{one.path.name} {hashlib.sha256(one.path.read_bytes()).hexdigest()}\n".encode())
    return state.hexdigest()
