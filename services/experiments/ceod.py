"""The experiment on CEOD: the same networks with cross-entropy and with the overlap distance, from the same start.

The tables of paper 2. Both arms of a seed share split, first weights and the order of the pictures, so what differs is
the loss alone. Paper 2 compares them where the larger probability decides; a loss that rejects more finds more, so they
are also compared where each finds as many defects as cross-entropy does (see ``services.experiments.ceod_table``).
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.core.errors import InvalidInputError, SightlineError
from services.core.losses.ceod import overlap_distance
from services.core.losses.ceod_settings import CeodSettings
from services.core.losses.heat import predict_with_heat
from services.core.models.classifier import Classifier
from services.core.models.factory import ARCHITECTURES, create_model, usual_weights
from services.core.training.finetune import (
    EpochReport,
    LabelledImages,
    TrainingSettings,
    class_weights,
    predict,
    train,
    validation_loss,
)
from services.experiments.ceod_sample import SHARES, AreaSample, split_areas
from services.experiments.side_by_side import run_side_by_side

Scope = Literal["all", "tl", "ft"]

SCOPES: Final[Mapping[str, str]] = {"all": "all layers", "tl": "the last layer", "ft": "the last 20 convolutions"}
"""What is trained of a network."""

ARMS: Final = ("ce", "ceod", "ceod-paper")
"""Cross-entropy; with the overlap distance as repaired; with it as written, at the paper's omega."""

REFERENCE: Final = "ce"

TrialKey = tuple[str, str, int]
"""Network, arm, seed."""

Progress = Callable[[str, float, str], None]
"""Told the stage, its share that is done, and what is being done."""

_FT_CONVOLUTIONS: Final = 20
_BATCH: Final = 64
_SHOWN_OF_EACH: Final = 4
_CALM_PARTS: Final = 12
# What networks raise on data or memory that they cannot take; anything else is a fault of ours.
_FAILURES: Final = (SightlineError, ArithmeticError, MemoryError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and how much of it is trained."""

    architecture: str
    scope: Scope = "all"

    @property
    def name(self) -> str:
        """As it is called in the table."""
        return self.architecture if self.scope == "all" else f"{self.architecture}:{self.scope}"


@dataclass(frozen=True, slots=True)
class CeodPlan:
    """What is to be compared.

    Attributes:
        networks: Which.
        arms: Of :data:`ARMS`; the reference is always among them.
        seeds: Each splits and trains anew.
        loss: Of the arm ``ceod``.
        epochs: Most passes over the training parts.
        patience: Epochs without a lower validation loss before a training ends.
        batch_size: Pictures of a step.
        learning_rate: Of Adamax; constant.
        shares: Of the split's sides.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of each process.
        processes: Trainings beside each other; the times of a step are then no measure of the losses.
    """

    networks: tuple[Network, ...]
    arms: tuple[str, ...] = ("ce", "ceod")
    seeds: int = 1
    loss: CeodSettings = field(default_factory=CeodSettings)
    epochs: int = 100
    patience: int = 20
    batch_size: int = 32
    learning_rate: float = 2e-3
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    device: str = "cpu"
    threads: int = 1
    processes: int = 1

    def trials(self) -> list[tuple[Network, str, int]]:
        """Everything that is trained, one after the other: the arms of a seed beside each other."""
        return [(network, arm, seed) for network in self.networks for seed in range(self.seeds) for arm in self.arms]


@dataclass(frozen=True, slots=True, eq=False)
class CeodTrial:
    """What one network gave with one loss and one seed.

    Attributes:
        network: Its name.
        arm: Which loss.
        seed: Of split, weights and order.
        sides: By split: ``parts`` (rows of the sample), ``scores`` (P(defective)), ``defective``, ``distractor``, and
            the numbers ``loss``, ``od`` and ``overlap``.
        epochs: What each pass gave.
        best_epoch: Whose weights were kept.
        step_s: Median of a step by the clock; NaN without a step.
        step_cpu_s: Median of a step's processor time, all threads together.
        heat: ``shown``: maps of some test parts by row, for the class defective; ``calm``: of good ones.
        weights: Where the network began.
        error: Why there is nothing of all this.
    """

    network: str
    arm: str
    seed: int
    sides: Mapping[str, Mapping[str, Any]]
    epochs: tuple[EpochReport, ...] = ()
    best_epoch: int = 0
    step_s: float = math.nan
    step_cpu_s: float = math.nan
    heat: Mapping[str, Any] | None = None
    weights: str = ""
    error: str = ""


class _StepClock:
    """Times between the calls of a training's ``on_step``."""

    def __init__(self) -> None:
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []
        self._last: tuple[float, float] | None = None

    def tick(self) -> None:
        now = time.perf_counter(), time.process_time()
        if self._last is not None:
            self.wall_s.append(now[0] - self._last[0])
            self.cpu_s.append(now[1] - self._last[1])
        self._last = now

    def rest(self) -> None:
        self._last = None


def parse_network(text: str) -> Network:
    """Read a network as it is written in ``--networks``: ``customnet``, ``efficientnet-b0:tl``.

    Raises:
        InvalidInputError: If there is no such network, or no such scope.
    """
    name, _, scope = text.partition(":")
    if name not in ARCHITECTURES or (scope or "all") not in SCOPES:
        raise InvalidInputError(
            f"--networks must be of {', '.join(ARCHITECTURES)}, each alone or with :tl or :ft, got {text!r}"
        )
    return Network(name, scope or "all")  # type: ignore[arg-type]


def choose_arms(names: Sequence[str]) -> tuple[str, ...]:
    """Put the arms in order, the reference first.

    Raises:
        InvalidInputError: If there is no such arm, or nothing beside the reference.
    """
    if not set(names) - {REFERENCE} or not set(names) <= set(ARMS):
        raise InvalidInputError(f"--arms must be of {', '.join(ARMS)}, more than {REFERENCE}, got {', '.join(names)!r}")
    return tuple(arm for arm in ARMS if arm == REFERENCE or arm in names)


def run_ceod(
    sample: AreaSample,
    plan: CeodPlan,
    on_trial: Callable[[CeodTrial], object],
    done: AbstractSet[TrialKey] = frozenset(),
    progress: Progress = lambda _stage, _share, _what: None,
) -> None:
    """Train every network with every loss and seed.

    Args:
        sample: All parts.
        plan: What.
        on_trial: Given each trial as soon as it is there; a network that fails has its reason in place of figures.
        done: Trials that are there already.
        progress: Told how far it is.

    Raises:
        InvalidInputError: If the parts cannot be split.
    """
    sides = [split_areas(sample, seed, plan.shares) for seed in range(plan.seeds)]
    missing = [one for one in plan.trials() if (one[0].name, one[1], one[2]) not in done]
    common = _Common(sample, plan, sides)
    ended = 0

    def after(trial: CeodTrial) -> None:
        nonlocal ended
        ended += 1
        if plan.processes > 1:
            progress(
                f"{plan.processes} beside each other", ended / len(missing), f"{ended} of {len(missing)} trainings"
            )
        on_trial(trial)

    if plan.processes > 1:
        run_side_by_side(_try_trial, common, missing, plan.processes, after)
        return
    for task in missing:

        def tell(share: float, what: str, stage: str = f"{task[0].name}, {task[1]}, seed {task[2]}") -> None:
            progress(stage, (ended + share) / len(missing), what)

        after(_try_trial(common, task, tell))


class _Common(NamedTuple):
    """What all trials share."""

    sample: AreaSample
    plan: CeodPlan
    sides: Sequence[Mapping[str, NDArray[np.intp]]]


def _try_trial(
    common: _Common, task: tuple[Network, str, int], tell: Callable[[float, str], None] = lambda *_: None
) -> CeodTrial:
    sample, plan, sides = common
    network, arm, seed = task
    torch.set_num_threads(plan.threads)
    try:
        return _run_trial(sample, plan, network, arm, seed, sides[seed], tell)
    except _FAILURES as error:
        return CeodTrial(network.name, arm, seed, {}, error=str(error) or type(error).__name__)


def loss_of(arm: str, plan: CeodPlan) -> CeodSettings | None:
    """Give the overlap distance that an arm is trained with; None for cross-entropy alone."""
    if arm == "ceod":
        return plan.loss
    # As published: the paper's omega, whatever is asked of the other arm.
    return replace(plan.loss, variant="paper", omega=CeodSettings().omega) if arm == "ceod-paper" else None


def ceod_conditions(
    sample: AreaSample, plan: CeodPlan, source: str, area: str, relabelled: Sequence[str]
) -> dict[str, Any]:
    """Say in words and numbers what the figures hold for; networks, arms and seeds are said by the rows."""
    content = hashlib.sha256("\n".join(sample.groups).encode())
    for values in (sample.images, sample.areas, sample.defective, sample.distractor):
        content.update(np.ascontiguousarray(values).data)
    height, width = sample.images.shape[1:3]
    return {
        "data": source,
        "content_sha256": content.hexdigest(),
        "area": area,
        "relabelled good": ", ".join(sorted(relabelled)) or "nothing",
        "parts": len(sample.groups),
        "defective": int(sample.defective.sum()),
        "defective, partly outside the area": int((sample.on_edge & sample.defective).sum()),
        "distractors": int(sample.distractor.sum()),
        "groups": len(set(sample.groups)),
        "split": ", ".join(f"{name} {share:.0%}" for name, share in plan.shares.items()) + " of the groups, by group",
        "input": f"{height} x {width} px, letterbox with mirrored fill",
        "training": f"batch {plan.batch_size}, Adamax, learning rate {plan.learning_rate:g}, no augmentation, at most "
        f"{plan.epochs} epochs, ended after {plan.patience} without a lower validation loss; classes weigh alike",
        "batch norm": "figures taken anew after each epoch; those of frozen layers stay",
        "ceod": asdict(plan.loss),
        "ceod-paper": asdict(loss_of("ceod-paper", plan) or plan.loss),
        "od and overlap": "of all arms as ceod measures them, of defective parts, for the class defective",
        "device": plan.device if plan.device != "cpu" else f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": plan.threads,
        "processes": plan.processes,
        "versions": {"torch": metadata.version("torch")},
    }


def _run_trial(
    sample: AreaSample,
    plan: CeodPlan,
    network: Network,
    arm: str,
    seed: int,
    sides: Mapping[str, NDArray[np.intp]],
    progress: Callable[[float, str], None],
) -> CeodTrial:
    progress(0.0, "building the network")
    wanted = usual_weights(network.architecture)
    model = create_model(network.architecture, 2, wanted, seed=seed)
    data = {name: _labelled(sample, rows) for name, rows in sides.items()}
    clock = _StepClock()

    def after_epoch(epoch: EpochReport) -> None:
        clock.rest()
        progress(0.95 * epoch.epoch / plan.epochs, f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.3f}")

    settings = TrainingSettings(
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        optimiser="adamax",
        learning_rate=plan.learning_rate,
        weight_decay=0.0,
        cosine=False,
        patience=plan.patience,
        train_backbone=network.scope != "tl",
        last_convolutions=_FT_CONVOLUTIONS if network.scope == "ft" else 0,
        seed=seed,
        settle=network.scope != "tl",
        ceod=loss_of(arm, plan),
    )
    report = train(
        model,
        data["train"],
        settings,
        validation=data["validation"],
        device=plan.device,
        on_epoch=after_epoch,
        on_step=clock.tick,
    )
    progress(0.95, "measuring")
    weights = class_weights(data["train"].labels, model.num_classes).to(plan.device)
    return CeodTrial(
        network.name,
        arm,
        seed,
        {name: _measured(model, sample, rows, data[name], plan, weights) for name, rows in sides.items()},
        report.epochs,
        report.best_epoch,
        statistics.median(clock.wall_s) if clock.wall_s else math.nan,
        statistics.median(clock.cpu_s) if clock.cpu_s else math.nan,
        _heat(model, sample, sides) if seed == 0 else None,
        f"{wanted} weights" if wanted != "none" else "from scratch",
    )


def _labelled(sample: AreaSample, rows: NDArray[np.intp]) -> LabelledImages:
    return LabelledImages(sample.images[rows], sample.defective[rows].astype(np.int64), sample.areas[rows])


def _measured(
    model: Classifier,
    sample: AreaSample,
    rows: NDArray[np.intp],
    data: LabelledImages,
    plan: CeodPlan,
    weights: Tensor,
) -> dict[str, Any]:
    distance, overlap = _distance(model, sample, rows, plan.loss)
    return {
        "parts": rows.tolist(),
        "scores": [float(score) for score in predict(model, data.images, _BATCH)[:, 1]],
        "defective": sample.defective[rows].astype(int).tolist(),
        "distractor": sample.distractor[rows].astype(int).tolist(),
        "loss": validation_loss(model, data, weights, plan.device),
        "od": distance,
        "overlap": overlap,
    }


def _distance(model: Classifier, sample: AreaSample, rows: NDArray[np.intp], loss: CeodSettings) -> tuple[float, float]:
    """Mean overlap distance and overlap of the defective parts with an area; NaN without any."""
    chosen = rows[sample.defective[rows] & sample.areas[rows].any(axis=(1, 2))]
    if not len(chosen):
        return math.nan, math.nan
    heat = torch.from_numpy(_maps(model, sample.images[chosen]))
    with torch.no_grad():
        found = overlap_distance(heat, torch.from_numpy(sample.areas[chosen]), replace(loss, variant="repaired"))
    return float(found.distance.mean()), float(found.overlap.mean())


def _maps(model: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Signed Grad-CAM maps of the class defective, shape ``(N, h, w)``."""
    model.eval()
    device = model.linear.weight.device
    parts = []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start : start + _BATCH]).to(device).permute(0, 3, 1, 2)
        asked = torch.ones(len(batch), dtype=torch.int64, device=device)
        # Only the last activation needs a gradient, and only where the head has no closed form.
        heat = predict_with_heat(model, batch, asked, train_backbone=False).heat
        parts.append(heat.detach().float().cpu().numpy())
    return np.concatenate(parts)


def _heat(model: Classifier, sample: AreaSample, sides: Mapping[str, NDArray[np.intp]]) -> dict[str, Any]:
    """Maps of some test parts, evenly and not the prettiest; and of held-out good parts, which set the scale."""
    test = sides["test"]
    shown = [*_evenly(test[sample.distractor[test]], _SHOWN_OF_EACH), *_evenly(test[sample.defective[test]])]
    held_out = np.concatenate([sides["validation"], test])
    good = ~sample.defective[held_out]
    plain = held_out[good & ~sample.distractor[held_out]]
    calm = _evenly(plain if len(plain) else held_out[good], _CALM_PARTS)
    return {
        "shown": {str(row): _written(one) for row, one in _rows_of(model, sample, shown)},
        "calm": [_written(one) for _, one in _rows_of(model, sample, calm)],
    }


def _written(values: NDArray[np.float32]) -> list[list[float]]:
    """What is warm of a map, with four digits: it is drawn, not reckoned with."""
    return [[float(f"{max(0.0, value):.4g}") for value in line] for line in values.tolist()]


def _rows_of(model: Classifier, sample: AreaSample, rows: Sequence[int]) -> list[tuple[int, NDArray[np.float32]]]:
    return list(zip(rows, _maps(model, sample.images[rows]), strict=True)) if rows else []


def _evenly(rows: NDArray[np.intp], count: int = _SHOWN_OF_EACH) -> list[int]:
    if len(rows) <= count:
        return [int(row) for row in rows]
    return [int(rows[at]) for at in np.linspace(0, len(rows) - 1, count).round().astype(int)]
