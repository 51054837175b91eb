"""Writes what came of each record, in the order of its partition, and tells what may be committed.

The rules of delivery in one place, for every service that turns records into records: outputs are written in the
order of the partition that their records came from; a record counts as settled once all its outputs are acknowledged;
a partition may be committed up to its first record that is not settled. An output that was not acknowledged is
written again, and everything after it in its partition too, so that the order holds. What that doubles has the same
id and is dropped by its readers.

Not thread-safe: its owner calls it from one thread or under one lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from services.adapters.ports import Headers, Record, RecordWriter, TopicPartition
from services.core.errors import SightlineError
from services.core.types import RecordPosition
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Output:
    """One record to write."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()


@dataclass(slots=True, eq=False)
class Entry:
    """A record that was taken, and what came of it."""

    partition: TopicPartition
    offset: int
    size_bytes: int
    outputs: Sequence[Output] | None = None
    """None until the work on the record is done."""
    on_settled: Callable[[], None] | None = None
    acks: list[Future[RecordPosition]] = field(default_factory=list)
    dropped: bool = False
    """Whether its partition left before it was settled; what comes of it is written by nobody here."""


@dataclass(slots=True, eq=False)
class _Lane:
    """One partition: entries that are being written, then those still to write, in offset order."""

    writing: deque[Entry] = field(default_factory=deque)
    waiting: deque[Entry] = field(default_factory=deque)
    next_offset: int | None = None
    """What may be committed; None before anything has settled."""
    rewinding: bool = False


class Outbox:
    """Outputs on their way, by partition of the records they came from.

    Args:
        writer: Where outputs go.
        backoff: Waits between attempts while the writer is away.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        writer: RecordWriter,
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._blocked_until_s = 0.0
        self.open_entries = 0
        """Records taken and not yet settled."""
        self.open_bytes = 0
        """Bytes of those records."""
        self.writer_away = ""
        """Why nothing can be written at present; empty while all is well."""

    def open(self, record: Record) -> Entry:
        """Note that a record was taken; its place in the partition's order is fixed by this call."""
        entry = Entry(record.topic_partition, record.offset, len(record.value))
        lane = self._lanes.get(entry.partition)
        if lane is None:
            lane = self._lanes[entry.partition] = _Lane()
        lane.waiting.append(entry)
        self.open_entries += 1
        self.open_bytes += entry.size_bytes
        return entry

    def complete(self, entry: Entry, outputs: Sequence[Output], on_settled: Callable[[], None] | None = None) -> None:
        """Say what came of a record.

        Args:
            entry: From :meth:`open`; one whose partition was forgotten since is ignored.
            outputs: What to write; empty where nothing is to be said.
            on_settled: Called once, when every output is acknowledged.
        """
        entry.on_settled = on_settled
        entry.outputs = outputs

    def pump(self) -> bool:
        """Write what may be written and settle what is acknowledged; returns at once.

        Returns:
            Whether there is something on its way, so that another call soon is worth it.

        Raises:
            SightlineError: When the broker refuses an output for good; the service cannot go on without losing it.
        """
        under_way = False
        for lane in self._lanes.values():
            self._settle(lane)
            if lane.rewinding:
                self._rewind(lane)
            if lane.waiting and not lane.rewinding and not self._blocked():
                self._write(lane)
                self._settle(lane)
            under_way = under_way or bool(lane.writing)
        return under_way or self._blocked_until_s > 0

    def committable(self) -> dict[TopicPartition, int]:
        """Next offsets to read, for each partition where it moved since :meth:`committed`."""
        return {
            partition: lane.next_offset
            for partition, lane in self._lanes.items()
            if lane.next_offset is not None and self._committed.get(partition) != lane.next_offset
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what was committed."""
        self._committed.update({partition: at for partition, at in offsets.items() if partition in self._lanes})

    def unsettled(self, partitions: Collection[TopicPartition] | None = None) -> int:
        """Count records not yet settled, over all partitions or those given."""
        if partitions is None:
            return self.open_entries
        lanes = (self._lanes[partition] for partition in partitions if partition in self._lanes)
        return sum(len(lane.writing) + len(lane.waiting) for lane in lanes)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop all that is known of partitions that are no longer ours."""
        for partition in partitions:
            lane = self._lanes.pop(partition, None)
            self._committed.pop(partition, None)
            for entry in (*lane.writing, *lane.waiting) if lane else ():
                entry.dropped = True
                self.open_entries -= 1
                self.open_bytes -= entry.size_bytes

    def _settle(self, lane: _Lane) -> None:
        while lane.writing and not lane.rewinding:
            entry = lane.writing[0]
            for ack in entry.acks:
                if not ack.done():
                    return
                error = ack.exception()
                if error is not None:
                    self._on_refusal(lane, error)
                    return
            if entry.acks and self.writer_away:
                self.writer_away = ""
                self._backoff.reset()
                LOG.info("outputs are acknowledged again")
            lane.writing.popleft()
            lane.next_offset = entry.offset + 1
            self.open_entries -= 1
            self.open_bytes -= entry.size_bytes
            if entry.on_settled is not None:
                entry.on_settled()

    def _write(self, lane: _Lane) -> None:
        while lane.waiting and lane.waiting[0].outputs is not None:
            entry = lane.waiting[0]
            for output in entry.outputs[len(entry.acks) :] if entry.outputs else ():
                try:
                    entry.acks.append(
                        self._writer.send(output.topic, key=output.key, value=output.value, headers=output.headers)
                    )
                except SightlineError as error:
                    if not error.retriable:
                        raise
                    self._hold(error)
                    return
            lane.waiting.popleft()
            lane.writing.append(entry)

    def _blocked(self) -> bool:
        # One for all lanes: a writer that is away may take its time to say so, and would for each of them.
        if self._blocked_until_s and self._clock() >= self._blocked_until_s:
            self._blocked_until_s = 0.0
        return self._blocked_until_s > 0

    def _on_refusal(self, lane: _Lane, error: BaseException) -> None:
        if not isinstance(error, SightlineError) or not error.retriable:
            raise error
        lane.rewinding = True
        self._hold(error)

    def _hold(self, error: SightlineError) -> None:
        self._blocked_until_s = self._clock() + self._backoff.next_s()
        if not self.writer_away:
            LOG.warning("outputs are not acknowledged, writing them again: %s", error, extra={"reason": error.reason})
        self.writer_away = str(error) or error.reason

    def _rewind(self, lane: _Lane) -> None:
        """Make everything from the first unsettled entry on be written again, once nothing of it is on its way."""
        partly = (lane.waiting[0],) if lane.waiting else ()
        if any(not ack.done() for entry in (*lane.writing, *partly) for ack in entry.acks):
            return
        for entry in (*lane.writing, *partly):
            entry.acks.clear()
        lane.waiting.extendleft(reversed(lane.writing))
        lane.writing.clear()
        lane.rewinding = False
