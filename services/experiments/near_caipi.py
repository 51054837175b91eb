"""The experiment on learning from an operator: tables 2 and 3 of paper 1, with a simulated operator.

Four disjoint sets, split by group: the start of the training set, validation, test, and the parts that may be asked
about. The operator is the ground truth; it always corrects, as in the paper, or accepts a map that overlaps the mask
enough where that is asked for. The loop, the queries, the lessons and the refutations are those of the running line
(``services.core.selection``); only the pool and the operator are simulated here.

Two ways to train. Without epochs the network's features stay frozen and its last layer is fitted anew after each round,
as the line's default backbone is; with epochs all layers are trained anew from the same first weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.evaluation.metrics import f1, mcc
from services.core.evaluation.splits import split_by_group
from services.core.explain.attribution import SCORE_TARGET, Budget, hottest
from services.core.explain.attribution import dice as region_dice
from services.core.explain.cam import ClassActivation
from services.core.explain.overlap import dice, hit
from services.core.explain.resizing import resize_map
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model, usual_weights
from services.core.preprocessing import Preprocessing, prepare
from services.core.selection.lessons import Judgement, lessons_of
from services.core.selection.near_caipi import Round, near_caipi
from services.core.selection.refutations import RefutationSettings
from services.core.selection.strategies import STRATEGIES, Query, Strategy, information, strategy_named
from services.core.training.finetune import LabelledImages, TrainingSettings, predict, train
from services.core.training.head import fit_head, install_head
from services.experiments.near_caipi_journal import Journal, KeptRound
from services.experiments.parts import Part
from services.experiments.side_by_side import run_side_by_side

#: Shares of the groups; what is neither tested nor validated is started with or asked about.
SHARES: Final = {"pool": 0.6, "validation": 0.1, "test": 0.3}

#: Figures of one model on the test set.
FIGURES: Final = ("accuracy", "f1", "mcc", "explanation_dice", "explanation_hit")

Progress = Callable[[str, float, str], None]

_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class InteractiveSettings:
    """What is to be measured.

    Attributes:
        strategies: Names, see ``services.core.selection.strategies``.
        rounds: Trainings after the first, ``>= 1``.
        per_round: Parts that are judged before each, ``>= 1``.
        start: Parts of the first training, ``>= 4``.
        seeds: Each splits, starts and draws anew; strategies of one seed share all three.
        model: Network.
        options: Of the network, e.g. ``taps``.
        side_px: Rows and columns of its input.
        epochs: Most passes of a training of all layers; 0 fits the last layer on frozen features.
        learning_rate: Of SGD with momentum 0.9, where all layers are trained.
        patience: Epochs without a lower validation loss before a training ends.
        refutations: How many and how far.
        accept_overlap: The operator accepts a map whose hottest part, as large as the mask, has this Dice with it;
            None always corrects, as the paper does.
        truth_neighbours: Near hits and misses by their true class instead of the model's prediction: the optimistic
            reading.
        own_group: Whether a near hit or miss may be of the group of the part that was asked about. The line's own
            neighbours never are of the same part: what is learnt from a second picture of it is learnt already.
        weigh: ``answers``: a part and its refutations count together as much as one part, as in the line's trainer;
            ``pictures``: each picture counts alike, as the paper's training does. Where all layers are trained, a pass
            over the data takes one picture of each answer, drawn anew, or all of them.
        explained: Most defective test parts whose maps are measured after each training; 0 for all.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Of the training of all layers: ``float32``, or ``bfloat16`` for autocast.
        threads: Of torch, in each process.
        processes: Runs beside each other.
    """

    strategies: tuple[str, ...] = tuple(STRATEGIES)
    rounds: int = 10
    per_round: int = 42
    start: int = 211
    seeds: int = 5
    model: str = "efficientnet-lite0"
    options: tuple[tuple[str, str], ...] = (("taps", "10"),)
    side_px: int = 224
    epochs: int = 0
    learning_rate: float = 1e-3
    patience: int = 10
    refutations: RefutationSettings = field(default_factory=RefutationSettings)
    accept_overlap: float | None = None
    truth_neighbours: bool = False
    own_group: bool = False
    weigh: Literal["answers", "pictures"] = "answers"
    explained: int = 60
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: int = 1
    processes: int = 1

    def __post_init__(self) -> None:
        if not self.strategies:
            raise InvalidInputError("strategies must be at least one, got none")
        for name in self.strategies:
            strategy_named(name)
        counts = (self.rounds, self.per_round, self.seeds, self.patience, self.threads, self.processes)
        if min(counts) < 1 or self.start < 4:
            raise InvalidInputError(
                "rounds, per_round, seeds, patience, threads and processes must be >= 1 and start >= 4, got "
                f"{', '.join(map(str, counts))} and {self.start}"
            )
        if self.weigh not in ("answers", "pictures"):
            raise InvalidInputError(f"weigh must be answers or pictures, got {self.weigh!r}")
        if self.epochs < 0 or self.explained < 0:
            raise InvalidInputError(f"epochs and explained must be >= 0, got {self.epochs} and {self.explained}")
        if self.accept_overlap is not None and not 0 < self.accept_overlap <= 1:
            raise InvalidInputError(f"accept_overlap must lie in (0, 1], got {self.accept_overlap}")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPart:
    """One part as the network sees it.

    Attributes:
        group: What a split keeps together.
        defective: The truth.
        image: ``uint8``, shape ``(S, S, 3)``.
        mask: The defect, ``bool``, shape ``(S, S)``; empty on a good part and where nobody drew it.
    """

    group: str
    defective: bool
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One strategy with one seed.

    Attributes:
        strategy: Its name.
        seed: The seed.
        interactions: Parts judged so far, at the first training and after each round.
        figures: By name, as long as ``interactions``; NaN where not defined.
        asked: What each round asked.
    """

    strategy: str
    seed: int
    interactions: tuple[int, ...]
    figures: dict[str, tuple[float, ...]]
    asked: tuple[Round, ...]


def prepare_parts(parts: Sequence[Part], side_px: int) -> list[PreparedPart]:
    """Bring parts and their masks to a network's input, by the same map."""
    preprocessing = Preprocessing(height_px=side_px, width_px=side_px)
    made = []
    for part in parts:
        mask = np.zeros((side_px, side_px), np.bool_)
        if part.mask is not None:
            drawn = np.repeat(part.mask[..., None].astype(np.uint8) * 255, 3, axis=2)
            mask = prepare(drawn, preprocessing)[0, ..., 0] > 127
        made.append(PreparedPart(part.group, part.defective, prepare(part.image, preprocessing)[0], mask))
    return made


def usable_strategies(parts: Sequence[PreparedPart], names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say which strategies the data allow: refutations need masks of the defects.

    Returns:
        Those that can be run, and those that are left out.
    """
    has_masks = any(part.mask.any() for part in parts if part.defective)
    left_out = tuple(name for name in names if strategy_named(name).refute and not has_masks)
    return tuple(name for name in names if name not in left_out), left_out


def run_interactive(
    parts: Sequence[PreparedPart],
    settings: InteractiveSettings,
    on_run: Callable[[Run], None],
    done: frozenset[tuple[str, int]] = frozenset(),
    progress: Progress = lambda _stage, _share, _what: None,
    journals: Path | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Measure every strategy with every seed.

    Args:
        parts: All parts.
        settings: What.
        on_run: Given each run as it ends.
        done: Runs that need no repeating.
        progress: Told how far it is.
        journals: Folder where each run writes down its rounds, and goes on after the last of them; None for none.
        conditions: What the rounds hold for.

    Raises:
        InvalidInputError: If there are too few parts for the start, or one class only.
        ConflictError: If a journal holds rounds of other conditions.
    """
    wanted = [
        (seed, name) for seed in range(settings.seeds) for name in settings.strategies if (name, seed) not in done
    ]
    torch.set_num_threads(settings.threads)
    common = _Common(parts, settings, _rows_of(_learner(settings), parts, progress), journals, conditions or {})
    ended = 0

    def after(run: Run) -> None:
        nonlocal ended
        ended += 1
        if settings.processes > 1:
            progress(f"{settings.processes} beside each other", ended / len(wanted), f"{ended} of {len(wanted)} runs")
        on_run(run)
        Journal.open(journals, run.strategy, run.seed, common.conditions).remove()

    if settings.processes == 1:
        for seed, name in wanted:

            def tell(share: float, what: str, stage: str = f"{name}, seed {seed}") -> None:
                progress(stage, share, what)

            after(_run_one(common, (seed, name), tell))
    else:
        run_side_by_side(_run_one, common, wanted, settings.processes, after)
    # Not before: a process that begins its run may be about to write there.
    if journals is not None and journals.is_dir() and not any(journals.iterdir()):
        journals.rmdir()


class _Common(NamedTuple):
    """What all runs share."""

    parts: Sequence[PreparedPart]
    settings: InteractiveSettings
    rows: NDArray[Any]
    journals: Path | None
    conditions: Mapping[str, Any]


def _run_one(common: _Common, task: tuple[int, str], progress: Callable[[float, str], None] = lambda *_: None) -> Run:
    parts, settings, rows, journals, conditions = common
    seed, name = task
    torch.set_num_threads(settings.threads)
    sets = deal(parts, settings.start, seed)
    journal = Journal.open(journals, name, seed, conditions)
    return _Simulation(parts, sets, strategy_named(name), settings, seed, _learner(settings), rows).run(
        progress, journal
    )


def _learner(settings: InteractiveSettings) -> Learner:
    return TunedLearner(settings) if settings.epochs else FrozenLearner(settings)


def _rows_of(learner: Learner, parts: Sequence[PreparedPart], progress: Progress) -> NDArray[Any]:
    found = []
    for start in range(0, len(parts), _BATCH):
        found.append(learner.rows(np.stack([part.image for part in parts[start : start + _BATCH]])))
        progress("reading features", min(1.0, (start + _BATCH) / len(parts)), f"{len(parts)} parts")
    return np.concatenate(found)


def deal(parts: Sequence[PreparedPart], start: int, seed: int) -> dict[str, list[int]]:
    """Split parts into ``start``, ``pool``, ``validation`` and ``test``; no group is in two of them.

    Args:
        parts: All parts.
        start: Parts of the first training, at least; the group that reaches it is taken whole.
        seed: Of the split.

    Returns:
        Rows by set, ascending.

    Raises:
        InvalidInputError: If nothing is left to ask about, or a class has too few groups.
    """
    groups = [part.group for part in parts]
    kinds = [str(part.defective) for part in parts]
    sides = {name: rows.tolist() for name, rows in split_by_group(groups, kinds, SHARES, seed).items()}
    pool = sides["pool"]
    if start >= len(pool):
        raise InvalidInputError(f"start must leave parts to ask about, got {start} of {len(pool)} that are not tested")
    share = start / len(pool)
    chosen = split_by_group(
        [groups[row] for row in pool], [kinds[row] for row in pool], {"start": share, "pool": 1 - share}, seed
    )
    return {
        "start": [pool[at] for at in chosen["start"]],
        "pool": [pool[at] for at in chosen["pool"]],
        "validation": sides["validation"],
        "test": sides["test"],
    }


class Learner(Protocol):
    """A network that is trained anew after each round.

    What it keeps of a picture is its *row*: what training and prediction need of it, and nothing else.
    """

    model: Classifier

    def rows(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Rows of pictures ``(N, S, S, 3)``, shape ``(N, ...)``."""
        ...

    def train(
        self,
        rows: NDArray[Any],
        labels: NDArray[np.int64],
        owners: NDArray[np.int64],
        validation: LabelledRows,
        seed: int,
    ) -> None:
        """Train from the first weights on; both labels occur, and rows of one owner count together as one part."""
        ...

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Class probabilities, shape ``(N, 2)``."""
        ...

    def embed(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Embeddings, shape ``(N, D)``."""
        ...


LabelledRows = tuple[NDArray[Any], NDArray[np.int64]]
"""Rows and their labels."""


class FrozenLearner:
    """Fits the last layer on frozen features; a row is an embedding."""

    def __init__(self, settings: InteractiveSettings) -> None:
        self.model = _first_weights(settings, 0)

    def rows(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`Learner`."""
        return _embed(self.model, images)

    def train(
        self,
        rows: NDArray[np.float32],
        labels: NDArray[np.int64],
        owners: NDArray[np.int64],
        validation: LabelledRows,  # noqa: ARG002 - a convex problem has no epoch to choose
        seed: int,  # noqa: ARG002 - and no order
    ) -> None:
        """See :class:`Learner`."""
        install_head(self.model, fit_head(rows, labels, 2, sample_weight=1 / np.bincount(owners)[owners]))

    @torch.inference_mode()
    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """See :class:`Learner`."""
        linear = self.model.linear
        said = torch.softmax(linear(torch.from_numpy(rows).to(linear.weight.device)), dim=1)
        return np.asarray(said.cpu().numpy(), np.float64)

    def embed(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Learner`."""
        return rows


class TunedLearner:
    """Trains all layers; a row is the picture."""

    def __init__(self, settings: InteractiveSettings) -> None:
        self._settings = settings
        self.model = _first_weights(settings, 0)

    def rows(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See :class:`Learner`."""
        return images

    def train(
        self,
        rows: NDArray[np.uint8],
        labels: NDArray[np.int64],
        owners: NDArray[np.int64],
        validation: LabelledRows,
        seed: int,
    ) -> None:
        """See :class:`Learner`."""
        settings = self._settings
        self.model = _first_weights(settings, seed)
        how = TrainingSettings(
            epochs=settings.epochs,
            optimiser="sgd",
            learning_rate=settings.learning_rate,
            cosine=False,
            patience=settings.patience,
            seed=seed,
            precision=settings.precision,
            settle=True,
        )
        data = LabelledImages(rows, labels, owners=owners)
        train(self.model, data, how, validation=LabelledImages(*validation), device=settings.device)

    def probabilities(self, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
        """See :class:`Learner`."""
        return predict(self.model, rows).astype(np.float64)

    def embed(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`Learner`."""
        return _embed(self.model, rows)


def _first_weights(settings: InteractiveSettings, seed: int) -> Classifier:
    options = dict(settings.options)
    return create_model(settings.model, 2, usual_weights(settings.model), options=options, seed=seed).to(
        settings.device
    )


@torch.inference_mode()
def _embed(model: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    model.eval()
    device = model.linear.weight.device
    parts = [
        model.embed(torch.from_numpy(images[start : start + _BATCH]).to(device).permute(0, 3, 1, 2)).cpu().numpy()
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)


def _explain(model: Classifier, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grad-CAM of the anomaly score at the input's size, shape ``(S, S)``."""
    explainer = ClassActivation(model.eval())
    (found,) = explainer.explain(image, SCORE_TARGET, lambda rows: predict(model, rows), seed=0, budget=Budget())
    return np.asarray(resize_map(found.values, *image.shape[:2]), np.float32)


class _Simulation:
    """One strategy with one seed: the pool, the operator and the training set of ``near_caipi``."""

    def __init__(
        self,
        parts: Sequence[PreparedPart],
        sets: dict[str, list[int]],
        strategy: Strategy,
        settings: InteractiveSettings,
        seed: int,
        learner: Learner,
        rows: NDArray[Any],
    ) -> None:
        self._parts = parts
        self._strategy = strategy
        self._settings = settings
        self._seed = seed
        self._learner = learner
        self._rows = rows
        self._truth = np.array([int(part.defective) for part in parts], np.int64)
        self._left = list(sets["pool"])
        self._test = sets["test"]
        self._random = np.random.default_rng([seed, 1])
        self._backgrounds = [parts[row].image for row in sets["start"] if not parts[row].defective]
        self._validation = rows[sets["validation"]], self._truth[sets["validation"]]
        self._training = [rows[sets["start"]]]
        self._labels = [self._truth[sets["start"]]]
        self._owners = [np.arange(len(sets["start"]))]
        self._answers: list[tuple[int, Judgement]] = []
        """Of the round that goes on."""
        self._value: dict[int, float] = {}
        self._predicted: dict[int, int] = {}
        self._embeddings: dict[int, NDArray[np.float64]] = {}
        self._explained = _evenly([row for row in self._test if parts[row].mask.any()], settings.explained)

    def run(self, progress: Callable[[float, str], None], journal: Journal | None = None) -> Run:
        """Run the loop, and measure after each training; a journal's rounds are over already."""
        settings = self._settings
        journal = journal or Journal()
        progress(0.0, f"training after round {len(journal.rounds) - 1}" if journal.rounds else "first training")
        self._take_up(journal.rounds)
        self._retrain()
        if not journal.rounds:
            self._keep(journal, None)

        def after(number: int, told: Round) -> None:
            self._keep(journal, told)
            progress(number / settings.rounds, f"round {number}: MCC {journal.rounds[-1].figures['mcc']:.3f}")

        near_caipi(
            self,
            self,
            self._learn,
            self._retrain,
            self._strategy,
            rounds=settings.rounds,
            per_round=settings.per_round,
            first=len(journal.rounds),
            on_round=after,
        )
        asked = [one.asked for one in journal.rounds if one.asked is not None]
        figures = {name: tuple(one.figures[name] for one in journal.rounds) for name in FIGURES}
        interactions = accumulate((told.interactions for told in asked), initial=0)
        return Run(self._strategy.name, self._seed, tuple(interactions), figures, tuple(asked))

    def _keep(self, journal: Journal, asked: Round | None) -> None:
        state = self._random.bit_generator.state
        journal.add(KeptRound(asked, tuple(self._answers), self._measure(), state))
        self._answers = []

    def _take_up(self, rounds: Sequence[KeptRound]) -> None:
        for one in rounds:
            for part, answer in one.answers:
                self._left.remove(part)
                self._learn(part, answer)
            self._random.bit_generator.state = one.random_state
        self._answers = []

    # ---- the pool

    def take_best(self, query: Query) -> int | None:
        """The part in the pool whose answer may teach most."""
        if not self._left:
            return None
        best = int(self._random.integers(len(self._left))) if query is Query.RANDOM else self._most_valuable()
        return self._left.pop(best)

    def _most_valuable(self) -> int:
        return max(range(len(self._left)), key=lambda at: self._value[self._left[at]])

    def take_hits_and_misses(self, part: int, label: int, most: int) -> Sequence[int]:
        """The most similar parts of the pool, of the operator's class and of the other."""
        taken = []
        own = None if self._settings.own_group else self._parts[part].group
        for wanted in (label, 1 - label)[:most]:
            of_class = [row for row in self._left if self._class_of(row) == wanted and self._parts[row].group != own]
            if of_class:
                nearest = max(of_class, key=lambda row: float(self._embeddings[row] @ self._embeddings[part]))
                self._left.remove(nearest)
                taken.append(nearest)
        return taken

    def _class_of(self, row: int) -> int:
        return int(self._parts[row].defective) if self._settings.truth_neighbours else self._predicted[row]

    # ---- the operator

    def judge(self, part: int) -> Judgement:
        """Ground truth, with the mask where there is one."""
        one = self._parts[part]
        label = int(one.defective)
        right = self._predicted[part] == label
        region, reason_right = one.mask, False
        accept = self._settings.accept_overlap
        if right and label and one.mask.any() and accept is not None:
            found = hottest(_explain(self._learner.model, one.image), float(one.mask.mean()))
            if region_dice(found, one.mask) >= accept:
                region, reason_right = found, True
        if not right and not label:
            # What misled the model is shown again as good.
            region = hottest(_explain(self._learner.model, one.image))
        return Judgement(f"{self._seed}-{part}", label, region, right, reason_right)

    # ---- the training set

    def _learn(self, part: int, answer: Judgement) -> None:
        self._answers.append((part, answer))
        refutations = self._settings.refutations if self._strategy.refute else None
        lessons = lessons_of(self._parts[part].image, answer, refutations, self._backgrounds)
        self._training.append(self._learner.rows(np.stack([lesson.image for lesson in lessons])))
        self._labels.append(np.array([lesson.label for lesson in lessons], np.int64))
        fresh = int(self._owners[-1][-1]) + 1
        alike = self._settings.weigh == "pictures"
        self._owners.append(fresh + (np.arange(len(lessons)) if alike else np.zeros(len(lessons), np.int64)))

    def _retrain(self) -> None:
        rows, labels, owners = (np.concatenate(one) for one in (self._training, self._labels, self._owners))
        self._learner.train(rows, labels, owners, self._validation, self._seed)
        if not self._left:
            return
        pool = self._rows[self._left]
        probabilities = self._learner.probabilities(pool)
        value = information(self._strategy.query, probabilities, random=np.random.default_rng([self._seed, 2]))
        embeddings = self._learner.embed(pool).astype(np.float64)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        self._value = dict(zip(self._left, value.tolist(), strict=True))
        self._predicted = dict(zip(self._left, probabilities.argmax(axis=1).tolist(), strict=True))
        self._embeddings = dict(zip(self._left, embeddings, strict=True))

    # ---- what is measured

    def _measure(self) -> dict[str, float]:
        truth = self._truth[self._test] == 1
        flagged = self._learner.probabilities(self._rows[self._test]).argmax(axis=1) == 1
        model = self._learner.model
        maps = [(_explain(model, self._parts[row].image), self._parts[row].mask) for row in self._explained]
        return {
            "accuracy": float((flagged == truth).mean()),
            "f1": f1(flagged, truth),
            "mcc": mcc(flagged, truth),
            "explanation_dice": float(np.mean([dice(*one) for one in maps])) if maps else math.nan,
            "explanation_hit": float(np.mean([hit(*one) for one in maps])) if maps else math.nan,
        }


def _evenly(rows: Sequence[int], count: int) -> list[int]:
    if not count or len(rows) <= count:
        return list(rows)
    return [rows[at] for at in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def interactive_conditions(
    parts: Sequence[PreparedPart], settings: InteractiveSettings, source: str, left_out: Sequence[str]
) -> dict[str, Any]:
    """Say in words and numbers what the figures hold for; how many seeds there are is no condition."""
    how = (
        f"all layers, SGD {settings.learning_rate:g}, momentum 0.9, at most {settings.epochs} epochs, "
        f"patience {settings.patience}" + (", bfloat16" if settings.precision == "bfloat16" else "")
        if settings.epochs
        else "frozen features, last layer fitted anew"
    )
    refutations = settings.refutations
    return {
        "data": source,
        "parts": len(parts),
        "defective": sum(part.defective for part in parts),
        "groups": len({part.group for part in parts}),
        "split": ", ".join(f"{name} {share:.0%}" for name, share in SHARES.items()) + " of the groups, by group",
        "start": settings.start,
        "rounds": settings.rounds,
        "per_round": settings.per_round,
        "network": settings.model + "".join(f", {name} {value}" for name, value in settings.options),
        "training": how,
        "input": f"{settings.side_px} px, letterbox with mirrored fill",
        "operator": "always corrects"
        if settings.accept_overlap is None
        else f"accepts a map with Dice {settings.accept_overlap:g}",
        "neighbours": ("by truth" if settings.truth_neighbours else "by prediction")
        + (", of any group" if settings.own_group else ", of other groups"),
        "weights": "an answer with its refutations counts as one part"
        if settings.weigh == "answers"
        else "each picture counts alike",
        "refutations": {
            name: getattr(refutations, name)
            for name in (
                "zoom_in",
                "zoom_out",
                "move",
                "light",
                "paste",
                "zoom",
                "widen",
                "turn_degrees",
                "shift",
                "flips",
            )
        },
        "backgrounds": "good parts of the first training",
        "maps": f"Grad-CAM of the score, at most {settings.explained or 'all'} defective test parts with a mask",
        "left_out": list(left_out),
    }
