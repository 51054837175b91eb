"""What is known of runs: those on record, and the one that goes on here, as far as it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from services.adapters.trainingrecord import TrainingRecord
from services.core.errors import SightlineError
from services.core.training_run import TrainingRun

# Another process' run is looked for on record this often.
_LOOK_S: Final = 1.0


class RunBook:
    """Written by the threads that move runs on, read by all. Thread-safe.

    Args:
        record: Where runs are kept.
    """

    def __init__(self, record: TrainingRecord) -> None:
        self.record = record
        self._changed = threading.Condition()
        self._open: dict[str, TrainingRun] = {}

    # ---- written

    def show(self, run: TrainingRun) -> None:
        """Tell how far a run is, without keeping it."""
        with self._changed:
            self._open[run.run_id] = run
            self._changed.notify_all()

    def keep(self, run: TrainingRun) -> None:
        """Put a run on record, then tell of it; raises ``UnavailableError`` while the store is away or full."""
        self.record.put(run)
        self.show(run)

    def let_go(self, run_id: str) -> None:
        """What is on record of a run is all there is: it has ended, or goes on elsewhere."""
        with self._changed:
            self._open.pop(run_id, None)
            self._changed.notify_all()

    # ---- read

    def get(self, run_id: str) -> TrainingRun:
        """A run as it is now; raises as ``TrainingRecord.find``."""
        with self._changed:
            run = self._open.get(run_id)
        return run if run is not None else self.record.find(run_id)

    def page(self, *, alias: str, author: str, limit: int, token: str) -> tuple[list[TrainingRun], str]:
        """Runs, the newest first, each as it is now; see ``TrainingRecord.page``."""
        runs, following = self.record.page(alias=alias, author=author, limit=limit, token=token)
        with self._changed:
            return [self._open.get(run.run_id, run) for run in runs], following

    def follow(self, run_id: str, until: Callable[[], bool], look_s: float = _LOOK_S) -> Iterator[TrainingRun]:
        """Give a run as it is now and after every change, until it has ended.

        Args:
            run_id: Which.
            until: Asked again and again; True ends it.
            look_s: Time between two looks at the record for a run that goes on elsewhere.

        Raises:
            NotFoundError: If it is not on record.
            UnavailableError: If the record does not answer at first; later it is waited for.
        """
        run = self.get(run_id)
        yield run
        while not run.has_ended and not until():
            now = self._after(run, look_s)
            if now is None:
                try:
                    now = self.record.get(run.alias, run_id)
                except SightlineError as error:
                    if not error.retriable:
                        raise
                    time.sleep(look_s)
                    continue
            if _told(now) != _told(run):
                run = now
                yield run

    def _after(self, run: TrainingRun, timeout_s: float) -> TrainingRun | None:
        """The run once it has changed here; None where it is not shown here or does not change in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._open.get(run.run_id, run) is not run, timeout_s)
            return self._open.get(run.run_id)


def _told(run: TrainingRun) -> str:
    # As text: values with NaN differ from themselves.
    return repr(replace(run, report=None)) + str(run.report is None)
