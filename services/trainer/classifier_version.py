"""A network that tells good parts from known defects, from a labelled folder to a version that can go on learning.

The last layer is fitted on frozen features, in seconds. Parts are split by group into those that it is fitted on,
those that its operating point is cut on, and the frozen hold-out. What the frozen backbone saw of all of them goes into
the version (its *base set*), so that the trainer can later fit the layer anew on the same parts and on what people
answered.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.caserecord import CaseRecord
from services.adapters.datasets import LabelledImage, read_labelled_folder
from services.adapters.modelfolder import (
    BasePart,
    Holdout,
    HoldoutPart,
    ModelVersion,
    TrainingBase,
    code_version,
    read_holdout,
    read_training,
    write_version,
)
from services.core.calibration import Promise, calibrate, parts_needed
from services.core.errors import ConflictError, InvalidInputError
from services.core.evaluation.report import evaluate
from services.core.evaluation.splits import split_by_group
from services.core.identity import id_from_text
from services.core.manifest import GOOD, Lineage, ModelManifest
from services.core.models.factory import create_model, usual_weights
from services.core.models.state import save_state
from services.core.preprocessing import Preprocessing
from services.core.training.head import fit_head, install_head
from services.trainer.detector_version import Origin
from services.trainer.networks import AnsweringNetwork
from services.trainer.scored_parts import RESAMPLES, ProgressReport, digest, prepared, reference_parts

DEFAULT_NETWORK: Final = "efficientnet-lite0"
#: At most one defective part in ten passes, and at most one good part in fifty fails; what is between is for a person.
DEFAULT_PROMISE: Final = Promise("escape_rate", 0.10, other_target=0.02)

_SHARES: Final = {"train": 0.6, "calibration": 0.2, "holdout": 0.2}
_ROLES: Final = ("train", "calibration")
_BATCH: Final = 16
#: Small faults are gone from the mean of the deepest features, so a middle layer is pooled too.
_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {DEFAULT_NETWORK: {"taps": "10"}}
_UNNAMED: Final = "defect"


@dataclass(frozen=True, slots=True)
class ClassifierOrder:
    """What is to be fitted.

    Attributes:
        network: A name for ``services.core.models``, with first weights of its own.
        alias: Alias of the version.
        version: Its number, ``>= 1``.
        preprocessing: How images become its input; whole images only.
        promise: What the operating point must keep.
        product: What the parts are; may be empty.
        seed: Of the split and the intervals.
        origin: Where the images come from.
        threads: CPU threads, ``>= 1``.
    """

    network: str = DEFAULT_NETWORK
    alias: str = "default"
    version: int = 1
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    promise: Promise = DEFAULT_PROMISE
    product: str = ""
    seed: int = 0
    origin: Origin = field(default_factory=Origin)
    threads: int = 1

    def __post_init__(self) -> None:
        if self.preprocessing.mode == "tiles":
            raise InvalidInputError("a network is fitted on whole images (letterbox or squash), got tiles")


def fit_classifier_version(
    data: Path,
    order: ClassifierOrder,
    destination: Path,
    progress: ProgressReport = lambda _share, _what: None,
) -> ModelManifest:
    """Fit the last layer of a network to a labelled folder and write it as a whole model version.

    Args:
        data: A labelled folder, in any of the layouts of ``services.adapters.datasets``. Classes with fewer parts than
            it takes to be on every side of the split are fitted together.
        order: What.
        destination: Folder of the version; must not exist yet.
        progress: Told how far it is.

    Returns:
        The version's manifest.

    Raises:
        NotFoundError: If there is no such folder, or the network's first weights cannot be had.
        InvalidInputError: If there are too few parts of either kind for the promise, or an image cannot be used; the
            message says what to change.
        UnavailableError: If first weights would have to be downloaded and cannot be.
        ConflictError: If the destination exists. Nothing is ever half written.
    """
    if destination.exists():
        raise ConflictError(f"a version's folder must not exist yet, got {destination}")
    progress(0.0, "reading images")
    images = read_labelled_folder(data)
    _check_counts(images, order.promise)
    labels = _labels(images)
    sides = split_by_group([one.group for one in images], labels, _SHARES, order.seed)
    classes = (GOOD, *sorted({labels[row] for row in sides["train"]} - {GOOD}))
    options, weights = dict(_OPTIONS.get(order.network, {})), usual_weights(order.network)
    model = create_model(order.network, len(classes), weights, options=options, seed=order.seed)
    network = AnsweringNetwork(model, order.preprocessing, order.threads)
    embeddings = _embed(network, images, order.preprocessing, lambda share: progress(0.05 + 0.8 * share, "embedding"))
    progress(0.85, "fitting the last layer")
    numbers = np.array([classes.index(label) if label in classes else -1 for label in labels])
    head = fit_head(embeddings[sides["train"]], numbers[sides["train"]], len(classes))
    install_head(model, head)
    progress(0.92, "calibrating and measuring")
    scores, defective = head.scores(embeddings), np.array([one.defect for one in images])
    chosen = sides["calibration"]
    point, calibration = calibrate(scores[chosen[~defective[chosen]]], scores[chosen[defective[chosen]]], order.promise)
    held_out = sides["holdout"]
    groups = [images[row].group for row in held_out]
    manifest = ModelManifest(
        alias=order.alias,
        version=order.version,
        architecture=order.network,
        architecture_options=dict(options),
        classes=classes,
        preprocessing=order.preprocessing,
        normalisation=model.normalisation,
        embedding_size=model.embedding_size,
        operating_point=point,
        calibration=calibration,
        lineage=Lineage(
            source=order.origin.source,
            description=f"{order.network} with frozen features and a fitted last layer, {len(images)} labelled images "
            f"of {len({one.group for one in images})} parts"
            + (f"; {order.origin.description}" if order.origin.description else ""),
            seed=order.seed,
            n_train=len(sides["train"]),
            n_calibration=len(chosen),
            n_holdout=len(held_out),
            data_sha256=digest(images),
            backbone_weights=weights,
        ),
        metrics=evaluate(scores[held_out], defective[held_out], groups, point, order.seed, RESAMPLES),
        code_version=code_version(),
        created_at_ns=time.time_ns(),
    )
    holdout = Holdout(tuple(HoldoutPart(**_described(images[row], labels[row], order)) for row in held_out))
    base_rows = [(role, row) for role in _ROLES for row in sides[role]]
    parts = tuple(BasePart(role=role, **_described(images[row], labels[row], order)) for role, row in base_rows)  # type: ignore[arg-type]
    base = TrainingBase(parts, embeddings[[row for _, row in base_rows] + held_out.tolist()])
    good = held_out[~defective[held_out]]
    reference = reference_parts([images[row] for row in good], scores[good], embeddings[good])
    write_version(ModelVersion(manifest, save_state(model), holdout, reference, training=base), destination)
    progress(1.0, "done")
    return manifest


def keep_pictures(
    folder: Path, data: Path, record: CaseRecord, progress: Callable[[float], None] = lambda _: None
) -> tuple[int, int]:
    """Keep the pictures of a version's base set and hold-out in the record, where the trainer looks for them.

    Fitting the last layer does without them; fine-tuning, the overlap loss and refutations on other parts do not.

    Args:
        folder: The version.
        data: The labelled folder that it was fitted on; pictures are known by their content.
        record: Takes them.
        progress: Told the share that is done.

    Returns:
        Pictures that are kept, and parts whose picture does not lie in ``data``.

    Raises:
        InvalidInputError: If the version has no base set.
        NotFoundError: If there is no such folder.
        UnavailableError: If the store does not answer.
    """
    base = read_training(folder)
    if base is None:
        raise InvalidInputError(f"only a version with a base set (training/) keeps pictures, got {folder}")
    wanted = {part.sha256 for part in base.parts} | {part.sha256 for part in read_holdout(folder).parts}
    images = read_labelled_folder(data)
    kept: set[str] = set()
    for number, one in enumerate(images):
        content = one.path.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        if name in wanted and name not in kept:
            record.add_image(content)
            kept.add(name)
        progress((number + 1) / len(images))
    return len(kept), len(wanted - kept)


def _check_counts(images: Sequence[LabelledImage], promise: Promise) -> None:
    """Say before any work is done that there will be too few parts to calibrate on."""
    escape, reject = promise.target, promise.other_target
    if promise.rule == "false_reject_rate":
        escape, reject = reject, escape
    for name, defect, target in (("defective", True, escape), ("good", False, reject)):
        found = len({one.group for one in images if one.defect is defect})
        least = max(5, parts_needed(target, promise.confidence) if target else 0) / _SHARES["calibration"]
        if found < least:
            raise InvalidInputError(
                f"the promise takes at least {least:.0f} {name} parts (groups), got {found}; ask for a larger rate or "
                "less confidence, or fit a detector, which needs good parts alone"
            )


def _labels(images: Sequence[LabelledImage]) -> list[str]:
    """Classes of the images; what is too rare to be on every side of the split joins others of its kind."""
    named = [id_from_text(one.defect_class or _UNNAMED) if one.defect else GOOD for one in images]
    groups: dict[str, set[str]] = {}
    for name, one in zip(named, images, strict=True):
        groups.setdefault(name, set()).add(one.group)
    least = round(1 / min(_SHARES.values()))
    rare = {name for name, members in groups.items() if len(members) < least and name != GOOD}
    known = sorted(groups.keys() - rare - {GOOD})
    together = set().union(*(groups[name] for name in rare)) if rare else set()
    # Too few even together, they are trained as the most frequent defect: the verdict is the same.
    joined = _UNNAMED if len(together) >= least or not known else max(known, key=lambda name: len(groups[name]))
    return [joined if name in rare else name for name in named]


def _embed(
    network: AnsweringNetwork,
    images: Sequence[LabelledImage],
    preprocessing: Preprocessing,
    progress: Callable[[float], None],
) -> NDArray[np.float32]:
    found = []
    for start in range(0, len(images), _BATCH):
        found.append(network.embed(prepared(images[start : start + _BATCH], preprocessing, lambda _: None)))
        progress(min(1.0, (start + _BATCH) / len(images)))
    return np.concatenate(found)


def _described(one: LabelledImage, label: str, order: ClassifierOrder) -> dict[str, str]:
    return {
        "part_id": id_from_text(one.group),
        "product": order.product,
        "label": label,
        "source": one.path.name,
        "sha256": hashlib.sha256(one.path.read_bytes()).hexdigest(),
    }
