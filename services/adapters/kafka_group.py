"""How a member joins its group when nobody is polling at that moment."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.consumer import ConsumerCoordinator


class _FinishedJoinKept(ConsumerCoordinator):
    """A coordinator that uses a join which ended between two polls.

    kafka-python 3.0 awaits a join only inside ``poll``, and begins another one when it finds that the last has ended
    meanwhile. A consumer that works between short polls then joins over and over, and takes the rest of its group
    with it, until one join happens to end inside a poll.
    """

    _finished: tuple[Any, bytes] | None = None

    async def _do_join_and_sync_async(self) -> bytes:
        kept, self._finished = self._finished, None
        if kept is not None and kept[0] == self._generation:
            self._finished = kept
            return kept[1]
        assignment: bytes = await super()._do_join_and_sync_async()
        self._finished = (self._generation, assignment)
        return assignment

    async def _on_join_complete_async(self, *joined: Any) -> None:
        self._finished = None
        await super()._on_join_complete_async(*joined)

    def reset_generation(self, *reset: Any, **named: Any) -> None:
        """Forget the membership, and with it what it was assigned."""
        self._finished = None
        super().reset_generation(*reset, **named)


def keep_finished_joins(client: KafkaConsumer) -> None:
    """Make a new consumer use every join that ends well; to be called before it subscribes."""
    # KafkaConsumer offers no way to name its coordinator's class.
    client._coordinator.__class__ = _FinishedJoinKept  # noqa: SLF001
