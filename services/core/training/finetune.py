"""A small, seeded training loop over images in memory: fine-tuning a backbone, or a network from scratch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from services.core.errors import InvalidInputError, SightlineError
from services.core.models.classifier import Classifier

Optimiser = Literal["sgd", "adamax", "adamw"]


class DivergedError(SightlineError):
    """The loss is no number any more; a smaller learning rate may help."""

    reason = "training_diverged"


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
        flips: Whether images are mirrored at random in both directions; only where a part may lie either way.
        seed: Seed of order and mirrors.
        precision: ``float32``, or ``bfloat16`` for autocast.
        settle: Whether batch norm's figures are taken anew after each epoch, see :func:`settle_norm`; for small data.
    """

    epochs: int = 10
    batch_size: int = 32
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    cosine: bool = True
    patience: int = 10
    train_backbone: bool = True
    flips: bool = False
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    settle: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.patience < 1:
            raise ValueError(f"epochs and patience must be at least 1 and batch_size at least 2, got {self}")
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
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
            raise InvalidInputError(f"images must be uint8 (N, H, W, 3), got {self.images.dtype} {self.images.shape}")
        if len(self.images) < 2 or self.labels.shape != (len(self.images),):
            raise InvalidInputError(f"at least 2 images must have one label each, got {self.labels.shape}")


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One pass over the data.

    Attributes:
        epoch: Counts from 1.
        train_loss: Mean over the pass.
        validation_loss: After the pass; NaN without validation data.
    """

    epoch: int
    train_loss: float
    validation_loss: float


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
) -> TrainingReport:
    """Train a network in place with cross-entropy; classes count alike however many images they have.

    The same data, settings and starting weights give the same weights on a CPU with the same number of threads.

    Args:
        model: The network; left on ``device`` in evaluation mode with the best epoch's weights (the last epoch's
            without validation data).
        data: What to learn.
        settings: How.
        validation: What chooses the best epoch; of other parts than ``data``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        on_epoch: Told after each epoch; an exception it raises ends the training.

    Returns:
        Losses by epoch.

    Raises:
        InvalidInputError: If a label is not one of the model's classes.
        DivergedError: If the loss becomes NaN or infinite.
    """
    if int(data.labels.min()) < 0 or int(data.labels.max()) >= model.num_classes:
        raise InvalidInputError(f"labels must lie in 0..{model.num_classes - 1}, got up to {int(data.labels.max())}")
    model.to(device)
    parameters = list(model.parameters() if settings.train_backbone else model.linear.parameters())
    optimiser = _optimiser(parameters, settings)
    weights = _class_weights(data.labels, model.num_classes).to(device)
    rng = np.random.default_rng(settings.seed)
    steps = settings.epochs * math.ceil(len(data.images) / settings.batch_size)
    reports: list[EpochReport] = []
    best_loss, best_epoch, best_state = math.inf, 0, copy.deepcopy(model.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for epoch in range(1, settings.epochs + 1):
            loss = _run_epoch(model, data, settings, optimiser, weights, rng, (epoch - 1, steps))
            if settings.settle:
                settle_norm(model, data.images, settings.seed)
            held_out = math.nan if validation is None else validation_loss(model, validation, weights, device)
            reports.append(EpochReport(epoch, loss, held_out))
            if not math.isfinite(loss):
                raise DivergedError(f"the training loss must stay finite, got {loss} in epoch {epoch}")
            on_epoch(reports[-1])
            if validation is None or held_out < best_loss:
                best_loss, best_epoch, best_state = held_out, epoch, copy.deepcopy(model.state_dict())
            elif epoch - best_epoch >= settings.patience:
                break
    model.load_state_dict(best_state)
    model.eval()
    return TrainingReport(best_epoch, tuple(reports))


@torch.no_grad()
def settle_norm(model: Classifier, images: NDArray[np.uint8], seed: int, batch_size: int = 32) -> None:
    """Take batch norm's running figures anew from images, as the weights are now.

    They follow the weights over many steps: after a training on a few hundred images the network in evaluation mode is
    another one than was trained, and validation chooses among such.

    Args:
        model: The network; left in evaluation mode.
        images: ``uint8``, shape ``(N, H, W, 3)``, ``N >= 2``.
        seed: Of their order, so that batches are mixed.
        batch_size: Images of one pass, ``>= 2``.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # A plain mean over the batches.
        norm.momentum = None
    model.train()
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


def _run_epoch(
    model: Classifier,
    data: LabelledImages,
    settings: TrainingSettings,
    optimiser: torch.optim.Optimizer,
    weights: Tensor,
    rng: np.random.Generator,
    progress: tuple[int, int],
) -> float:
    model.train(settings.train_backbone)
    device = model.linear.weight.device
    order = rng.permutation(len(data.images))
    # A last batch of one image would have no variance for batch norm: it joins the one before.
    starts = list(range(0, len(order), settings.batch_size))
    if len(order) - starts[-1] == 1 and len(starts) > 1:
        starts.pop()
    done, total_steps = progress[0] * math.ceil(len(order) / settings.batch_size), progress[1]
    total = 0.0
    for index, start in enumerate(starts):
        end = start + settings.batch_size if index + 1 < len(starts) else len(order)
        rows = order[start:end]
        if settings.cosine:
            rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (done + index) / total_steps)))
            for group in optimiser.param_groups:
                group["lr"] = rate
        images = _tensor(data.images[rows], device)
        if settings.flips:
            images = _flip(images, rng)
        labels = torch.from_numpy(np.asarray(data.labels[rows], np.int64)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            logits = model(images).logits if settings.train_backbone else _head_only(model, images)
        loss = F.cross_entropy(logits.float(), labels, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += float(loss.detach()) * len(rows)
    return total / len(order)


def _head_only(model: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        embedding = model.embed(images)
    return model.linear(embedding)  # type: ignore[no-any-return]


def _tensor(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    # The permuted view is the channels_last layout, which the convolutions then keep.
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)


def _flip(images: Tensor, rng: np.random.Generator) -> Tensor:
    for dimension in (2, 3):
        chosen = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
        images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(dimension), images)
    return images


def _optimiser(parameters: list[nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=0.9, weight_decay=settings.weight_decay)
    kind = torch.optim.Adamax if settings.optimiser == "adamax" else torch.optim.AdamW
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def _class_weights(labels: NDArray[np.integer], num_classes: int) -> Tensor:
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(len(labels) / np.maximum(counts, 1) / max(1, int((counts > 0).sum())), dtype=torch.float32)
