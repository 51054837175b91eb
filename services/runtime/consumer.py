"""The loop that owns a consumer: polls always, hands records on, commits what is settled, leaves in order.

One thread owns the consumer. The work happens elsewhere, behind :class:`RecordProcessor`: when it has no room the
partitions are paused and polling goes on, so that the membership, and with it the place in the group, is kept however
long a dependency stays away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.adapters.ports import Record, RecordConsumer, TopicPartition
from services.core.errors import SightlineError
from services.runtime.lifecycle import Health, Shutdown
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)


class RecordProcessor(Protocol):
    """What a service does with records. Thread-safe; no call but the two that say so may wait."""

    def check(self) -> None:
        """Raise what ended the processor's own threads, if anything did."""
        ...

    def room(self) -> int:
        """How many records may be handed over now; 0 when full or while a dependency is away."""
        ...

    def wait_for_room(self, timeout_s: float) -> int:
        """Wait until there is room, at most ``timeout_s``, and return it."""
        ...

    def take(self, records: Sequence[Record]) -> None:
        """Take records over; more than there was room for must be taken too."""
        ...

    def committable(self) -> Mapping[TopicPartition, int]:
        """Next offsets to read, where they moved since the last commit."""
        ...

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        ...

    def settle(self, partitions: Collection[TopicPartition] | None, timeout_s: float) -> bool:
        """Wait until what was taken is settled, of these partitions or all; tell whether it was, in time."""
        ...

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is in flight for partitions that are no longer ours."""
        ...


@dataclass(frozen=True, slots=True)
class LoopTimes:
    """How long the loop waits for what."""

    poll_s: float = 0.1
    """Longest wait of one poll."""
    room_s: float = 0.1
    """Longest wait for room before partitions are paused; spares a pause and a resume where work is just dense."""
    commit_every_s: float = 0.5
    """Time between commits."""
    settle_on_revoke_s: float = 3.0
    """Longest time to finish what is in flight for partitions that leave."""
    drain_s: float = 20.0
    """Longest time to finish what is in flight at the end."""
    probe_propagation_s: float = 0.0
    """Wait between not-ready and the end of polling."""
    lag_every_s: float = 5.0
    """Time between two looks at the lag."""
    probe_every_s: float = 5.0
    """Time without anything to commit after which the last offsets are committed again, to learn of a broker's death
    while nothing is written."""


class ConsumerLoop:
    """Runs a processor on the records of some topics until the shutdown is asked for.

    Args:
        consumer: Used from the thread that calls :meth:`run` and from no other.
        processor: Does the work.
        topics: What to subscribe to.
        health: Told of each turn, and held while the broker is away.
        shutdown: Ends the loop.
        times: How long to wait for what.
        max_records: Most records of one poll.
        on_lag: Takes the lag over all partitions, in records.
        on_paused: Told when partitions are paused and resumed.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        processor: RecordProcessor,
        *,
        topics: Sequence[str],
        health: Health,
        shutdown: Shutdown,
        times: LoopTimes | None = None,
        max_records: int = 100,
        on_lag: Callable[[int], None] | None = None,
        on_paused: Callable[[bool], None] | None = None,
    ) -> None:
        self._consumer = consumer
        self._processor = processor
        self._topics = topics
        self._health = health
        self._shutdown = shutdown
        self._times = times or LoopTimes()
        self._max_records = max_records
        self._on_lag = on_lag
        self._on_paused = on_paused
        self._paused = False
        self._next_commit_s = 0.0
        self._next_lag_s = 0.0
        self._next_probe_s = 0.0
        self._last_committed: dict[TopicPartition, int] = {}
        self._backoff = Backoff(cap_s=2.0)

    def run(self) -> None:
        """Consume until the shutdown is asked for, then drain and leave the group.

        Raises:
            SightlineError: What cannot be waited out. The group is left without committing anything unsettled.
        """
        try:
            self._consumer.subscribe(self._topics, self)
            while not self._shutdown.requested:
                self._turn()
            self._drain()
        finally:
            self._consumer.close()

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish what is in flight for these within bounds, commit it, forget the rest: its next owner reads it."""
        if self._shutdown.requested:
            return
        complete = self._processor.settle(partitions, self._times.settle_on_revoke_s)
        # Readers drop what the next owner writes a second time, so leaving something unfinished costs only work.
        LOG.info(
            "partitions leave: %s, in flight %s",
            _names(partitions),
            "finished" if complete else "left to the next owner",
        )
        self._commit(final=True)
        self._forget(partitions)

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Begin with these from their committed offsets on."""
        LOG.info("partitions assigned: %s", _names(partitions))
        # What was read of them in an earlier life counts no more.
        self._forget(partitions)
        if self._paused:
            self._consumer.pause(partitions)

    def _forget(self, partitions: Sequence[TopicPartition]) -> None:
        self._processor.forget(partitions)
        for partition in partitions:
            self._last_committed.pop(partition, None)

    def _turn(self) -> None:
        self._health.turned()
        self._processor.check()
        room = self._room()
        timeout_s = self._times.poll_s
        try:
            records = self._consumer.poll(max_records=max(1, min(room, self._max_records)), timeout_s=timeout_s)
        except SightlineError as error:
            self._wait_out("kafka", error)
            self._shutdown.wait(self._backoff.next_s())
            return
        self._health.release("kafka")
        if records:
            self._processor.take(records)
        now_s = time.monotonic()
        if now_s >= self._next_commit_s:
            self._commit()
        if self._on_lag is not None and now_s >= self._next_lag_s:
            self._next_lag_s = now_s + self._times.lag_every_s
            self._on_lag(sum(self._consumer.lag().values()))

    def _room(self) -> int:
        room = self._processor.room()
        if room == 0 and not self._paused:
            room = self._processor.wait_for_room(self._times.room_s)
        if room == 0 and not self._paused:
            self._consumer.pause(self._consumer.assignment())
            self._set_paused(True)
        elif room > 0 and self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._set_paused(False)
        return room

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        if self._on_paused is not None:
            self._on_paused(paused)

    def _commit(self, *, final: bool = False) -> None:
        ours = self._consumer.assignment()
        offsets = {partition: at for partition, at in self._processor.committable().items() if partition in ours}
        now_s = time.monotonic()
        self._next_commit_s = now_s + self._times.commit_every_s
        if not offsets and now_s >= self._next_probe_s and not final:
            offsets = {partition: at for partition, at in self._last_committed.items() if partition in ours}
        if not offsets:
            return
        try:
            self._consumer.commit(offsets)
        except SightlineError as error:
            if error.retriable and not final:
                self._wait_out("kafka commits", error)
                self._next_commit_s = time.monotonic() + self._backoff.next_s()
            else:
                # Not ours any more, or no time to try again: whoever owns them next reads these again.
                LOG.warning("offsets were not committed: %s", error, extra={"reason": error.reason})
            return
        self._processor.committed(offsets)
        self._last_committed.update(offsets)
        self._next_probe_s = time.monotonic() + self._times.probe_every_s
        self._backoff.reset()
        self._health.release("kafka commits")

    def _wait_out(self, what: str, error: SightlineError) -> None:
        if not error.retriable:
            raise error
        self._health.hold(what, str(error))

    def _drain(self) -> None:
        self._health.set_ready(False)
        LOG.info("draining")
        if self._times.probe_propagation_s:
            time.sleep(self._times.probe_propagation_s)
        finished = self._processor.settle(None, self._times.drain_s)
        if not finished:
            LOG.warning("drain: not all that was in flight is settled after %s s", self._times.drain_s)
        self._commit(final=True)
        LOG.info("drained")


def _names(partitions: Collection[TopicPartition]) -> str:
    return ", ".join(sorted(f"{item.topic}/{item.partition}" for item in partitions)) or "none"
