"""What an operator draws, as a browser sends it: a mask of the picture's size, or a refusal; kept alike for good."""

from __future__ import annotations

import sys

import numpy as np

from tests.fuzz.harness import instrumented, refused, run

with instrumented(__name__):
    from services.core.review_mask import decode_mask, drawn_pixels

NAME = "review_mask"
WIDTH_PX, HEIGHT_PX = 32, 24


def check(data: bytes) -> None:
    mask = refused(lambda: decode_mask(data, WIDTH_PX, HEIGHT_PX))
    if mask is None:
        return
    drawn = drawn_pixels(mask.png, WIDTH_PX, HEIGHT_PX)
    assert drawn.shape == (HEIGHT_PX, WIDTH_PX)
    assert int(np.count_nonzero(drawn)) == mask.pixels > 0
    assert decode_mask(mask.png, WIDTH_PX, HEIGHT_PX) == mask


def seeds() -> dict[str, bytes]:
    import cv2

    drawing = np.zeros((HEIGHT_PX, WIDTH_PX, 4), np.uint8)
    drawing[4:9, 4:20] = 255
    shapes = {"grey": drawing[..., 0], "rgb": drawing[..., :3], "rgba": drawing, "empty": drawing[..., 0] * 0}
    made = {name: cv2.imencode(".png", pixels)[1].tobytes() for name, pixels in shapes.items()}
    made["deep"] = cv2.imencode(".png", drawing[..., 0].astype(np.uint16) * 257)[1].tobytes()
    made["bilevel"] = cv2.imencode(".png", drawing[..., 0], [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    return made


if __name__ == "__main__":
    sys.exit(run(NAME, check))
