"""Every port in memory: for handler tests, and as the second subject of the contract tests.

They keep the promises that the ports state and no others. Each can be made to fail the way the real thing fails, by
its ``unavailable`` switch; the writer can hold its acknowledgements back, and a consumer can crash.
"""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import (
    Headers,
    InferenceResult,
    ObjectStat,
    RebalanceListener,
    Record,
    TopicPartition,
)
from services.core.errors import (
    ConflictError,
    InvalidInputError,
    ModelFormatError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.line_event import LineEvent
from services.core.outcome import Outcome
from services.core.outcome_text import told_id
from services.core.types import ImageRef, RecordPosition

_NS_PER_MS = 1_000_000


class MemoryBroker:
    """Topics, offsets and consumer groups, as a Kafka cluster keeps them.

    Attributes:
        unavailable: While true, nothing is written, read or committed.
        max_message_bytes: Larger records are refused for good.
    """

    def __init__(self, *, partitions: int = 4, max_message_bytes: int = 30_000_000) -> None:
        self.unavailable = False
        self.max_message_bytes = max_message_bytes
        self._default_partitions = partitions
        self._topics: dict[str, list[list[Record]]] = {}
        self._first_offsets: dict[TopicPartition, int] = {}
        self._committed: dict[tuple[str, TopicPartition], int] = {}
        self._groups: dict[str, _Group] = defaultdict(_Group)
        self.changed = threading.Condition(threading.RLock())

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic; one that exists is left as it is."""
        with self.changed:
            self._topics.setdefault(topic, [[] for _ in range(partitions)])

    def partitions(self, topic: str) -> list[TopicPartition]:
        """All partitions of a topic, which is created when it does not exist."""
        with self.changed:
            self.create_topic(topic, self._default_partitions)
            return [TopicPartition(topic, number) for number in range(len(self._topics[topic]))]

    def append(
        self, topic: str, *, key: bytes, value: bytes, headers: Headers = (), timestamp_ms: int | None = None
    ) -> RecordPosition:
        """Write one record to the partition that its key chooses."""
        with self.changed:
            count = len(self.partitions(topic))
            partition = TopicPartition(topic, zlib.crc32(key) % count)
            log = self._topics[topic][partition.partition]
            now_ms = time.time_ns() // _NS_PER_MS if timestamp_ms is None else timestamp_ms
            record = Record(topic, partition.partition, len(log), now_ms, key, value, tuple(headers))
            log.append(record)
            self.changed.notify_all()
            return record.position

    def records(self, topic: str) -> list[Record]:
        """Everything in a topic, partition by partition."""
        with self.changed:
            return [record for log in self._topics.get(topic, []) for record in log[:]]

    def committed(self, group: str, partition: TopicPartition) -> int | None:
        """The offset that a group would read next, if it ever committed one."""
        with self.changed:
            return self._committed.get((group, partition))

    def expire(self, partition: TopicPartition, before_offset: int) -> None:
        """Forget what lies before an offset, as retention does."""
        with self.changed:
            self._first_offsets[partition] = before_offset

    def end(self, partition: TopicPartition) -> int:
        """The offset that the next record will get."""
        with self.changed:
            self.partitions(partition.topic)
            return len(self._topics[partition.topic][partition.partition])

    def start(self, partition: TopicPartition) -> int:
        """The first offset that is still kept."""
        with self.changed:
            return self._first_offsets.get(partition, 0)

    def read(self, partition: TopicPartition, offset: int, max_records: int) -> list[Record]:
        """Records of one partition from an offset on; nothing while the broker is away."""
        with self.changed:
            if self.unavailable:
                return []
            self.partitions(partition.topic)
            log = self._topics[partition.topic][partition.partition]
            return log[max(offset, self.start(partition)) :][:max_records]

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Store a group's offsets."""
        with self.changed:
            self._committed.update({(group, partition): offset for partition, offset in offsets.items()})

    def group(self, name: str) -> _Group:
        """The members of a group."""
        return self._groups[name]


class _Group:
    """Who is a member, and who owns which partition. Partitions move one step at a time, as cooperative members do."""

    def __init__(self) -> None:
        self.members: dict[int, tuple[str, ...]] = {}
        self.owners: dict[TopicPartition, int] = {}

    def wanted(self, member: int, broker: MemoryBroker) -> set[TopicPartition]:
        """What a member should own, by dealing partitions out in turn."""
        mine: set[TopicPartition] = set()
        for topic in sorted({topic for topics in self.members.values() for topic in topics}):
            readers = sorted(number for number, topics in self.members.items() if topic in topics)
            for index, partition in enumerate(broker.partitions(topic)):
                if readers[index % len(readers)] == member:
                    mine.add(partition)
        return mine


class MemoryRecordWriter:
    """A ``RecordWriter`` on a memory broker.

    Attributes:
        holding: While true, records are written but not acknowledged until :meth:`release`.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        self.holding = False
        self._broker = broker
        self._held: list[tuple[Future[RecordPosition], RecordPosition]] = []
        self._lock = threading.Lock()

    def send(
        self, topic: str, *, key: bytes, value: bytes, headers: Headers = (), timestamp_ms: int | None = None
    ) -> Future[RecordPosition]:
        """Write at once; the future is settled unless the writer is holding."""
        future: Future[RecordPosition] = Future()
        if len(value) > self._broker.max_message_bytes:
            limit = self._broker.max_message_bytes
            future.set_exception(InvalidInputError(f"a record must have at most {limit} bytes, got {len(value)}"))
            return future
        if self._broker.unavailable:
            future.set_exception(UnavailableError(f"broker must acknowledge {topic} in time, got no answer"))
            return future
        with self._lock:
            position = self._broker.append(topic, key=key, value=value, headers=headers, timestamp_ms=timestamp_ms)
            if self.holding:
                self._held.append((future, position))
                return future
        future.set_result(position)
        return future

    def release(self) -> None:
        """Acknowledge what was held back and hold no more."""
        with self._lock:
            self.holding = False
            held, self._held = self._held, []
        for future, position in held:
            future.set_result(position)

    def fail_held(self, error: SightlineError) -> None:
        """Refuse what was held back, as a writer does whose acknowledgement was lost."""
        with self._lock:
            held, self._held = self._held, []
        for future, _ in held:
            future.set_exception(error)

    def flush(self, timeout_s: float) -> None:
        """Wait for what is held back."""
        end_s = time.monotonic() + timeout_s
        while self._held:
            if time.monotonic() >= end_s:
                raise UnavailableError(f"flush must finish within {timeout_s} s, got {len(self._held)} left")
            time.sleep(0.001)

    def close(self, timeout_s: float) -> None:
        """Flush."""
        self.flush(timeout_s)


class MemoryRecordConsumer:
    """A ``RecordConsumer`` on a memory broker."""

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        self._broker = broker
        self._group_name = group
        self._group = broker.group(group)
        self._listener: RebalanceListener | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._me = id(self)

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join; partitions come with the polls that follow."""
        self._listener = listener
        with self._broker.changed:
            self._group.members[self._me] = tuple(topics)
            self._broker.changed.notify_all()

    def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Rebalance if the group changed, then take records in turn from every partition that is not paused."""
        end_s = time.monotonic() + timeout_s
        while True:
            self._rebalance()
            with self._broker.changed:
                records = self._take(max_records)
                left_s = end_s - time.monotonic()
                if records or left_s <= 0:
                    return records
                self._broker.changed.wait(min(left_s, 0.05))

    def _take(self, max_records: int) -> list[Record]:
        taken: list[Record] = []
        for partition in sorted(self._positions, key=lambda each: self._positions[each]):
            if partition not in self._paused and len(taken) < max_records:
                records = self._broker.read(partition, self._positions[partition], max_records - len(taken))
                taken.extend(records)
                if records:
                    self._positions[partition] = records[-1].offset + 1
        return taken

    def _rebalance(self) -> None:
        if self._broker.unavailable or self._listener is None:
            return
        with self._broker.changed:
            wanted = self._group.wanted(self._me, self._broker) if self._me in self._group.members else set()
            lost = sorted(set(self._positions) - wanted)
        if lost:
            # Still ours while the listener runs: what is in flight can be committed.
            self._listener.on_revoked(lost)
        with self._broker.changed:
            self._release(lost)
            gained = sorted(each for each in wanted - set(self._positions) if each not in self._group.owners)
            for partition in gained:
                self._group.owners[partition] = self._me
                committed = self._broker.committed(self._group_name, partition)
                self._positions[partition] = self._broker.start(partition) if committed is None else committed
        if gained:
            self._listener.on_assigned(gained)

    def _release(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._group.owners.pop(partition, None)
            self._positions.pop(partition, None)
            self._paused.discard(partition)
        self._broker.changed.notify_all()

    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are ours now."""
        return frozenset(self._positions)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Take nothing more from these until resumed."""
        self._paused.update(self._mine(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Take from these again."""
        self._paused.difference_update(self._mine(partitions))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from ``offset`` next."""
        for mine in self._mine([partition]):
            self._positions[mine] = offset

    def _mine(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        listed = list(partitions)
        foreign = [each for each in listed if each not in self._positions]
        if foreign:
            raise ConflictError(f"partitions must be assigned to this member, got {foreign}")
        return listed

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read for each partition."""
        if self._broker.unavailable:
            raise UnavailableError("broker must acknowledge a commit in time, got no answer")
        self._mine(offsets)
        self._broker.commit(self._group_name, offsets)

    def lag(self) -> Mapping[TopicPartition, int]:
        """Records behind the end of each assigned partition."""
        return {each: self._broker.end(each) - offset for each, offset in self._positions.items()}

    def close(self) -> None:
        """Leave the group, telling the listener first."""
        if self._listener is not None and self._positions:
            self._listener.on_revoked(sorted(self._positions))
        self.crash()

    def crash(self) -> None:
        """Be gone without a word, as after kill -9 and the session timeout."""
        with self._broker.changed:
            self._group.members.pop(self._me, None)
            self._release(list(self._positions))
        self._listener = None


class MemoryTopicReader:
    """A ``TopicReader`` on a memory broker, from the beginning."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str]) -> None:
        self._broker = broker
        self._positions = {partition: 0 for topic in topics for partition in broker.partitions(topic)}

    def read_to_end(self, timeout_s: float) -> Iterator[Record]:
        """Yield what is there now."""
        if self._broker.unavailable:
            raise UnavailableError(f"broker must answer within {timeout_s} s, got no answer")
        ends = {partition: self._broker.end(partition) for partition in self._positions}
        for partition, end in ends.items():
            for record in self._broker.read(partition, self._positions[partition], end):
                if record.offset < end:
                    self._positions[partition] = record.offset + 1
                    yield record

    def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Fetch what came since."""
        end_s = time.monotonic() + timeout_s
        with self._broker.changed:
            while True:
                records: list[Record] = []
                for partition, offset in self._positions.items():
                    fresh = self._broker.read(partition, offset, max_records - len(records))
                    if fresh:
                        self._positions[partition] = fresh[-1].offset + 1
                        records.extend(fresh)
                left_s = end_s - time.monotonic()
                if records or left_s <= 0:
                    return records
                self._broker.changed.wait(min(left_s, 0.05))

    def seek_to_end(self) -> None:
        """Skip everything that exists now."""
        self._positions = {partition: self._broker.end(partition) for partition in self._positions}

    def seek_to_time(self, timestamp_ms: int) -> None:
        """Read next the first record written at or after this time, else from the end."""
        if self._broker.unavailable:
            raise UnavailableError("broker must answer in time, got no answer")
        for partition in self._positions:
            end = self._broker.end(partition)
            kept = self._broker.read(partition, 0, end)
            self._positions[partition] = next((each.offset for each in kept if each.timestamp_ms >= timestamp_ms), end)

    def read_between(self, since_ms: int, until_ms: int, timeout_s: float) -> Iterator[Record]:
        """Yield what is there now of that time."""
        self.seek_to_time(since_ms)
        for record in self.read_to_end(timeout_s):
            if since_ms <= record.timestamp_ms < until_ms:
                yield record

    def close(self) -> None:
        """Nothing to let go."""


class MemoryRecordFetcher:
    """A ``RecordFetcher`` on a memory broker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def fetch(self, position: RecordPosition, timeout_s: float) -> Record:
        """Read one record."""
        if self._broker.unavailable:
            raise UnavailableError(f"broker must answer within {timeout_s} s, got no answer")
        partition = TopicPartition(position.topic, position.partition)
        if partition in self._broker.partitions(position.topic):
            records = self._broker.read(partition, position.offset, 1)
            if records and records[0].offset == position.offset:
                return records[0]
        raise NotFoundError(f"the topic must still keep the record, got {position}")

    def close(self) -> None:
        """Nothing to let go."""


class MemoryObjectStore:
    """An ``ObjectStore`` in a dictionary.

    Attributes:
        unavailable: While true, every call raises ``UnavailableError``.
        puts: Number of writes that succeeded.
    """

    def __init__(self, bucket: str = "sightline") -> None:
        self.unavailable = False
        self.puts = 0
        self._bucket = bucket
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._lock = threading.Lock()

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self._bucket

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        """Write an object, replacing what was there."""
        del content_type
        self._check()
        with self._lock:
            return self._store(key, data)

    def put_new(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        """Write an object only if nothing lies there."""
        del content_type
        self._check()
        with self._lock:
            if key in self._objects:
                raise ConflictError(f"nothing must lie at the key yet, got {key!r}")
            return self._store(key, data)

    def _store(self, key: str, data: bytes) -> ImageRef:
        self._objects[key] = (bytes(data), time.time_ns())
        self.puts += 1
        return ImageRef(self._bucket, key, len(data), hashlib.sha256(data).hexdigest())

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """Read an object."""
        data = self._entry(key)[0]
        if max_bytes is not None and len(data) > max_bytes:
            raise InvalidInputError(f"an object must have at most {max_bytes} bytes, got {len(data)}")
        return data

    def stat(self, key: str) -> ObjectStat:
        """Size and age of an object."""
        data, modified_ns = self._entry(key)
        return ObjectStat(key, len(data), modified_ns)

    def _entry(self, key: str) -> tuple[bytes, int]:
        self._check()
        try:
            return self._objects[key]
        except KeyError:
            raise NotFoundError(f"an object must lie at the key, got {key!r}") from None

    def exists(self, key: str) -> bool:
        """Tell whether an object lies there."""
        self._check()
        return key in self._objects

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object under ``prefix``."""
        self._check()
        with self._lock:
            entries = [(key, entry) for key, entry in self._objects.items() if key.startswith(prefix)]
        for key, (data, modified_ns) in entries:
            yield ObjectStat(key, len(data), modified_ns)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        self._check()
        with self._lock:
            for key in keys:
                self._objects.pop(key, None)

    def ensure_bucket(self) -> None:
        """The bucket is always there."""
        self._check()

    def _check(self) -> None:
        if self.unavailable:
            raise UnavailableError("object store must answer in time, got no answer")


class MemoryTriton:
    """What one Triton holds.

    Attributes:
        live: While false it answers nothing.
        loaded: Names of the models that are ready; empty after a restart.
        loadable: Names that load; every name when ``None``.
        refusals: Reason by model name, for models that Triton refuses.
    """

    def __init__(self, *, loadable: Iterable[str] | None = None) -> None:
        self.live = True
        self.loaded: set[str] = set()
        self.loadable = None if loadable is None else set(loadable)
        self.refusals: dict[str, str] = {}

    def restart(self) -> None:
        """Come back empty."""
        self.loaded.clear()
        self.live = True


class MemoryModelControl:
    """A ``ModelControl`` on a memory Triton."""

    def __init__(self, triton: MemoryTriton) -> None:
        self._triton = triton

    def is_live(self) -> bool:
        """Tell whether that Triton answers."""
        return self._triton.live

    def ready_models(self) -> frozenset[str]:
        """Names of the models that are ready."""
        self._check()
        return frozenset(self._triton.loaded)

    def load(self, model_name: str, timeout_s: float) -> None:
        """Load a model."""
        del timeout_s
        self._check()
        reason = self._triton.refusals.get(model_name)
        if reason is None and self._triton.loadable is not None and model_name not in self._triton.loadable:
            reason = "not in the repository"
        if reason is not None:
            raise ModelFormatError(f"Triton must accept the model {model_name!r}, got {reason}")
        self._triton.loaded.add(model_name)

    def unload(self, model_name: str, timeout_s: float) -> None:
        """Unload a model."""
        del timeout_s
        self._check()
        self._triton.loaded.discard(model_name)

    def _check(self) -> None:
        if not self._triton.live:
            raise UnavailableError("Triton must answer in time, got no answer")


class MemoryInferenceClient:
    """An ``InferenceClient`` that asks a function.

    Attributes:
        calls: Model name and batch size of each request, in order.
        holding: While true, answers wait for :meth:`release`.
    """

    def __init__(
        self,
        function: Callable[[str, NDArray[np.uint8]], InferenceResult],
        tritons: Sequence[MemoryTriton] | None = None,
    ) -> None:
        """Wire it.

        Args:
            function: Takes the model's name and a batch ``(B, H, W, 3)`` and gives its scores.
            tritons: Whose loaded models are served; without any, every model is there.
        """
        self.calls: list[tuple[str, int]] = []
        self.holding = False
        self.unavailable = False
        self._function = function
        self._tritons = tritons
        self._held: list[tuple[Future[InferenceResult], str, NDArray[np.uint8]]] = []

    def infer(self, model_name: str, images: NDArray[np.uint8], timeout_s: float) -> Future[InferenceResult]:
        """Score one batch, at once unless holding."""
        del timeout_s
        self.calls.append((model_name, len(images)))
        future: Future[InferenceResult] = Future()
        if self.holding:
            self._held.append((future, model_name, images))
        else:
            self._answer(future, model_name, images)
        return future

    def release(self) -> None:
        """Answer what was held back and hold no more."""
        self.holding = False
        held, self._held = self._held, []
        for request in held:
            self._answer(*request)

    def _answer(self, future: Future[InferenceResult], model_name: str, images: NDArray[np.uint8]) -> None:
        try:
            self._check(model_name, images)
            future.set_result(self._function(model_name, images))
        except SightlineError as error:
            future.set_exception(error)

    def _check(self, model_name: str, images: NDArray[np.uint8]) -> None:
        live = [triton for triton in self._tritons or [] if triton.live]
        if self.unavailable or (self._tritons is not None and not live):
            raise UnavailableError("a Triton must answer in time, got no answer")
        if self._tritons is not None and not any(model_name in triton.loaded for triton in live):
            raise NotFoundError(f"the model must be loaded, got {model_name!r}")
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise InvalidInputError(f"images must be uint8 (B, H, W, 3), got {images.dtype} {images.shape}")

    def warm_everywhere(self, model_name: str) -> bool:
        """Tell whether every Triton that answers has the model."""
        if self._tritons is None:
            return not self.unavailable
        live = [triton for triton in self._tritons if triton.live]
        return bool(live) and all(model_name in triton.loaded for triton in live)

    def close(self) -> None:
        """Cancel what is held back."""
        held, self._held = self._held, []
        for future, _, _ in held:
            future.cancel()


class MemorySink:
    """An ``OutcomeSink`` that keeps what it is told.

    Attributes:
        told: What was delivered, in order; the same one again stands here again.
        unavailable: While true, nothing is taken.
        refused: Ids that are never taken.
        closed: Whether it was let go.
    """

    def __init__(self) -> None:
        self.told: list[Outcome | LineEvent] = []
        self.unavailable = False
        self.refused: set[str] = set()
        self.closed = False

    @property
    def address(self) -> str:
        """Nowhere else."""
        return "memory"

    def deliver(self, told: Outcome | LineEvent) -> None:
        """Keep one of them."""
        if self.unavailable or self.closed:
            raise UnavailableError("the receiver must answer in time, got no answer")
        if told_id(told) in self.refused:
            raise InvalidInputError(f"the receiver must take {told_id(told)}, got a refusal")
        self.told.append(told)

    def close(self) -> None:
        """Let go."""
        self.closed = True
