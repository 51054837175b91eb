"""Refutations: more pictures that say what one answer said (paper 1, sections 3.4 and 4.2).

An operator who answers a part names its class and, where it is defective, its region. One answer becomes several
labelled pictures: the region from nearer and from farther, the picture moved, mirrored and in another light, and the
region on the surface of other good parts. The paper lists zooming, augmenting and other backgrounds, and gives no
numbers: how many of each, and how far, are parameters here.

A good part has no anomaly to zoom on. What misled the model is the hot region of its wrong explanation, so the
counter-examples carry that region with the label *good*.

What is done to a picture is done to its mask: where a pixel of the region lands, the mask says so. Everything is drawn
from a seed and the answer's id alone, so the same answer gives the same refutations whatever else was answered, and an
answer that is taken back leaves nothing behind.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Places that are tried for a pasted region before it is left where it was.
_PLACES: Final = 20


class Refutation(enum.Enum):
    """A way to say the same again."""

    ZOOM_IN = "zoom_in"
    ZOOM_OUT = "zoom_out"
    MOVE = "move"
    """Shifted, turned a little, mirrored where parts may lie either way."""
    LIGHT = "light"
    """Brightness, contrast, gamma and noise; nothing moves."""
    PASTE = "paste"
    """The region on another part's surface."""


@dataclass(frozen=True, slots=True)
class RefutationSettings:
    """How many refutations an answer gives, and how far they go.

    Attributes:
        zoom_in: Pictures from nearer, ``>= 0``.
        zoom_out: Pictures from farther, ``>= 0``.
        move: Pictures that are moved, ``>= 0``.
        light: Pictures in another light, ``>= 0``.
        paste: Pictures with the region on another background, ``>= 0``; none where there are no backgrounds.
        zoom: Largest factor from nearer, ``> 1``; a region that fills the picture already is zoomed by less.
        widen: Largest factor from farther, ``> 1``; what comes in around the picture is the picture mirrored, so that a
            part on a bare ground should not become several.
        turn_degrees: Largest turn to either side, 0..45.
        shift: Largest shift as a share of the side, in ``[0, 0.5)``.
        flips: Whether parts may lie either way, so that mirroring makes another real picture.
        brightness: Largest change of brightness in grey levels, ``>= 0``.
        contrast: Largest change of contrast as a share, in ``[0, 1)``.
        noise: Largest standard deviation of noise in grey levels, ``>= 0``.
        feather_px: Width of the seam of a pasted region, ``>= 0``.
        seed: Of everything that is drawn.
    """

    zoom_in: int = 1
    zoom_out: int = 1
    move: int = 2
    light: int = 1
    paste: int = 2
    zoom: float = 1.8
    widen: float = 1.3
    turn_degrees: float = 8.0
    shift: float = 0.06
    flips: bool = False
    brightness: float = 20.0
    contrast: float = 0.15
    noise: float = 3.0
    feather_px: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.zoom_in, self.zoom_out, self.move, self.light, self.paste)
        if min(counts) < 0 or self.feather_px < 0:
            raise InvalidInputError(f"counts and feather_px must be >= 0, got {counts} and {self.feather_px}")
        if not (1 < self.zoom <= 10 and 1 < self.widen <= 10):
            raise InvalidInputError(f"zoom and widen must be above 1 and at most 10, got {self.zoom} and {self.widen}")
        if not (0 <= self.turn_degrees <= 45 and 0 <= self.shift < 0.5):
            raise InvalidInputError(
                f"turn_degrees must lie in 0..45 and shift in [0, 0.5), got {self.turn_degrees} and {self.shift}"
            )
        if not (self.brightness >= 0 and 0 <= self.contrast < 1 and self.noise >= 0):
            raise InvalidInputError(
                "brightness and noise must be >= 0 and contrast in [0, 1), "
                f"got {self.brightness}, {self.noise} and {self.contrast}"
            )

    @property
    def plan(self) -> tuple[Refutation, ...]:
        """What is made of one answer, in order."""
        counts = {
            Refutation.ZOOM_IN: self.zoom_in,
            Refutation.ZOOM_OUT: self.zoom_out,
            Refutation.MOVE: self.move,
            Refutation.LIGHT: self.light,
            Refutation.PASTE: self.paste,
        }
        return tuple(kind for kind, count in counts.items() for _ in range(count))


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a refutation comes from.

    Attributes:
        parent_id: Of the answer.
        kind: What was done.
        number: Counts the refutations of one answer from 0.
        parameters: What was drawn, by name.
    """

    parent_id: str
    kind: Refutation
    number: int
    parameters: tuple[tuple[str, float], ...] = field(default=())


@dataclass(frozen=True, slots=True, eq=False)
class RefutedImage:
    """One refutation.

    Attributes:
        image: ``uint8``, shape ``(H, W, 3)``, of the size of its parent.
        region: ``bool``, shape ``(H, W)``: where the anomaly is, or what misled the model on a good part; empty where
            the parent had none.
        lineage: Where it comes from.
    """

    image: Image
    region: Mask
    lineage: Lineage


def refute(
    image: Image,
    region: Mask,
    parent_id: str,
    settings: RefutationSettings,
    backgrounds: Sequence[Image] = (),
) -> list[RefutedImage]:
    """Make the refutations of one answer; all of them carry its label.

    Args:
        image: What was answered, ``uint8``, shape ``(H, W, 3)``.
        region: The anomaly as drawn or accepted, or the hot region of a good part, ``bool``, shape ``(H, W)``. Without
            a pixel there is nothing to zoom on or to paste, and the picture is moved and lit only.
        parent_id: Of the answer.
        settings: How many and how far.
        backgrounds: Good parts of any size, ``uint8``, shape ``(H, W, 3)``.

    Returns:
        The refutations, in the order of ``settings.plan``.

    Raises:
        InvalidInputError: If picture, region or a background has another shape or type.
    """
    _check_image(image, "an image")
    if region.shape != image.shape[:2] or region.dtype != np.bool_:
        raise InvalidInputError(
            f"a region must be bool of its image's size {image.shape[:2]}, got {region.dtype} {region.shape}"
        )
    for background in backgrounds:
        _check_image(background, "a background")
    made = []
    has_region = bool(region.any())
    for number, kind in enumerate(settings.plan):
        if kind in _NEEDS_REGION and not has_region:
            continue
        if kind is Refutation.PASTE and not backgrounds:
            continue
        random = np.random.default_rng(_seed(settings.seed, parent_id, number))
        drawn: dict[str, float] = {}
        if kind is Refutation.PASTE:
            changed, moved = _paste(image, region, backgrounds, settings, random, drawn)
        elif kind is Refutation.LIGHT:
            changed, moved = _light(image, settings, random, drawn), region.copy()
        else:
            changed, moved = _warped(image, region, _transform(kind, region, settings, random, drawn))
        lineage = Lineage(parent_id, kind, number, tuple(sorted(drawn.items())))
        made.append(RefutedImage(changed, moved, lineage))
    return made


_NEEDS_REGION: Final = frozenset({Refutation.ZOOM_IN, Refutation.ZOOM_OUT, Refutation.PASTE})


def _seed(seed: int, parent_id: str, number: int) -> list[int]:
    digest = hashlib.sha256(parent_id.encode("utf-8", "surrogatepass")).digest()
    return [seed & 0xFFFFFFFF, int.from_bytes(digest[:8], "big"), number]


def _check_image(image: Image, what: str) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InvalidInputError(f"{what} must be uint8 (H, W, 3), got {image.dtype} {image.shape}")


# ---- what moves pixels: one affine map for picture and region


def _transform(
    kind: Refutation, region: Mask, settings: RefutationSettings, random: np.random.Generator, drawn: dict[str, float]
) -> NDArray[np.float64]:
    height, width = region.shape
    if kind is Refutation.MOVE:
        turn = random.uniform(-settings.turn_degrees, settings.turn_degrees)
        shift_x, shift_y = random.uniform(-settings.shift, settings.shift, 2) * (width, height)
        flip_x, flip_y = (random.random(2) < 0.5) if settings.flips else (False, False)
        drawn |= {"turn_degrees": float(turn), "shift_x_px": float(shift_x), "shift_y_px": float(shift_y)}
        drawn |= {"flip_x": float(flip_x), "flip_y": float(flip_y)}
        turned = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0).astype(np.float64)
        turned[:, 2] += (shift_x, shift_y)
        for axis, (flipped, side) in enumerate(((flip_x, width), (flip_y, height))):
            if flipped:
                turned[axis] *= -1
                turned[axis, 2] += side - 1
        return turned
    left, top, right, bottom = _box(region)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    if kind is Refutation.ZOOM_IN:
        # Not beyond what keeps all of the region in the picture.
        fits = min(width / (right - left + 1), height / (bottom - top + 1))
        factor = random.uniform(1 + (settings.zoom - 1) / 2, settings.zoom)
        factor = max(1.0, min(float(factor), fits))
    else:
        factor = 1 / float(random.uniform(1 + (settings.widen - 1) / 2, settings.widen))
    drawn["zoom"] = factor
    matrix = np.array([[factor, 0.0, 0.0], [0.0, factor, 0.0]])
    # The region stays where it was, as far as it then fits into the picture.
    offset = middle * (1 - factor)
    if kind is Refutation.ZOOM_IN:
        last = np.array([width - 1, height - 1])
        offset = np.clip(offset, -factor * np.array([left, top]), last - factor * np.array([right, bottom]))
        # And nothing from beyond the picture comes in.
        offset = np.clip(offset, last * (1 - factor), 0.0)
    matrix[:, 2] = offset
    return matrix


def _box(region: Mask) -> tuple[int, int, int, int]:
    """First and last column and row of a region: left, top, right, bottom."""
    columns, rows = np.flatnonzero(region.any(axis=0)), np.flatnonzero(region.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _warped(image: Image, region: Mask, matrix: NDArray[np.float64]) -> tuple[Image, Mask]:
    """Picture and region by one map; beyond the border both are mirrored: an anomaly seen twice is marked twice."""
    height, width = region.shape
    # Shrinking without a blur first would leave out thin flaws by chance.
    factor = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    source = image if factor > 0.95 else cv2.GaussianBlur(image, (0, 0), 0.5 * (1 / factor - 1) + 0.01)
    border = cv2.BORDER_REFLECT_101
    changed = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
    # By the share of a pixel that the region covers, cut at a half: as exact as pixels are.
    cover = cv2.warpAffine(
        region.astype(np.uint8) * 255, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border
    )
    moved = cover > 127
    if region.any() and not moved.any():
        # A region of a pixel or two may cover half of none.
        moved = cover == max(1, int(cover.max()))
    return np.asarray(changed, np.uint8), np.asarray(moved, np.bool_)


# ---- light


def _light(image: Image, settings: RefutationSettings, random: np.random.Generator, drawn: dict[str, float]) -> Image:
    brightness = float(random.uniform(-settings.brightness, settings.brightness))
    contrast = float(random.uniform(-settings.contrast, settings.contrast))
    gamma = float(np.exp(random.uniform(-settings.contrast, settings.contrast)))
    noise = float(random.uniform(0, settings.noise))
    drawn |= {"brightness": brightness, "contrast": contrast, "gamma": gamma, "noise": noise}
    values = 255 * (image.astype(np.float32) / 255) ** gamma
    mean = values.mean()
    values = (values - mean) * (1 + contrast) + mean + brightness
    values += random.normal(0, noise, image.shape).astype(np.float32)
    return np.asarray(values.round().clip(0, 255), np.uint8)


# ---- other backgrounds


def _paste(
    image: Image,
    region: Mask,
    backgrounds: Sequence[Image],
    settings: RefutationSettings,
    random: np.random.Generator,
    drawn: dict[str, float],
) -> tuple[Image, Mask]:
    """The region on another part, near where it was: on a part that is always placed alike a flaw has its places."""
    height, width = region.shape
    chosen = int(random.integers(len(backgrounds)))
    ground = backgrounds[chosen]
    if ground.shape[:2] != (height, width):
        ground = np.asarray(cv2.resize(ground, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    left, top, right, bottom = _box(region)
    shift_x = shift_y = 0
    for _ in range(_PLACES):
        x, y = (round(float(one)) for one in random.uniform(-settings.shift, settings.shift, 2) * (width, height))
        if left + x >= 0 and right + x < width and top + y >= 0 and bottom + y < height:
            shift_x, shift_y = x, y
            break
    drawn |= {"background": float(chosen), "shift_x_px": float(shift_x), "shift_y_px": float(shift_y)}
    matrix = np.array([[1.0, 0.0, shift_x], [0.0, 1.0, shift_y]])
    cover = _seam(region, settings.feather_px)
    moved_image = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
    )
    moved_cover = cv2.warpAffine(cover, matrix, (width, height), flags=cv2.INTER_NEAREST)
    moved_region = cv2.warpAffine(region.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
    # The light around the region becomes that of its new surroundings.
    around = (moved_cover > 0) & ~moved_region
    if around.any():
        light = ground[around].astype(np.float32).mean(axis=0) - moved_image[around].astype(np.float32).mean(axis=0)
    else:
        light = np.zeros(3, np.float32)
    share = moved_cover[..., None]
    values = share * (moved_image.astype(np.float32) + light) + (1 - share) * ground.astype(np.float32)
    return np.asarray(values.round().clip(0, 255), np.uint8), np.asarray(moved_region, np.bool_)


def _seam(region: Mask, feather_px: int) -> NDArray[np.float32]:
    """1 on the region, falling to 0 over some pixels around it; shape ``(H, W)``."""
    if not feather_px:
        return region.astype(np.float32)
    away = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray((1 - away / (feather_px + 1)).clip(0, 1), np.float32)
