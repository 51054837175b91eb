"""Regions of POSIX shared memory that a client lends to a server on the same host.

A region is a file in ``/dev/shm``. Its owner holds an advisory lock on it for as long as it lives, so that what a
killed process left behind can be told from what is in use, also where processes do not see each other's ids.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FOLDER = Path("/dev/shm")  # noqa: S108 - this is where POSIX shared memory lives
_GRAIN_BYTES = 64 * 1024


class Region:
    """One region, mapped and locked. Made by :class:`RegionPool`."""

    def __init__(self, prefix: str, size_bytes: int) -> None:
        """Create the file and reserve its memory.

        Raises:
            OSError: When the memory is not there (``/dev/shm`` full or absent).
        """
        self.name = f"{prefix}{os.getpid()}-{secrets.token_hex(6)}"
        self.size_bytes = size_bytes
        self._path = _FOLDER / self.name
        self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A sparse file would end this process with SIGBUS on the first write that finds no memory.
            os.posix_fallocate(self._fd, 0, size_bytes)
            self._map = mmap.mmap(self._fd, size_bytes)
        except OSError:
            self.unlink()
            os.close(self._fd)
            raise
        self._view: NDArray[np.uint8] | None = np.frombuffer(self._map, np.uint8)

    @property
    def key(self) -> str:
        """What ``shm_open`` calls it."""
        return f"/{self.name}"

    def write(self, data: NDArray[np.uint8]) -> None:
        """Copy an array to the start of the region."""
        assert self._view is not None  # noqa: S101 - a closed region is in nobody's hands
        np.copyto(self._view[: data.nbytes].reshape(data.shape), data)

    def unlink(self) -> None:
        """Remove the name; the memory goes when the last process lets go."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the name and let go of the memory; idempotent."""
        if self._view is None:
            return
        self._view = None
        self.unlink()
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._fd)


class RegionPool:
    """Regions that are lent and taken back; bounded in number and bytes. Thread-safe.

    Args:
        prefix: Start of every region's name.
        max_regions: Most regions at a time.
        max_bytes: Most bytes of all of them together.
    """

    def __init__(self, prefix: str, *, max_regions: int, max_bytes: int) -> None:
        self._prefix = prefix
        self._max_regions = max_regions
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._free: list[Region] = []
        self._all: set[Region] = set()
        self._closed = False
        #: Regions that were given up; whoever registered them somewhere takes them back from there.
        self.dropped: list[str] = []

    def take(self, size_bytes: int) -> Region | None:
        """Lend a region of at least ``size_bytes``; None when the bound is reached or there is no memory."""
        with self._lock:
            if self._closed:
                return None
            fitting = [region for region in self._free if region.size_bytes >= size_bytes]
            if fitting:
                region = min(fitting, key=lambda each: each.size_bytes)
                self._free.remove(region)
                return region
            wanted = -(-size_bytes // _GRAIN_BYTES) * _GRAIN_BYTES
            self._make_room(wanted)
            if len(self._all) >= self._max_regions or self._bytes() + wanted > self._max_bytes:
                return None
            try:
                region = Region(self._prefix, wanted)
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.ENOMEM, errno.ENOENT, errno.EACCES, errno.EMFILE}:
                    raise
                return None
            self._all.add(region)
            return region

    def give_back(self, region: Region) -> None:
        """Take a region back; it may be lent again."""
        with self._lock:
            if self._closed:
                region.close()
            else:
                self._free.append(region)

    def close(self) -> list[str]:
        """Unlink every region, those that are lent too, and give their names; idempotent."""
        with self._lock:
            self._closed = True
            names = [region.name for region in self._all]
            for region in self._free:
                region.close()
            for region in self._all:
                # One that is lent is unmapped when it comes back.
                region.unlink()
            self._free.clear()
            self._all.clear()
            return names

    def _bytes(self) -> int:
        return sum(region.size_bytes for region in self._all)

    def _make_room(self, wanted_bytes: int) -> None:
        """Drop idle regions, all too small: the one that the new one replaces, and more until it fits.

        So there are never more regions than were lent at once, and in time each holds the largest batch. Kept, they
        would add up to one of every size that a batch ever had.
        """
        replaced = False
        while self._free and (
            not replaced or len(self._all) >= self._max_regions or self._bytes() + wanted_bytes > self._max_bytes
        ):
            region = min(self._free, key=lambda each: each.size_bytes)
            self._free.remove(region)
            self._all.discard(region)
            self.dropped.append(region.name)
            region.close()
            replaced = True


def is_stale(name: str) -> bool:
    """Tell whether a region's owner is gone: the file is not there, or nobody holds its lock."""
    try:
        fd = os.open(_FOLDER / name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        # A region is locked within microseconds of its birth; an empty one may be just being born.
        return os.fstat(fd).st_size > 0
    finally:
        os.close(fd)


def sweep_stale(prefix: str) -> list[str]:
    """Unlink every region with this prefix whose owner is gone.

    Returns:
        Their names.
    """
    try:
        found = [entry.name for entry in _FOLDER.iterdir() if entry.name.startswith(prefix)]
    except OSError:
        return []
    stale = [name for name in found if is_stale(name)]
    for name in stale:
        (_FOLDER / name).unlink(missing_ok=True)
    return stale
