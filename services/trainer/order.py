"""What a training is asked to do, how it tells of itself, and why it may refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from services.core.errors import InvalidInputError
from services.core.losses.ceod_settings import CeodSettings
from services.core.manifest import validate_alias
from services.core.promotion import PromotionPolicy
from services.core.selection.refutations import RefutationSettings
from services.core.selection.snapshot import Snapshot
from services.core.training_run import EpochLoss, Loss, Recipe

#: Refutations of one answer; measured together with the weights, see :class:`LearningSettings`.
REFUTATIONS: Final = RefutationSettings(paste=8)


class CannotLearnError(InvalidInputError):
    """Nothing can be learnt from this order, and never will be.

    Args:
        message: Why, and what to do.
        reason: Short stable token, for example ``nothing_to_learn``.
    """

    reason = "cannot_learn"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """How the last convolutions are trained; the paper's numbers are the defaults (paper 1, section 4.2).

    Attributes:
        epochs: Most passes, ``>= 1``.
        optimiser: ``sgd`` with momentum 0.9, or ``adamax``.
        learning_rate: Constant, ``> 0``.
        patience: Epochs without a lower validation loss before it ends, ``>= 1``.
        last_convolutions: How many of them learn; 0 for all.
        batch_size: Pictures of a step, ``>= 2``.
        precision: ``float32``, or ``bfloat16`` for autocast.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """

    epochs: int = 30
    optimiser: Literal["sgd", "adamax"] = "sgd"
    learning_rate: float = 1e-3
    patience: int = 10
    last_convolutions: int = 20
    batch_size: int = 32
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience) < 1 or self.batch_size < 2 or self.last_convolutions < 0:
            raise InvalidInputError(
                "epochs and patience must be >= 1, batch_size >= 2 and last_convolutions >= 0, got "
                f"{self.epochs}, {self.patience}, {self.batch_size} and {self.last_convolutions}"
            )
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InvalidInputError(f"learning_rate must be finite and above 0, got {self.learning_rate}")
        if self.optimiser not in ("sgd", "adamax"):
            raise InvalidInputError(f"optimiser must be sgd or adamax, got {self.optimiser!r}")
        if self.precision not in ("float32", "bfloat16"):
            raise InvalidInputError(f"precision must be float32 or bfloat16, got {self.precision!r}")


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How a candidate is made; docs/trainer.md has the measurements behind the defaults.

    Attributes:
        recipe: What learns: the last layer, or the last convolutions too.
        loss: By what.
        ceod: Of the loss ``ceod``.
        seed: Of everything that is drawn.
        refutations: Of each answered picture.
        answer_weight: An answered picture counts, with all its refutations, as so many base parts, ``> 0``.
        region_weight: How much it counts where people see a defect, against the mean cross-entropy of the fit of the
            last layer, ``>= 0``; see ``services.core.training.places``.
        finetune: Of the recipe ``finetune``, and of every training by ``ceod``.
        min_class_parts: Answered pictures that a new name takes to become a class, ``>= 1``.
        region_share: Share of an accepted or misleading map that counts as region, in ``(0, 1)``.
        max_maps: Most hold-out parts whose maps are compared with their masks, ``>= 0``.
        backgrounds: Good parts that regions are pasted on, ``>= 0``.
        latency_answers: Single answers of each version whose time is taken, ``>= 0``.
        gates: Bounds of the gates.
        threads: CPU threads of what answers, ``>= 1``.
        areas: Where defects count on the pictures of a camera or a product, by its name, as ``services.adapters.areas``
            reads them; for the loss ``ceod``, on defective parts where no person said it.
    """

    recipe: Recipe = Recipe.HEAD
    loss: Loss = Loss.CE
    ceod: CeodSettings = field(default_factory=CeodSettings)
    seed: int = 0
    refutations: RefutationSettings = REFUTATIONS
    answer_weight: float = 8.0
    region_weight: float = 0.1
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    min_class_parts: int = 5
    region_share: float = 0.1
    max_maps: int = 60
    backgrounds: int = 32
    latency_answers: int = 50
    gates: PromotionPolicy = field(default_factory=PromotionPolicy)
    threads: int = 1
    areas: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not (self.answer_weight > 0 and math.isfinite(self.answer_weight)):
            raise InvalidInputError(f"answer_weight must be finite and above 0, got {self.answer_weight}")
        if not (self.region_weight >= 0 and math.isfinite(self.region_weight)):
            raise InvalidInputError(f"region_weight must be finite and >= 0, got {self.region_weight}")
        if not 0 < self.region_share < 1:
            raise InvalidInputError(f"region_share must lie between 0 and 1, got {self.region_share}")
        if min(self.min_class_parts, self.threads) < 1:
            raise InvalidInputError(
                f"min_class_parts and threads must be >= 1, got {self.min_class_parts} and {self.threads}"
            )
        if min(self.max_maps, self.backgrounds, self.latency_answers) < 0:
            raise InvalidInputError(
                "max_maps, backgrounds and latency_answers must be >= 0, got "
                f"{self.max_maps}, {self.backgrounds} and {self.latency_answers}"
            )

    @property
    def needs_pictures(self) -> bool:
        """Whether the pictures of the base are needed, beyond their embeddings."""
        return self.recipe is Recipe.FINETUNE or self.loss is Loss.CEOD

    def with_batch_size(self, batch_size: int) -> LearningSettings:
        """The same with another batch size."""
        return replace(self, finetune=replace(self.finetune, batch_size=batch_size))


@dataclass(frozen=True, slots=True)
class LearningOrder:
    """What is to be made.

    Attributes:
        alias: The alias.
        version: Number of the new version, ``>= 1``.
        live: Folder of the live version, installed and verified.
        snapshot: What people answered.
        settings: How.
    """

    alias: str
    version: int
    live: Path
    snapshot: Snapshot
    settings: LearningSettings = field(default_factory=LearningSettings)

    def __post_init__(self) -> None:
        validate_alias(self.alias)
        if self.version < 1:
            raise InvalidInputError(f"version must be at least 1, got {self.version}")


@dataclass(frozen=True, slots=True)
class LearningProgress:
    """How far a training is.

    Attributes:
        share: That is done, 0 to 1.
        doing: For people.
        evaluating: Whether the candidate is made, and proves itself.
        epochs: Losses so far; of a fit of the last layer one entry.
        left_out: Answered pictures that turned out to be of no use, by reason, beyond those that the snapshot left out.
    """

    share: float
    doing: str
    evaluating: bool = False
    epochs: tuple[EpochLoss, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
