"""Makes a backup of a system that may be running; one that was cut off goes on where it was."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Final, Protocol, TypeVar

from services.adapters.backuparchive import Archive, Manifest, SavedList, SavedObject, Unfinished
from services.adapters.ports import ObjectStat, ObjectStore, TopicReader
from services.adapters.tablecopy import Row
from services.backup.content import LEFT_OUT, Amounts
from services.core.errors import NotFoundError, UnavailableError

THREADS: Final = 4
_TRIES: Final = 4
_TELL_EVERY: Final = 50

T = TypeVar("T")
R = TypeVar("R")
Tell = Callable[[int, int], None]
"""Told of the objects that are done, and of their bytes."""


class Rows(Protocol):
    """Tables that are saved."""

    def rows(self) -> Iterator[Row]:
        """Every row, as of one moment."""
        ...


def save(
    archive: Archive,
    store: ObjectStore,
    prefixes: Iterable[str],
    topics: Mapping[str, TopicReader],
    databases: Mapping[str, Rows],
    *,
    bucket: str,
    release: str,
    timeout_s: float = 30.0,
    threads: int = THREADS,
    tell: Tell = lambda _objects, _bytes: None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> Amounts:
    """Make a backup.

    Content that lies in the archive already, of an earlier backup or of one that was cut off, is neither read nor
    written again.

    Args:
        archive: Where to.
        store: The bucket.
        prefixes: Of the objects, in the order in which they are read.
        topics: Readers of the topics, each at its topic's beginning.
        databases: Tables by the name that they have in the backup.
        bucket: The bucket's name, for the manifest.
        release: Version of Sightline, for the manifest.
        timeout_s: Longest wait for the end of a topic.
        threads: Objects that are read at once; each is held in memory whole.
        tell: Progress.
        clock_ns: The present, nanoseconds since the epoch.

    Raises:
        UnavailableError: When store, broker, database or folder do not answer; the next call goes on.
        BackupDamagedError: When the newest backup's list is not what was written.
    """
    unfinished = archive.begin(clock_ns())
    kept_databases, rows = _databases(unfinished, databases)
    kept_topics = {topic: _topic(unfinished, topic, reader, timeout_s) for topic, reader in topics.items()}
    prefixes = tuple(prefixes)
    objects = _Objects(unfinished, store, threads, tell)
    listed = objects.save(prefixes)
    unfinished.finish(
        Manifest(
            name=unfinished.name,
            release=release,
            began_at_ns=unfinished.began_at_ns,
            ended_at_ns=clock_ns(),
            bucket=bucket,
            prefixes=prefixes,
            objects=listed,
            object_bytes=objects.bytes,
            topics=kept_topics,
            databases=kept_databases,
        )
    )
    return Amounts(
        unfinished.name,
        listed.lines,
        objects.bytes,
        objects.moved,
        objects.moved_bytes,
        sum(each.lines for each in kept_topics.values()),
        rows,
        tuple(objects.gone),
    )


def _databases(unfinished: Unfinished, databases: Mapping[str, Rows]) -> tuple[dict[str, SavedList], int]:
    kept: dict[str, SavedList] = {}
    for name, database in databases.items():
        with unfinished.list(f"tables/{name}.jsonl") as lines:
            for table, row in database.rows():
                lines.add({"table": table, "row": row})
        kept[name] = lines.written
    return kept, sum(each.lines for each in kept.values())


def _topic(unfinished: Unfinished, topic: str, reader: TopicReader, timeout_s: float) -> SavedList:
    with unfinished.list(f"topics/{topic}.jsonl") as lines:
        for record in reader.read_to_end(timeout_s):
            lines.add(
                {
                    "partition": record.partition,
                    "offset": record.offset,
                    "timestamp_ms": record.timestamp_ms,
                    "key": _text(record.key),
                    "value": _text(record.value),
                    "headers": [[name, _text(value)] for name, value in record.headers],
                }
            )
    return lines.written


class _Objects:
    """Saves objects, some at once, and lists them in the order in which the store names them."""

    def __init__(self, unfinished: Unfinished, store: ObjectStore, threads: int, tell: Tell) -> None:
        self._unfinished = unfinished
        self._store = store
        self._threads = threads
        self._tell = tell
        self.bytes = self.moved = self.moved_bytes = 0
        self.gone: list[str] = []

    def save(self, prefixes: Iterable[str]) -> SavedList:
        found = (stat for prefix in prefixes for stat in self._store.list(prefix) if not stat.key.startswith(LEFT_OUT))
        done = 0
        with self._unfinished.list("objects.jsonl") as lines:
            for stat, (saved, moved) in side_by_side(found, self._one, self._threads):
                if saved is None:
                    self.gone.append(stat.key)
                    continue
                lines.add(asdict(saved))
                done += 1
                self.bytes += saved.size_bytes
                self.moved += moved
                self.moved_bytes += saved.size_bytes * moved
                if done % _TELL_EVERY == 0:
                    self._tell(done, self.bytes)
        return lines.written

    def _one(self, stat: ObjectStat) -> tuple[SavedObject | None, bool]:
        archive, known = self._unfinished.archive, self._unfinished.known.get(stat.key)
        same = known is not None and (known.size_bytes, known.modified_ns) == (stat.size_bytes, stat.modified_ns)
        if known is not None and same and archive.has(known):
            return known, False
        try:
            data = patiently(lambda: self._store.get(stat.key))
        except NotFoundError:
            # What expires may go between the listing and the reading.
            return None, False
        return SavedObject(stat.key, archive.keep(data), len(data), stat.modified_ns), True


def side_by_side(items: Iterable[T], work: Callable[[T], R], threads: int) -> Iterator[tuple[T, R]]:
    """Work on items in some threads; results in the items' order, with a bounded number under way."""
    under_way: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="backup") as pool:
        try:
            for item in items:
                under_way.append((item, pool.submit(work, item)))
                if len(under_way) >= 2 * threads:
                    first, future = under_way.popleft()
                    yield first, future.result()
            while under_way:
                first, future = under_way.popleft()
                yield first, future.result()
        finally:
            for _, future in under_way:
                future.cancel()


def patiently(call: Callable[[], R]) -> R:
    """Try again a few times what a store that is briefly away did not do."""
    for left in range(_TRIES - 1, -1, -1):
        try:
            return call()
        except UnavailableError:
            if not left:
                raise
            time.sleep(0.2 * 2 ** (_TRIES - 1 - left))
    raise AssertionError("unreachable")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
