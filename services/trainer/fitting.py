"""What of a network learns: its last layer on frozen features, or its last convolutions too."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.areas import fixed_areas
from services.core.errors import ConflictError, InvalidInputError, ModelFormatError, NotFoundError
from services.core.evaluation.splits import split_by_group
from services.core.identity import validate_id
from services.core.imaging import ImageLimits, decode
from services.core.manifest import GOOD
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model
from services.core.selection.lessons import Lesson
from services.core.selection.refutations import Refutation
from services.core.selection.snapshot import UNNAMED
from services.core.training.checkpoint import Checkpoint
from services.core.training.finetune import EpochReport, LabelledImages, TrainingSettings, train
from services.core.training.head import LinearHead, fit_head, install_head
from services.core.training.peers import ALONE, Peers
from services.core.training.places import Places, pools_places, see_places
from services.core.training_run import EpochLoss, Loss, Recipe
from services.trainer.lessons import Answered, prepared_region, taught
from services.trainer.live_version import Backbone, LiveVersion, whole_picture
from services.trainer.order import CannotLearnError, LearningSettings
from services.trainer.pictures import AnsweredPictures, part_picture

#: Good parts nearest to an answered picture that its region is pasted on: those of its own product.
_NEAREST: Final = 8
#: Share of the base's training parts that chooses the best epoch.
_VALIDATION_SHARE: Final = 0.15
_PICTURES_AT_ONCE: Final = 8
#: Drawings that one fit looks at, evenly chosen where there are more: each takes a third of a megabyte.
_MOST_PLACES: Final = 600

Tell = Callable[[float, str], None]
"""Told the share of a step that is done, 0 to 1, and what is being done."""


@dataclass(slots=True)
class Lessons:
    """All that is learnt besides the base, row by row.

    Attributes:
        answered: The answered pictures.
        first: Row of each answered picture itself, as long as ``answered``; its refutations follow it.
        embeddings: By the frozen backbone, ``float32``, shape ``(N, D)``.
        owner: Which answered picture each row comes of, shape ``(N,)``.
        images: Prepared pictures; empty where only embeddings are needed.
        areas: Where to look, likewise.
    """

    answered: list[Answered]
    first: list[int] = field(default_factory=list)
    embeddings: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    owner: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    areas: list[NDArray[np.bool_]] = field(default_factory=list)

    @property
    def own_embeddings(self) -> NDArray[np.float32]:
        """Of the answered pictures themselves."""
        return self.embeddings[self.first]


def make_lessons(
    answered: list[Answered],
    live: LiveVersion,
    backbone: Backbone,
    settings: LearningSettings,
    pictures: AnsweredPictures,
    tell: Tell,
) -> Lessons:
    """Refute what was answered, and see it as the frozen backbone does."""
    made = Lessons(answered)
    grounds = _grounds(live, settings, pictures)
    owner: list[int] = []
    embeddings: list[NDArray[np.float32]] = []
    for start in range(0, len(answered), _PICTURES_AT_ONCE):
        some = answered[start : start + _PICTURES_AT_ONCE]
        nearest = _nearest(grounds, backbone.network.embed(np.stack([one.image for one in some])))
        images: list[NDArray[np.uint8]] = []
        for number, (one, chosen) in enumerate(zip(some, nearest, strict=True), start):
            made.first.append(len(owner))
            lessons = taught(one, int(one.item.label != GOOD), settings, chosen)
            owner.extend([number] * len(lessons))
            images.extend(lesson.image for lesson in lessons)
            if settings.needs_pictures:
                made.areas.extend(one.area if _lies_as(lesson) else lesson.area for lesson in lessons)
        embeddings.append(backbone.network.embed(np.stack(images)))
        if settings.needs_pictures:
            made.images.extend(images)
        tell((start + len(some)) / len(answered), f"refuting and embedding {len(answered)} answered pictures")
    made.embeddings, made.owner = np.concatenate(embeddings), np.array(owner, np.intp)
    return made


def _lies_as(lesson: Lesson) -> bool:
    """Whether nothing has moved since the picture was answered, so that an area lies where it was said to."""
    return lesson.lineage is None or lesson.lineage.kind is Refutation.LIGHT


@dataclass(frozen=True, slots=True, eq=False)
class _Grounds:
    """Good parts that regions are pasted on, of the base's training parts alone: the hold-out is never learnt from."""

    images: tuple[NDArray[np.uint8], ...]
    embeddings: NDArray[np.float32]


def _grounds(live: LiveVersion, settings: LearningSettings, pictures: AnsweredPictures) -> _Grounds:
    good = [row for row in live.rows("train") if live.base.parts[row].label == GOOD]
    count = min(settings.backgrounds if settings.refutations.paste else 0, len(good))
    rows = [good[at * len(good) // count] for at in range(count)]
    images: list[NDArray[np.uint8]] = []
    for row in rows:
        try:
            images.append(whole_picture(part_picture(live.base.parts[row], pictures)[0], live))
        except NotFoundError:
            # A base whose pictures are not kept: nothing is pasted.
            return _Grounds((), live.base.embeddings[:0])
    return _Grounds(tuple(images), live.base.embeddings[rows])


def _nearest(grounds: _Grounds, embeddings: NDArray[np.float32]) -> Iterator[list[NDArray[np.uint8]]]:
    for one in embeddings:
        if not grounds.images:
            yield []
            continue
        lengths = np.linalg.norm(grounds.embeddings, axis=1) * np.linalg.norm(one)
        order = np.argsort(-(grounds.embeddings @ one) / lengths, kind="stable")
        yield [grounds.images[at] for at in order[:_NEAREST]]


# ---- classes


def name_classes(lessons: Lessons, live: LiveVersion, settings: LearningSettings) -> tuple[tuple[str, ...], list[str]]:
    """Say which classes the candidate has, and which of them each answered picture is trained as.

    The base's classes stay. What people named otherwise becomes a class once so many pictures have that name; until
    then, and where nobody named a defect, a picture is trained as the base's class that it resembles most, by a last
    layer that is fitted on the base alone: with a handful of pictures a class of its own would be learnt by heart, and
    the verdict is the same. Only a base without any defect leaves nothing but the class ``defect``.

    Returns:
        The classes, ``good`` first, and one of them for each answered picture.
    """
    train = live.rows("train")
    known = sorted({live.base_labels[row] for row in train} - {GOOD})
    said = [_named(one.item.label, known) for one in lessons.answered]
    counts = Counter(name for name in said if name not in (GOOD, UNNAMED))
    new = sorted(name for name, count in counts.items() if name not in known and count >= settings.min_class_parts)
    classes = [GOOD, *sorted({*known, *new})]
    unclear = [at for at, name in enumerate(said) if name not in classes]
    if unclear and not known:
        classes = [GOOD, *sorted({*new, UNNAMED})]
        said = [UNNAMED if at in unclear else name for at, name in enumerate(said)]
    elif unclear:
        names = [GOOD, *known]
        labels = np.array([names.index(live.base_labels[row]) for row in train])
        head = fit_head(live.base.embeddings[train], labels, len(names))
        likely = head.probabilities(lessons.own_embeddings[unclear])[:, 1:].argmax(axis=1)
        for at, chosen in zip(unclear, likely, strict=True):
            said[at] = known[int(chosen)]
    missing = set(classes) - {live.base_labels[row] for row in train} - set(said)
    if missing or len(classes) < 2:
        got = sorted({live.base_labels[row] for row in train} | set(said))
        raise CannotLearnError(
            f"base set and answers together must have good and defective parts, got only {', '.join(got)}",
            "one_class_only",
        )
    return tuple(classes), said


def _named(label: str, known: Sequence[str]) -> str:
    """A name as a class: one that differs from a known class in case or blanks only is that class."""
    plain = "_".join(label.split()).casefold()
    for name in (*known, GOOD):
        if name.casefold() == plain:
            return name
    try:
        return validate_id(plain, "class")
    except InvalidInputError:
        # A name in letters that a class may not have says that there is a defect.
        return UNNAMED


# ---- the two recipes


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A network that was trained.

    Attributes:
        model: In evaluation mode, on the CPU.
        classes: Of its outputs.
        epochs: Losses.
        features_trained: Whether its features are others than the frozen backbone's.
    """

    model: Classifier
    classes: tuple[str, ...]
    epochs: tuple[EpochLoss, ...]
    features_trained: bool

    @property
    def head(self) -> LinearHead:
        """Its last layer."""
        linear = self.model.linear
        return LinearHead(linear.weight.detach().numpy().copy(), linear.bias.detach().numpy().copy())


def train_candidate(
    lessons: Lessons,
    live: LiveVersion,
    backbone: Backbone,
    settings: LearningSettings,
    pictures: AnsweredPictures,
    tell: Tell,
    *,
    checkpoint: Path | None = None,
    on_epochs: Callable[[tuple[EpochLoss, ...]], None] = lambda _: None,
    peers: Peers = ALONE,
    device: str = "",
) -> Candidate:
    """Train a candidate on the base set and all lessons, from the backbone's own weights.

    The last layer is always fitted first, a convex problem with one solution; the other trainings begin there.

    Args:
        lessons: What was answered.
        live: Brings the base set.
        backbone: The frozen one.
        settings: How.
        pictures: Where the base's pictures lie that cannot be drawn.
        tell: Told how far it is.
        checkpoint: File where a training over epochs leaves its state, and goes on from it.
        on_epochs: Told of the losses.
        peers: Processes that train over epochs together; each calls this with the same, and gets the same.
        device: In place of the order's own; empty keeps that.

    Raises:
        CannotLearnError: If base and answers have one class only, or the base's pictures cannot be had where they are
            needed.
        DivergedError: If the loss becomes NaN or infinite.
    """
    classes, said = name_classes(lessons, live, settings)
    labels = np.array([classes.index(said[owner]) for owner in lessons.owner], np.int64)
    base = live.rows("train")
    base_labels = np.array([classes.index(live.base_labels[row]) for row in base], np.int64)
    sizes = np.bincount(lessons.owner, minlength=len(lessons.answered))
    weight = np.concatenate([np.ones(len(base)), settings.answer_weight / sizes[lessons.owner]])
    rows = np.concatenate([live.base.embeddings[base], lessons.embeddings])
    every = np.concatenate([base_labels, labels])
    head = fit_head(
        rows,
        every,
        len(classes),
        sample_weight=weight,
        places=_places(lessons, labels, backbone, settings),
        place_weight=settings.region_weight,
    )
    model = _with_features(live, backbone.model, len(classes))
    install_head(model, head)
    calibration = live.rows("calibration")
    known = [(row, classes.index(live.base_labels[row])) for row in calibration if live.base_labels[row] in classes]
    loss = EpochLoss(1, _cross_entropy(head, rows, every, weight), _held_out(head, live, known), math.nan)
    on_epochs((loss,))
    if not settings.needs_pictures:
        return Candidate(model.eval(), classes, (loss,), features_trained=False)
    tell(0.0, "reading the pictures of the base set")
    data, validation = _pictures_of(lessons, labels, live, base_labels, settings, pictures)
    epochs = _over_epochs(model, data, validation, settings, tell, checkpoint, on_epochs, peers, device)
    trained = settings.recipe is Recipe.FINETUNE
    return Candidate(model.cpu().eval(), classes, epochs, features_trained=trained)


def _places(
    lessons: Lessons, labels: NDArray[np.int64], backbone: Backbone, settings: LearningSettings
) -> Places | None:
    """Where people see the defect, on the answered pictures themselves; None where there is nothing to learn of it."""
    if not settings.region_weight or not pools_places(backbone.model):
        return None
    shown = [at for at, one in enumerate(lessons.answered) if one.item.label != GOOD and one.region.any()]
    count = min(_MOST_PLACES, len(shown))
    chosen = [shown[at * len(shown) // count] for at in range(count)]
    if not chosen:
        return None
    some = [lessons.answered[at] for at in chosen]
    of_class = [int(labels[lessons.first[at]]) for at in chosen]
    return see_places(backbone.model, [one.image for one in some], [one.region for one in some], of_class)


def _with_features(live: LiveVersion, backbone: Classifier, num_classes: int) -> Classifier:
    manifest = live.manifest
    model = create_model(manifest.architecture, num_classes, "none", options=manifest.architecture_options)
    own = {name: value for name, value in backbone.state_dict().items() if not name.startswith("linear.")}
    model.load_state_dict(own, strict=False)
    return model


def _cross_entropy(
    head: LinearHead, rows: NDArray[np.float32], labels: NDArray[np.int64], weight: NDArray[np.float64]
) -> float:
    said = head.probabilities(rows)[np.arange(len(rows)), labels]
    return float(np.average(-np.log(np.maximum(said, 1e-12)), weights=weight))


def _held_out(head: LinearHead, live: LiveVersion, known: Sequence[tuple[int, int]]) -> float:
    if not known:
        return math.nan
    rows, labels = np.array([row for row, _ in known]), np.array([label for _, label in known], np.int64)
    return _cross_entropy(head, live.base.embeddings[rows], labels, np.ones(len(rows)))


def _pictures_of(
    lessons: Lessons,
    labels: NDArray[np.int64],
    live: LiveVersion,
    base_labels: NDArray[np.int64],
    settings: LearningSettings,
    pictures: AnsweredPictures,
) -> tuple[LabelledImages, LabelledImages | None]:
    """Base and lessons as pictures; some base parts, split by part, choose the best epoch and are not trained on."""
    preprocessing = live.manifest.preprocessing
    images: list[NDArray[np.uint8]] = []
    areas: list[NDArray[np.bool_]] = []
    fixed = fixed_areas(dict(settings.areas))
    parts = [live.base.parts[row] for row in live.rows("train")]
    for part in parts:
        try:
            encoded, mask = part_picture(part, pictures)
        except NotFoundError as error:
            raise CannotLearnError(
                "the recipe finetune and the loss ceod need the base set's pictures: drawn again, or kept by digest "
                f"below record/images/ in the object store; got none of {part.part_id}. The recipe head by ce does "
                "without them",
                "no_base_pictures",
            ) from error
        images.append(whole_picture(encoded, live))
        if (mask is None or not mask.any()) and part.label != GOOD and part.product in fixed:
            picture = decode(encoded, ImageLimits())
            mask = fixed[part.product].over(picture.shape[0], picture.shape[1])
        empty = np.zeros((preprocessing.height_px, preprocessing.width_px), np.bool_)
        areas.append(empty if mask is None or not mask.any() else prepared_region(mask, preprocessing))
    sides = _sides([part.part_id for part in parts], [part.label for part in parts], settings.seed)
    # Whole pictures cannot be weighed in a step: they are shown more often.
    sizes = np.bincount(lessons.owner, minlength=len(lessons.answered))
    times = np.maximum(1, np.rint(settings.answer_weight / sizes[lessons.owner])).astype(int)
    shown = np.repeat(np.arange(len(lessons.owner)), times)
    train_rows, held = sides["train"], sides.get("validation")
    data = LabelledImages(
        np.stack([*(images[row] for row in train_rows), *(lessons.images[row] for row in shown)]),
        np.concatenate([base_labels[train_rows], labels[shown]]),
        np.stack([*(areas[row] for row in train_rows), *(lessons.areas[row] for row in shown)]),
    )
    if held is None:
        return data, None
    return data, LabelledImages(np.stack([images[row] for row in held]), base_labels[held])


def _sides(parts: Sequence[str], labels: Sequence[str], seed: int) -> dict[str, NDArray[np.intp]]:
    try:
        return split_by_group(parts, labels, {"train": 1 - _VALIDATION_SHARE, "validation": _VALIDATION_SHARE}, seed)
    except InvalidInputError:
        # A class of one part: it is learnt, and the last epoch counts.
        return {"train": np.arange(len(parts))}


def _over_epochs(
    model: Classifier,
    data: LabelledImages,
    validation: LabelledImages | None,
    settings: LearningSettings,
    tell: Tell,
    checkpoint: Path | None,
    on_epochs: Callable[[tuple[EpochLoss, ...]], None],
    peers: Peers,
    device: str,
) -> tuple[EpochLoss, ...]:
    how = settings.finetune
    training = TrainingSettings(
        epochs=how.epochs,
        batch_size=how.batch_size,
        optimiser=how.optimiser,
        learning_rate=how.learning_rate,
        cosine=False,
        patience=how.patience,
        train_backbone=settings.recipe is Recipe.FINETUNE,
        last_convolutions=how.last_convolutions,
        seed=settings.seed,
        precision=how.precision,
        settle=settings.recipe is Recipe.FINETUNE,
        ceod=settings.ceod if settings.loss is Loss.CEOD else None,
    )
    losses: list[EpochLoss] = []
    tell(0.0, f"epoch 1 of at most {how.epochs}")

    def on_epoch(report: EpochReport) -> None:
        losses.append(EpochLoss(report.epoch, report.train_loss, report.validation_loss, report.distance))
        on_epochs(tuple(losses))
        tell(report.epoch / how.epochs, f"epoch {report.epoch} of at most {how.epochs}")

    def keep(state: bytes) -> None:
        if checkpoint is not None:
            fresh = checkpoint.with_suffix(".fresh")
            fresh.write_bytes(state)
            fresh.replace(checkpoint)

    def run(resume: bytes) -> tuple[EpochLoss, ...]:
        report = train(
            model,
            data,
            training,
            validation=validation,
            device=device or how.device,
            on_epoch=on_epoch,
            on_checkpoint=keep if checkpoint is not None else None,
            resume=resume,
            peers=peers,
        )
        return tuple(EpochLoss(one.epoch, one.train_loss, one.validation_loss, one.distance) for one in report.epochs)

    if checkpoint is not None and checkpoint.is_file():
        try:
            state = checkpoint.read_bytes()
            losses.extend(EpochLoss(int(row[0]), *row[1:4]) for row in Checkpoint.from_bytes(state).losses)
            return run(state)
        except (ConflictError, ModelFormatError):
            # Of another order, or cut off: this training begins anew. The file stays until the first epoch writes it
            # anew: of several processes one may not have read it yet.
            losses.clear()
    return run(b"")
