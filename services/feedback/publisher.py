"""Sends reviews to their topic once they are on record. A broker that is away keeps nobody from reviewing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Final

from services.adapters.codec_review import encode_review
from services.adapters.ports import CaseIndex, RecordWriter
from services.core import topics
from services.core.errors import SightlineError, UnavailableError
from services.core.review import Review
from services.runtime import metrics
from services.runtime.background import BackgroundThread
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

_BATCH: Final = 200
# A review that another process has put into the index is noticed this late.
_LOOK_S: Final = 5.0
# What comes within this time goes out and is noted together: one note costs as much as many, and nobody waits for it.
_GATHER_S: Final = 0.25
_ACK_S: Final = 35.0


class ReviewPublisher:
    """One thread that empties the index's list of unpublished reviews into the topic ``reviews``.

    A review may be sent twice, when its acknowledgement or the note of it is lost; its id tells.

    Args:
        index: Knows what waits.
        writer: Writes.
        look_s: Longest time between two looks at the index.
        gather_s: Wait after a review came, for those that come right after it.
        ack_s: Longest wait for an acknowledgement.
        backoff: Waits while the broker or the index is away.
    """

    def __init__(
        self,
        index: CaseIndex,
        writer: RecordWriter,
        *,
        look_s: float = _LOOK_S,
        gather_s: float = _GATHER_S,
        ack_s: float = _ACK_S,
        backoff: Backoff | None = None,
    ) -> None:
        self._index = index
        self._writer = writer
        self._look_s = look_s
        self._gather_s = gather_s
        self._ack_s = ack_s
        self._backoff = backoff or Backoff(cap_s=5.0)
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._away = False
        self._thread = BackgroundThread("publisher", self._run)

    def start(self) -> None:
        """Begin with what waits from an earlier life."""
        metrics.FEEDBACK_DEPENDENCY_UP.labels("reviews").set(1)
        self._thread.start()

    def wake(self) -> None:
        """A review waits."""
        self._wanted.set()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._thread.check()

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what waits, once, and stop; what is left is sent by the next process. Idempotent."""
        self._stop.set()
        self._wanted.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._wanted.wait(self._look_s):
                self._stop.wait(self._gather_s)
            self._wanted.clear()
            try:
                while self.publish():
                    pass
            except SightlineError as error:
                if not error.retriable:
                    raise
                self._wait_out(error)
        self._finish()

    def _finish(self) -> None:
        if self._away:
            return
        # Whatever does not work now is left to the next process.
        with contextlib.suppress(SightlineError):
            self.publish()

    def publish(self) -> bool:
        """Send what waits, the oldest first, at most a batch; tells whether there may be more.

        Raises:
            SightlineError: When the broker or the index does not take one; those before it are noted as published.
        """
        reviews = self._index.unpublished(_BATCH)
        metrics.FEEDBACK_UNPUBLISHED.set(len(reviews))
        if not reviews:
            self._answered()
            return False
        sent: list[str] = []
        try:
            self._send(reviews, sent)
        finally:
            # Also when a later one fails: what is acknowledged need not be sent again.
            if sent:
                self._index.set_published(sent)
                metrics.FEEDBACK_PUBLISHED.inc(len(sent))
                metrics.FEEDBACK_UNPUBLISHED.set(len(reviews) - len(sent))
        self._answered()
        return len(reviews) == _BATCH

    def _send(self, reviews: Sequence[Review], sent: list[str]) -> None:
        acks = [
            self._writer.send(topics.REVIEWS, key=review.frame_id.encode(), value=encode_review(review))
            for review in reviews
        ]
        for review, ack in zip(reviews, acks, strict=True):
            try:
                ack.result(self._ack_s)
            except TimeoutError as error:
                raise UnavailableError(f"a review must be acknowledged within {self._ack_s:g} s, was not") from error
            sent.append(review.review_id)

    def _wait_out(self, error: SightlineError) -> None:
        if not self._away:
            self._away = True
            LOG.warning("reviews wait to be published: %s", error, extra={"reason": error.reason})
            metrics.FEEDBACK_DEPENDENCY_UP.labels("reviews").set(0)
        self._stop.wait(self._backoff.next_s())
        self._wanted.set()

    def _answered(self) -> None:
        if self._away:
            self._away = False
            LOG.info("reviews are published again")
            metrics.FEEDBACK_DEPENDENCY_UP.labels("reviews").set(1)
        self._backoff.reset()
