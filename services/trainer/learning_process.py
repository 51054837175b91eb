"""The learner as the service has it: in processes of their own, on versions that are installed on the local disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.adapters.modelfolder import read_holdout
from services.adapters.modelstore import ModelStore
from services.core.errors import InvalidInputError, UnavailableError
from services.core.training_run import CandidateReport
from services.trainer import work
from services.trainer.compare_work import WrittenComparison, write_comparison
from services.trainer.learner import CancelledLessonError, Lesson, LessonProgress
from services.trainer.order import FinetuneSettings, LearningOrder, LearningProgress, LearningSettings
from services.trainer.settings import TrainerSettings
from services.trainer.worker import TrainingFailedError, Worker, WorkerSettings

_CANCELLED: Final = "cancelled"
_COMPARE_TIMEOUT_S: Final = 1_800.0
_NICENESS: Final = 10
_KEPT_VERSIONS: Final = 6


class LearningProcess:
    """See ``services.trainer.learner.Learner``. Thread-safe.

    Args:
        settings: The service's.
        store: Model versions.
    """

    def __init__(self, settings: TrainerSettings, store: ModelStore) -> None:
        self._settings = settings
        self._store = store
        self._worker = Worker(
            WorkerSettings(
                niceness=_NICENESS,
                threads=settings.learning.threads,
                processes=settings.learning.processes,
                memory_bytes=settings.learning.memory_bytes,
                grace_s=min(5.0, settings.drain_s / 2),
            )
        )

    def held_out(self, alias: str, version: int) -> frozenset[str]:
        """See ``Learner``."""
        return frozenset(part.part_id for part in read_holdout(self._installed(alias, version)).parts)

    def learn(
        self, lesson: Lesson, on_progress: Callable[[LessonProgress], None], cancelled: Callable[[], bool]
    ) -> CandidateReport:
        """See ``Learner``."""
        order = LearningOrder(
            alias=lesson.alias,
            version=lesson.version,
            live=self._installed(lesson.alias, lesson.live_version),
            snapshot=lesson.snapshot,
            settings=self._learning_settings(lesson),
        )

        def tell(progress: LearningProgress) -> None:
            on_progress(
                LessonProgress(progress.share, progress.doing, progress.evaluating, progress.epochs, progress.left_out)
            )

        try:
            return self._worker.run(lesson.folder, order, tell, cancelled)
        except TrainingFailedError as error:
            if error.reason == _CANCELLED:
                raise CancelledLessonError from error
            raise

    def candidate(self, folder: Path) -> Path:
        """See ``Learner``."""
        return folder / work.VERSION

    def compare(self, alias: str, version: int, other_version: int) -> CandidateReport:
        """See ``Learner``."""
        first, other = (self._installed(alias, number) for number in (version, other_version))
        self._settings.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="compare-", dir=self._settings.work) as name:
            folder = Path(name)
            written = WrittenComparison(
                alias, str(first.resolve()), str(other.resolve()), self._learning_settings(None)
            )
            write_comparison(folder, written)
            return _compared(folder, self._settings.learning.threads)

    def _installed(self, alias: str, version: int) -> Path:
        root = self._settings.work / "versions"
        folder = self._store.install(alias, version, root)
        # Used now: what was not used for longest goes first.
        os.utime(folder)
        # A few are enough: the live one, and what is compared.
        others = sorted(folder.parent.iterdir(), key=lambda one: one.stat().st_mtime)
        for old in others[:-_KEPT_VERSIONS]:
            if old != folder and not old.name.startswith("."):
                shutil.rmtree(old, ignore_errors=True)
        return folder

    def _learning_settings(self, lesson: Lesson | None) -> LearningSettings:
        learning = self._settings.learning
        return LearningSettings(
            recipe=lesson.recipe if lesson else self._settings.recipe,
            loss=lesson.loss if lesson else self._settings.loss,
            seed=lesson.seed if lesson else learning.seed,
            answer_weight=learning.answer_weight,
            finetune=FinetuneSettings(epochs=learning.epochs, batch_size=learning.batch_size, device=learning.device),
            min_class_parts=learning.min_class_parts,
            gates=self._settings.gates.policy,
            threads=learning.threads,
            areas=tuple(sorted(learning.areas.items())),
        )


def _compared(folder: Path, threads: int) -> CandidateReport:
    argv = ["nice", "-n", str(_NICENESS), sys.executable, "-m", "services.trainer.compare_work", str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    log = folder / "child.log"
    with log.open("wb") as file:
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=env,
                timeout=_COMPARE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"a comparison must end within {_COMPARE_TIMEOUT_S:g} s, it did not") from error
    if done.returncode == work.DONE:
        return work.read_report(folder)
    if done.returncode in (work.REFUSED, work.UNAVAILABLE):
        why = work.read_error(folder)
        raise UnavailableError(why.text) if done.returncode == work.UNAVAILABLE else InvalidInputError(why.text)
    said = log.read_text(errors="replace").strip().splitlines()
    raise UnavailableError(
        f"the process that compares must end as it says, it ended with {done.returncode}: {said[-1] if said else ''}"
    )
