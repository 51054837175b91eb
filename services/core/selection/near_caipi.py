"""NearCAIPI: learning from an operator who corrects verdict and reason (paper 1, section 3.4, algorithm 1, figure 3).

One loop over ports; CAIPI, near active learning, active learning and random addition are the same loop with parts of it
switched off (``services.core.selection.strategies``). Each part that is judged, near hits and near misses included,
costs one interaction and leaves the pool, and every strategy gets the same number a round: what a strategy gains it
gains by what it asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.core.errors import InvalidInputError
from services.core.selection.lessons import Judgement
from services.core.selection.strategies import Query, Strategy

Part = TypeVar("Part")
Judged_contra = TypeVar("Judged_contra", contravariant=True)


class Pool(Protocol[Part]):
    """Parts that nobody has answered; the model's view of them is that of the last training."""

    def take_best(self, query: Query) -> Part | None:
        """Take out the part whose answer may teach most; None when there is none left."""
        ...

    def take_hits_and_misses(self, part: Part, label: int, most: int) -> Sequence[Part]:
        """Take out the near hit and the near miss of a part.

        Args:
            part: The part.
            label: The operator's class of it; the neighbours' classes are the model's predictions.
            most: Parts that are taken, ``>= 1``.

        Returns:
            The near hit, then the near miss, as far as there are any.
        """
        ...


class Expert(Protocol[Judged_contra]):
    """Who answers: a person, or ground truth in an experiment."""

    def judge(self, part: Judged_contra) -> Judgement:
        """Say whether verdict and reason are right, and what is right where they are not."""
        ...


@dataclass(frozen=True, slots=True)
class Round:
    """What one round asked.

    Attributes:
        interactions: Parts that were judged.
        wrong_verdicts: Of these, verdicts that were corrected.
        wrong_reasons: Of these, right verdicts whose reason was corrected.
        neighbours: Of these, near hits and near misses.
    """

    interactions: int = 0
    wrong_verdicts: int = 0
    wrong_reasons: int = 0
    neighbours: int = 0


def run_round(
    pool: Pool[Part],
    expert: Expert[Part],
    learn: Callable[[Part, Judgement], None],
    strategy: Strategy,
    interactions: int,
) -> Round:
    """Ask so many times: lines 1 to 27 of algorithm 1, ``N`` times.

    Args:
        pool: What may be asked about.
        expert: Who answers.
        learn: Takes an answer into the training set, with its refutations where the strategy makes them.
        strategy: What is switched on.
        interactions: Parts to judge, ``>= 1``.

    Returns:
        What was asked; fewer interactions only where the pool ran out.

    Raises:
        InvalidInputError: If no interaction is asked for.
    """
    if interactions < 1:
        raise InvalidInputError(f"interactions must be >= 1, got {interactions}")
    judged: list[Judgement] = []
    neighbours = 0

    def ask(part: Part) -> Judgement:
        answer = expert.judge(part)
        learn(part, answer)
        judged.append(answer)
        return answer

    while len(judged) < interactions:
        part = pool.take_best(strategy.query)
        if part is None:
            break
        answer = ask(part)
        if not strategy.near or answer.verdict_right:
            continue
        # What is taken out is asked about: a round that is full takes no neighbours out of the pool.
        if len(judged) < interactions:
            for neighbour in pool.take_hits_and_misses(part, answer.label, interactions - len(judged)):
                ask(neighbour)
                neighbours += 1
    return Round(
        len(judged),
        sum(not one.verdict_right for one in judged),
        sum(one.verdict_right and not one.reason_right for one in judged),
        neighbours,
    )


def near_caipi(
    pool: Pool[Part],
    expert: Expert[Part],
    learn: Callable[[Part, Judgement], None],
    retrain: Callable[[], None],
    strategy: Strategy,
    *,
    rounds: int,
    per_round: int,
    first: int = 1,
    on_round: Callable[[int, Round], None] = lambda _number, _round: None,
) -> None:
    """Run algorithm 1 until its rounds are over or nothing is left to ask.

    Args:
        pool: What may be asked about.
        expert: Who answers.
        learn: Takes an answer into the training set.
        retrain: Trains on it (line 29); the pool sees with the new model from then on.
        strategy: What is switched on.
        rounds: Trainings, ``>= 1``.
        per_round: Interactions before each, ``>= 1``.
        first: The round to begin with; those before are over.
        on_round: Told after each training: its number from 1, and what was asked before it.

    Raises:
        InvalidInputError: If there is no round or no interaction.
    """
    if rounds < 1:
        raise InvalidInputError(f"rounds must be >= 1, got {rounds}")
    for number in range(first, rounds + 1):
        asked = run_round(pool, expert, learn, strategy, per_round)
        if not asked.interactions:
            return
        retrain()
        on_round(number, asked)
