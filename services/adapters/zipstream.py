"""A ZIP archive as it is made: pieces of bytes, in order, for somebody who reads them at once.

``zipfile`` writes to a stream too, but keeps a record of each file in memory until the end, and puts the sizes of a
file after it, where a reader of a stream does not look for them. Here the sizes come first, since every file is at hand
before it is written, and the directory waits in a spool. The format is PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5;
ZIP64 is used where an archive needs it. Equal files give equal bytes: no clock is looked at.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from services.core.errors import InvalidInputError

#: Largest piece that is given.
PIECE_BYTES: Final = 256 * 1024

_LOCAL: Final = struct.Struct("<IHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<IHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<IHHHHIIH")
_END64: Final = struct.Struct("<IQHHIIQQQQ")
_LOCATOR64: Final = struct.Struct("<IIQI")
_STORED, _DEFLATED = 0, 8
_VERSION, _VERSION64 = 20, 45
_UNIX: Final = 3 << 8
_UTF8: Final = 1 << 11
# 1980-01-01 00:00, the first moment that the format knows.
_DATE, _TIME = (0 << 9) | (1 << 5) | 1, 0
_FILE_MODE, _FOLDER_MODE = 0o100644 << 16, (0o040755 << 16) | 0x10
_MAX_32: Final = 0xFFFF_FFFF
_MAX_16: Final = 0xFFFF
_LEVEL: Final = 6


class Spool:
    """Bytes that wait for their turn: in memory up to a bound, then in a temporary file that nobody else sees."""

    def __init__(self, memory_bytes: int) -> None:
        """Set up, empty.

        Args:
            memory_bytes: Bytes that are kept in memory.
        """
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115 - closed by close()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._file.write(data)
        self.size_bytes += len(data)

    def read(self) -> Iterator[bytes]:
        """Give everything from the beginning, in pieces."""
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            yield piece

    def close(self) -> None:
        """Let go; idempotent."""
        self._file.close()


class ZipStream:
    """Makes one archive. Used from one thread; what a method gives must be read to its end before the next is called.

    Args:
        spool_bytes: Bytes of the directory, and of a file that comes in pieces, that are kept in memory.
        most_32: From where on sizes and places are written in 64 bits; the format's own bound unless a test says else.
        most_16: From where on the number of files is.
    """

    def __init__(self, spool_bytes: int, *, most_32: int = _MAX_32, most_16: int = _MAX_16) -> None:
        self._spool_bytes = spool_bytes
        self._most_32, self._most_16 = most_32, most_16
        self._directory = Spool(spool_bytes)
        self._files = 0
        self._at = 0

    def folder(self, name: str) -> Iterator[bytes]:
        """Add an empty folder; its name ends with a slash."""
        yield from self._begin(name, _STORED, 0, 0, 0)

    def file(self, name: str, data: bytes, *, compress: bool) -> Iterator[bytes]:
        """Add a file that is at hand.

        Args:
            name: Its path in the archive, with slashes.
            data: What it holds.
            compress: Whether it is worth the time: pictures mostly are compressed already.
        """
        if not compress:
            yield from self._begin(name, _STORED, zlib.crc32(data), len(data), len(data))
            yield from self._pieces(data)
            return
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = packer.compress(data) + packer.flush()
        yield from self._begin(name, _DEFLATED, zlib.crc32(data), len(packed), len(data))
        yield from self._pieces(packed)

    def pieces(self, name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Add a file that comes in pieces, compressed; it waits in a spool until its size is known."""
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        spool = Spool(self._spool_bytes)
        try:
            crc, size_bytes = 0, 0
            for piece in pieces:
                crc, size_bytes = zlib.crc32(piece, crc), size_bytes + len(piece)
                spool.write(packer.compress(piece))
            spool.write(packer.flush())
            yield from self._begin(name, _DEFLATED, crc, spool.size_bytes, size_bytes)
            for packed in spool.read():
                yield from self._pieces(packed)
        finally:
            spool.close()

    def end(self) -> Iterator[bytes]:
        """Add the directory, without which the archive is none."""
        begins_at, size_bytes = self._at, self._directory.size_bytes
        for piece in self._directory.read():
            yield from self._pieces(piece)
        large = max(begins_at, size_bytes) >= self._most_32 or self._files >= self._most_16
        if large:
            place = self._at
            yield _END64.pack(
                *(0x06064B50, _END64.size - 12, _UNIX | _VERSION64, _VERSION64, 0, 0),
                *(self._files, self._files, size_bytes, begins_at),
            )
            yield _LOCATOR64.pack(0x07064B50, 0, place, 1)
        files = _MAX_16 if large else self._files
        sizes = (_MAX_32, _MAX_32) if large else (size_bytes, begins_at)
        yield _END.pack(0x06054B50, 0, 0, files, files, *sizes, 0)

    def close(self) -> None:
        """Let go of the spool; idempotent."""
        self._directory.close()

    def _begin(self, name: str, method: int, crc: int, packed_bytes: int, size_bytes: int) -> Iterator[bytes]:
        encoded = name.encode()
        if not 0 < len(encoded) <= _MAX_16:
            raise InvalidInputError(f"a path in an archive must have 1 to {_MAX_16} bytes, got {len(encoded)}")
        large = max(packed_bytes, size_bytes) >= self._most_32
        far = self._at >= self._most_32
        version = _VERSION64 if large or far else _VERSION
        sizes = (_MAX_32, _MAX_32) if large else (packed_bytes, size_bytes)
        common = (_UTF8, method, _TIME, _DATE, crc, *sizes, len(encoded))
        # Uncompressed first: section 4.5.3.
        extra = struct.pack("<HHQQ", 1, 16, size_bytes, packed_bytes) if large else b""
        header = _LOCAL.pack(0x04034B50, version, *common, len(extra)) + encoded + extra
        place = _MAX_32 if far else self._at
        values = ([size_bytes, packed_bytes] if large else []) + ([self._at] if far else [])
        listed = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
        mode = _FOLDER_MODE if name.endswith("/") else _FILE_MODE
        self._directory.write(
            _CENTRAL.pack(0x02014B50, _UNIX | version, version, *common, len(listed), 0, 0, 0, mode, place)
            + encoded
            + listed
        )
        self._files += 1
        yield from self._pieces(header)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._at += len(piece)
            yield piece
