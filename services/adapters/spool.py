"""A bounded first-in-first-out queue on disk that survives ``kill -9`` at any instruction.

Records are appended to segment files; each carries its length and a CRC over both length and content. The
acknowledged prefix is remembered in a small file that is overwritten in one call, and segments that lie wholly before
it are removed. Opening checks every record from there on: a torn tail (the write that the kill interrupted) and a
damaged record are left out and counted, never handed out.

What an ``append`` that returned promises: the record survives the death of the process. With ``fsync=True`` it also
survives the death of the machine; without, the kernel writes it within its usual half minute. The acknowledged prefix
may go back after a power cut, never forward: a record may come out twice, and none is skipped.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
import threading
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from services.core.errors import InvalidInputError, SpoolFullError

LOG = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("<II")
_ACKNOWLEDGED: Final = struct.Struct("<QI")
_SUFFIX: Final = ".spool"
_ACK_NAME: Final = "acknowledged"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

SpoolPolicy = Literal["block", "drop-oldest"]


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """One record on disk."""

    number: int
    """Counts up by one with every append, over restarts."""
    value: bytes


@dataclass(slots=True)
class _Place:
    """Where a record that is not acknowledged yet lies."""

    number: int
    segment: int
    offset: int
    size_bytes: int


class Spool:
    """The queue. Thread-safe; one process at a time.

    Attributes:
        torn: Records left out because they were damaged.
        dropped: Records that the policy ``drop-oldest`` gave up since opening.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        policy: SpoolPolicy = "block",
        segment_bytes: int = 16 * 1024 * 1024,
        fsync: bool = False,
    ) -> None:
        """Open it and find what an earlier process left.

        Args:
            directory: Made if it does not exist; belongs to this spool alone.
            max_bytes: Bound of everything on disk, headers included.
            policy: What a full spool does: refuse the new record (``block``) or give up the oldest ones.
            segment_bytes: Size at which a new file is begun; space comes back file by file.
            fsync: Wait until the disk has each record.
        """
        if max_bytes < 1 or segment_bytes < 1:
            raise InvalidInputError(f"spool bounds must be >= 1 byte, got {max_bytes} and {segment_bytes}")
        self.torn = 0
        self.dropped = 0
        self._directory = directory
        self._max_bytes = max_bytes
        self._policy = policy
        # Several segments within the bound, so that dropping the oldest gives room without giving up everything.
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self._fsync = fsync
        self._lock = threading.RLock()
        self._places: deque[_Place] = deque()
        self._segment_sizes: dict[int, int] = {}
        self._file: int | None = None
        self._read_file: tuple[int, int] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._acknowledged = self._read_acknowledged()
        self._next_number = self._acknowledged + 1
        self._recover()

    # ---- what is there

    def __len__(self) -> int:
        """Records that are not acknowledged yet."""
        with self._lock:
            return len(self._places)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        with self._lock:
            return sum(self._segment_sizes.values())

    # ---- writing

    def append(self, value: bytes) -> int:
        """Add a record at the end.

        Returns:
            Its number.

        Raises:
            SpoolFullError: When there is no room, by the bound or on the disk, and the policy is to block, or when
                the record alone is larger than the bound. Nothing of it is left behind.
        """
        size_bytes = _HEADER.size + len(value)
        if size_bytes > self._max_bytes:
            raise SpoolFullError(f"a spooled record must have at most {self._max_bytes} bytes, got {size_bytes}")
        with self._lock:
            while self.size_bytes + size_bytes > self._max_bytes:
                self._make_room(f"spool must stay within {self._max_bytes} bytes, got {self.size_bytes} + {size_bytes}")
            while True:
                try:
                    return self._write(value)
                except OSError as error:
                    if error.errno not in _NO_ROOM:
                        raise
                    self._make_room(f"disk must have room for the spool, got {error}")

    def _make_room(self, why: str) -> None:
        if self._policy == "block" or not self._places:
            raise SpoolFullError(why)
        oldest = self._places[0].segment
        # Whole segments: only a removed file gives space back.
        given_up = 0
        while self._places and self._places[0].segment == oldest:
            last = self._places.popleft()
            given_up += 1
        self.dropped += given_up
        self._store_acknowledged(last.number)
        self._remove_segments()
        LOG.warning("spool is full: gave up the oldest %d records", given_up, extra={"spool": str(self._directory)})

    def _write(self, value: bytes) -> int:
        segment = max(self._segment_sizes, default=0)
        if self._file is None or self._segment_sizes[segment] >= self._segment_bytes:
            segment = self._begin_segment()
        file = self._file
        if file is None:
            raise OSError(errno.EBADF, "spool has no open segment")
        start = self._segment_sizes[segment]
        record = _framed(value)
        try:
            _write_all(file, record, start)
            if self._fsync:
                os.fdatasync(file)
        except OSError:
            # A half-written record must not stay in front of the next one.
            os.ftruncate(file, start)
            raise
        self._segment_sizes[segment] = start + len(record)
        number = self._next_number
        self._next_number += 1
        self._places.append(_Place(number, segment, start, len(record)))
        return number

    def _begin_segment(self) -> int:
        # Named by the number of its first record: the name alone tells where to count on.
        segment = self._next_number
        file = os.open(self._path(segment), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
        if self._file is not None:
            os.close(self._file)
        self._file = file
        self._segment_sizes[segment] = 0
        if self._fsync:
            _sync_directory(self._directory)
        return segment

    # ---- reading

    def peek(self, max_records: int, *, skip: int = 0) -> list[SpooledRecord]:
        """Read the oldest records without taking them away.

        Args:
            max_records: Most records to return.
            skip: Leave out as many of the oldest.

        Returns:
            Oldest first. A record that can no longer be read is counted in :attr:`torn` and left out.
        """
        with self._lock:
            wanted = [self._places[index] for index in range(skip, min(skip + max_records, len(self._places)))]
            records = []
            for place in wanted:
                value = self._read(place)
                if value is None:
                    self.torn += 1
                    LOG.error("a spooled record is damaged and left out", extra={"number": place.number})
                    self._places.remove(place)
                else:
                    records.append(SpooledRecord(place.number, value))
            return records

    def _read(self, place: _Place) -> bytes | None:
        if self._read_file is None or self._read_file[0] != place.segment:
            self._close_read_file()
            try:
                self._read_file = (place.segment, os.open(self._path(place.segment), os.O_RDONLY))
            except FileNotFoundError:
                # Somebody removed it; the records that come after it are still there.
                return None
        data = os.pread(self._read_file[1], place.size_bytes, place.offset)
        return _unframed(data)

    def acknowledge(self, number: int) -> None:
        """Take away every record up to and including ``number``."""
        with self._lock:
            if number <= self._acknowledged:
                return
            while self._places and self._places[0].number <= number:
                self._places.popleft()
            self._store_acknowledged(number)
            self._remove_segments()

    def close(self) -> None:
        """Close the files; idempotent."""
        with self._lock:
            self._close_read_file()
            if self._file is not None:
                if self._fsync:
                    os.fdatasync(self._file)
                os.close(self._file)
                self._file = None

    # ---- the acknowledged prefix

    def _read_acknowledged(self) -> int:
        with contextlib.suppress(FileNotFoundError, struct.error):
            number, crc = _ACKNOWLEDGED.unpack((self._directory / _ACK_NAME).read_bytes())
            if zlib.crc32(number.to_bytes(8, "little")) == crc:
                return int(number)
            LOG.error("the acknowledged prefix is damaged; its records come out again")
        return 0

    def _store_acknowledged(self, number: int) -> None:
        self._acknowledged = number
        target = self._directory / _ACK_NAME
        content = _ACKNOWLEDGED.pack(number, zlib.crc32(number.to_bytes(8, "little")))
        file = os.open(target, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            # Twelve bytes in one write to a block that the file already has: needs no room on a full disk, and a
            # kill leaves the old or the new ones. A power cut may tear them; the CRC tells.
            os.pwrite(file, content, 0)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            # After a crash these records would come out again, which is allowed.
            LOG.warning("the acknowledged prefix could not be stored: %s", error)
        finally:
            os.close(file)

    def _remove_segments(self) -> None:
        needed = self._places[0].segment if self._places else None
        current = max(self._segment_sizes, default=0)
        for segment in sorted(self._segment_sizes):
            if needed is not None and segment >= needed:
                break
            if segment == current and self._file is not None:
                os.close(self._file)
                self._file = None
            if self._read_file is not None and self._read_file[0] == segment:
                self._close_read_file()
            self._path(segment).unlink(missing_ok=True)
            del self._segment_sizes[segment]

    def _close_read_file(self) -> None:
        if self._read_file is not None:
            os.close(self._read_file[1])
            self._read_file = None

    # ---- recovery

    def _recover(self) -> None:
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            self._recover_segment(path)
        self._remove_segments()
        if self._places or self.torn:
            LOG.info("spool opened with %d records left by an earlier run, %d damaged", len(self._places), self.torn)

    def _recover_segment(self, path: Path) -> None:
        number = segment = int(path.stem)
        data_size = path.stat().st_size
        offset = 0
        with path.open("rb") as file:
            while offset < data_size:
                file.seek(offset)
                header = file.read(_HEADER.size)
                length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else -1
                end = offset + _HEADER.size + length
                if length < 0 or end > data_size:
                    break
                if _unframed(header + file.read(length)) is None:
                    if end == data_size:
                        break
                    # Its length leads to the next record, so only this one is lost.
                    self.torn += 1
                elif number > self._acknowledged:
                    self._places.append(_Place(number, segment, offset, end - offset))
                offset = end
                number += 1
        if offset < data_size:
            self.torn += 1
            LOG.warning("left out a torn record of %d bytes", data_size - offset, extra={"file": str(path)})
        # Never written to again: what follows goes into a new segment.
        self._segment_sizes[segment] = data_size
        self._next_number = max(self._next_number, number)

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:020d}{_SUFFIX}"


def _framed(value: bytes) -> bytes:
    length = len(value).to_bytes(4, "little")
    return length + zlib.crc32(value, zlib.crc32(length)).to_bytes(4, "little") + value


def _unframed(data: bytes) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    length, crc = _HEADER.unpack_from(data)
    value = data[_HEADER.size :]
    if len(value) != length or zlib.crc32(value, zlib.crc32(data[:4])) != crc:
        return None
    return value


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
