"""Starts the process that trains, follows it, and says what came of it; see ``services.trainer.work``.

A training may take all memory, crash inside a library, or be killed: none of that is the trainer's end. Whoever calls
again with the same folder and order goes on from the last checkpoint.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from services.core.errors import DivergedError, InvalidInputError, SightlineError, UnavailableError
from services.core.training_run import CandidateReport
from services.trainer import work
from services.trainer.order import LearningOrder, LearningProgress
from services.trainer.plainfile import from_json

_BATCH_SIZE: Final = "batch_size"
_LOG: Final = "child.log"
_POLL_S: Final = 0.2
_LEAST_BATCH: Final = 2
_TAIL_BYTES: Final = 2_000


class TrainingFailedError(SightlineError):
    """A candidate could not be made.

    Args:
        message: Why, for people.
        reason: Short stable token: ``out_of_memory``, ``trainer_child_died``, ``cancelled``, or that of the refusal.
    """

    reason = "training_failed"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the process runs.

    Attributes:
        niceness: Added to that of the caller, 0..19: what a line does comes first.
        threads: Of its arithmetic, ``>= 1``.
        processes: That train over epochs together, ``>= 1``, one for each GPU; several are started by ``torchrun``.
        memory_bytes: Most memory of its own; 0 for no bound.
        grace_s: Time to end after SIGTERM before it is killed, ``> 0``.
    """

    niceness: int = 10
    threads: int = 1
    processes: int = 1
    memory_bytes: int = 0
    grace_s: float = 5.0

    def __post_init__(self) -> None:
        least = min(self.threads, self.processes)
        if not 0 <= self.niceness <= 19 or least < 1 or self.memory_bytes < 0 or not self.grace_s > 0:
            raise InvalidInputError(
                "niceness must lie in 0..19, threads and processes be >= 1, memory_bytes >= 0 and grace_s above 0, got "
                f"{self.niceness}, {self.threads}, {self.processes}, {self.memory_bytes} and {self.grace_s}"
            )


class Worker:
    """Runs trainings in processes of their own, one at a time.

    Args:
        settings: How.
    """

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        self._settings = settings or WorkerSettings()

    def run(
        self,
        folder: Path,
        order: LearningOrder,
        on_progress: Callable[[LearningProgress], None],
        cancelled: Callable[[], bool],
    ) -> CandidateReport:
        """Make a candidate; its version then lies in ``folder / "version"``.

        Args:
            folder: Of this run alone. What an earlier call with the same order left there is gone on with, or taken as
                it is where it was done.
            order: What is to be made.
            on_progress: Told how far it is, on this thread.
            cancelled: Asked several times a second; True ends the process.

        Returns:
            What the candidate proved.

        Raises:
            TrainingFailedError: ``cancelled``; ``out_of_memory`` where half the batch did not fit either;
                ``trainer_child_died`` where the process ended otherwise than it says; the refusal's own reason, such as
                ``nothing_to_learn``, where nothing can be made of the order.
            DivergedError: If the loss is no number any more.
            UnavailableError: If the object store does not answer.
        """
        settings = self._settings
        work.write_order(folder, order)
        full = order.settings.finetune.batch_size
        halved = max(_LEAST_BATCH, full // 2)
        kept = folder / _BATCH_SIZE
        # What did not fit the last time does not fit now.
        known = kept.is_file() and kept.read_text() == str(halved)
        for batch_size in (halved,) if known else (full, halved):
            together = settings.processes if order.settings.needs_pictures else 1
            code = self._run(folder, batch_size, together, on_progress, cancelled)
            if code not in (work.OUT_OF_MEMORY, -signal.SIGKILL):
                return _outcome(folder, code)
            kept.write_text(str(halved))
        raise TrainingFailedError(
            f"a training must fit into memory, it did not, with batches of {halved} pictures either: "
            f"{_tail(folder / _LOG)}",
            "out_of_memory",
        )

    def _run(
        self,
        folder: Path,
        batch_size: int,
        together: int,
        on_progress: Callable[[LearningProgress], None],
        cancelled: Callable[[], bool],
    ) -> int:
        settings = self._settings
        (folder / work.ERROR).unlink(missing_ok=True)
        argv = ["nice", "-n", str(settings.niceness), sys.executable, "-m"]
        if together > 1:
            argv += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(together), "-m"]
        argv += ["services.trainer.work", str(folder)]
        argv += ["--batch-size", str(batch_size), "--memory-bytes", str(settings.memory_bytes), "--with-parent"]
        threads = str(settings.threads)
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        with (folder / _LOG).open("wb") as log:
            child = subprocess.Popen(  # noqa: S603 - our own module
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, start_new_session=True
            )
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(child.stdout, lines), name="training", daemon=True)
        reader.start()
        try:
            self._follow(child, lines, on_progress, cancelled)
        finally:
            self._stop(child)
            reader.join()
            for end in (child.stdin, child.stdout):
                if end is not None:
                    end.close()
        if together > 1 and child.returncode > 0 and (folder / work.ERROR).is_file():
            # torchrun says only that one of them failed.
            return work.read_error(folder).code
        return child.returncode

    def _follow(
        self,
        child: subprocess.Popen[bytes],
        lines: queue.SimpleQueue[bytes | None],
        on_progress: Callable[[LearningProgress], None],
        cancelled: Callable[[], bool],
    ) -> None:
        while True:
            if cancelled():
                raise TrainingFailedError("the training was cancelled", "cancelled")
            try:
                line = lines.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if line is None:
                child.wait()
                return
            progress = _progress(line)
            if progress is not None:
                on_progress(progress)

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(self._settings.grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _read(stream: IO[bytes] | None, lines: queue.SimpleQueue[bytes | None]) -> None:
    if stream is not None:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _progress(line: bytes) -> LearningProgress | None:
    """What a line tells; None for one that a library wrote."""
    try:
        return from_json(LearningProgress, line, "progress")
    except InvalidInputError:
        return None


def _outcome(folder: Path, code: int) -> CandidateReport:
    if code == work.DONE:
        return work.read_report(folder)
    if code in (work.REFUSED, work.DIVERGED, work.UNAVAILABLE):
        error = work.read_error(folder)
        if code == work.DIVERGED:
            raise DivergedError(error.text)
        if code == work.UNAVAILABLE:
            raise UnavailableError(error.text)
        raise TrainingFailedError(error.text, error.reason)
    raise TrainingFailedError(
        f"the process that trains must end as it says, it ended with {code}: {_tail(folder / _LOG)}",
        "trainer_child_died",
    )


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
