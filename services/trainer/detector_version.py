"""A detector that learns from good parts, from a folder of images to a whole model version.

Good parts are split by group into three: what the detector is fitted on, what its scale is calibrated on, and the
frozen hold-out, which with all defective parts says what it is worth. Defects are never fitted or calibrated on: a line
that has none yet gets a version all the same.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.adapters.datasets import LabelledImage, read_labelled_folder
from services.adapters.modelfolder import Holdout, HoldoutPart, ModelVersion, Reference, code_version, write_version
from services.core.calibration import false_reject_threshold, parts_needed
from services.core.decision import decide
from services.core.detectors.calibrated import CalibratedDetector
from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import Detector, DetectorSpec, Examined, Images
from services.core.detectors.pseudo_labels import ANOMALY
from services.core.detectors.scale import MIN_PARTS, ScoreScale, fit_scale
from services.core.errors import ConflictError, ImageError, InvalidInputError
from services.core.evaluation.metrics import bootstrap, rate
from services.core.evaluation.report import evaluate
from services.core.evaluation.splits import split_by_group
from services.core.imaging import ImageLimits, decode
from services.core.manifest import DETECTOR_PREFIX, GOOD, Calibration, Lineage, Metric, ModelManifest
from services.core.models.efficientnet_lite import LITE_NORMALISATION
from services.core.preprocessing import Preprocessing, prepare
from services.core.types import OperatingPoint, Verdict

ProgressReport = Callable[[float, str], None]

#: Share of the good parts that may be rejected, and that may go to a person beyond those.
FALSE_REJECT_TARGET: Final = 0.01
REVIEW_TARGET: Final = 0.05
MOST_IMAGE_BYTES: Final = 4_000_000_000

SHARES: Final = {"fit": 0.6, "calibrate": 0.25, "holdout": 0.15}
_REFERENCE_PARTS: Final = 200
_BATCH: Final = 16
RESAMPLES: Final = 500


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
    """

    spec: DetectorSpec
    alias: str = "default"
    version: int = 1
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    false_reject_target: float = FALSE_REJECT_TARGET
    review_target: float = REVIEW_TARGET

    def __post_init__(self) -> None:
        if self.preprocessing.mode == "tiles":
            raise InvalidInputError("a detector is fitted on whole images (letterbox or squash), got tiles")
        if not 0 < self.false_reject_target <= self.review_target < 1:
            raise InvalidInputError(
                "targets must be 0 < false_reject_target <= review_target < 1, got "
                f"{self.false_reject_target} and {self.review_target}"
            )


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
    """Images of one side of the split, with what the model says of them: raw scores and embeddings."""

    images: tuple[LabelledImage, ...]
    scores: NDArray[np.float64]
    embeddings: NDArray[np.float32]


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
    progress(0.0, "reading images")
    images = read_labelled_folder(data)
    good, bad = [one for one in images if not one.defect], [one for one in images if one.defect]
    sides = split_good(good, order.spec.seed)
    pixels = prepared(sides["fit"], order.preprocessing, lambda share: progress(0.15 * share, "reading images"))
    detector = fit_detector(pixels, order.spec, lambda share, what: progress(0.15 + 0.6 * share, what))
    del pixels
    told = {}
    for number, (name, chosen) in enumerate((*list(sides.items())[1:], ("bad", tuple(bad)))):
        told[name] = examined(detector, chosen, order.preprocessing)
        progress(0.75 + 0.08 * (number + 1), "scoring held-out parts")
    scale = fit_scale(by_group(told["calibrate"]), order.false_reject_target)
    point = OperatingPoint(0.5, review_from(told["calibrate"], scale, order.review_target), 0.5)
    manifest = _manifest(order, detector, scale, point, told, len(sides["fit"]), images)
    files = CalibratedDetector(detector, scale).files()
    reference, holdout = reference_parts(told["holdout"], scale), holdout_parts(told)
    write_version(ModelVersion(manifest, b"", holdout, reference, files), destination)
    progress(1.0, "done")
    return manifest


def split_good(
    good: Sequence[LabelledImage], seed: int, shares: Mapping[str, float] = SHARES
) -> dict[str, tuple[LabelledImage, ...]]:
    """Split good parts by group into sides of given shares; the side ``calibrate`` has enough for a scale.

    Raises:
        InvalidInputError: If there are too few.
    """
    groups = [one.group for one in good]
    least = math.ceil(MIN_PARTS / shares["calibrate"])
    if len(set(groups)) < least:
        raise InvalidInputError(f"a detector takes at least {least} good parts (groups), got {len(set(groups))}")
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
    return ScoredSet(
        images, np.concatenate([one.scores for one in found]), np.concatenate([one.embeddings for one in found])
    )


def by_group(side: ScoredSet) -> NDArray[np.float64]:
    """One score for each part: its worst image, as the line has it."""
    worst: dict[str, float] = {}
    for one, score in zip(side.images, side.scores, strict=True):
        worst[one.group] = max(score, worst.get(one.group, -math.inf))
    return np.array([worst[group] for group in sorted(worst)])


def review_from(side: ScoredSet, scale: Scale, target: float) -> float:
    """Calibrated score from which a part is for a person; the threshold itself where there are too few parts to say."""
    parts = by_group(side)
    if len(parts) < parts_needed(target, 0.0):
        return 0.5
    return min(0.5, float(scale.apply(np.array([false_reject_threshold(parts, target, 0.0)]))[0]))


def _manifest(
    order: FitOrder,
    detector: Detector,
    scale: ScoreScale,
    point: OperatingPoint,
    told: dict[str, ScoredSet],
    n_fit: int,
    images: Sequence[LabelledImage],
) -> ModelManifest:
    spec = order.spec
    suspect = f"; {scale.outlying_share:.0%} of its good parts look like hidden defects" if scale.suspect else ""
    return ModelManifest(
        alias=order.alias,
        version=order.version,
        architecture=DETECTOR_PREFIX + spec.detector,
        architecture_options={"features": spec.features, "backbone": spec.backbone, "seed": spec.seed, **spec.options},
        classes=(GOOD, ANOMALY),
        preprocessing=order.preprocessing,
        normalisation=LITE_NORMALISATION,
        embedding_size=detector.embedding_size,
        operating_point=point,
        calibration=calibration_record(told["calibrate"], scale, scale, point),
        lineage=Lineage(
            source="folder",
            description=f"{spec.detector} on good parts alone ({spec.features} features){suspect}",
            seed=spec.seed,
            n_train=n_fit,
            n_calibration=len(told["calibrate"].images),
            n_holdout=len(told["holdout"].images) + len(told["bad"].images),
            data_sha256=digest(images),
            backbone_weights="offline" if spec.backbone == "efficientnet-lite0" else "imagenet",
        ),
        metrics=held_out_figures(told, scale, point, spec.seed),
        code_version=code_version(),
        created_at_ns=time.time_ns(),
    )


def calibration_record(side: ScoredSet, kept: ScoreScale, scale: Scale, point: OperatingPoint) -> Calibration:
    """Write down how a threshold was chosen on good parts alone.

    Args:
        side: The good parts.
        kept: What the promise became on them.
        scale: Of the scores that verdicts are made of.
        point: Where they are cut.
    """
    scores = scale.apply(by_group(side))
    return Calibration(
        rule="false_reject_rate",
        target=kept.false_reject_target,
        confidence=kept.confidence if kept.basis == "confidence" else 0.0,
        method={"confidence": "clopper-pearson", "average": "conformal", "maximum": "maximum"}[kept.basis],
        n_good=len(scores),
        n_defective=0,
        other_target=0.0,
        escape_rate=0.0,
        false_reject_rate=share_of(scores, point, Verdict.FAIL),
        review_rate_good=share_of(scores, point, Verdict.REVIEW),
        review_rate_defective=0.0,
    )


def held_out_figures(
    told: Mapping[str, ScoredSet], scale: Scale, point: OperatingPoint, seed: int
) -> dict[str, Metric]:
    """Measure a version on the sides ``holdout`` and ``bad``; without defects, what good parts alone tell."""
    good, bad = told["holdout"], told["bad"]
    scores = scale.apply(np.concatenate([good.scores, bad.scores]))
    groups = [one.group for one in (*good.images, *bad.images)]
    defective = np.repeat([False, True], [len(good.images), len(bad.images)])
    if bad.images:
        return evaluate(scores, defective, groups, point, seed, RESAMPLES)

    def share(verdict: Verdict) -> Metric:
        return bootstrap(lambda rows: share_of(scores[rows], point, verdict), groups, seed, RESAMPLES)

    return {"good_pass_rate": share(Verdict.PASS), "false_reject_rate": share(Verdict.FAIL)}


def share_of(scores: NDArray[np.float64], point: OperatingPoint, verdict: Verdict) -> float:
    """Share of calibrated scores that get a verdict."""
    return rate(np.array([decide(float(score), point).verdict is verdict for score in scores]))


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


def reference_parts(side: ScoredSet, scale: Scale) -> Reference:
    """Keep held-out good parts with what the version says of them."""
    count = min(_REFERENCE_PARTS, len(side.images))
    rows = [index * len(side.images) // count for index in range(count)]
    names = [f"good-{number:04d}{side.images[row].path.suffix.lower()}" for number, row in enumerate(rows)]
    return Reference(
        images={name: side.images[row].path.read_bytes() for name, row in zip(names, rows, strict=True)},
        files=tuple(names),
        scores=scale.apply(side.scores[rows]).astype(np.float32),
        embeddings=side.embeddings[rows].astype(np.float16),
    )


def digest(images: Sequence[LabelledImage]) -> str:
    """Name what a version was made from: names and contents of its images."""
    state = hashlib.sha256()
    for one in images:
        state.update(f"{one.path.name} {hashlib.sha256(one.path.read_bytes()).hexdigest()}\n".encode())
    return state.hexdigest()
