"""What is needed of the part that learns: it runs outside of this process, which never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.core.selection.snapshot import Snapshot
from services.core.training_run import CandidateReport, EpochLoss, Loss, Recipe


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is to be learnt, and against whom the candidate proves itself.

    Attributes:
        folder: Its own on the local disk; what lies there of an earlier try is gone on from.
        alias: The alias.
        version: Number of the candidate.
        live_version: What is live.
        snapshot: What people answered.
        recipe: What learns.
        loss: By what.
        seed: Of everything that is drawn.
    """

    folder: Path
    alias: str
    version: int
    live_version: int
    snapshot: Snapshot
    recipe: Recipe
    loss: Loss
    seed: int


@dataclass(frozen=True, slots=True)
class LessonProgress:
    """How far it is.

    Attributes:
        share: Of what it does now, 0 to 1.
        doing: For people.
        evaluating: Whether the candidate is made, and proves itself.
        epochs: Losses so far.
        left_out: Answered pictures that turned out to be of no use, by reason.
    """

    share: float
    doing: str
    evaluating: bool = False
    epochs: tuple[EpochLoss, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()


class CancelledLessonError(Exception):
    """The lesson was ended by whoever asked for it; what was learnt lies in its folder."""


class Learner(Protocol):
    """Makes candidates, and compares versions. Each call takes minutes and may be made from any thread."""

    def held_out(self, alias: str, version: int) -> frozenset[str]:
        """Parts of a version's frozen hold-out.

        Raises:
            SightlineError: As of a version that cannot be installed.
        """
        ...

    def learn(
        self, lesson: Lesson, on_progress: Callable[[LessonProgress], None], cancelled: Callable[[], bool]
    ) -> CandidateReport:
        """Make a candidate and let it prove itself.

        Args:
            lesson: What is to be learnt.
            on_progress: Told how far it is.
            cancelled: Asked again and again; True ends it.

        Returns:
            What it proved; the version lies in :meth:`candidate`.

        Raises:
            CancelledLessonError: When it was ended.
            UnavailableError: When something is away; the same call goes on from the last checkpoint.
            SightlineError: When it cannot be learnt.
        """
        ...

    def candidate(self, folder: Path) -> Path:
        """Where a lesson leaves the version that it made."""
        ...

    def compare(self, alias: str, version: int, other_version: int) -> CandidateReport:
        """Compare two versions on the hold-out of the first, as if it were live; without answered parts.

        Raises:
            NotFoundError: If the store has no such version.
            SightlineError: When they cannot be compared.
        """
        ...
