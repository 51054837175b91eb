"""What the models saw in frames and cases, on its way into the index and out of it.

What cannot be compared is counted, told once for each model version, and left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import EmbeddingIndex, KeptEmbedding
from services.core.errors import SightlineError
from services.core.identity import case_id
from services.core.neighbours import Flaw, flaw_of, unit
from services.core.types import Case, FrameEmbedding, Inspection
from services.runtime import metrics
from services.runtime.background import BackgroundThread
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_NS_PER_HOUR: Final = 3_600_000_000_000


class EmbeddingIntake:
    """Takes embeddings in. Thread-safe.

    Args:
        index: Where they are kept.
        keep_hours: How long those of frames are kept, from the verdict on; those of cases stay.
        clock_ns: Wall clock.
    """

    def __init__(self, index: EmbeddingIndex, *, keep_hours: float, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._index = index
        self._keep_ns = round(keep_hours * _NS_PER_HOUR)
        self._clock_ns = clock_ns
        self._told: set[tuple[str, int, Flaw]] = set()

    def of_case(self, case: Case) -> KeptEmbedding | None:
        """What is kept of a case; None where no model saw it, or its embedding has a flaw."""
        if not case.inspection.model_version:
            return None
        return self._kept(case.case_id, case.inspection, case.embedding, expires_at_ns=0)

    def of_frame(self, frame: FrameEmbedding) -> KeptEmbedding | None:
        """What is kept of a frame; None where it would be forgotten at once, or its embedding has a flaw."""
        seen = frame.inspection
        expires_at_ns = seen.decided_at_ns + self._keep_ns
        if expires_at_ns <= self._clock_ns():
            metrics.FEEDBACK_EMBEDDINGS.labels("expired").inc()
            return None
        derived_id = case_id(seen.frame_id, seen.alias, seen.model_version)
        return self._kept(derived_id, seen, frame.embedding, expires_at_ns=expires_at_ns)

    def put(self, embeddings: Sequence[KeptEmbedding]) -> None:
        """Keep embeddings.

        Raises:
            UnavailableError: When the index does not answer; the same again changes nothing.
        """
        if not embeddings:
            return
        left_out = self._index.put(embeddings)
        metrics.FEEDBACK_EMBEDDINGS.labels("kept").inc(len(embeddings) - left_out)
        if left_out:
            self._tell(embeddings[0].inspection, Flaw.OTHER_LENGTH, left_out)

    def _kept(
        self, derived_id: str, seen: Inspection, embedding: NDArray[np.float16], *, expires_at_ns: int
    ) -> KeptEmbedding | None:
        flaw = flaw_of(embedding)
        if flaw is not None:
            self._tell(seen, flaw)
            return None
        return KeptEmbedding(derived_id, seen, unit(embedding), expires_at_ns)

    def _tell(self, seen: Inspection, flaw: Flaw, count: int = 1) -> None:
        metrics.FEEDBACK_EMBEDDINGS.labels(flaw.value).inc(count)
        about = (seen.alias, seen.model_version, flaw)
        if about not in self._told:
            self._told.add(about)
            LOG.warning(
                "an embedding cannot be compared and is left out, as all like it will be without a word: %s",
                flaw.value,
                extra={"alias": seen.alias, "model_version": seen.model_version, "frame_id": seen.frame_id},
            )


class EmbeddingTidier:
    """One thread that forgets embeddings whose time has come.

    Args:
        index: Where they are kept.
        interval_s: Time between two rounds.
        clock_ns: Wall clock.
    """

    def __init__(self, index: EmbeddingIndex, *, interval_s: float, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._index = index
        self._interval_s = interval_s
        self._clock_ns = clock_ns
        self._stop = threading.Event()
        self._thread = BackgroundThread("tidier", self._run)

    def start(self) -> None:
        """Begin, with what expired while nobody looked."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._thread.check()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop; idempotent."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._round()
            self._stop.wait(self._interval_s)

    def _round(self) -> None:
        try:
            forgotten = self._index.tidy(self._clock_ns())
        except SightlineError as error:
            if not error.retriable:
                raise
            LOG.warning("embeddings are forgotten later: %s", error, extra={"reason": error.reason})
            return
        metrics.FEEDBACK_EMBEDDINGS.labels("forgotten").inc(forgotten)
