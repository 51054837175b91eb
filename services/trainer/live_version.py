"""The version that is live, taken apart for a training: its base set, and the backbone that the base was seen by.

A candidate is never trained from the live version's weights: it begins where the alias' first version began, with the
frozen backbone of the base set, and learns the base and every answer that stands. So nothing is left of an answer that
was taken back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import (
    Holdout,
    Reference,
    TrainingBase,
    check_identity,
    read_holdout,
    read_reference,
    read_training,
    read_weights,
    verify_version,
)
from services.core.errors import NotFoundError
from services.core.imaging import ImageLimits, decode
from services.core.manifest import GOOD, ModelManifest
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model
from services.core.models.pretrained import Weights
from services.core.models.serving import build_model
from services.core.preprocessing import prepare
from services.core.training.head import LinearHead
from services.trainer.networks import AnsweringNetwork
from services.trainer.order import CannotLearnError, LearningOrder
from services.trainer.pictures import AnsweredPictures, part_picture

#: Parts of the hold-out on which a backbone is recognised.
_COMPARED: Final = 4
#: Least cosine of a part's embedding on record and as it comes out now; engines and processors round differently.
_LEAST_SIMILARITY: Final = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class LiveVersion:
    """What is live.

    Attributes:
        folder: Its folder.
        manifest: Its manifest.
        model: Its network, in evaluation mode.
        base: Its base set.
        holdout: Its hold-out.
        reference: Its reference parts.
    """

    folder: Path
    manifest: ModelManifest
    model: Classifier
    base: TrainingBase
    holdout: Holdout
    reference: Reference

    @property
    def head(self) -> LinearHead:
        """Its last layer."""
        linear = self.model.linear
        return LinearHead(linear.weight.detach().numpy().copy(), linear.bias.detach().numpy().copy())

    def rows(self, role: str) -> NDArray[np.intp]:
        """Rows of the base set's embeddings: ``train``, ``calibration`` or ``holdout``."""
        if role == "holdout":
            return np.arange(len(self.base.parts), len(self.base.embeddings))
        return np.array([row for row, part in enumerate(self.base.parts) if part.role == role], dtype=np.intp)

    @property
    def base_labels(self) -> tuple[str, ...]:
        """Labels of the base set's parts."""
        return tuple(part.label for part in self.base.parts)

    @property
    def holdout_defective(self) -> NDArray[np.bool_]:
        """Truth of the hold-out, shape ``(H,)``."""
        return np.array([part.label != GOOD for part in self.holdout.parts])


def read_live(order: LearningOrder) -> LiveVersion:
    """Read the live version that a candidate has to beat.

    Args:
        order: Names its folder.

    Raises:
        CannotLearnError: If it is none that a candidate can be made for; the message says what to do.
        NotFoundError: If there is no such folder.
        ModelFormatError: If the folder is damaged, or of another alias.
    """
    manifest = verify_version(order.live)
    check_identity(manifest, order.alias, manifest.version)
    name = f"{order.alias} version {manifest.version}"
    if manifest.detector:
        raise CannotLearnError(
            f"answers are learnt by a network, got {name}, which is the detector {manifest.detector}: make a network "
            "live first, as sightline fit --network makes one of a labelled folder",
            "live_is_detector",
        )
    if manifest.preprocessing.mode == "tiles":
        raise CannotLearnError(
            f"answers are learnt from whole pictures (letterbox or squash), got {name}, which cuts them into tiles: an "
            "answer does not say which tile is meant",
            "live_has_tiles",
        )
    if order.version <= manifest.version:
        raise CannotLearnError(
            f"a candidate must have a number above its parent's {manifest.version}, got {order.version}",
            "version_taken",
        )
    base = read_training(order.live)
    if base is None:
        raise CannotLearnError(
            f"a live version must bring its base set ({name} has no training/ folder): fit the alias' first version "
            "with sightline fit --network and make it live, then people's answers can be learnt",
            "no_base_set",
        )
    return LiveVersion(
        order.live,
        manifest,
        build_model(manifest, read_weights(order.live)),
        base,
        read_holdout(order.live),
        read_reference(order.live),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """The network that the base set was seen by; its last layer says nothing.

    Attributes:
        model: With the backbone's own weights.
        network: The same, to answer.
        is_live: Whether the live version's features are these.
    """

    model: Classifier
    network: AnsweringNetwork
    is_live: bool


def find_backbone(live: LiveVersion, order: LearningOrder, pictures: AnsweredPictures) -> Backbone:
    """Find the frozen backbone: the live version's own features, unless those were trained.

    Args:
        live: The live version.
        order: What is asked for.
        pictures: Where parts of the hold-out that cannot be drawn lie.

    Raises:
        CannotLearnError: If no network here sees the base set as it was seen, or there is no picture to find that out.
        UnavailableError: If first weights would have to be downloaded and cannot be.
    """
    known = list(_known(live, pictures))
    if not known:
        raise CannotLearnError(
            "a picture of the hold-out must be had to recognise the backbone, got none: neither among the reference "
            "parts, nor drawn, nor on record",
            "no_holdout_picture",
        )
    rows = live.rows("holdout")[[row for row, _ in known]]
    images = np.stack([image for _, image in known])
    settings, manifest = order.settings, live.manifest

    def fits(model: Classifier) -> AnsweringNetwork | None:
        network = AnsweringNetwork(model, manifest.preprocessing, settings.threads, settings.finetune.device)
        return network if _similar(network.embed(images), live.base.embeddings[rows]) else None

    found = fits(live.model)
    if found is not None:
        return Backbone(live.model, found, is_live=True)
    first = create_model(
        manifest.architecture,
        len(manifest.classes),
        cast("Weights", manifest.lineage.backbone_weights or "none"),
        options=manifest.architecture_options,
        seed=manifest.lineage.seed,
    )
    found = fits(first)
    if found is None:
        raise CannotLearnError(
            "the base set's embeddings must be those of the live version's features or of its first weights "
            f"({manifest.lineage.backbone_weights or 'none'}), got neither: fit the alias' first version anew",
            "backbone_unknown",
        )
    return Backbone(first, found, is_live=False)


def _known(live: LiveVersion, pictures: AnsweredPictures) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Some parts of the hold-out, prepared: those that lie in the folder first."""
    by_digest = {hashlib.sha256(image).hexdigest(): image for image in live.reference.images.values()}
    order = sorted(range(len(live.holdout.parts)), key=lambda row: live.holdout.parts[row].sha256 not in by_digest)
    for row in order[:_COMPARED]:
        part = live.holdout.parts[row]
        try:
            image = by_digest.get(part.sha256) or part_picture(part, pictures)[0]
        except NotFoundError:
            return
        yield row, prepare(decode(image, ImageLimits()), live.manifest.preprocessing)[0]


def _similar(first: NDArray[np.floating], second: NDArray[np.floating]) -> bool:
    if first.shape != second.shape:
        return False
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return bool((np.sum(first * second, axis=1) >= _LEAST_SIMILARITY * norms).all())


def whole_picture(image: bytes, live: LiveVersion) -> NDArray[np.uint8]:
    """Decode a picture and bring it to the network's input, as the line does; raises ``ImageError``."""
    return prepare(decode(image, ImageLimits()), live.manifest.preprocessing)[0]
