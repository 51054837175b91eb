"""An index that was lost fills itself: one that is empty, or was left half filled, is filled from the record."""

from __future__ import annotations

import threading

from services.adapters.caserecord import CaseRecord
from services.adapters.ports import CaseIndex, EmbeddingIndex
from services.core.errors import UnavailableError
from services.feedback.rebuild import fill_index
from services.runtime.background import BackgroundThread
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)


class IndexRefill:
    """Fills an index that needs it, on a thread of its own.

    People can answer meanwhile: what arrives is added by the service or by this, and either changes nothing that the
    other added.

    Args:
        index: The index.
        record: What it is made from.
        embeddings: Takes what the models saw in the cases; None leaves that out.
        backoff: Between tries while the record is away.
    """

    def __init__(
        self,
        index: CaseIndex,
        record: CaseRecord,
        embeddings: EmbeddingIndex | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._index = index
        self._embeddings = embeddings
        self._record = record
        self._backoff = backoff or Backoff(cap_s=30.0)
        self._stopping = threading.Event()
        self._thread = BackgroundThread("refill", self._run)

    def start(self) -> None:
        """Begin, if the index needs it."""
        if self._index.needs_fill():
            # Before anything else adds to it: an index that holds one new case no longer looks as if it lacked others.
            self._index.note_fill(ended=False)
            self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._thread.check()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is done; says whether it is."""
        return self._thread.join(timeout_s)

    def close(self) -> None:
        """Stop between two tries; a fill under way ends with the process, and the next start goes on. Idempotent."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                done = fill_index(self._index, self._record, embeddings=self._embeddings)
            except UnavailableError as error:
                LOG.warning("the index waits to be filled from the record: %s", error)
                self._stopping.wait(self._backoff.next_s())
                continue
            if done.cases or done.reviews:
                LOG.info("the index was filled with %s cases and %s reviews", done.cases, done.reviews)
            for key, why in done.damaged:
                LOG.warning("what cannot be read is left out of the index: %s: %s", key, why)
            return
