"""Keeps outcomes and events in files, one a day: for a line without a network, and for an MES that reads folders."""

from __future__ import annotations

import csv
import fcntl
import io
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from services.core.errors import InvalidInputError, UnavailableError
from services.core.identity import validate_id
from services.core.line_event import LineEvent
from services.core.outcome import Outcome
from services.core.outcome_text import (
    LINE_EVENT_COLUMNS,
    OUTCOME_COLUMNS,
    line_event_row,
    outcome_row,
    told_at_ns,
    told_bytes,
    told_id,
    utc_day,
)

LOG = logging.getLogger(__name__)

OutcomeFormat = Literal["jsonl", "csv"]

_MODE: Final = 0o640
# The start of a record lies well within: an outcome of the most views is some 30 kB.
_BLOCK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class _OpenFile:
    """A file that is written to; its end is that of a whole record."""

    path: Path
    descriptor: int


class OutcomeFileSink:
    """An ``OutcomeSink`` that appends to ``<folder>/<line>-YYYYMMDD.jsonl`` or ``.csv``, by the outcome's day in UTC.

    A record that was delivered is on the disk. One that a killed process left torn is cut off when the file is opened
    again. One that is delivered twice is written once, as long as it is among the last ones. CSV keeps events in a
    file of their own, ``<line>-events-YYYYMMDD.csv``.
    """

    def __init__(
        self,
        folder: Path,
        line_id: str,
        format: OutcomeFormat = "jsonl",  # noqa: A002 - what the settings call it
        *,
        remembered: int = 10_000,
        tail_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            folder: Made if it does not exist.
            line_id: Whose outcomes they are.
            format: One JSON object a line, or comma-separated values with a header.
            remembered: Ids of the last records that are known, so that none is written twice.
            tail_bytes: How much of a file's end is read for such ids when it is opened.

        Raises:
            InvalidInputError: If the line or the format is none, or a bound is below 1.
        """
        if format not in {"jsonl", "csv"}:
            raise InvalidInputError(f"format must be jsonl or csv, got {format!r}")
        if remembered < 1 or tail_bytes < 1:
            raise InvalidInputError(f"remembered and tail_bytes must be >= 1, got {remembered} and {tail_bytes}")
        self._folder = folder
        self._line_id = validate_id(line_id, "line_id")
        self._format = format
        self._remembered = remembered
        self._tail_bytes = tail_bytes
        self._known: OrderedDict[str, None] = OrderedDict()
        # By name without the day: outcomes and events of CSV come by turns and each keep their file open.
        self._files: dict[str, _OpenFile] = {}

    @property
    def address(self) -> str:
        """Where the files lie, for people."""
        return str(self._folder)

    def deliver(self, told: Outcome | LineEvent) -> None:
        """Append one of them; returns once the disk has it.

        Raises:
            UnavailableError: When it cannot be written: no room, no permission, the folder is away, another process
                writes there, or the file has another header. Nothing of it is left behind.
        """
        stem = self._stem(told)
        path = self._folder / f"{stem}-{utc_day(told_at_ns(told))}.{self._format}"
        try:
            file = self._file(stem, path, _header(told) if self._format == "csv" else b"")
            # Asked after opening, which reads the ids that an earlier process wrote.
            if told_id(told) not in self._known:
                _append(file.descriptor, self._record(told))
                self._remember(told_id(told))
        except OSError as error:
            # Opened again by the next one, which cuts off whatever could not be taken back.
            self._close(stem)
            raise UnavailableError(f"{path} must take a record, got {error}") from error

    def close(self) -> None:
        """Close the files; idempotent."""
        for stem in list(self._files):
            self._close(stem)

    def _stem(self, told: Outcome | LineEvent) -> str:
        apart = self._format == "csv" and isinstance(told, LineEvent)
        return f"{self._line_id}-events" if apart else self._line_id

    def _record(self, told: Outcome | LineEvent) -> bytes:
        if self._format == "jsonl":
            return told_bytes(told) + b"\n"
        return _csv_line(outcome_row(told) if isinstance(told, Outcome) else line_event_row(told))

    # ---- files

    def _file(self, stem: str, path: Path, header: bytes) -> _OpenFile:
        kept = self._files.get(stem)
        if kept is not None and kept.path == path:
            return kept
        self._close(stem)
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        try:
            _lock(descriptor, path)
            self._repair(descriptor, path)
            self._check_header(descriptor, path, header)
            self._learn(descriptor)
            os.fsync(descriptor)
            _sync_directory(self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._files[stem] = _OpenFile(path, descriptor)
        return self._files[stem]

    def _repair(self, descriptor: int, path: Path) -> None:
        size = os.fstat(descriptor).st_size
        end = _end_of_last_line(descriptor, size)
        if end < size:
            os.ftruncate(descriptor, end)
            LOG.warning("cut off a torn record of %d bytes", size - end, extra={"file": str(path)})

    def _check_header(self, descriptor: int, path: Path, header: bytes) -> None:
        if not header:
            return
        if os.fstat(descriptor).st_size == 0:
            _append(descriptor, header)
        elif os.pread(descriptor, len(header), 0) != header:
            raise UnavailableError(f"{path} must begin with this release's header, got another one; move it away")

    def _learn(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        begin = max(0, size - self._tail_bytes)
        lines = _read(descriptor, begin, size - begin).split(b"\n")
        # The first one is a part of a line where the file did not begin there, and the last one is empty.
        for line in lines[1 if begin else 0 : -1][-self._remembered :]:
            if found := _id_in(line, self._format):
                self._remember(found)

    def _remember(self, known_id: str) -> None:
        self._known[known_id] = None
        self._known.move_to_end(known_id)
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def _close(self, stem: str) -> None:
        kept = self._files.pop(stem, None)
        if kept is not None:
            os.close(kept.descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # It would take what this one is writing for a torn record.
        raise UnavailableError(f"{path} must have one writer, got another process that has it open") from None


def _append(descriptor: int, record: bytes) -> None:
    start = os.fstat(descriptor).st_size
    try:
        view = memoryview(record)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        # A half-written record must not stay in front of the next one.
        os.ftruncate(descriptor, start)
        raise


def _end_of_last_line(descriptor: int, size: int) -> int:
    end = size
    while end > 0:
        begin = max(0, end - _BLOCK_BYTES)
        found = _read(descriptor, begin, end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _read(descriptor: int, offset: int, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        block = os.pread(descriptor, size - len(found), offset + len(found))
        if not block:
            break
        found += block
    return bytes(found)


def _id_in(line: bytes, form: OutcomeFormat) -> str:
    """The id of a record as :class:`OutcomeFileSink` writes it; empty for a line that somebody else wrote."""
    if form == "csv":
        return line.split(b",", 1)[0].decode("ascii", "replace")
    for key in (b'"outcome_id":"', b'"event_id":"'):
        # Keys come in the order in which we write them, so the first one is the record's own.
        _, found, rest = line[:200].partition(key)
        if found:
            return rest.split(b'"', 1)[0].decode("ascii", "replace")
    return ""


def _header(told: Outcome | LineEvent) -> bytes:
    return _csv_line(list(OUTCOME_COLUMNS if isinstance(told, Outcome) else LINE_EVENT_COLUMNS))


def _csv_line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
