"""Fitting a network to pseudo-labels: the second of the two models in a pipeline (paper 3, method 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.detectors.pseudo_labels import LABEL_ANOMALY, PseudoLabels
from services.core.errors import InvalidInputError
from services.core.evaluation.splits import split_by_group
from services.core.models.classifier import Classifier
from services.core.training.finetune import (
    EpochReport,
    LabelledImages,
    TrainingReport,
    TrainingSettings,
    train,
)

#: Shares of the parts with a label; validation chooses the best epoch and ends the training.
SHARES: Final = {"train": 0.8, "validation": 0.2}


@dataclass(frozen=True, slots=True, eq=False)
class PseudoFit:
    """What became of a fit.

    Attributes:
        n_train: Images that the network was fitted to.
        n_validation: Images that chose the best epoch.
        report: Losses by epoch, against pseudo-labels.
    """

    n_train: int
    n_validation: int
    report: TrainingReport


def fit_to_pseudo_labels(
    model: Classifier,
    images: NDArray[np.uint8],
    labels: PseudoLabels,
    settings: TrainingSettings,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
) -> PseudoFit:
    """Fit a network in place to what a detector said.

    A fifth of the parts is held out of the training; by their pseudo-labels the best epoch is chosen, and the training
    ends after ``settings.patience`` epochs without a better one: a network that goes on learns single mistakes of the
    detector by heart.

    Args:
        model: A network of two classes; left in evaluation mode with the best epoch's weights.
        images: Prepared, ``uint8``, shape ``(N, H, W, 3)``.
        labels: Of these images, in their order.
        settings: How; its seed also draws the good images that are kept and the split.
        on_epoch: Told after each epoch.

    Returns:
        What was done. The same arguments and starting weights give the same network on a CPU with the same threads.

    Raises:
        InvalidInputError: If there is not one label for each image, or the network has another number of classes.
        DivergedError: If the loss becomes NaN or infinite.
    """
    if len(images) != len(labels.labels):
        raise InvalidInputError(f"each image must have one label, got {len(images)} and {len(labels.labels)}")
    if model.num_classes != 2:
        raise InvalidInputError(f"a network of pseudo-labels must have two classes, got {model.num_classes}")
    rows = labels.balanced(settings.seed)
    groups = [labels.groups[row] for row in rows]
    anomalous = {group for group, row in zip(groups, rows, strict=True) if labels.labels[row] == LABEL_ANOMALY}
    # A part with one anomalous picture is dealt out as anomalous, so that both sides have some of them.
    kinds = [str(group in anomalous) for group in groups]
    sides = {name: rows[chosen] for name, chosen in split_by_group(groups, kinds, SHARES, settings.seed).items()}
    data = {name: LabelledImages(images[chosen], labels.labels[chosen]) for name, chosen in sides.items()}
    # Pools are small, and the best epoch must be that of the network as it will be served.
    settings = replace(settings, settle=True)
    report = train(model, data["train"], settings, validation=data["validation"], on_epoch=on_epoch)
    return PseudoFit(len(sides["train"]), len(sides["validation"]), report)
