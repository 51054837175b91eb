"""A network that is fitted to a detector's verdicts, from two folders of images to a whole model version.

Paper 3, "Two models in a pipeline": a detector learns what good parts look like, says of unlabelled images which are
anomalous, and a network is fitted to what it said; the version is that network, served and explained like any other.
Good parts are split by group into four: what the detector is fitted on, what its scale is made of, what the network's
threshold is calibrated on, and the frozen hold-out, which with all known defects says what the version is worth. The
network itself sees unlabelled images alone. Where their true labels lie beside them, they are read for one thing: how
right the pseudo-labels were, among the version's figures.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.adapters.datasets import (
    LabelledImage,
    has_labels,
    read_labelled_folder,
    read_parts_folder,
    read_plain_folder,
)
from services.adapters.modelfolder import ModelVersion, code_version, write_version
from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import PANEL, Examined, Images
from services.core.detectors.pseudo_labels import (
    CLASSES,
    DEFAULT_MARGIN,
    LABEL_ANOMALY,
    PseudoLabels,
    label_by_score,
)
from services.core.detectors.scale import ScoreScale, fit_scale
from services.core.errors import ConflictError, InvalidInputError
from services.core.evaluation.metrics import bootstrap, rate
from services.core.manifest import Lineage, Metric, ModelManifest
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model, usual_weights
from services.core.models.state import save_state
from services.core.training.finetune import EpochReport, TrainingSettings
from services.core.training.pseudo_fit import PseudoFit, fit_to_pseudo_labels
from services.core.types import OperatingPoint
from services.trainer.detector_version import FitOrder
from services.trainer.scored_parts import (
    RESAMPLES,
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

DEFAULT_CLASSIFIER: Final = "efficientnet-lite0"
DEFAULT_EPOCHS: Final = 12

_SHARES: Final = {"fit": 0.45, "scale": 0.2, "calibrate": 0.2, "holdout": 0.15}
_BATCH: Final = 16
_LEARNING_RATE: Final = 5e-4
_PATIENCE: Final = 3
# So far, in logits, rounding of an engine may carry a score; no calibration part is to be carried over the threshold.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True)
class TwoStageOrder:
    """What is to be fitted.

    Attributes:
        first: The detector, and what holds for the whole version: alias, number, preprocessing, targets.
        classifier: The network, a name for ``services.core.models``.
        margin: How far from the detector's threshold a pseudo-labelled score lies, in ``[0, 0.5)``.
        epochs: Most passes over the pseudo-labelled images, ``>= 1``.
    """

    first: FitOrder
    classifier: str = DEFAULT_CLASSIFIER
    margin: float = DEFAULT_MARGIN
    epochs: int = DEFAULT_EPOCHS

    def __post_init__(self) -> None:
        if self.first.spec.detector == PANEL:
            raise InvalidInputError("a network is fitted to the verdicts of one detector, got a panel")

    @property
    def training(self) -> TrainingSettings:
        """How the network is fitted."""
        return TrainingSettings(
            epochs=self.epochs,
            batch_size=_BATCH,
            learning_rate=_LEARNING_RATE,
            patience=_PATIENCE,
            seed=self.first.spec.seed,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """Unlabelled images.

    Attributes:
        images: Without what may be known about them.
        defective: What is known, for the final figures alone; None where nothing is.
    """

    images: tuple[LabelledImage, ...]
    defective: NDArray[np.bool_] | None


class _Network:
    """A network as what scores images: its raw score is the logit of the anomaly."""

    def __init__(self, model: Classifier) -> None:
        self._model = model

    @property
    def embedding_size(self) -> int:
        return self._model.embedding_size

    @torch.inference_mode()
    def examine(self, images: Images) -> Examined:
        told = self._model(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2))
        logits = told.logits.double().numpy()
        return Examined(logits[:, 1] - logits[:, 0], told.embedding.numpy(), None)

    def move_threshold(self, raw: float) -> None:
        """Take a logit off every answer, so that what was ``raw`` becomes a score of 0.5."""
        with torch.no_grad():
            self._model.linear.bias[1] -= raw


class _Odds:
    """From logits to what the network answers."""

    @staticmethod
    def apply(raw: NDArray[np.floating]) -> NDArray[np.float64]:
        values = np.asarray(raw, dtype=np.float64)
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values))


def fit_two_stage_version(
    data: Path,
    unlabelled: Path,
    order: TwoStageOrder,
    destination: Path,
    progress: ProgressReport = lambda _share, _what: None,
) -> ModelManifest:
    """Fit a detector, a network to its verdicts, and write the network as a whole model version.

    Args:
        data: A labelled folder, in any of the layouts of ``services.adapters.datasets``, or a plain one of good parts.
        unlabelled: A folder of images, or a labelled folder, whose labels are used for nothing but final figures.
        order: What.
        destination: Folder of the version; must not exist yet.
        progress: Told how far it is.

    Returns:
        The version's manifest.

    Raises:
        NotFoundError: If there is no such folder.
        InvalidInputError: If there are too few good parts or too few of either pseudo-label, an image cannot be used,
            or one is in both folders; the message says what to change.
        DetectorFitError: If the detector cannot be fitted to these images.
        UnavailableError: If the network's first weights cannot be had.
        ConflictError: If the destination exists. Nothing is ever half written.
    """
    if destination.exists():
        raise ConflictError(f"a version's folder must not exist yet, got {destination}")
    first, spec = order.first, order.first.spec
    progress(0.0, "reading images")
    images, pool = read_parts_folder(data), _read_pool(unlabelled)
    _check_apart(images, pool.images)
    # Before any work: weights may have to be fetched.
    model = create_model(order.classifier, len(CLASSES), usual_weights(order.classifier), seed=spec.seed)
    sides = split_good([one for one in images if not one.defect], spec.seed, _SHARES)
    sides["bad"] = tuple(one for one in images if one.defect)
    pixels = prepared(sides["fit"], first.preprocessing, lambda share: progress(0.1 * share, "reading images"))
    detector = fit_detector(pixels, spec, lambda share, what: progress(0.1 + 0.2 * share, what))
    del pixels
    progress(0.31, "making the detector's scale")
    scale = fit_scale(by_group(examined(detector, sides["scale"], first.preprocessing)), first.false_reject_target)
    seen = prepared(pool.images, first.preprocessing, lambda share: progress(0.31 + 0.1 * share, "reading images"))
    raw = np.concatenate([detector.examine(seen[at : at + _BATCH]).scores for at in range(0, len(seen), _BATCH)])
    labels = label_by_score(scale.apply(raw), order.margin, [one.group for one in pool.images])
    progress(0.45, f"{labels.n_anomaly} anomalous, {labels.n_good} good, {labels.n_left_out} left out")
    fit = fit_to_pseudo_labels(model, seen, labels, order.training, _told(order, progress))
    del seen
    network = _Network(model)
    progress(0.9, "scoring held-out parts")
    logits = by_group(examined(network, sides["calibrate"], first.preprocessing))
    # On logits, not on probabilities: most of those lie so close to 0 that an ordinary good part would look far out.
    kept = fit_scale(logits, first.false_reject_target)
    network.move_threshold(kept.threshold + _ROUNDING)
    told = {name: examined(network, sides[name], first.preprocessing) for name in ("calibrate", "holdout", "bad")}
    point = OperatingPoint(0.5, review_from(told["calibrate"], _Odds(), first.review_target), 0.5)
    manifest = ModelManifest(
        alias=first.alias,
        version=first.version,
        architecture=order.classifier,
        classes=CLASSES,
        preprocessing=first.preprocessing,
        normalisation=model.normalisation,
        embedding_size=model.embedding_size,
        operating_point=point,
        calibration=calibration_record(told["calibrate"], kept, _Odds(), point),
        lineage=_lineage(order, labels, fit, scale, told, [*images, *pool.images]),
        metrics=held_out_figures(told, _Odds(), point, spec.seed) | _label_figures(labels, pool, spec.seed),
        code_version=code_version(),
        created_at_ns=time.time_ns(),
    )
    held = told["holdout"]
    reference = reference_parts(held.images, _Odds().apply(held.scores), held.embeddings)
    write_version(ModelVersion(manifest, save_state(model), holdout_parts(told), reference), destination)
    progress(1.0, "done")
    return manifest


def _read_pool(folder: Path) -> _Pool:
    if not has_labels(folder):
        return _Pool(read_plain_folder(folder), None)
    images = read_labelled_folder(folder)
    hidden = tuple(replace(one, defect=False, defect_class="", mask_path=None) for one in images)
    return _Pool(hidden, np.array([one.defect for one in images], dtype=bool))


def _check_apart(images: Sequence[LabelledImage], pool: Sequence[LabelledImage]) -> None:
    """Refuse an image on both sides: the network would be measured on what it was fitted to."""
    known = {hashlib.sha256(one.path.read_bytes()).digest() for one in images}
    twice = [one.path.name for one in pool if hashlib.sha256(one.path.read_bytes()).digest() in known]
    if twice:
        raise InvalidInputError(
            f"unlabelled images must be others than the labelled ones, got {len(twice)} of the same content, "
            f"the first {twice[0]}"
        )


def _told(order: TwoStageOrder, progress: ProgressReport) -> Callable[[EpochReport], None]:
    def tell(epoch: EpochReport) -> None:
        share = epoch.epoch / order.epochs
        progress(0.45 + 0.45 * share, f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.3f}")

    return tell


def _lineage(
    order: TwoStageOrder,
    labels: PseudoLabels,
    fit: PseudoFit,
    scale: ScoreScale,
    told: dict[str, ScoredSet],
    images: Sequence[LabelledImage],
) -> Lineage:
    spec = order.first.spec
    origin = f"; {order.first.origin.description}" if order.first.origin.description else ""
    suspect = f"; {scale.outlying_share:.0%} of its good parts look like hidden defects" if scale.suspect else ""
    return Lineage(
        source=order.first.origin.source,
        description=f"{order.classifier} fitted to what {spec.detector} ({spec.features} features) said of "
        f"{len(labels.labels)} unlabelled images with a margin of {labels.margin:g}: {labels.n_anomaly} anomalous, "
        f"{labels.n_good} good, {labels.n_left_out} left out; best epoch {fit.report.best_epoch}{origin}{suspect}",
        seed=spec.seed,
        n_train=fit.n_train + fit.n_validation,
        n_calibration=len(told["calibrate"].images),
        n_holdout=len(told["holdout"].images) + len(told["bad"].images),
        data_sha256=digest(images),
        backbone_weights=usual_weights(order.classifier),
    )


def _label_figures(labels: PseudoLabels, pool: _Pool, seed: int) -> dict[str, Metric]:
    """How right the pseudo-labels were, where that is known; what was left out counts as not found."""
    if pool.defective is None:
        return {}
    called, defective = labels.labels == LABEL_ANOMALY, pool.defective
    figures = {
        "pseudo_precision": bootstrap(lambda rows: rate(defective[rows][called[rows]]), labels.groups, seed, RESAMPLES)
    }
    if defective.any():
        figures["pseudo_recall"] = bootstrap(
            lambda rows: rate(called[rows][defective[rows]]), labels.groups, seed, RESAMPLES
        )
    return figures
