"""Brings a backup back; checked before anything is written, and gone on with if it was cut off."""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from services.adapters.backuparchive import Archive, Manifest, SavedObject
from services.adapters.codec import decode_alias_state, encode_alias_state
from services.adapters.ports import Headers, ObjectStore, TopicReader
from services.adapters.tablecopy import Row
from services.backup.content import MARKER, TOPICS, Amounts
from services.backup.save import THREADS, Tell, patiently, side_by_side
from services.core.errors import ConflictError, InvalidInputError, NotFoundError
from services.core.topics import MODELS
from services.core.types import AliasState, RecordPosition

_MARKER_BYTES: Final = 4_096
_TELL_EVERY: Final = 50

_Content = tuple[bytes, bytes]


class Tables(Protocol):
    """Tables that rows are brought back into."""

    def rows(self) -> Iterator[Row]:
        """Every row, as of one moment."""
        ...

    def count(self) -> int:
        """How many rows there are."""
        ...

    def load(self, rows: Iterable[Row], *, over: bool = False) -> int:
        """Add rows, all or none of them."""
        ...


class TimedWriter(Protocol):
    """Writes records with the time of their first writing."""

    def send(
        self, topic: str, *, key: bytes, value: bytes, headers: Headers = (), timestamp_ms: int | None = None
    ) -> Future[RecordPosition]:
        """Queue one record."""
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait until everything queued is settled."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup is brought back to."""

    store: ObjectStore
    bucket: str
    readers: Mapping[str, Callable[[], TopicReader]]
    """Of each topic, from its beginning."""
    writer: TimedWriter
    databases: Mapping[str, Tables]
    timeout_s: float = 30.0


def check(
    archive: Archive, name: str, *, threads: int = THREADS, tell: Tell = lambda _objects, _bytes: None
) -> Amounts:
    """Read a whole backup and hold every byte against its digest; nothing is written.

    Raises:
        BackupDamagedError: That names the first file that is missing, cut short or changed.
        NotFoundError: When there is no whole backup of this name.
    """
    manifest = archive.manifest(name)
    for listed in manifest.lists:
        archive.check_list(name, listed)
    done = size_bytes = 0
    for saved, _ in side_by_side(archive.objects(name, manifest), archive.check_content, threads):
        done, size_bytes = done + 1, size_bytes + saved.size_bytes
        if done % _TELL_EVERY == 0:
            tell(done, size_bytes)
    return Amounts(
        name,
        done,
        size_bytes,
        0,
        0,
        sum(each.lines for each in manifest.topics.values()),
        sum(each.lines for each in manifest.databases.values()),
    )


def restore(
    archive: Archive,
    name: str,
    target: Target,
    *,
    over: bool = False,
    leave_out: frozenset[str] = frozenset(),
    threads: int = THREADS,
    tell: Tell = lambda _objects, _bytes: None,
) -> Amounts:
    """Check a backup and bring it back.

    Objects come first, then topics, then tables, and the aliases of models last: once an alias points to a version,
    that lies in the store.

    Args:
        archive: Where backups lie.
        name: Which one.
        target: Where to.
        over: Replace what is there, where the backup has it too; other objects and records stay. Tables are replaced.
        leave_out: Tables of databases that are not brought back.
        threads: Objects at once.
        tell: Progress.

    Raises:
        InvalidInputError: When the bucket has another name than the one that was saved.
        BackupDamagedError: When the backup is not what was written; nothing was changed.
        ConflictError: When something lies at the target already; nothing was changed.
        UnavailableError: When the target does not answer; the next call goes on.
    """
    manifest = archive.manifest(name)
    if manifest.bucket != target.bucket:
        # Cases and reviews name the bucket that their pictures lie in.
        raise InvalidInputError(f"a restore must go to a bucket named {manifest.bucket}, got {target.bucket}")
    check(archive, name, threads=threads)
    going_on = _going_on(target.store, archive.manifest_sha256(name))
    if not (over or going_on):
        _refuse_what_is_not_empty(target, manifest)
    mark = {"backup": name, "manifest_sha256": archive.manifest_sha256(name)}
    target.store.put(MARKER, json.dumps(mark).encode(), content_type="application/json")
    objects = _Objects(archive, target.store, compare=over, threads=threads, tell=tell)
    # Prefix by prefix from the last: what is named before what names it.
    for prefix in reversed(manifest.prefixes):
        objects.restore(prefix, (each for each in archive.objects(name, manifest) if each.key.startswith(prefix)))
    records = sum(
        _topic(archive, manifest, topic, target) for topic in TOPICS if topic in manifest.topics and topic != MODELS
    )
    rows = sum(
        _tables(archive, manifest, database, tables, leave_out, over=over, going_on=going_on)
        for database, tables in target.databases.items()
        if database in manifest.databases
    )
    if MODELS in manifest.topics:
        records += _topic(archive, manifest, MODELS, target)
        if over:
            records += _put_aliases_back(archive, manifest, target)
    target.store.delete([MARKER])
    return Amounts(name, objects.done, objects.bytes, objects.moved, objects.moved_bytes, records, rows)


def _going_on(store: ObjectStore, digest: str) -> bool:
    try:
        mark = json.loads(store.get(MARKER, max_bytes=_MARKER_BYTES))
    except NotFoundError:
        return False
    if mark.get("manifest_sha256") != digest:
        raise ConflictError(
            f"a restore of backup {mark.get('backup')} was begun here and must be ended first (or {MARKER} removed "
            "from the bucket), got another backup"
        )
    return True


def _refuse_what_is_not_empty(target: Target, manifest: Manifest) -> None:
    found = [prefix for prefix in manifest.prefixes if next(iter(target.store.list(prefix)), None) is not None]
    found += [topic for topic in manifest.topics if topic in target.readers and _records(target, topic)]
    found += [
        f"tables of {name}"
        for name, tables in target.databases.items()
        if name in manifest.databases and tables.count()
    ]
    if found:
        raise ConflictError(
            f"what is restored to must be empty, or --over be given, got something in {', '.join(found)}"
        )


class _Objects:
    def __init__(self, archive: Archive, store: ObjectStore, *, compare: bool, threads: int, tell: Tell) -> None:
        self._archive = archive
        self._store = store
        self._compare = compare
        self._threads = threads
        self._tell = tell
        self._there: dict[str, int] = {}
        self.done = self.bytes = self.moved = self.moved_bytes = 0

    def restore(self, prefix: str, objects: Iterator[SavedObject]) -> None:
        self._there = {stat.key: stat.size_bytes for stat in self._store.list(prefix)}
        for saved, moved in side_by_side(objects, self._one, self._threads):
            self.done += 1
            self.bytes += saved.size_bytes
            self.moved += moved
            self.moved_bytes += saved.size_bytes * moved
            if self.done % _TELL_EVERY == 0:
                self._tell(self.done, self.bytes)

    def _one(self, saved: SavedObject) -> bool:
        if self._there.get(saved.key) == saved.size_bytes and self._is_same(saved):
            return False
        data = self._archive.content(saved)
        kind = mimetypes.guess_type(saved.key)[0] or "application/octet-stream"
        patiently(lambda: self._store.put(saved.key, data, content_type=kind))
        return True

    def _is_same(self, saved: SavedObject) -> bool:
        # Where nothing lay before, only a restore of this backup has written, and an object is written whole or not.
        if not self._compare:
            return True
        data = patiently(lambda: self._store.get(saved.key))
        return hashlib.sha256(data).hexdigest() == saved.sha256


def _records(target: Target, topic: str) -> list[_Content]:
    reader = target.readers[topic]()
    try:
        return [(record.key, record.value) for record in reader.read_to_end(target.timeout_s)]
    finally:
        reader.close()


def _topic(archive: Archive, manifest: Manifest, topic: str, target: Target) -> int:
    """Write what is not there yet, in the order of its first writing."""
    there = Counter(_records(target, topic))
    sent: list[Future[RecordPosition]] = []
    for line in archive.lines(manifest.name, manifest.topics[topic]):
        key, value = _bytes(line["key"]), _bytes(line["value"])
        if there[key, value]:
            there[key, value] -= 1
            continue
        headers = [(name, _bytes(each)) for name, each in line["headers"]]
        sent.append(target.writer.send(topic, key=key, value=value, headers=headers, timestamp_ms=line["timestamp_ms"]))
    target.writer.flush(target.timeout_s)
    for one in sent:
        one.result(target.timeout_s)
    return len(sent)


def _put_aliases_back(archive: Archive, manifest: Manifest, target: Target) -> int:
    """Where an alias has gone on since, its state of then becomes the newest: the highest revision counts."""
    saved = _newest(_bytes(line["value"]) for line in archive.lines(manifest.name, manifest.topics[MODELS]))
    now = _newest(value for _, value in _records(target, MODELS))
    sent = []
    for alias, state in saved.items():
        held = now[alias]
        if replace(held, revision=0) == replace(state, revision=0):
            continue
        again = replace(state, revision=held.revision + 1, note=f"restored from backup {manifest.name}")
        sent.append(target.writer.send(MODELS, key=alias.encode(), value=encode_alias_state(again)))
    target.writer.flush(target.timeout_s)
    for one in sent:
        one.result(target.timeout_s)
    return len(sent)


def _newest(values: Iterable[bytes]) -> dict[str, AliasState]:
    found: dict[str, AliasState] = {}
    for value in values:
        state = decode_alias_state(value)
        if state.alias not in found or state.revision > found[state.alias].revision:
            found[state.alias] = state
    return found


def _tables(
    archive: Archive,
    manifest: Manifest,
    database: str,
    tables: Tables,
    leave_out: frozenset[str],
    *,
    over: bool,
    going_on: bool,
) -> int:
    rows = [
        (str(line["table"]), dict(line["row"]))
        for line in archive.lines(manifest.name, manifest.databases[database])
        if line["table"] not in leave_out
    ]
    if going_on and not over and tables.count():
        # All rows or none of them were written: by the restore that was cut off, or by people since.
        if _as_set(tables.rows(), leave_out) >= _as_set(rows, leave_out):
            return 0
        raise ConflictError(f"tables of {database} must be empty, or --over be given, got others")
    return tables.load(rows, over=over)


def _as_set(rows: Iterable[Row], leave_out: frozenset[str]) -> set[str]:
    return {json.dumps([table, row], sort_keys=True) for table, row in rows if table not in leave_out}


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)
