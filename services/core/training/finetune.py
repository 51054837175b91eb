"""A small, seeded training loop over images in memory: fine-tuning a backbone, or a network from scratch."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from services.core.errors import ConflictError, DivergedError, InvalidInputError
from services.core.losses.ceod import ceod_loss
from services.core.losses.ceod_settings import CeodSettings
from services.core.losses.heat import predict_with_heat
from services.core.models.classifier import Classifier
from services.core.training.checkpoint import Checkpoint, optimiser_memory, restore_optimiser
from services.core.training.peers import ALONE, Peers, average_norms, sum_gradients

Optimiser = Literal["sgd", "adamax", "adamw"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train.

    Attributes:
        epochs: Most passes over the data, ``>= 1``.
        batch_size: Images per step, ``>= 2``.
        optimiser: ``sgd`` (momentum 0.9), ``adamax`` or ``adamw``.
        learning_rate: Peak; with ``cosine`` it falls to 0 over all epochs.
        weight_decay: L2 penalty.
        cosine: Whether the learning rate falls; otherwise it is constant.
        patience: Epochs without a lower validation loss before it stops; ignored without validation data.
        train_backbone: False fits the last layer only and leaves the features' batch norm as it is.
        last_convolutions: Fits the last layer and that many convolutions before it, with the norms among them; what
            lies before stays as it is, its batch norm too. 0 fits everything; ignored without ``train_backbone``.
        flips: Whether images are mirrored at random in both directions; only where a part may lie either way.
        seed: Seed of order and mirrors.
        precision: ``float32``, or ``bfloat16`` for autocast.
        settle: Whether batch norm's figures are taken anew after each epoch, see :func:`settle_norm`; for small data.
        ceod: Adds the overlap distance of ``services.core.losses.ceod`` to the training's loss; needs areas. Validation
            stays cross-entropy: masks are for training only.
    """

    epochs: int = 10
    batch_size: int = 32
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    cosine: bool = True
    patience: int = 10
    train_backbone: bool = True
    last_convolutions: int = 0
    flips: bool = False
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    settle: bool = False
    ceod: CeodSettings | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.patience < 1:
            raise ValueError(f"epochs and patience must be at least 1 and batch_size at least 2, got {self}")
        if self.last_convolutions < 0:
            raise ValueError(f"last_convolutions must not be below 0, got {self.last_convolutions}")
        if not self.learning_rate > 0 or self.weight_decay < 0:
            raise ValueError(f"learning_rate must be above 0 and weight_decay not below, got {self}")
        if self.optimiser not in ("sgd", "adamax", "adamw"):
            raise ValueError(f"optimiser must be sgd, adamax or adamw, got {self.optimiser!r}")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images ready for a network.

    Attributes:
        images: ``uint8``, shape ``(N, H, W, 3)``, as ``preprocessing.prepare`` gives them.
        labels: Shape ``(N,)``; 0 is good.
        areas: Where defects count, ``bool``, shape ``(N, h, w)``, of any size; empty where nobody has said. None where
            there are none at all.
        owners: What each image is a picture of, shape ``(N,)``: a part and its refutations have one owner. A pass over
            the data takes one image of each owner, drawn anew, so that each counts alike however many it has; images of
            one owner have one label. None takes every image in every pass.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    areas: NDArray[np.bool_] | None = None
    owners: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
            raise InvalidInputError(f"images must be uint8 (N, H, W, 3), got {self.images.dtype} {self.images.shape}")
        if len(self.images) < 2 or self.labels.shape != (len(self.images),):
            raise InvalidInputError(f"at least 2 images must have one label each, got {self.labels.shape}")
        areas = self.areas
        if areas is not None and (areas.ndim != 3 or len(areas) != len(self.images) or areas.dtype != np.bool_):
            raise InvalidInputError(
                f"areas must be bool (N, h, w), one for each image, got {areas.dtype} {areas.shape}"
            )
        if self.owners is not None:
            if self.owners.shape != (len(self.images),):
                raise InvalidInputError(f"owners must be one for each image, got {self.owners.shape}")
            first, number = self.first_of_each, np.unique(self.owners, return_inverse=True)[1]
            if (self.labels[first][number] != self.labels).any():
                raise InvalidInputError("images of one owner must have one label, got several")

    @property
    def first_of_each(self) -> NDArray[np.intp]:
        """The first image of each owner, by owner; all images where there are no owners."""
        return np.arange(len(self.images)) if self.owners is None else np.unique(self.owners, return_index=True)[1]

    @property
    def one_of_each(self) -> NDArray[np.uint8]:
        """The first image of each owner; not copied where that is every image."""
        return self.images if self.owners is None else self.images[self.first_of_each]

    def order(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """The images of one pass, mixed: one of each owner."""
        if self.owners is None:
            return rng.permutation(len(self.images))
        grouped = np.argsort(self.owners, kind="stable")
        counts = np.unique(self.owners, return_counts=True)[1]
        drawn = grouped[np.cumsum(counts) - counts + (rng.random(len(counts)) * counts).astype(np.intp)]
        return rng.permutation(drawn)


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One pass over the data.

    Attributes:
        epoch: Counts from 1.
        train_loss: Mean over the pass.
        validation_loss: After the pass; NaN without validation data.
        distance: Mean overlap distance of the defective parts that have an area; NaN without CEOD or such parts.
        clipped_share: Share of these whose distance had no gradient; likewise.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    distance: float = math.nan
    clipped_share: float = math.nan


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What happened; the model holds the best epoch's weights."""

    best_epoch: int
    epochs: tuple[EpochReport, ...] = field(default=())


def train(
    model: Classifier,
    data: LabelledImages,
    settings: TrainingSettings,
    *,
    validation: LabelledImages | None = None,
    device: str = "cpu",
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    on_checkpoint: Callable[[bytes], None] | None = None,
    resume: bytes = b"",
    on_step: Callable[[], None] = lambda: None,
    peers: Peers = ALONE,
) -> TrainingReport:
    """Train a network in place with cross-entropy or CEOD; classes count alike however many images they have.

    The same data, settings and starting weights give the same weights on a CPU with the same number of threads.
    Several processes take a share of every batch each and step by the gradient of the whole. Batch norm sees the
    shares, so that their weights are close to those of one process and not the same.

    Args:
        model: The network; left on ``device`` in evaluation mode with the best epoch's weights (the last epoch's
            without validation data).
        data: What to learn.
        settings: How.
        validation: What chooses the best epoch; of other parts than ``data``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        on_epoch: Told after each epoch; an exception it raises ends the training.
        on_checkpoint: Given where the training stands after each epoch.
        resume: Such a state: the training goes on from there, and ends with the weights that it would have had.
        on_step: Told before each step and after the last one of an epoch, for whoever has a clock.
        peers: Processes that train the network together, each with a call of its own. Only the first one is told of
            epochs and checkpoints; all must be given the same ``resume``.

    Returns:
        Losses by epoch, those before the resumption included.

    Raises:
        InvalidInputError: If a label is not one of the model's classes, or CEOD is asked for without areas.
        ConflictError: If what is resumed is a training of other data, settings or another network.
        ModelFormatError: If it is no checkpoint.
        DivergedError: If the loss becomes NaN or infinite.
    """
    if int(data.labels.min()) < 0 or int(data.labels.max()) >= model.num_classes:
        raise InvalidInputError(f"labels must lie in 0..{model.num_classes - 1}, got up to {int(data.labels.max())}")
    if settings.ceod is not None and data.areas is None:
        raise InvalidInputError("areas must be given to train with CEOD, got none")
    model.to(device)
    frozen = _frozen_modules(model, settings)
    kept = {id(parameter) for module in frozen for parameter in module.parameters(recurse=False)}
    parameters = list(model.parameters() if settings.train_backbone else model.linear.parameters())
    optimiser = _optimiser([parameter for parameter in parameters if id(parameter) not in kept], settings)
    weights = class_weights(data.labels[data.first_of_each], model.num_classes).to(device)
    rng = np.random.default_rng(settings.seed)
    steps = settings.epochs * math.ceil(len(data.first_of_each) / settings.batch_size)
    reports: list[EpochReport] = []
    best_loss, best_epoch, best_state = math.inf, 0, copy.deepcopy(model.state_dict())
    wants_state = on_checkpoint is not None or bool(resume)
    fingerprint = _fingerprint(model, data, validation, settings) if wants_state else ""
    with torch.random.fork_rng(devices=[]), _without_gradient(frozen):
        torch.manual_seed(settings.seed)
        if resume:
            known = Checkpoint.from_bytes(resume)
            if known.fingerprint != fingerprint:
                raise ConflictError("a training must be resumed with its own data, settings and network, got others")
            model.load_state_dict(known.model)
            restore_optimiser(optimiser, known.optimiser)
            rng.bit_generator.state = known.numpy_state
            torch.set_rng_state(known.torch_state)
            reports = [EpochReport(int(row[0]), *row[1:]) for row in known.losses]
            best_loss, best_epoch, best_state = known.best_loss, known.best_epoch, known.best
        for epoch in range(len(reports) + 1, settings.epochs + 1):
            if validation is not None and len(reports) - best_epoch >= settings.patience:
                break
            model.train(settings.train_backbone)
            for module in frozen:
                module.training = False
            loss = _run_epoch(model, data, settings, optimiser, weights, rng, (epoch - 1, steps), on_step, peers)
            average_norms(model, peers)
            if settings.settle:
                settle_norm(model, data.one_of_each, settings.seed, kept=frozen)
            held_out = math.nan if validation is None else validation_loss(model, validation, weights, device)
            reports.append(EpochReport(epoch, loss.mean, held_out, loss.distance, loss.clipped_share))
            if not math.isfinite(loss.mean):
                raise DivergedError(f"the training loss must stay finite, got {loss.mean} in epoch {epoch}")
            if peers.rank == 0:
                on_epoch(reports[-1])
            if validation is None or held_out < best_loss:
                best_loss, best_epoch, best_state = held_out, epoch, copy.deepcopy(model.state_dict())
            if on_checkpoint is not None and peers.rank == 0:
                state = Checkpoint(
                    fingerprint,
                    epoch,
                    best_epoch,
                    best_loss,
                    tuple(astuple(report) for report in reports),
                    model.state_dict(),
                    best_state,
                    optimiser_memory(optimiser),
                    rng.bit_generator.state,
                    torch.get_rng_state(),
                )
                on_checkpoint(state.to_bytes())
    model.load_state_dict(best_state)
    model.eval()
    return TrainingReport(best_epoch, tuple(reports))


def _fingerprint(
    model: Classifier, data: LabelledImages, validation: LabelledImages | None, settings: TrainingSettings
) -> str:
    """Names what a training depends on: pixels, labels, areas, settings, and the shapes of the network."""
    digest = hashlib.sha256(repr(settings).encode())
    digest.update(repr([(name, tuple(value.shape)) for name, value in model.state_dict().items()]).encode())
    for one in (data, validation):
        for values in (one.images, one.labels, one.areas) if one is not None else ():
            # Of what nobody has there is nothing, which is not the same as an empty array.
            digest.update(b"none" if values is None else repr(values.shape).encode() + values.tobytes())
    if data.owners is not None:
        digest.update(b"owners" + data.owners.tobytes())
    return digest.hexdigest()


@torch.no_grad()
def settle_norm(
    model: Classifier, images: NDArray[np.uint8], seed: int, batch_size: int = 32, kept: Sequence[nn.Module] = ()
) -> None:
    """Take batch norm's running figures anew from images, as the weights are now.

    They follow the weights over many steps: after a training on a few hundred images the network in evaluation mode is
    another one than was trained, and validation chooses among such.

    Args:
        model: The network; left in evaluation mode.
        images: ``uint8``, shape ``(N, H, W, 3)``, ``N >= 2``.
        seed: Of their order, so that batches are mixed.
        batch_size: Images of one pass, ``>= 2``.
        kept: Modules of the network that stay as they are.
    """
    untouched = {id(module) for module in kept}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and id(module) not in untouched]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # A plain mean over the batches.
        norm.momentum = None
    model.train()
    for module in kept:
        module.training = False
    device = model.linear.weight.device
    order = np.random.default_rng(seed).permutation(len(images))
    for rows in np.array_split(order, max(1, len(order) // batch_size)):
        model.embed(_tensor(images[rows], device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


@torch.inference_mode()
def predict(model: Classifier, images: NDArray[np.uint8], batch_size: int = 64) -> NDArray[np.float32]:
    """Score images with a network as it is.

    Args:
        model: The network; put into evaluation mode.
        images: ``uint8``, shape ``(N, H, W, 3)``.
        batch_size: Images per pass.

    Returns:
        Class probabilities, shape ``(N, C)``.
    """
    model.eval()
    device = model.linear.weight.device
    parts = [
        torch.softmax(model(_tensor(images[start : start + batch_size], device)).logits.float(), dim=1).cpu()
        for start in range(0, len(images), batch_size)
    ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


@torch.inference_mode()
def validation_loss(model: Classifier, data: LabelledImages, weights: Tensor, device: str) -> float:
    """Mean class-weighted cross-entropy of held-out images; the model is left in evaluation mode."""
    model.eval()
    total, mass = 0.0, 0.0
    for start in range(0, len(data.images), 64):
        rows = slice(start, start + 64)
        labels = torch.from_numpy(np.asarray(data.labels[rows], np.int64)).to(device)
        logits = model(_tensor(data.images[rows], torch.device(device))).logits.float()
        total += float(F.cross_entropy(logits, labels, weights, reduction="sum"))
        mass += float(weights[labels].sum())
    return total / mass


class _EpochLoss(NamedTuple):
    mean: float
    distance: float
    clipped_share: float


def _run_epoch(
    model: Classifier,
    data: LabelledImages,
    settings: TrainingSettings,
    optimiser: torch.optim.Optimizer,
    weights: Tensor,
    rng: np.random.Generator,
    progress: tuple[int, int],
    on_step: Callable[[], None],
    peers: Peers,
) -> _EpochLoss:
    device = model.linear.weight.device
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    order = data.order(rng)
    # A last share of one image would have no variance for batch norm: its batch joins the one before.
    starts = list(range(0, len(order), settings.batch_size))
    if len(order) - starts[-1] < 2 * peers.size and len(starts) > 1:
        starts.pop()
    done, total_steps = progress[0] * math.ceil(len(order) / settings.batch_size), progress[1]
    total, distance, clipped, counted = 0.0, 0.0, 0.0, 0.0
    for index, start in enumerate(starts):
        on_step()
        end = start + settings.batch_size if index + 1 < len(starts) else len(order)
        # Drawn for the whole batch, so that processes with shares of different sizes go on drawing alike.
        mirrored = rng.random((2, end - start)) < 0.5 if settings.flips else np.zeros((2, end - start), np.bool_)
        mirrored, rows = mirrored[:, peers.rank :: peers.size], order[start:end][peers.rank :: peers.size]
        if settings.cosine:
            rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (done + index) / total_steps)))
            for group in optimiser.param_groups:
                group["lr"] = rate
        images = _tensor(data.images[rows], device)
        areas = None if settings.ceod is None else _areas(data, rows, device)
        if settings.flips:
            images, areas = _flip(images, areas, mirrored)
        labels = torch.from_numpy(np.asarray(data.labels[rows], np.int64)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            if settings.ceod is None or areas is None:
                logits = model(images).logits if settings.train_backbone else _head_only(model, images)
            else:
                logits, heat = predict_with_heat(model, images, labels, train_backbone=settings.train_backbone)
        if settings.ceod is None or areas is None:
            loss = F.cross_entropy(logits.float(), labels, weights)
        else:
            found = ceod_loss(logits, heat, labels, areas, settings.ceod, weights)
            loss = found.total
            distance += float(found.distance) * found.counted
            clipped, counted = clipped + found.clipped, counted + found.counted
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        sum_gradients(trained, len(rows) / (end - start), peers)
        optimiser.step()
        total += float(loss.detach()) * len(rows)
    on_step()
    if peers.size > 1:
        sums = torch.tensor([total, distance, clipped, counted], dtype=torch.float64, device=device)
        peers.sum_in_place(sums)
        total, distance, clipped, counted = (float(one) for one in sums)
    share = (distance / counted, clipped / counted) if counted else (math.nan, math.nan)
    return _EpochLoss(total / len(order), *share)


def _frozen_modules(model: Classifier, settings: TrainingSettings) -> list[nn.Module]:
    """Everything of the features before the last convolutions that are to be trained, by order of registration."""
    if not settings.last_convolutions or not settings.train_backbone:
        return []
    modules = list(model.features.modules())
    places = [place for place, module in enumerate(modules) if isinstance(module, nn.Conv2d)]
    if len(places) <= settings.last_convolutions:
        return []
    # Containers begin before what they hold; they are judged by their own parameters, of which they have none.
    return modules[: places[-settings.last_convolutions]]


@contextmanager
def _without_gradient(modules: Sequence[nn.Module]) -> Iterator[None]:
    own = [parameter for module in modules for parameter in module.parameters(recurse=False)]
    before = [parameter.requires_grad for parameter in own]
    for parameter in own:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, needed in zip(own, before, strict=True):
            parameter.requires_grad_(needed)


def _areas(data: LabelledImages, rows: NDArray[np.integer], device: torch.device) -> Tensor | None:
    return None if data.areas is None else torch.from_numpy(data.areas[rows]).to(device).float()


def _head_only(model: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        embedding = model.embed(images)
    return model.linear(embedding)  # type: ignore[no-any-return]


def _tensor(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    # The permuted view is the channels_last layout, which the convolutions then keep.
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)


def _flip(images: Tensor, areas: Tensor | None, mirrored: NDArray[np.bool_]) -> tuple[Tensor, Tensor | None]:
    for dimension, rows in zip((2, 3), mirrored, strict=True):
        chosen = torch.from_numpy(np.ascontiguousarray(rows)).to(images.device)
        images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(dimension), images)
        if areas is not None:
            areas = torch.where(chosen.view(-1, 1, 1), areas.flip(dimension - 1), areas)
    return images, areas


def _optimiser(parameters: list[nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=0.9, weight_decay=settings.weight_decay)
    kind = torch.optim.Adamax if settings.optimiser == "adamax" else torch.optim.AdamW
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def class_weights(labels: NDArray[np.integer], num_classes: int) -> Tensor:
    """Give the weights with which classes count alike however many images they have.

    Args:
        labels: Shape ``(N,)``.
        num_classes: How many classes there are.

    Returns:
        Shape ``(num_classes,)``, ``float32``.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(len(labels) / np.maximum(counts, 1) / max(1, int((counts > 0).sum())), dtype=torch.float32)
