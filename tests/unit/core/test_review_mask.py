"""What somebody drew becomes a mask only if it is one of that picture."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from services.core.errors import InvalidInputError
from services.core.review_mask import MAX_MASK_BYTES, decode_mask, upright_size_px

W, H = 40, 30


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def exif(orientation: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg_with_orientation(orientation: int) -> bytes:
    plain = cv2.imencode(".jpg", np.zeros((H, W, 3), np.uint8))[1].tobytes()
    block = b"Exif\0\0" + exif(orientation)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


def png_with_orientation(values: np.ndarray, orientation: int) -> bytes:
    plain, block = png(values), b"eXIf" + exif(orientation)
    after_header = 33
    chunk = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
    return plain[:after_header] + chunk + plain[after_header:]


def drawn(value: int = 255) -> np.ndarray:
    values = np.zeros((H, W), np.uint8)
    values[5:10, 20:30] = value
    return values


def test_a_drawing_is_kept_as_black_and_white_with_the_count_of_its_pixels() -> None:
    mask = decode_mask(png(drawn(200)), W, H)
    kept = cv2.imdecode(np.frombuffer(mask.png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask.pixels == 50
    assert np.array_equal(kept, drawn(255))


def test_equal_drawings_have_equal_bytes_however_they_were_encoded() -> None:
    colour = np.repeat(drawn()[..., None], 3, axis=2)
    alpha = np.dstack([colour, np.full((H, W), 255, np.uint8)])
    assert decode_mask(png(drawn()), W, H) == decode_mask(png(colour), W, H) == decode_mask(png(alpha), W, H)


def test_what_is_no_brighter_than_half_is_not_drawn() -> None:
    with pytest.raises(InvalidInputError, match="a mask must have a pixel above 127, got none"):
        decode_mask(png(drawn(127)), W, H)
    assert decode_mask(png(drawn(128)), W, H).pixels == 50


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(np.zeros((H, W), np.uint8)), "a pixel above 127, got none"),
        (png(np.full((W, H), 255, np.uint8)), "size of 40 x 30 px, got 30 x 40"),
        (cv2.imencode(".jpg", drawn())[1].tobytes(), "must be a PNG, got jpeg"),
        (b"", "at least one byte, got 0"),
        (b"<svg onload=alert(1)>", "must be"),
        (png(drawn())[:60], "must be complete, got 60 of"),
        (bytes(MAX_MASK_BYTES + 1), f"at most {MAX_MASK_BYTES} bytes, got {MAX_MASK_BYTES + 1}"),
    ],
    ids=["nothing drawn", "turned", "jpeg", "empty", "svg", "cut", "too large"],
)
def test_what_is_no_mask_of_the_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        decode_mask(data, W, H)


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    bomb = png(np.zeros((20_000, 20_000), np.uint8))
    assert len(bomb) < MAX_MASK_BYTES
    with pytest.raises(InvalidInputError, match="got 20000 x 20000"):
        decode_mask(bomb, W, H)


def test_a_drawing_that_is_turned_by_its_exif_counts_as_people_see_it() -> None:
    with pytest.raises(InvalidInputError, match="size of 40 x 30 px, got 30 x 40"):
        decode_mask(png_with_orientation(drawn(), 6), W, H)
    lying = np.ascontiguousarray(np.rot90(drawn()))
    assert decode_mask(png_with_orientation(lying, 6), W, H) == decode_mask(png(drawn()), W, H)
    upside_down = np.ascontiguousarray(np.rot90(drawn(), 2))
    assert decode_mask(png_with_orientation(upside_down, 3), W, H) == decode_mask(png(drawn()), W, H)


def test_deep_and_two_coloured_drawings_are_read_too() -> None:
    deep = drawn().astype(np.uint16) * 257
    two_coloured = cv2.imencode(".png", drawn(), [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    assert decode_mask(png(deep), W, H) == decode_mask(two_coloured, W, H) == decode_mask(png(drawn()), W, H)


def test_a_picture_that_cannot_be_decoded_has_no_mask() -> None:
    with pytest.raises(InvalidInputError, match="size of 0 x 0 px, got 40 x 30"):
        decode_mask(png(drawn()), 0, 0)


def test_a_very_long_picture_has_masks_too() -> None:
    assert decode_mask(png(np.full((2, 400), 255, np.uint8)), 400, 2).pixels == 800


def test_a_picture_lies_as_people_see_it() -> None:
    assert upright_size_px(jpeg_with_orientation(1)) == (W, H)
    assert upright_size_px(jpeg_with_orientation(6)) == (H, W)
