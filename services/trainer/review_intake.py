"""Takes reviews from their topic: each is noted, and whoever looks whether a run is due is woken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from services.adapters.codec_review import decode_review
from services.adapters.ports import Record, TopicPartition
from services.core.errors import EventDecodeError
from services.runtime import metrics
from services.runtime.logging import get_logger
from services.trainer.answers import AnswerBook

LOG = get_logger(__name__)

_ROOM: Final = 1_000


class ReviewIntake:
    """The processor of a consumer loop; every record is counted when it is taken.

    What was counted is not written down: a process that starts reads all reviews from the record, where each lay before
    it came through the topic. So an offset may be committed as soon as its record was taken.

    Args:
        answers: Takes them.
        on_taken: Told when there are new ones.
        check_others: Raises what ended another part of the service.
    """

    def __init__(
        self, answers: AnswerBook, on_taken: Callable[[], None], check_others: Callable[[], None] = lambda: None
    ) -> None:
        self._answers = answers
        self._on_taken = on_taken
        self._check_others = check_others
        self._lock = threading.Lock()
        self._reached: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}

    def check(self) -> None:
        """Raise what ended another part of the service, if anything did."""
        self._check_others()

    def room(self) -> int:
        """How many records may be handed over now."""
        return _ROOM

    def wait_for_room(self, timeout_s: float) -> int:
        """There always is some."""
        del timeout_s
        return _ROOM

    def take(self, records: Sequence[Record]) -> None:
        """Note reviews; one that cannot be read is told and passed over: it is on record if it is one."""
        for record in records:
            try:
                self._answers.add(decode_review(record.value))
                metrics.TRAINER_REVIEWS.labels("counted").inc()
            except EventDecodeError as error:
                LOG.warning(
                    "a review is not counted, at %s: %s", record.position, error, extra={"reason": error.reason}
                )
                metrics.TRAINER_REVIEWS.labels("unreadable").inc()
            with self._lock:
                self._reached[record.topic_partition] = record.offset + 1
        if records:
            self._on_taken()

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        with self._lock:
            return {one: at for one, at in self._reached.items() if self._committed.get(one) != at}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        with self._lock:
            self._committed.update(offsets)

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """What was taken is settled."""
        del partitions, timeout_s
        return True

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is known of partitions that are no longer ours."""
        with self._lock:
            for partition in partitions:
                self._reached.pop(partition, None)
                self._committed.pop(partition, None)
