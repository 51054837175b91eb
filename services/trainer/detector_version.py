"""A detector that learns from good parts, from a folder of images to a whole model version.

Good parts are split by group into three: what the detector is fitted on, what its scale is calibrated on, and the
frozen hold-out, which with all defective parts says what it is worth. Defects are never fitted or calibrated on: a line
that has none yet gets a version all the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.adapters.datasets import LabelledImage, read_parts_folder
from services.adapters.modelfolder import ModelVersion, code_version, verify_version, write_version
from services.core.detectors.calibrated import CalibratedDetector
from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import PANEL, Detector, DetectorSpec
from services.core.detectors.panel import MEMBERS, HeldOut, Panel, fit_panel
from services.core.detectors.pseudo_labels import ANOMALY
from services.core.detectors.scale import ScoreScale, fit_scale
from services.core.errors import ConflictError, InvalidInputError
from services.core.manifest import DETECTOR_PREFIX, GOOD, Lineage, ModelManifest
from services.core.models.efficientnet_lite import LITE_NORMALISATION
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint
from services.trainer.scored_parts import (
    ProgressReport,
    ScoredSet,
    by_group,
    calibration_record,
    digest,
    examined,
    held_out_figures,
    holdout_parts,
    prepared,
    reference_parts,
    review_from,
    split_good,
)

#: Share of the good parts that may be rejected, and that may go to a person beyond those.
FALSE_REJECT_TARGET: Final = 0.01
REVIEW_TARGET: Final = 0.05

_SHARES: Final = {"fit": 0.6, "calibrate": 0.25, "holdout": 0.15}
#: The scales of a panel's members take parts of their own; the hold-out and what the promise rests on stay as large.
_PANEL_SHARES: Final = {"fit": 0.4, "members": 0.2, "calibrate": 0.25, "holdout": 0.15}


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


def fit_version(
    data: Path, order: FitOrder, destination: Path, progress: ProgressReport = lambda _share, _what: None
) -> ModelManifest:
    """Fit a detector and write it as a whole model version.

    Args:
        data: A labelled folder, in any of the layouts of ``services.adapters.datasets``, or a plain one of good parts.
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
    return fit_images(read_parts_folder(data), order, destination, progress)


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
        told[name] = examined(detector, sides.get(name, tuple(bad)), order.preprocessing)
        progress(0.75 + 0.08 * (number + 1), "scoring held-out parts")
    scale = fit_scale(by_group(told["calibrate"]), order.false_reject_target)
    point = OperatingPoint(0.5, review_from(told["calibrate"], scale, order.review_target), 0.5)
    n_fit = sum(len(side) for name, side in sides.items() if name not in told)
    manifest = _manifest(order, detector, scale, point, told, n_fit, images)
    files = CalibratedDetector(detector, scale).files()
    held = told["holdout"]
    reference, holdout = reference_parts(held.images, scale.apply(held.scores), held.embeddings), holdout_parts(told)
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
        and made.lineage.data_sha256 == digest(images)
    )
    if not same:
        raise ConflictError(
            f"a version's folder must not exist yet, or hold what these images and this order made, got {destination}: "
            f"{made.lineage.description}"
        )
    return made


def _split(good: Sequence[LabelledImage], spec: DetectorSpec) -> dict[str, tuple[LabelledImage, ...]]:
    return split_good(good, spec.seed, _PANEL_SHARES if spec.detector == PANEL else _SHARES)


def _fitted(sides: dict[str, tuple[LabelledImage, ...]], order: FitOrder, progress: ProgressReport) -> Detector:
    pixels = prepared(sides["fit"], order.preprocessing, lambda share: progress(0.15 * share, "reading images"))

    def tell(share: float, what: str) -> None:
        progress(0.15 + 0.6 * share, what)

    if order.spec.detector != PANEL:
        return fit_detector(pixels, order.spec, tell)
    others = sides["members"]
    held_out = HeldOut(prepared(others, order.preprocessing, lambda _: None), [one.group for one in others])
    return fit_panel(pixels, order.spec, held_out, order.false_reject_target, tell)


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
    scales = (scale, *(member.scale for member in detector.members)) if isinstance(detector, Panel) else (scale,)
    outlying = max(one.outlying_share for one in scales)
    origin = f"; {order.origin.description}" if order.origin.description else ""
    suspect = f"; {outlying:.0%} of its good parts look like hidden defects" if outlying else ""
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
            source=order.origin.source,
            description=f"{_described(spec)}{origin}{suspect}",
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


def _described(spec: DetectorSpec) -> str:
    if spec.detector == PANEL:
        return f"panel of {spec.options[MEMBERS]} on good parts alone".replace(",", ", ")
    return f"{spec.detector} on good parts alone ({spec.features} features)"
