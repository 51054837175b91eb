from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.errors import (
    EmptyImageError,
    ImageAspectError,
    ImageError,
    ImageTooLargeError,
    TruncatedImageError,
    UnsupportedImageError,
)
from services.core.image_header import probe
from services.core.imaging import ImageLimits, decode, encode_jpeg, encode_png, thumbnail

LIMITS = ImageLimits()


def scene(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """A picture whose four corners differ, so that no turn or mirror goes unseen."""
    image = np.full((height, width, 3), 30, np.uint8)
    image[: height // 2, : width // 2] = (200, 100, 50)
    image[: height // 2, width // 2 :] = (20, 220, 60)
    image[height // 2 :, : width // 2] = (10, 40, 240)
    return image


def encode(image: NDArray[np.generic], suffix: str, *parameters: int) -> bytes:
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    return cv2.imencode(suffix, pixels, list(parameters))[1].tobytes()


def tiff(
    image: NDArray[np.generic], photometric: int, *, order: str = "<", orientation: int = 1, sample_format: int = 1
) -> bytes:
    """Write a one-strip TIFF by hand, for the variants that OpenCV cannot write."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    bits = image.dtype.itemsize * 8
    pixels = image.astype(image.dtype.newbyteorder(order)).tobytes()
    tags: list[tuple[int, str, list[int]]] = [
        (256, "I", [image.shape[1]]),
        (257, "I", [image.shape[0]]),
        (258, "H", [bits] * channels),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", [8]),
        (274, "H", [orientation]),
        (277, "H", [channels]),
        (278, "I", [image.shape[0]]),
        (279, "I", [len(pixels)]),
    ]
    if channels == 4 and photometric == 2:
        tags.append((338, "H", [2]))
    tags.append((339, "H", [sample_format] * channels))
    directory_at = 8 + len(pixels)
    extra_at = directory_at + 2 + 12 * len(tags) + 4
    directory, extra = struct.pack(f"{order}H", len(tags)), b""
    for tag, kind, values in tags:
        raw = struct.pack(f"{order}{len(values)}{kind}", *values)
        field = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(f"{order}I", extra_at + len(extra))
        extra += raw if len(raw) > 4 else b""
        directory += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + field
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", directory_at) + pixels + directory + struct.pack(f"{order}I", 0) + extra


def exif(orientation: int, order: str = "<") -> bytes:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg_with_exif(data: bytes, block: bytes) -> bytes:
    payload = b"Exif\0\0" + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_with_exif(data: bytes, block: bytes) -> bytes:
    return data[:33] + png_chunk(b"eXIf", block) + data[33:]


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The definition in the EXIF standard, written out by rotations."""
    turned = {
        1: image,
        2: np.fliplr(image),
        3: np.rot90(image, 2),
        4: np.flipud(image),
        5: np.fliplr(np.rot90(image, -1)),
        6: np.rot90(image, -1),
        7: np.flipud(np.rot90(image, -1)),
        8: np.rot90(image, 1),
    }
    return turned[orientation]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_lossless_formats_give_back_the_exact_pixels_as_rgb(suffix: str) -> None:
    image = scene()
    assert np.array_equal(decode(encode(image, suffix), LIMITS), image)


def test_a_jpeg_gives_back_its_colours_in_rgb_order() -> None:
    decoded = decode(encode(scene(), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 98), LIMITS)
    assert decoded.shape == (40, 60, 3)
    assert np.abs(decoded[5, 5].astype(int) - (200, 100, 50)).max() <= 6


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff"])
def test_grey_becomes_three_equal_channels(suffix: str) -> None:
    decoded = decode(encode(scene()[..., 0], suffix), LIMITS)
    assert decoded.shape == (40, 60, 3)
    assert np.array_equal(decoded[..., 0], decoded[..., 2])


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("grey", [True, False])
def test_16_bit_images_are_scaled_by_a_fixed_white_level(suffix: str, grey: bool) -> None:
    image = scene()[..., 0] if grey else scene()
    decoded = decode(encode(image.astype(np.uint16) * 257, suffix), LIMITS)
    assert np.array_equal(decoded, np.dstack([image] * 3) if grey else image)


def test_a_dark_16_bit_image_stays_dark() -> None:
    dark = np.full((32, 32), 257, np.uint16)
    dark[0, 0] = 514
    assert decode(encode(dark, ".png"), LIMITS).max() == 2


def test_a_12_bit_camera_gets_its_own_white_level() -> None:
    image = np.full((32, 32), 4095, np.uint16)
    assert decode(encode(image, ".png"), LIMITS, white_level_16bit=4095).min() == 255


@pytest.mark.parametrize("white", [0, 65_536])
def test_a_white_level_out_of_range_is_refused(white: int) -> None:
    with pytest.raises(ValueError, match="white_level_16bit must lie in"):
        decode(encode(scene(), ".png"), LIMITS, white_level_16bit=white)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_is_read_in_either_byte_order_and_depth(order: str, dtype: type[np.generic]) -> None:
    scale = 257 if dtype is np.uint16 else 1
    stored = (scene().astype(np.uint32) * scale).astype(dtype)
    assert np.array_equal(decode(tiff(stored, 2, order=order), LIMITS), scene())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_where_zero_means_white_is_inverted(dtype: type[np.generic]) -> None:
    grey = scene()[..., 0]
    stored = 255 - grey if dtype is np.uint8 else 65_535 - grey.astype(np.uint16) * 257
    assert np.array_equal(decode(tiff(stored.astype(dtype), 0), LIMITS)[..., 0], grey)


def test_alpha_is_dropped_and_the_stored_colour_kept() -> None:
    alpha = np.full((40, 60, 1), 10, np.uint8)
    bgra = np.concatenate([cv2.cvtColor(scene(), cv2.COLOR_RGB2BGR), alpha], axis=2)
    assert np.array_equal(decode(cv2.imencode(".png", bgra)[1].tobytes(), LIMITS), scene())
    assert np.array_equal(decode(tiff(np.concatenate([scene(), alpha], axis=2), 2), LIMITS), scene())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_exif_orientation_is_applied_alike_in_jpeg_png_and_tiff(orientation: int, order: str) -> None:
    wanted = upright(scene(), orientation)
    png = decode(png_with_exif(encode(scene(), ".png"), exif(orientation, order)), LIMITS)
    assert np.array_equal(png, wanted)
    plain = encode(scene(), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
    jpeg = decode(jpeg_with_exif(plain, exif(orientation, order)), LIMITS)
    assert np.array_equal(jpeg, upright(decode(plain, LIMITS), orientation))
    for stored in (scene(), scene().astype(np.uint16) * 257):
        assert np.array_equal(decode(tiff(stored, 2, order=order, orientation=orientation), LIMITS), wanted)


@pytest.mark.parametrize("block", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"junk", exif(9), exif(0)])
def test_a_damaged_exif_block_counts_as_none(block: bytes) -> None:
    plain = encode(scene(), ".jpg")
    assert np.array_equal(decode(jpeg_with_exif(plain, block), LIMITS), decode(plain, LIMITS))


def test_no_bytes_is_an_empty_image() -> None:
    with pytest.raises(EmptyImageError, match="at least one byte, got 0"):
        decode(b"", LIMITS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: encode(scene(), ".jpg"),
        lambda: encode(scene(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        lambda: encode(scene(), ".png"),
        lambda: encode(scene(), ".bmp"),
        lambda: encode(scene(), ".tiff"),
        lambda: tiff(scene(), 2),
    ],
    ids=["jpeg", "progressive", "png", "bmp", "tiff", "tiff-directory-last"],
)
def test_an_image_cut_short_anywhere_is_truncated(make: Callable[[], bytes]) -> None:
    data = make()
    for kept in sorted({1, 2, 5, 12, 20, len(data) // 4, len(data) // 2, len(data) * 9 // 10, len(data) - 3}):
        with pytest.raises(TruncatedImageError):
            decode(data[:kept], LIMITS)


def test_a_jpeg_whose_tail_was_never_written_is_truncated() -> None:
    data = encode(scene(200, 300), ".jpg")
    with pytest.raises(TruncatedImageError, match="end marker"):
        decode(data[: len(data) - 200] + bytes(200), LIMITS)


def test_the_end_marker_of_an_embedded_thumbnail_does_not_hide_a_truncation() -> None:
    inner = encode(scene(16, 16), ".jpg")
    data = jpeg_with_exif(encode(scene(), ".jpg"), exif(1) + inner)
    decode(data, LIMITS)
    with pytest.raises(TruncatedImageError):
        decode(data[:-40], LIMITS)


def test_bytes_after_the_end_marker_do_no_harm() -> None:
    data = encode(scene(), ".jpg")
    assert np.array_equal(decode(data + b"\0" * 100, LIMITS), decode(data, LIMITS))


@pytest.mark.parametrize("data", [b"GIF89a" + bytes(40), b"%PDF-1.7 " + bytes(40), b"hello, world", bytes(1000)])
def test_another_type_is_unsupported_whatever_its_name(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="must be JPEG, PNG, BMP or TIFF"):
        decode(data, LIMITS)


def test_cmyk_is_refused_because_it_has_no_one_meaning_as_rgb() -> None:
    with pytest.raises(UnsupportedImageError, match="photometric interpretation 5"):
        decode(tiff(np.zeros((32, 32, 4), np.uint8), 5), LIMITS)
    data = bytearray(encode(scene(), ".jpg"))
    frame_at = data.index(b"\xff\xc0")
    data[frame_at + 9] = 4
    with pytest.raises(UnsupportedImageError, match="CMYK"):
        decode(bytes(data), LIMITS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiff(np.zeros((32, 32), np.float32), 1, sample_format=3), "8 or 16 bits"),
        (lambda: tiff(np.zeros((32, 32), np.int16), 1, sample_format=2), "unsigned integers"),
        (lambda: b"II+\0" + bytes(64), "BigTIFF"),
        (lambda: encode(scene(), ".jpg").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1), "8 bits"),
        (lambda: encode(scene(), ".jpg").replace(b"\xff\xc0", b"\xff\xc3", 1), "baseline or progressive"),
    ],
)
def test_variants_without_a_clear_meaning_are_unsupported(make: Callable[[], bytes], message: str) -> None:
    with pytest.raises(UnsupportedImageError, match=message):
        decode(make(), LIMITS)


def test_a_run_length_bmp_is_unsupported() -> None:
    data = bytearray(encode(scene(), ".bmp"))
    data[30] = 1
    with pytest.raises(UnsupportedImageError, match="uncompressed"):
        decode(bytes(data), LIMITS)


def bomb_png(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = png_chunk(b"IDAT", zlib.compress(bytes(1_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + rows + png_chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header_in_no_time() -> None:
    bomb = bomb_png(60_000, 60_000)
    started = time.perf_counter()
    with pytest.raises(ImageTooLargeError, match="60000 x 60000"):
        decode(bomb, LIMITS)
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff"])
def test_each_format_tells_its_size_before_it_is_decoded(suffix: str) -> None:
    header = probe(encode(scene(33, 57), suffix))
    assert (header.height_px, header.width_px) == (33, 57)
    with pytest.raises(ImageTooLargeError, match="at most 1000 pixels"):
        decode(encode(scene(33, 57), suffix), ImageLimits(max_pixels=1000))


def test_too_many_bytes_are_refused() -> None:
    data = encode(scene(), ".png")
    with pytest.raises(ImageTooLargeError, match=f"at most 100 bytes, got {len(data)}"):
        decode(data, ImageLimits(max_bytes=100))


def test_an_absurd_aspect_ratio_is_refused() -> None:
    with pytest.raises(ImageAspectError, match="2000 x 20"):
        decode(encode(np.zeros((20, 2000, 3), np.uint8), ".png"), LIMITS)


def test_an_image_below_the_smallest_side_is_refused() -> None:
    with pytest.raises(ImageError, match="at least 16 px, got 8 x 8"):
        decode(encode(np.zeros((8, 8, 3), np.uint8), ".png"), LIMITS)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="must have pixels"):
        decode(bomb_png(0, 10), LIMITS)


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    data = bytearray(encode(scene(), ".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        decode(bytes(data), LIMITS)


def test_a_file_of_empty_segments_cannot_hold_the_walk_up() -> None:
    chunks = bomb_png(32, 32)[:33] + png_chunk(b"teXt", b"") * 200_000
    segments = b"\xff\xd8" + b"\xff\xfe\x00\x02" * 500_000
    fill = b"\xff\xd8" + b"\xff" * 2_000_000
    for data in (chunks, segments, fill):
        started = time.perf_counter()
        with pytest.raises(ImageError):
            decode(data, LIMITS)
        assert time.perf_counter() - started < 1.0


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, 4),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 10_000),
)
def test_damaged_bytes_give_an_image_or_an_image_error_and_nothing_else(
    which: int, edits: list[tuple[int, int]], cut: int
) -> None:
    sources = [".jpg", ".png", ".bmp", ".tiff"]
    data = bytearray(encode(scene(), sources[which]) if which < 4 else tiff(scene(), 2))
    for position, value in edits:
        data[position % len(data)] = value
    try:
        image = decode(bytes(data[: len(data) - cut % 64]), ImageLimits(max_pixels=1_000_000))
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3


def test_encoded_png_comes_back_exactly_and_jpeg_nearly() -> None:
    assert np.array_equal(decode(encode_png(scene()), LIMITS), scene())
    assert np.abs(decode(encode_jpeg(scene(), 98), LIMITS).astype(int) - scene()).mean() < 3


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_only_rgb_bytes_are_encoded(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        encode_png(image)


def test_encoder_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="quality"):
        encode_jpeg(scene(), 0)
    with pytest.raises(ValueError, match="compression"):
        encode_png(scene(), 10)


def test_a_thumbnail_fits_and_keeps_the_aspect_ratio() -> None:
    assert thumbnail(np.zeros((100, 300, 3), np.uint8), 60).shape == (20, 60, 3)
    small = scene()
    assert thumbnail(small, 60) is small
    with pytest.raises(ValueError, match="max_side_px"):
        thumbnail(small, 0)


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_pixels": 0}, {"min_side_px": 0}, {"max_aspect_ratio": 0.5}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ImageLimits(**limits)  # type: ignore[arg-type]


def with_scans(count: int, before_each: bytes = b"") -> bytes:
    """A progressive JPEG that sends its last scan again and again."""
    data = cv2.imencode(".jpg", scene(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + (before_each + last) * (count - data.count(b"\xff\xda")) + data[-2:]


def test_a_progressive_jpeg_has_as_many_scans_as_encoders_write() -> None:
    assert decode(with_scans(32), LIMITS).shape == scene().shape


@pytest.mark.parametrize("hidden", [b"", b"\xff\xfe\x00\x04\xff\xd9", b"\xff\x01", b"\xff\xff", b"\xff\xd0"])
def test_a_jpeg_of_many_scans_cannot_keep_the_decoder_busy_however_they_are_hidden(hidden: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="at most 32 scans"):
        decode(with_scans(400, hidden), LIMITS)


def test_counting_scans_takes_no_time_either() -> None:
    data = with_scans(11)
    for filling in (b"\xff" * 4_000_000, b"\xff\x00" * 2_000_000, b"\xff\xfe\x00\x02" * 1_000_000):
        started = time.perf_counter()
        with pytest.raises(ImageError):
            decode(data[:-2] + filling + b"\xff\xda\x00\x02" * 40 + data[-2:], LIMITS)
        assert time.perf_counter() - started < 1.0


def test_a_png_holds_no_more_than_its_pixels() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    rows = b"".join(b"\0" + bytes(192) for _ in range(64))
    start, end = b"\x89PNG\r\n\x1a\n" + header, png_chunk(b"IEND", b"")
    assert decode(start + png_chunk(b"IDAT", zlib.compress(rows, 0)) + end, LIMITS).shape == (64, 64, 3)
    # 100 KB that a decoder would unpack to 100 MB, and throw away.
    much = zlib.compress(rows + bytes(100_000_000), 9)
    halves = png_chunk(b"IDAT", much[:50_000]) + png_chunk(b"IDAT", much[50_000:])
    with pytest.raises(ImageError, match="64 x 64 must have at most 90240 bytes of pixels, got 97"):
        decode(start + halves + end, LIMITS)
