"""A detector that learns from good parts, from a folder of images to a whole model version.

Good parts are split by group into three: what the detector is fitted on, what its scale is calibrated on, and the
frozen hold-out, which with all defective parts says what it is worth. Defects are never fitted or calibrated on: a line
that has none yet gets a version all the same.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.datasets import LabelledImage, read_labelled_folder
from services.adapters.modelfolder import (
    Holdout,
    HoldoutPart,
    ModelVersion,
    Reference,
    code_version,
    verify_version,
    write_version,
)
from services.core.calibration import false_reject_threshold, parts_needed
from services.core.decision import decide
from services.core.detectors.calibrated import CalibratedDetector
from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import PANEL, Detector, DetectorSpec
from services.core.detectors.panel import MEMBERS, HeldOut, Panel, fit_panel
from services.core.detectors.scale import MIN_PARTS, ScoreScale, fit_scale, worst_by_group
from services.core.errors import ConflictError, ImageError, InvalidInputError
from services.core.evaluation.metrics import bootstrap, rate
from services.core.evaluation.report import evaluate
from services.core.evaluation.splits import split_by_group
from services.core.imaging import ImageLimits, decode
from services.core.manifest import DETECTOR_PREFIX, GOOD, Calibration, Lineage, Metric, ModelManifest
from services.core.models.efficientnet_lite import LITE_NORMALISATION
from services.core.preprocessing import Preprocessing, prepare
from services.core.types import Decision, OperatingPoint, Reason, Verdict

ProgressReport = Callable[[float, str], None]

#: Share of the good parts that may be rejected, and that may go to a person beyond those.
FALSE_REJECT_TARGET: Final = 0.01
REVIEW_TARGET: Final = 0.05
MOST_IMAGE_BYTES: Final = 4_000_000_000

_SHARES: Final = {"fit": 0.6, "calibrate": 0.25, "holdout": 0.15}
#: The scales of a panel's members take parts of their own; the hold-out and what the promise rests on stay as large.
_PANEL_SHARES: Final = {"fit": 0.4, "members": 0.2, "calibrate": 0.25, "holdout": 0.15}
_SEVERITY: Final = (Verdict.PASS, Verdict.REVIEW, Verdict.FAIL)
_REFERENCE_PARTS: Final = 200
_BATCH: Final = 16
_RESAMPLES: Final = 500
_ANOMALY: Final = "anomaly"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the images of a fit come from, for the version's lineage.

    Attributes:
        source: ``folder``, ``object-store`` or ``line``.
        description: For people; empty where the source says all.
    """

    source: str = "folder"
    description: str = ""


@dataclass(frozen=True, slots=True)
class FitOrder:
    """What is to be fitted.

    Attributes:
        spec: The detector.
        alias: Alias of the version.
        version: Its number.
        preprocessing: How images become its input; whole images only.
        false_reject_target: Largest share of good parts with FAIL, in ``(0, 1)``.
        review_target: Largest share of good parts that do not pass, ``>= false_reject_target``.
        origin: Where the images come from.
    """

    spec: DetectorSpec
    alias: str = "default"
    version: int = 1
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    false_reject_target: float = FALSE_REJECT_TARGET
    review_target: float = REVIEW_TARGET
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        if self.preprocessing.mode == "tiles":
            raise InvalidInputError("a detector is fitted on whole images (letterbox or squash), got tiles")
        if not 0 < self.false_reject_target <= self.review_target < 1:
            raise InvalidInputError(
                "targets must be 0 < false_reject_target <= review_target < 1, got "
                f"{self.false_reject_target} and {self.review_target}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    """Images of one side of the split, with what the detector says of them."""

    images: tuple[LabelledImage, ...]
    scores: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    disagreements: NDArray[np.float64] | None = None


def fit_version(
    data: Path, order: FitOrder, destination: Path, progress: ProgressReport = lambda _share, _what: None
) -> ModelManifest:
    """Fit a detector and write it as a whole model version.

    Args:
        data: A labelled folder, in any of the layouts of ``services.adapters.datasets``; defects are not needed.
        order: What.
        destination: Folder of the version; must not exist yet.
        progress: Told how far it is.

    Returns:
        The version's manifest.

    Raises:
        NotFoundError: If there is no such folder.
        InvalidInputError: If the folder has too few good parts, or an image cannot be used; the message names it.
        DetectorFitError: If the detector cannot be fitted to these images; the message says what to change.
        ConflictError: If the destination exists. Nothing is ever half written.
    """
    if destination.exists():
        raise ConflictError(f"a version's folder must not exist yet, got {destination}")
    return fit_images(read_labelled_folder(data), order, destination, progress)


def fit_images(
    images: Sequence[LabelledImage],
    order: FitOrder,
    destination: Path,
    progress: ProgressReport = lambda _share, _what: None,
) -> ModelManifest:
    """Fit a detector to images that are known one by one; see :func:`fit_version`."""
    if destination.exists():
        raise ConflictError(f"a version's folder must not exist yet, got {destination}")
    progress(0.0, "reading images")
    good, bad = [one for one in images if not one.defect], [one for one in images if one.defect]
    sides = _split(good, order.spec)
    detector = _fitted(sides, order, progress)
    told = {}
    for number, name in enumerate(("calibrate", "holdout", "bad")):
        told[name] = _examined(detector, sides.get(name, tuple(bad)), order.preprocessing)
        progress(0.75 + 0.08 * (number + 1), "scoring held-out parts")
    scale = fit_scale(_by_group(told["calibrate"]), order.false_reject_target)
    point = OperatingPoint(0.5, _review_from(told["calibrate"], scale, order.review_target), 0.5)
    n_fit = sum(len(side) for name, side in sides.items() if name not in told)
    manifest = _manifest(order, detector, scale, point, told, n_fit, images)
    files = CalibratedDetector(detector, scale).files()
    reference, holdout = _reference(told["holdout"], scale), _holdout(told)
    write_version(ModelVersion(manifest, b"", holdout, reference, files), destination)
    progress(1.0, "done")
    return manifest


def fit_once(
    images: Sequence[LabelledImage],
    order: FitOrder,
    destination: Path,
    progress: ProgressReport = lambda _share, _what: None,
) -> ModelManifest:
    """Fit as :func:`fit_images` does, or take what the same order has made of the same images before.

    Raises:
        ConflictError: If another version lies there.
    """
    if not destination.exists():
        return fit_images(images, order, destination, progress)
    made, spec = verify_version(destination), order.spec
    options = {"features": spec.features, "backbone": spec.backbone, "seed": spec.seed, **spec.options}
    same = (
        (made.detector, made.architecture_options) == (spec.detector, options)
        and (made.alias, made.version, made.preprocessing) == (order.alias, order.version, order.preprocessing)
        and made.calibration.target == order.false_reject_target
        and made.lineage.data_sha256 == _digest(images)
    )
    if not same:
        raise ConflictError(
            f"a version's folder must not exist yet, or hold what these images and this order made, got {destination}: "
            f"{made.lineage.description}"
        )
    return made


def _split(good: Sequence[LabelledImage], spec: DetectorSpec) -> dict[str, tuple[LabelledImage, ...]]:
    groups = [one.group for one in good]
    shares, what = (_PANEL_SHARES, "panel") if spec.detector == PANEL else (_SHARES, "detector")
    least = math.ceil(MIN_PARTS / shares.get("members", shares["calibrate"]))
    if len(set(groups)) < least:
        raise InvalidInputError(f"a {what} takes at least {least} good parts (groups), got {len(set(groups))}")
    rows = split_by_group(groups, [GOOD] * len(good), shares, spec.seed)
    return {name: tuple(good[row] for row in chosen) for name, chosen in rows.items()}


def _fitted(sides: dict[str, tuple[LabelledImage, ...]], order: FitOrder, progress: ProgressReport) -> Detector:
    pixels = _prepared(sides["fit"], order.preprocessing, lambda share: progress(0.15 * share, "reading images"))

    def tell(share: float, what: str) -> None:
        progress(0.15 + 0.6 * share, what)

    if order.spec.detector != PANEL:
        return fit_detector(pixels, order.spec, tell)
    others = sides["members"]
    held_out = HeldOut(_prepared(others, order.preprocessing, lambda _: None), [one.group for one in others])
    return fit_panel(pixels, order.spec, held_out, order.false_reject_target, tell)


def _prepared(
    images: Sequence[LabelledImage], preprocessing: Preprocessing, progress: Callable[[float], None]
) -> NDArray[np.uint8]:
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


def _examined(
    detector: Detector,
    images: tuple[LabelledImage, ...],
    preprocessing: Preprocessing,
) -> _Set:
    found = [
        detector.examine(_prepared(images[start : start + _BATCH], preprocessing, lambda _: None))
        for start in range(0, len(images), _BATCH)
    ]
    if not found:
        return _Set((), np.empty(0), np.empty((0, detector.embedding_size), np.float32))
    split = [one.disagreements for one in found if one.disagreements is not None]
    return _Set(
        images,
        np.concatenate([one.scores for one in found]),
        np.concatenate([one.embeddings for one in found]),
        np.concatenate(split) if split else None,
    )


def _by_group(side: _Set) -> NDArray[np.float64]:
    return worst_by_group(side.scores, [one.group for one in side.images])


def _review_from(side: _Set, scale: ScoreScale, target: float) -> float:
    """Calibrated score from which a part is for a person; the threshold itself where there are too few parts to say."""
    parts = _by_group(side)
    if len(parts) < parts_needed(target, 0.0):
        return 0.5
    return min(0.5, float(scale.apply(np.array([false_reject_threshold(parts, target, 0.0)]))[0]))


def _manifest(
    order: FitOrder,
    detector: Detector,
    scale: ScoreScale,
    point: OperatingPoint,
    told: dict[str, _Set],
    n_fit: int,
    images: Sequence[LabelledImage],
) -> ModelManifest:
    spec = order.spec
    verdicts = _verdicts_by_part(told["calibrate"], scale, point)
    scales = (scale, *(member.scale for member in detector.members)) if isinstance(detector, Panel) else (scale,)
    outlying = max(one.outlying_share for one in scales)
    origin = f"; {order.origin.description}" if order.origin.description else ""
    suspect = f"; {outlying:.0%} of its good parts look like hidden defects" if outlying else ""
    return ModelManifest(
        alias=order.alias,
        version=order.version,
        architecture=DETECTOR_PREFIX + spec.detector,
        architecture_options={"features": spec.features, "backbone": spec.backbone, "seed": spec.seed, **spec.options},
        classes=(GOOD, _ANOMALY),
        preprocessing=order.preprocessing,
        normalisation=LITE_NORMALISATION,
        embedding_size=detector.embedding_size,
        operating_point=point,
        calibration=Calibration(
            rule="false_reject_rate",
            target=order.false_reject_target,
            confidence=scale.confidence if scale.basis == "confidence" else 0.0,
            method={"confidence": "clopper-pearson", "average": "conformal", "maximum": "maximum"}[scale.basis],
            n_good=len(verdicts),
            n_defective=0,
            other_target=0.0,
            escape_rate=0.0,
            false_reject_rate=rate(verdicts == Verdict.FAIL),
            review_rate_good=rate(verdicts == Verdict.REVIEW),
            review_rate_defective=0.0,
        ),
        lineage=Lineage(
            source=order.origin.source,
            description=f"{_described(spec)}{origin}{suspect}",
            seed=spec.seed,
            n_train=n_fit,
            n_calibration=len(told["calibrate"].images),
            n_holdout=len(told["holdout"].images) + len(told["bad"].images),
            data_sha256=_digest(images),
            backbone_weights="offline" if spec.backbone == "efficientnet-lite0" else "imagenet",
        ),
        metrics=_figures(told, scale, point, spec.seed),
        code_version=code_version(),
        created_at_ns=time.time_ns(),
    )


def _figures(told: dict[str, _Set], scale: ScoreScale, point: OperatingPoint, seed: int) -> dict[str, Metric]:
    good, bad = told["holdout"], told["bad"]
    scores = scale.apply(np.concatenate([good.scores, bad.scores]))
    split = None if good.disagreements is None else np.concatenate([good.disagreements, _split_of(bad)])
    groups = [one.group for one in (*good.images, *bad.images)]
    defective = np.repeat([False, True], [len(good.images), len(bad.images)])
    if bad.images:
        return evaluate(scores, defective, groups, point, seed, _RESAMPLES, split)
    decisions = _decisions(good, scale, point)

    def share(told: Callable[[Decision], bool]) -> Metric:
        said = np.array([told(decision) for decision in decisions])
        return bootstrap(lambda rows: rate(said[rows]), groups, seed, _RESAMPLES)

    figures = {
        "good_pass_rate": share(lambda one: one.verdict is Verdict.PASS),
        "false_reject_rate": share(lambda one: one.verdict is Verdict.FAIL),
    }
    if split is not None:
        figures["disagreement_rate_good"] = share(lambda one: one.reason is Reason.DISAGREEMENT)
    return figures


def _decisions(side: _Set, scale: ScoreScale, point: OperatingPoint) -> list[Decision]:
    scores = scale.apply(side.scores)
    return [decide(float(one), point, float(far)) for one, far in zip(scores, _split_of(side), strict=True)]


def _verdicts_by_part(side: _Set, scale: ScoreScale, point: OperatingPoint) -> NDArray[np.object_]:
    """The worst verdict of each part's images."""
    worst: dict[str, Verdict] = {}
    for one, decision in zip(side.images, _decisions(side, scale, point), strict=True):
        worst[one.group] = max(worst.get(one.group, Verdict.PASS), decision.verdict, key=_SEVERITY.index)
    return np.array([worst[group] for group in sorted(worst)], dtype=object)


def _split_of(side: _Set) -> NDArray[np.float64]:
    return np.zeros(len(side.scores)) if side.disagreements is None else side.disagreements


def _described(spec: DetectorSpec) -> str:
    if spec.detector == PANEL:
        return f"panel of {spec.options[MEMBERS]} on good parts alone".replace(",", ", ")
    return f"{spec.detector} on good parts alone ({spec.features} features)"


def _holdout(told: dict[str, _Set]) -> Holdout:
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


def _reference(side: _Set, scale: ScoreScale) -> Reference:
    count = min(_REFERENCE_PARTS, len(side.images))
    rows = [index * len(side.images) // count for index in range(count)]
    names = [f"good-{number:04d}{side.images[row].path.suffix.lower()}" for number, row in enumerate(rows)]
    return Reference(
        images={name: side.images[row].path.read_bytes() for name, row in zip(names, rows, strict=True)},
        files=tuple(names),
        scores=scale.apply(side.scores[rows]).astype(np.float32),
        embeddings=side.embeddings[rows].astype(np.float16),
    )


def _digest(images: Sequence[LabelledImage]) -> str:
    state = hashlib.sha256()
    for one in images:
        state.update(f"{one.path.name} {hashlib.sha256(one.path.read_bytes()).hexdigest()}\n".encode())
    return state.hexdigest()
