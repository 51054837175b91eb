"""Reads size, depth and completeness of an image from its bytes, before any decoder sees them.

A decoder allocates what the header asks for, and OpenCV hands back half an image without a word when the file ends
early (which one depends on its release). So the four formats are walked here first, on their structure alone:
nothing is decompressed, and the time taken is bounded by the size of the data.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from services.core.errors import EmptyImageError, ImageError, TruncatedImageError, UnsupportedImageError

ImageFormat = Literal["jpeg", "png", "bmp", "tiff"]

# Far above what cameras write; a walk in Python must not be made to last seconds by a file of empty segments.
_MAX_JPEG_SEGMENTS: Final = 4096
# A decoder goes over the whole picture for each scan: 400 empty ones, 20 KB, cost it 40 s. Encoders write 10 to 15.
_MAX_JPEG_SCANS: Final = 32
#: By colour type: grey, colour, palette, grey and alpha, colour and alpha.
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_SLACK_BYTES: Final = 65_536
_MAX_PNG_CHUNKS: Final = 65_536
_MAX_TIFF_STRIPS: Final = 1 << 20

# Within a scan's data 0xFF is followed by 0x00 or a restart marker; anything else begins a segment.
_NEXT_JPEG_SEGMENT: Final = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]", re.DOTALL)

_ORIENTATION_TAG: Final = 274
_EXTRA_SAMPLES_TAG: Final = 338
_UNASSOCIATED_ALPHA: Final = 2


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image says of itself.

    Attributes:
        format: Which of the four formats, by content; the file's name plays no part.
        width_px: Columns as stored, before ``orientation``; ``>= 1``.
        height_px: Rows as stored; ``>= 1``.
        bit_depth: 8 (or less) or 16 bits a channel.
        orientation: EXIF orientation 1..8; 1 where none is given or it is damaged.
        inverted: True where 0 means white and the decoder does not account for it.
        patches: ``(offset, bytes)`` to write into a copy of the data so that every decoder reads it alike.
    """

    format: ImageFormat
    width_px: int
    height_px: int
    bit_depth: int
    orientation: int = 1
    inverted: bool = False
    patches: tuple[tuple[int, bytes], ...] = ()


def probe(data: bytes) -> ImageHeader:
    """Read an image's header and check that its data is all there.

    Args:
        data: The encoded image.

    Returns:
        What the header says.

    Raises:
        EmptyImageError: If there are no bytes.
        TruncatedImageError: If the data ends early.
        UnsupportedImageError: If it is no JPEG, PNG, BMP or TIFF, or a variant that has no one meaning as RGB (CMYK,
            float or signed samples, 12-bit or lossless JPEG, run-length BMP, BigTIFF).
        ImageError: If the structure is damaged.
    """
    if not data:
        raise EmptyImageError("an image must have at least one byte, got 0")
    for magic, parse in _PARSERS:
        if data.startswith(magic):
            try:
                header = parse(data)
            except (struct.error, IndexError) as error:
                raise TruncatedImageError(f"the image's header must be complete, got {len(data)} bytes") from error
            if header.width_px < 1 or header.height_px < 1:
                raise ImageError(f"an image must have pixels, got {header.width_px} x {header.height_px}")
            return header
        if magic.startswith(data):
            raise TruncatedImageError(f"the image's header must be complete, got {len(data)} bytes")
    raise UnsupportedImageError(f"an image must be JPEG, PNG, BMP or TIFF, got bytes starting {data[:8].hex(' ')}")


def _parse_jpeg(data: bytes) -> ImageHeader:
    position, orientation = 2, 1
    frame: tuple[int, int, int] | None = None
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, position = _next_marker(data, position)
        if marker == 0xD9:
            raise TruncatedImageError("a JPEG must hold a scan before its end marker, got none")
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if length < 2:
            raise ImageError(f"a JPEG segment must have a length of at least 2, got {length}")
        if marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 8 : position + length])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = _jpeg_frame(data, position, marker)
        position += length
        if marker == 0xDA:
            break
    else:
        raise ImageError(f"a JPEG must start its scan within {_MAX_JPEG_SEGMENTS} segments, got none")
    if frame is None:
        raise ImageError("a JPEG must state its size before its scan, got no frame header")
    # Within the scan every 0xFF of the data is followed by 0x00, so an end marker there can only be the real one.
    if data.rfind(b"\xff\xd9", position) < 0:
        raise TruncatedImageError(f"a JPEG must end with its end marker, got {len(data)} bytes without one")
    _check_jpeg_scans(data, position)
    return ImageHeader("jpeg", frame[0], frame[1], frame[2], orientation)


def _check_jpeg_scans(data: bytes, position: int) -> None:
    """Count the scans from the first one's data on; raises where a decoder would be kept busy by them."""
    scans = 1
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _NEXT_JPEG_SEGMENT.search(data, position)
        if found is None or found[0] == b"\xff\xd9":
            return
        scans += found[0] == b"\xff\xda"
        if scans > _MAX_JPEG_SCANS:
            raise UnsupportedImageError(f"a JPEG must have at most {_MAX_JPEG_SCANS} scans, got more")
        position = found.end()
        if position + 2 <= len(data):
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    raise ImageError(f"a JPEG must end within {_MAX_JPEG_SEGMENTS} segments, got more")


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    if data[position] != 0xFF:
        raise ImageError(f"a JPEG segment must start with 0xff, got 0x{data[position]:02x} at byte {position}")
    limit = min(len(data), position + 64)
    while position < limit and data[position] == 0xFF:
        position += 1
    if position >= limit and position < len(data):
        raise ImageError(f"a JPEG segment must follow within 64 fill bytes, got none at byte {position}")
    return data[position], position + 1


def _jpeg_frame(data: bytes, position: int, marker: int) -> tuple[int, int, int]:
    precision, height, width, components = struct.unpack_from(">BHHB", data, position + 2)
    if precision != 8:
        raise UnsupportedImageError(f"a JPEG must have 8 bits a channel, got {precision}")
    if marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        raise UnsupportedImageError(f"a JPEG must be baseline or progressive, got frame type 0x{marker:02x}")
    if components == 4:
        raise UnsupportedImageError("a JPEG must be grey or colour, got CMYK, which is no RGB without its ink profile")
    if components not in (1, 3):
        raise UnsupportedImageError(f"a JPEG must have 1 or 3 components, got {components}")
    return width, height, precision


def _parse_png(data: bytes) -> ImageHeader:
    if data[12:16] != b"IHDR":
        if len(data) < 16:
            raise TruncatedImageError(f"a PNG's header must be complete, got {len(data)} bytes")
        raise ImageError(f"a PNG must start with its IHDR chunk, got {data[12:16]!r}")
    width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
    view = memoryview(data)
    position, orientation, pixel_bytes = 8, 1, -1
    for _ in range(_MAX_PNG_CHUNKS):
        if position + 12 > len(data):
            raise TruncatedImageError(f"a PNG must end with its IEND chunk, got {len(data)} bytes without one")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise TruncatedImageError(f"a PNG chunk must be complete, got {len(data)} of {end} bytes")
        (stored,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != stored:
            raise ImageError(f"a PNG chunk must match its checksum, got a damaged {kind!r} at byte {position}")
        if kind == b"IDAT":
            pixel_bytes = max(0, pixel_bytes) + length
        if kind == b"eXIf":
            orientation = _exif_orientation(data[position + 8 : end - 4])
        if kind == b"IEND":
            break
        position = end
    else:
        raise ImageError(f"a PNG must have at most {_MAX_PNG_CHUNKS} chunks, got more")
    if pixel_bytes < 0:
        raise TruncatedImageError("a PNG must hold pixel data, got no IDAT chunk")
    # A decoder unpacks whatever comes behind the last row too, a thousand bytes for one.
    row_bytes = (width * depth * _PNG_CHANNELS.get(colours, 4) + 7) // 8 + 1
    most = 2 * row_bytes * height + _PNG_SLACK_BYTES
    if pixel_bytes > most:
        raise ImageError(f"a PNG of {width} x {height} must have at most {most} bytes of pixels, got {pixel_bytes}")
    return ImageHeader("png", width, height, 16 if depth == 16 else 8, orientation)


def _parse_bmp(data: bytes) -> ImageHeader:
    pixels_at, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    elif 40 <= header_bytes <= 256:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise UnsupportedImageError(f"a BMP's header must have 12 or 40..256 bytes, got {header_bytes}")
    if compression not in (0, 3, 6):
        raise UnsupportedImageError(f"a BMP must be uncompressed, got compression {compression}")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise UnsupportedImageError(f"a BMP must have 1, 4, 8, 16, 24 or 32 bits a pixel, got {bits}")
    height = abs(height)
    needed = pixels_at + (max(width, 0) * bits + 31) // 32 * 4 * height
    if len(data) < needed:
        raise TruncatedImageError(f"a BMP of {width} x {height} must have {needed} bytes, got {len(data)}")
    return ImageHeader("bmp", width, height, 8)


@dataclass(frozen=True, slots=True)
class _TiffEntry:
    values: tuple[int, ...]
    offset: int
    """Where the first value lies in the data."""


def _parse_tiff(data: bytes) -> ImageHeader:
    entries, order = _tiff_directory(data)

    def first(tag: int, default: int) -> int:
        entry = entries.get(tag)
        return entry.values[0] if entry is not None and entry.values else default

    width, height = first(256, 0), first(257, 0)
    photometric = first(262, 1)
    depths = set(entries[258].values) if 258 in entries else {1}
    if depths not in ({8}, {16}):
        raise UnsupportedImageError(f"a TIFF must have 8 or 16 bits a channel, got {sorted(depths)}")
    depth = depths.pop()
    if set(entries[339].values if 339 in entries else (1,)) != {1}:
        raise UnsupportedImageError(f"a TIFF's samples must be unsigned integers, got format {first(339, 1)}")
    if photometric not in ((0, 1, 2) if depth == 16 else (0, 1, 2, 3, 6)):
        raise UnsupportedImageError(f"a TIFF must be grey or RGB, got photometric interpretation {photometric}")
    if depth == 16 and first(284, 1) != 1:
        raise UnsupportedImageError("a 16-bit TIFF must keep its channels together, got separate planes")
    _check_tiff_data(entries, len(data))
    orientation = first(_ORIENTATION_TAG, 1)
    return ImageHeader(
        "tiff",
        width,
        height,
        depth,
        orientation if 1 <= orientation <= 8 else 1,
        inverted=depth == 16 and photometric == 0,
        patches=_tiff_patches(entries, order),
    )


def _tiff_directory(data: bytes) -> tuple[dict[int, _TiffEntry], str]:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    formats = {1: "B", 3: "H", 4: "I"}
    entries: dict[int, _TiffEntry] = {}
    for index in range(count):
        here = at + 2 + 12 * index
        tag, kind, n = struct.unpack_from(f"{order}HHI", data, here)
        if kind not in formats or n == 0:
            continue
        if n > _MAX_TIFF_STRIPS:
            raise ImageError(f"a TIFF tag must have at most {_MAX_TIFF_STRIPS} values, got {n} for tag {tag}")
        size = n * struct.calcsize(formats[kind])
        offset = here + 8
        if size > 4:
            (offset,) = struct.unpack_from(f"{order}I", data, offset)
        if tag in _TIFF_TAGS:
            entries[tag] = _TiffEntry(struct.unpack_from(f"{order}{n}{formats[kind]}", data, offset), offset)
    return entries, order


_TIFF_TAGS: Final = frozenset({256, 257, 258, 262, 273, 274, 279, 284, 324, 325, 338, 339})


def _check_tiff_data(entries: dict[int, _TiffEntry], size: int) -> None:
    for offsets_tag, counts_tag in ((273, 279), (324, 325)):
        if offsets_tag in entries and counts_tag in entries:
            offsets, counts = entries[offsets_tag].values, entries[counts_tag].values
            if len(offsets) != len(counts):
                raise ImageError(f"a TIFF must have a size for each strip, got {len(counts)} for {len(offsets)}")
            end = int(np.max(np.asarray(offsets, np.int64) + np.asarray(counts, np.int64)))
            if end > size:
                raise TruncatedImageError(f"a TIFF must hold all its strips, got {size} of {end} bytes")
            return
    raise ImageError("a TIFF must say where its pixels are, got no strips and no tiles")


def _tiff_patches(entries: dict[int, _TiffEntry], order: str) -> tuple[tuple[int, bytes], ...]:
    # OpenCV turns a TIFF by its orientation even when told not to, and multiplies 8-bit colours by the alpha channel
    # when that is declared "unassociated"; with these two tags neutral it reads what is stored, as from a PNG.
    patches = []
    if _ORIENTATION_TAG in entries and entries[_ORIENTATION_TAG].values[0] != 1:
        patches.append((entries[_ORIENTATION_TAG].offset, struct.pack(f"{order}H", 1)))
    extra = entries.get(_EXTRA_SAMPLES_TAG)
    if extra is not None and extra.values[0] == _UNASSOCIATED_ALPHA:
        patches.append((extra.offset, struct.pack(f"{order}H", 1)))
    return tuple(patches)


def _exif_orientation(block: bytes) -> int:
    """Read the orientation from an EXIF block; 1 where there is none or the block is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, at)
        for index in range(min(count, 256)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, at + 2 + 12 * index)
            if tag == _ORIENTATION_TAG and kind == 3 and 1 <= value <= 8:
                return int(value)
    except struct.error:
        return 1
    return 1


def _refuse_big_tiff(_: bytes) -> ImageHeader:
    raise UnsupportedImageError("a TIFF must be classic TIFF, got BigTIFF")


_PARSERS: Final[tuple[tuple[bytes, Callable[[bytes], ImageHeader]], ...]] = (
    (b"\xff\xd8\xff", _parse_jpeg),
    (b"\x89PNG\r\n\x1a\n", _parse_png),
    (b"BM", _parse_bmp),
    (b"II*\0", _parse_tiff),
    (b"MM\0*", _parse_tiff),
    (b"II+\0", _refuse_big_tiff),
    (b"MM\0+", _refuse_big_tiff),
)
