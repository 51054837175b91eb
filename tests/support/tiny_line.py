"""A line whose parts are a few grey pixels: a live version with its base set, and people's answers, in a second."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import (
    BasePart,
    Holdout,
    HoldoutPart,
    ModelVersion,
    Reference,
    TrainingBase,
    write_version,
)
from services.adapters.ports import ObjectStore
from services.core.calibration import Promise, calibrate
from services.core.errors import NotFoundError
from services.core.imaging import encode_png
from services.core.manifest import GOOD, Lineage, ModelManifest
from services.core.models.factory import create_model
from services.core.models.state import save_state
from services.core.preprocessing import Preprocessing
from services.core.promotion import PromotionPolicy
from services.core.review_mask import encode_mask
from services.core.selection.refutations import RefutationSettings
from services.core.selection.snapshot import ContradictionPolicy, Snapshot, SnapshotItem
from services.core.training.head import fit_head, install_head
from services.trainer.networks import AnsweringNetwork
from services.trainer.order import FinetuneSettings, LearningSettings

SIDE_PX = 32
PREPROCESSING = Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX)
PROMISE = Promise("escape_rate", 0.4, other_target=0.4, confidence=0.0)
#: Few of everything: a test wants to see that it happens.
SETTINGS = LearningSettings(
    refutations=RefutationSettings(zoom_in=1, zoom_out=0, move=1, light=0, paste=1),
    finetune=FinetuneSettings(epochs=2, batch_size=8, last_convolutions=2),
    max_maps=0,
    backgrounds=2,
    latency_answers=3,
    gates=PromotionPolicy(max_mcc_fall=2.0, max_more_escapes=100),
)


@dataclass
class TinyPictures:
    """The record, in memory."""

    images: dict[str, bytes] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)
    maps: dict[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)

    def image(self, key: str, sha256: str) -> bytes:
        if key not in self.images:
            raise NotFoundError(f"nothing lies at {key}")
        return self.images[key]

    def mask(self, key: str) -> bytes:
        return self.masks[key]

    def heat(self, case_id: str, method: str) -> NDArray[np.float32] | None:
        return self.maps.get((case_id, method))

    def base_image(self, sha256: str) -> bytes:
        return self.image(image_key(sha256), sha256)

    def upload(self, store: ObjectStore) -> None:
        """Put everything where a record has it."""
        for key, data in {**self.images, **self.masks}.items():
            store.put(key, data)


def image_key(sha256: str) -> str:
    return f"record/images/{sha256[:2]}/{sha256}.png"


def draw(label: str, seed: int) -> tuple[bytes, NDArray[np.bool_]]:
    """A part and its defect: grey noise, with a bright spot (``spot``) or a dark bar (``bar``) somewhere."""
    rng = np.random.default_rng(seed)
    image = rng.normal(110, 12, (SIDE_PX, SIDE_PX, 3))
    mask = np.zeros((SIDE_PX, SIDE_PX), np.bool_)
    top, left = rng.integers(2, SIDE_PX - 12, 2)
    if label != GOOD:
        height, width = {"spot": (8, 8), "bar": (3, 10)}.get(label, (5, 5))
        mask[top : top + height, left : left + width] = True
        image[mask] = {"spot": 230, "bar": 15}.get(label, 180)
    return encode_png(image.clip(0, 255).astype(np.uint8)), mask


@dataclass
class TinyLine:
    """A live version, and what its pictures are."""

    folder: Path
    pictures: TinyPictures


def write_live(folder: Path, *, alias: str = "default", faults: Sequence[str] = ("bar",), each: int = 10) -> TinyLine:
    """Write version 1 of an alias, fitted on parts with some faults; ``each`` parts of a class, and half as many
    to calibrate on and in the hold-out."""
    pictures = TinyPictures()
    sides: dict[str, list[tuple[str, str, str]]] = {"train": [], "calibration": [], "holdout": []}
    prepared: dict[str, list[NDArray[np.uint8]]] = {side: [] for side in sides}
    number = 0
    for side, count in (("train", each), ("calibration", max(3, each // 2)), ("holdout", max(3, each // 2))):
        for label in (GOOD, *faults):
            for _ in range(count):
                number += 1
                image, _ = draw(label, number)
                digest = hashlib.sha256(image).hexdigest()
                pictures.images[image_key(digest)] = image
                sides[side].append((f"part-{number}", label, digest))
                prepared[side].append(decoded(image))
    classes = (GOOD, *sorted(faults))
    model = create_model("customnet", max(2, len(classes)), "none", seed=3)
    network = AnsweringNetwork(model, PREPROCESSING, 1)
    rows = {side: network.embed(np.stack(images)) for side, images in prepared.items()}
    if faults:
        labels = np.array([classes.index(label) for _, label, _ in sides["train"]])
        install_head(model, fit_head(rows["train"], labels, len(classes)))
    head = model.linear.weight.detach().numpy(), model.linear.bias.detach().numpy()
    scores = {side: _scores(values, *head) for side, values in rows.items()}
    defective = np.array([label != GOOD for _, label, _ in sides["calibration"]])
    bad = scores["calibration"][defective] if faults else np.array([0.9, 0.8, 0.7])
    point, calibration = calibrate(scores["calibration"][~defective], bad, PROMISE)
    manifest = ModelManifest(
        alias=alias,
        version=1,
        architecture="customnet",
        classes=classes if faults else (GOOD, "defect"),
        preprocessing=PREPROCESSING,
        normalisation=model.normalisation,
        embedding_size=model.embedding_size,
        operating_point=point,
        calibration=calibration,
        lineage=Lineage("test", "tiny parts", 3, len(sides["train"]), 0, 0, "0" * 64, backbone_weights="none"),
        metrics={},
        code_version="0",
        created_at_ns=1,
    )
    good = [at for at, (_, label, _) in enumerate(sides["holdout"]) if label == GOOD]
    files = tuple(f"{sides['holdout'][at][0]}.png" for at in good)
    reference = Reference(
        images={
            file: pictures.images[image_key(sides["holdout"][at][2])] for file, at in zip(files, good, strict=True)
        },
        files=files,
        scores=scores["holdout"][good].astype(np.float32),
        embeddings=rows["holdout"][good].astype(np.float16),
    )
    base = TrainingBase(
        tuple(
            BasePart(part_id, "tiny", label, side, f"file:{part_id}", digest)  # type: ignore[arg-type]
            for side in ("train", "calibration")
            for part_id, label, digest in sides[side]
        ),
        np.concatenate([rows["train"], rows["calibration"], rows["holdout"]]),
    )
    holdout = Holdout(tuple(HoldoutPart(p, "tiny", label, f"file:{p}", d) for p, label, d in sides["holdout"]))
    write_version(ModelVersion(manifest, save_state(model), holdout, reference, training=base), folder)
    return TinyLine(folder, pictures)


def decoded(image: bytes) -> NDArray[np.uint8]:
    from services.core.imaging import ImageLimits, decode
    from services.core.preprocessing import prepare

    return prepare(decode(image, ImageLimits()), PREPROCESSING)[0]


def _scores(rows: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    logits = (rows @ weight.T + bias).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds[:, 1:].sum(axis=1) / odds.sum(axis=1))


def answer(line: TinyLine, label: str, seed: int, *, shape: str = "", wrong: bool = True) -> SnapshotItem:
    """Somebody corrects a part: a picture of ``shape`` (that of ``label`` without one) is called ``label``."""
    image, mask = draw(shape or label, 10_000 + seed)
    digest = hashlib.sha256(image).hexdigest()
    key = image_key(digest)
    line.pictures.images[key] = image
    masks: tuple[str, ...] = ()
    if label != GOOD and mask.any():
        masks = (f"record/masks/{digest[:2]}/{digest}.png",)
        line.pictures.masks[masks[0]] = encode_mask(mask)
    return SnapshotItem(digest, key, f"answered-{seed}", label, masks, (), (), wrong, bool(masks), (f"review-{seed}",))


def snapshot(items: Sequence[SnapshotItem]) -> Snapshot:
    ordered = tuple(sorted(items, key=lambda item: item.image_sha256))
    return Snapshot(ordered, (), (), ContradictionPolicy.LEAVE_OUT)


def without_base(line: TinyLine, folder: Path) -> Path:
    """The same version, as a release wrote it that knew no base set."""
    from services.adapters.modelfolder import read_holdout, read_reference, read_weights, verify_version

    manifest = verify_version(line.folder)
    version = ModelVersion(manifest, read_weights(line.folder), read_holdout(line.folder), read_reference(line.folder))
    write_version(replace(version), folder)
    return folder
