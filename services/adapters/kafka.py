"""Kafka behind the ports: writer, group consumer, whole-topic reader, single-record fetcher.

Written to Apache Kafka's documented behaviour. kafka-python's consumer belongs to one thread; its producer to any.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import kafka
from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, KafkaProducer, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.future import Future as KafkaFuture
from kafka.producer.future import RecordMetadata
from kafka.structs import OffsetAndMetadata

from services.adapters.connection import KafkaConnection
from services.adapters.kafka_group import keep_finished_joins
from services.adapters.ports import Headers, RebalanceListener, Record, TopicPartition
from services.adapters.tlsclient import client_context
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, SightlineError, UnavailableError
from services.core.types import RecordPosition

LOG = logging.getLogger(__name__)

#: Bytes of records that may wait in a writer for their acknowledgement.
DEFAULT_BUFFER_BYTES = 32 * 1024 * 1024

#: Longest wait for a client's own thread to end.
_CLOSE_S = 2.0

#: Longest wait for the ends of paused partitions.
_ENDS_TIMEOUT_MS = 1_000

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError, errors.InvalidRecordError)
_NO_LONGER_OURS = (
    errors.CommitFailedError,
    errors.RebalanceInProgressError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.FencedInstanceIdError,
    errors.FencedMemberEpochError,
    errors.StaleMemberEpochError,
)
_REFUSED = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.KafkaConfigurationError,
    errors.InvalidTopicError,
    errors.InvalidGroupIdError,
    errors.PolicyViolationError,
)
#: After one of these a producer's numbering no longer fits the broker's; a new producer begins a new one.
_PRODUCER_LOST = (
    errors.OutOfOrderSequenceNumberError,
    errors.UnknownProducerIdError,
    errors.InvalidProducerEpochError,
    errors.InvalidProducerIdMappingError,
    errors.ProducerFencedError,
    errors.IllegalStateError,
    errors.ClusterAuthorizationFailedError,
)


class BrokerRefusedError(SightlineError):
    """The broker answered and said no: wrong credentials, no right, wrong name. Waiting does not help."""

    reason = "broker_refused"


def client_config(connection: KafkaConnection) -> dict[str, Any]:
    """The settings that every kafka-python client shares.

    Raises:
        SettingsError: If a file of the connection's TLS cannot be used.
    """
    config: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in connection.bootstrap_servers.split(",") if server.strip()],
        "client_id": "sightline",
        "security_protocol": connection.security_protocol,
        "request_timeout_ms": connection.request_timeout_ms,
        "bootstrap_timeout_ms": connection.request_timeout_ms,
        "reconnect_backoff_max_ms": 1_000,
    }
    if connection.sasl_mechanism is not None:
        config |= {
            "sasl_mechanism": connection.sasl_mechanism,
            "sasl_plain_username": connection.sasl_username,
            "sasl_plain_password": connection.sasl_password,
        }
    if connection.security_protocol in {"SSL", "SASL_SSL"}:
        # kafka-python reads the files at each connection, and so takes renewed ones; one that is not there would look
        # like a broker that does not answer.
        client_context(
            connection.ssl_ca_file, connection.ssl_certificate_file, connection.ssl_key_file, prefix="kafka.ssl_"
        )
    files = {
        "ssl_cafile": connection.ssl_ca_file,
        "ssl_certfile": connection.ssl_certificate_file,
        "ssl_keyfile": connection.ssl_key_file,
    }
    return config | {name: str(path) for name, path in files.items() if path is not None}


def domain_error(error: Exception, doing: str) -> SightlineError:
    """Translate what kafka-python raises.

    Args:
        error: Any exception of a Kafka call.
        doing: What was being done, for the message: "write to sightline.frames.v1".
    """
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, _TOO_LARGE):
        return InvalidInputError(f"broker must accept the record to {doing}, got {told}")
    if isinstance(error, _NO_LONGER_OURS):
        return ConflictError(f"membership must still hold to {doing}, got {told}")
    if isinstance(error, _REFUSED):
        return BrokerRefusedError(f"broker must allow to {doing}, got {told}")
    return UnavailableError(f"broker must answer in time to {doing}, got {told}")


class KafkaRecordWriter:
    """A ``RecordWriter``: idempotent, acknowledged by all in-sync replicas, bounded in memory.

    The producer connects at the first record. When the broker no longer knows the producer's numbering (it lost its
    memory, or the id expired), records in flight fail as unavailable and the next one goes through a new producer.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        max_block_s: float = 5.0,
        linger_ms: int = 5,
    ) -> None:
        """Wire it; nothing is sent.

        Args:
            connection: How to reach the brokers.
            buffer_bytes: Bytes that may wait for their acknowledgement; one larger record may wait alone.
            max_block_s: Longest time that :meth:`send` waits for room or for the topic's leaders.
            linger_ms: Time to wait for more records before a batch is sent.
        """
        self._config = client_config(connection) | {
            "acks": "all",
            "metrics_enabled": False,
            "enable_idempotence": True,
            "compression_type": connection.compression,
            "linger_ms": linger_ms,
            "batch_size": 256 * 1024,
            "max_request_size": connection.max_message_bytes,
            "delivery_timeout_ms": connection.delivery_timeout_ms,
            "request_timeout_ms": min(connection.request_timeout_ms, connection.delivery_timeout_ms - linger_ms),
            "max_block_ms": int(max_block_s * 1000),
            # A topic is made on purpose, with its partitions and retention, or not at all.
            "allow_auto_create_topics": False,
        }
        self._buffer_bytes = buffer_bytes
        self._max_block_s = max_block_s
        self._lock = threading.Lock()
        self._room = threading.Condition(threading.Lock())
        self._waiting_bytes = 0
        self._waiting_records = 0
        self._producer: KafkaProducer | None = None
        self._closed = False

    def send(
        self, topic: str, *, key: bytes, value: bytes, headers: Headers = (), timestamp_ms: int | None = None
    ) -> Future[RecordPosition]:
        """Queue one record.

        Args:
            topic: Where to.
            key: Records of one key keep their order.
            value: What it says.
            headers: Beside it.
            timestamp_ms: When it was written first (ms since the epoch), for what is restored; now if not said.

        Raises:
            UnavailableError: When there is no room, no leader or no broker within the blocking deadline.
            BrokerRefusedError: When the broker does not let this client write.
        """
        size_bytes = len(key) + len(value)
        self._take_room(size_bytes)
        future: Future[RecordPosition] = Future()
        try:
            producer = self._current()
            pending = producer.send(topic, key=key, value=value, headers=list(headers), timestamp_ms=timestamp_ms)
        except _TOO_LARGE as error:
            self._give_room(size_bytes)
            future.set_exception(domain_error(error, f"write to {topic}"))
            return future
        except (errors.KafkaError, ValueError, OSError) as error:
            self._give_room(size_bytes)
            raise domain_error(error, f"write to {topic}") from error

        def settle(result: RecordPosition | SightlineError) -> None:
            self._give_room(size_bytes)
            if isinstance(result, SightlineError):
                future.set_exception(result)
            else:
                future.set_result(result)

        def failed(error: Exception) -> None:
            if isinstance(error, _PRODUCER_LOST):
                self._forget(producer)
            settle(domain_error(error, f"write to {topic}"))

        def acknowledged(done: RecordMetadata) -> None:
            if done.offset < 0:
                # The broker says that it has these records already, not where. One that died between taking their
                # numbers and writing them says the same: better twice with one id than not at all.
                LOG.warning("the broker does not say where it wrote a record; it counts as not written")
                settle(UnavailableError(f"broker must say where it wrote to {topic}, got no offset"))
            else:
                settle(RecordPosition(done.topic, done.partition, done.offset))

        pending.add_callback(acknowledged)
        pending.add_errback(failed)
        return future

    def _current(self) -> KafkaProducer:
        with self._lock:
            if self._closed:
                raise UnavailableError("writer must be open to send, got a closed one")
            if self._producer is None:
                self._producer = KafkaProducer(**self._config)
            return self._producer

    def _forget(self, producer: KafkaProducer) -> None:
        with self._lock:
            if self._producer is not producer:
                return
            self._producer = None
        LOG.warning("the broker no longer knows this producer; a new one takes over")
        # Not here: this is the producer's own thread, which close() waits for.
        threading.Thread(target=_close_quietly, args=(producer,), name="kafka-producer-close", daemon=True).start()

    def _take_room(self, size_bytes: int) -> None:
        end_s = time.monotonic() + self._max_block_s
        with self._room:
            while self._waiting_records and self._waiting_bytes + size_bytes > self._buffer_bytes:
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    raise UnavailableError(
                        f"writer must have room for {size_bytes} bytes within {self._max_block_s} s, "
                        f"got {self._waiting_bytes} of {self._buffer_bytes} bytes waiting"
                    )
                self._room.wait(left_s)
            self._waiting_bytes += size_bytes
            self._waiting_records += 1

    def _give_room(self, size_bytes: int) -> None:
        with self._room:
            self._waiting_bytes -= size_bytes
            self._waiting_records -= 1
            self._room.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything queued is settled."""
        end_s = time.monotonic() + timeout_s
        with self._room:
            while self._waiting_records:
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    raise UnavailableError(
                        f"flush must finish within {timeout_s} s, got {self._waiting_records} records unacknowledged"
                    )
                self._room.wait(left_s)

    def close(self, timeout_s: float) -> None:
        """Flush as far as the time allows and let go; idempotent."""
        try:
            self.flush(timeout_s)
        finally:
            with self._lock:
                self._closed = True
                producer, self._producer = self._producer, None
            if producer is not None:
                _close_quietly(producer)


def _close_quietly(producer: KafkaProducer) -> None:
    """Close it without waiting for what will not be acknowledged any more; its futures fail."""
    sender = producer._sender  # noqa: SLF001 - close() flushes first, and gives up before it closes anything
    if sender is not None:
        sender.force_close()
        sender.join(_CLOSE_S)
    with contextlib.suppress(errors.KafkaError):
        producer.close(timeout=_CLOSE_S)


class _Listener(AsyncConsumerRebalanceListener):
    """Runs our listener where it may commit.

    kafka-python calls listeners on its network thread, where a commit would wait for itself. A thread of its own runs
    ours while the network thread goes on with heartbeats, and the consumer's thread waits in ``poll`` meanwhile, so
    that nothing runs beside it.
    """

    def __init__(self, listener: RebalanceListener, wake: Callable[[Callable[[], object]], object]) -> None:
        self._listener = listener
        self._wake = wake
        self.failure: BaseException | None = None
        #: Still ours to commit, for as long as the listener is told of them.
        self.leaving: frozenset[Any] = frozenset()

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self.leaving = frozenset(revoked)
        try:
            await self._run(self._listener.on_revoked, self.leaving)
        finally:
            self.leaving = frozenset()

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        await self._run(self._listener.on_revoked, lost)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        await self._run(self._listener.on_assigned, assigned)

    async def _run(self, call: Callable[[Sequence[TopicPartition]], None], partitions: Iterable[Any]) -> None:
        listed = [_ours(partition) for partition in sorted(partitions)]
        if not listed:
            return
        done = KafkaFuture()

        def work() -> None:
            try:
                call(listed)
            except BaseException as error:  # noqa: BLE001 - carried to the consumer's thread and raised there
                self.failure = error
            with contextlib.suppress(RuntimeError):
                self._wake(lambda: done.success(None))

        threading.Thread(target=work, name="kafka-rebalance", daemon=True).start()
        await done


class _Reading:
    """What everything that reads has in common: one kafka-python consumer on one thread."""

    def __init__(self, connection: KafkaConnection, **config: Any) -> None:
        self._connection = connection
        self._timeout_ms = connection.request_timeout_ms
        common = {
            "enable_auto_commit": False,
            "metrics_enabled": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "allow_auto_create_topics": False,
            "receive_message_max_bytes": connection.max_message_bytes * 2 + 16 * 1024 * 1024,
            # Enough to keep a reader busy, little enough to stay within its memory.
            "fetch_max_bytes": 8 * 1024 * 1024,
            "max_partition_fetch_bytes": 1024 * 1024,
            "fetch_max_wait_ms": connection.fetch_wait_ms,
        }
        self._client: KafkaConsumer = self._try(
            "connect", lambda: KafkaConsumer(**client_config(connection), **common | config)
        )

    @staticmethod
    def _try(doing: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (errors.KafkaError, OSError) as error:
            raise domain_error(error, doing) from error

    def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Fetch what is there; empty after ``timeout_s`` and while no broker answers."""
        batches = self._try(
            "read", lambda: self._client.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        )
        return [_record(message) for messages in batches.values() for message in messages]

    def _partitions(self, topics: Sequence[str]) -> list[kafka.TopicPartition]:
        found: list[kafka.TopicPartition] = []
        for topic in topics:
            numbers = self._try(f"find {topic}", functools.partial(self._client.partitions_for_topic, topic))
            if not numbers:
                raise UnavailableError(f"topic must exist to read it, got none named {topic!r}")
            found.extend(kafka.TopicPartition(topic, number) for number in sorted(numbers))
        return found

    def close(self) -> None:
        """Let go; idempotent."""
        with contextlib.suppress(errors.KafkaError, OSError):
            self._client.close(autocommit=False, timeout_ms=min(self._timeout_ms, 5_000))


class KafkaRecordConsumer(_Reading):
    """A ``RecordConsumer``: a member of a group that commits by hand. Used from one thread only."""

    def __init__(
        self, connection: KafkaConnection, group: str, *, together: bool = False, latest: bool = False
    ) -> None:
        """Connect.

        Args:
            connection: How to reach the brokers.
            group: Name of the consumer group.
            together: Whether the same partition of each topic must be one member's, for topics that are joined by key;
                then every member pauses while members come and leave, and the topics need as many partitions each.
            latest: Whether a group that has committed nothing begins with what is written from now on; else with the
                oldest record.

        Raises:
            UnavailableError: When no broker answers in time.
        """
        super().__init__(
            connection,
            group_id=group,
            group_instance_id=connection.instance_id or None,
            session_timeout_ms=connection.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, connection.session_timeout_ms // 3),
            max_poll_interval_ms=connection.max_poll_interval_ms,
            auto_offset_reset="latest" if latest else "earliest",
            # Cooperative: only what moves is revoked, and the rest of the line goes on while members come and leave.
            partition_assignment_strategy=(RangePartitionAssignor if together else CooperativeStickyAssignor,),
        )
        keep_finished_joins(self._client)
        self._group = group
        self._listener: _Listener | None = None

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group for these topics with the polls that follow."""
        # Its only door for a call from another thread.
        wake = self._client._net.call_soon_threadsafe  # noqa: SLF001
        self._listener = _Listener(listener, wake)
        self._client.subscribe(topics=list(topics), listener=self._listener)

    def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Fetch what is there; what the rebalance listener raised comes out here."""
        records = super().poll(max_records=max_records, timeout_s=timeout_s)
        if self._listener is not None and self._listener.failure is not None:
            failure, self._listener.failure = self._listener.failure, None
            raise failure
        return records

    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are ours now."""
        return frozenset(_ours(partition) for partition in self._client.assignment() or ())

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch nothing more from these until resumed."""
        self._client.pause(*self._mine(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch from these again."""
        self._client.resume(*self._mine(partitions))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from ``offset`` next."""
        for mine in self._mine([partition]):
            self._client.seek(mine, offset)

    def _mine(self, partitions: Iterable[TopicPartition]) -> list[kafka.TopicPartition]:
        listed = [_theirs(partition) for partition in partitions]
        foreign = set(listed) - set(self._client.assignment() or ())
        if foreign:
            raise ConflictError(f"partitions must be assigned to this member, got {sorted(foreign)}")
        return listed

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read for each partition, synchronously.

        Raises:
            UnavailableError: When the broker does not answer in time; nothing was lost, commit again.
            ConflictError: When a partition is no longer ours.
        """
        if not offsets:
            return
        leaving = self._listener.leaving if self._listener is not None else ()
        self._mine(partition for partition in offsets if _theirs(partition) not in leaving)
        wanted = {_theirs(partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        self._try(
            f"commit for {self._group}",
            lambda: self._client.commit(wanted, timeout_ms=self._connection.request_timeout_ms),
        )

    def lag(self) -> Mapping[TopicPartition, int]:
        """Records behind the end of each assigned partition, as the last fetches told.

        Of paused partitions fetches tell nothing any more: their ends are asked for, for a second at most.
        """
        asked = self._ends_of_paused()
        behind: dict[TopicPartition, int] = {}
        for partition in self._client.assignment() or ():
            ends = [end for end in (asked.get(partition), self._client.highwater(partition)) if end is not None]
            end = max(ends) if ends else None
            position = self._client.position(partition, timeout_ms=0) if end is not None else None
            if end is not None and position is not None:
                behind[_ours(partition)] = max(0, end - position)
        return behind

    def _ends_of_paused(self) -> dict[kafka.TopicPartition, int]:
        paused = [each for each in self._client.paused() if each in (self._client.assignment() or ())]
        if not paused:
            return {}
        try:
            return dict(self._client.end_offsets(paused, timeout_ms=_ENDS_TIMEOUT_MS))
        except (errors.KafkaError, OSError):
            # What was last known is better than nothing, and whoever commits learns of the broker's absence.
            return {}


class KafkaTopicReader(_Reading):
    """A ``TopicReader``: every partition of some topics, from their beginning, outside any group."""

    def __init__(self, connection: KafkaConnection, topics: Sequence[str]) -> None:
        """Connect and stand at the beginning.

        Args:
            connection: How to reach the brokers.
            topics: Topics to read; they must exist. Partitions that are added later are not read.

        Raises:
            UnavailableError: When no broker answers in time, or a topic does not exist yet.
        """
        super().__init__(connection, group_id=None)
        try:
            self._all = self._partitions(topics)
            self._client.assign(self._all)
            self._client.seek_to_beginning()
        except SightlineError:
            self.close()
            raise

    def read_to_end(self, timeout_s: float) -> Iterator[Record]:
        """Yield every record up to the ends seen when called.

        Raises:
            UnavailableError: When the ends are not reached within ``timeout_s``.
        """
        end_s = time.monotonic() + timeout_s
        ends = self._try("find the ends", lambda: self._client.end_offsets(self._all, timeout_ms=int(timeout_s * 1000)))
        while True:
            left_s = end_s - time.monotonic()
            behind = [each for each in self._all if self._position(each, left_s) < ends[each]]
            if not behind:
                return
            if left_s <= 0:
                raise UnavailableError(f"the ends must be reached within {timeout_s} s, got {len(behind)} behind")
            yield from self.poll(max_records=500, timeout_s=min(left_s, 0.5))

    def _position(self, partition: kafka.TopicPartition, timeout_s: float) -> int:
        timeout_ms = max(1, int(timeout_s * 1000))
        position = self._try("find the place", lambda: self._client.position(partition, timeout_ms=timeout_ms))
        return -1 if position is None else int(position)

    def seek_to_end(self) -> None:
        """Skip everything that exists now."""
        self._client.seek_to_end()
        for partition in self._all:
            # Resolve it now: a lazy seek would also skip what is written between this call and the next poll.
            self._position(partition, self._timeout_ms / 1000)

    def seek_to_time(self, timestamp_ms: int) -> None:
        """Read next the first record written at or after this time, or else what is written from now on.

        Raises:
            UnavailableError: When no broker answers in time.
        """
        # Before the times are looked up: what is written while we ask would else lie behind us.
        ends = self._try("find the ends", lambda: self._client.end_offsets(self._all, timeout_ms=self._timeout_ms))
        wanted = dict.fromkeys(self._all, timestamp_ms)
        found = self._try("find a time", lambda: self._client.offsets_for_times(wanted, timeout_ms=self._timeout_ms))
        for partition in self._all:
            at = found.get(partition)
            # No such record is either no answer or one without a record's time.
            nothing = at is None or at.timestamp < 0
            self._client.seek(partition, ends[partition] if nothing else at.offset)

    def read_between(self, since_ms: int, until_ms: int, timeout_s: float) -> Iterator[Record]:
        """Yield every record written from one time on and before another (ms since the epoch), as far as they are now.

        Raises:
            UnavailableError: When nothing comes for ``timeout_s`` although there is more.
        """
        self.seek_to_time(since_ms)
        ends = self._ends_before(until_ms)
        heard_s = time.monotonic()
        try:
            while open_ones := [each for each in self._all if self._position(each, timeout_s) < ends[each]]:
                if time.monotonic() - heard_s > timeout_s:
                    raise UnavailableError(f"records must come within {timeout_s} s, got none of {len(open_ones)} logs")
                # What lies beyond the window is not fetched: it may be a hundred times as much.
                self._client.pause(*(each for each in self._all if each not in open_ones))
                records = self.poll(max_records=500, timeout_s=0.5)
                if records:
                    heard_s = time.monotonic()
                for record in records:
                    # The time decides, not the end that was told: what was written together with the last record below
                    # it, and what came since, belongs to the window too.
                    if since_ms <= record.timestamp_ms < until_ms:
                        yield record
                    # Whoever takes long over a record has not been kept waiting.
                    heard_s = time.monotonic()
        finally:
            self._client.resume(*self._all)

    def _ends_before(self, until_ms: int) -> dict[kafka.TopicPartition, int]:
        """Where each partition's records of before a time end, or end now."""
        ends = self._try("find the ends", lambda: self._client.end_offsets(self._all, timeout_ms=self._timeout_ms))
        wanted = dict.fromkeys(self._all, until_ms)
        later = self._try("find a time", lambda: self._client.offsets_for_times(wanted, timeout_ms=self._timeout_ms))
        found = {each: at for each in self._all if (at := later.get(each)) is not None and at.timestamp >= 0}
        return {each: min(ends[each], found[each].offset) if each in found else ends[each] for each in self._all}


class KafkaRecordFetcher(_Reading):
    """A ``RecordFetcher``; callers on several threads take turns."""

    def __init__(self, connection: KafkaConnection) -> None:
        """Connect.

        Raises:
            UnavailableError: When no broker answers in time.
        """
        # One record is wanted; the broker still sends a record that is larger than this.
        small = {"max_partition_fetch_bytes": 16 * 1024, "fetch_max_bytes": 16 * 1024}
        super().__init__(connection, group_id=None, auto_offset_reset="none", fetch_max_wait_ms=100, **small)
        self._lock = threading.Lock()

    def fetch(self, position: RecordPosition, timeout_s: float) -> Record:
        """Read one record.

        Raises:
            NotFoundError: When the topic no longer keeps that offset, or never did.
            UnavailableError: When it cannot be read within ``timeout_s``.
        """
        place = kafka.TopicPartition(position.topic, position.partition)
        end_s = time.monotonic() + timeout_s
        with self._lock:
            if place not in self._partitions([position.topic]):
                raise NotFoundError(f"the topic must have the partition, got {position}")
            self._client.assign([place])
            self._client.seek(place, position.offset)
            try:
                return self._await(place, position, end_s, timeout_s)
            except errors.OffsetOutOfRangeError:
                raise NotFoundError(f"the topic must still keep the record, got {position}") from None
            except (errors.KafkaError, OSError) as error:
                raise domain_error(error, f"read {position}") from error

    def _await(self, place: kafka.TopicPartition, position: RecordPosition, end_s: float, timeout_s: float) -> Record:
        while (left_s := end_s - time.monotonic()) > 0:
            batches = self._client.poll(timeout_ms=max(1, int(min(left_s, 0.5) * 1000)), max_records=1)
            for message in batches.get(place, ()):
                if message.offset == position.offset:
                    return _record(message)
                raise NotFoundError(f"the topic must still keep the record, got {position}")
            end = self._client.highwater(place)
            if end is not None and position.offset >= end:
                raise NotFoundError(f"the topic must hold the record, got {position} beyond its end {end}")
        raise UnavailableError(f"a record must be read within {timeout_s} s, got no answer for {position}")


def _record(message: Any) -> Record:
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=message.timestamp,
        key=message.key or b"",
        value=message.value or b"",
        headers=tuple(message.headers or ()),
    )


def _ours(partition: Any) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def _theirs(partition: TopicPartition) -> kafka.TopicPartition:
    return kafka.TopicPartition(partition.topic, partition.partition)
