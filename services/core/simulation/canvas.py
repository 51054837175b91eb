"""What every simulated product is painted with: random streams, noise, pose, soft shapes and the sensor.

A product paints luminance (float32, about 0 to 1) in the camera's own pixels. Shapes are given in *part units*, which a
:class:`Pose` takes to pixels, so that one part looks the same, defect included, from every camera and at every size.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage: TypeAlias = NDArray[np.float32]
"""Luminance or coverage, float32, shape ``(H, W)``."""
BoolImage: TypeAlias = NDArray[np.bool_]
"""A mask, shape ``(H, W)``."""
Points: TypeAlias = NDArray[np.float64]
"""A path, shape ``(N, 2)``, columns x (right) and y (down)."""

_BANK_SIDE_PX = 1024
_SUBPIXEL_BITS = 4
_MASK_COVERAGE = 0.35  # a pixel is defective from this coverage on: below, the eye sees the surface


@dataclass(frozen=True, slots=True)
class Streams:
    """One part's independent random streams, so that a choice in one never moves the draws of another."""

    part: np.random.Generator
    """Geometry and texture: the same for a part whatever its defect and whichever camera looks."""
    fate: np.random.Generator
    """Whether the part is defective, and of which class."""
    defect: np.random.Generator
    """Where the defect lies and how it looks."""
    clutter: np.random.Generator
    """What is harmless: dirt, lint, tool marks."""
    view: np.random.Generator
    """Pose, light and sensor noise of one camera's look."""

    @classmethod
    def of(cls, product_number: int, seed: int, view: int) -> Streams:
        """Derive the streams of a part (``seed`` >= 0) seen by camera number ``view`` >= 0."""

        def stream(*key: int) -> np.random.Generator:
            return np.random.Generator(np.random.PCG64(np.random.SeedSequence((product_number, seed, *key))))

        return cls(stream(0), stream(1), stream(2), stream(3), stream(4, view))


@dataclass(frozen=True, slots=True)
class Pose:
    """The affine map from part units to pixels: ``pixel = matrix @ point + offset``."""

    matrix: NDArray[np.float64]
    """Shape ``(2, 2)``."""
    offset: NDArray[np.float64]
    """Shape ``(2,)``, pixels."""

    @classmethod
    def of(cls, centre: tuple[float, float], unit_px: float, angle: float, squeeze: float = 1.0) -> Pose:
        """Turn by ``angle`` (radians), scale to ``unit_px`` and foreshorten the y axis by ``squeeze`` (0 to 1]."""
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        return cls(np.diag([1.0, squeeze]) @ turn * unit_px, np.array(centre))

    @property
    def unit_px(self) -> float:
        """Length of one part unit in pixels, the mean over directions."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    def pixels(self, points: Points) -> Points:
        """Take points from part units to pixels."""
        moved: Points = points @ self.matrix.T + self.offset
        return moved

    def units(self, height_px: int, width_px: int) -> tuple[FloatImage, FloatImage]:
        """Give each pixel's place in part units, as two images (x, y)."""
        inverse = np.linalg.inv(self.matrix)
        xs = np.arange(width_px, dtype=np.float64) - self.offset[0]
        ys = (np.arange(height_px, dtype=np.float64) - self.offset[1])[:, None]
        u = (inverse[0, 0] * xs).astype(np.float32) + (inverse[0, 1] * ys).astype(np.float32)
        v = (inverse[1, 0] * xs).astype(np.float32) + (inverse[1, 1] * ys).astype(np.float32)
        return u, v


@dataclass(frozen=True, slots=True)
class Patch:
    """A soft shape: its coverage (0 to 1) within a window of the image."""

    rows: slice
    cols: slice
    alpha: FloatImage

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the patch's window in an image."""
        return self.rows, self.cols

    def scaled(self, factor: float | FloatImage) -> Patch:
        """The same shape, thinner or thicker by ``factor`` (a number or an image of the window's shape)."""
        return Patch(self.rows, self.cols, np.clip(self.alpha * factor, 0.0, 1.0).astype(np.float32))


@dataclass(slots=True)
class Canvas:
    """An image being painted, with what is known about each pixel."""

    lum: FloatImage
    mask: BoolImage = field(init=False)
    distractors: BoolImage = field(init=False)
    tints: list[tuple[Patch, tuple[float, float, float]]] = field(default_factory=list)
    """Coloured films: where, and the factor on R, G and B at full coverage."""

    def __post_init__(self) -> None:
        self.mask = np.zeros(self.lum.shape, dtype=np.bool_)
        self.distractors = np.zeros(self.lum.shape, dtype=np.bool_)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.lum.shape
        return height, width

    def multiply(self, patch: Patch, factor: float | FloatImage) -> None:
        """Darken (``factor`` < 1) or brighten by coverage."""
        self.lum[patch.window] *= 1.0 + patch.alpha * (factor - 1.0)

    def blend(self, patch: Patch, value: float | FloatImage) -> None:
        """Cover with ``value``."""
        window = self.lum[patch.window]
        window += patch.alpha * (value - window)

    def add(self, patch: Patch, amount: float | FloatImage) -> None:
        """Add light by coverage."""
        self.lum[patch.window] += patch.alpha * amount

    def tint(self, patch: Patch, rgb: tuple[float, float, float]) -> None:
        """Lay a coloured film over the patch: factors on R, G and B."""
        self.tints.append((patch, rgb))

    def clip(self, cover: FloatImage, behind: FloatImage) -> None:
        """Keep what was painted where ``cover`` is 1 (the part) and show ``behind`` where it is 0."""
        self.lum = behind + cover * (self.lum - behind)
        self.tints = [(patch.scaled(cover[patch.window]), rgb) for patch, rgb in self.tints]

    def mark_defect(self, patch: Patch) -> None:
        """Record the patch's pixels as defective."""
        self.mask[patch.window] |= patch.alpha >= _MASK_COVERAGE

    def unmark(self, patch: Patch) -> None:
        """Record that the patch's pixels show neither defect nor clutter (a bored hole, say)."""
        clear = patch.alpha < _MASK_COVERAGE
        self.mask[patch.window] &= clear
        self.distractors[patch.window] &= clear

    def mark_distractor(self, patch: Patch) -> None:
        """Record the patch's pixels as harmless clutter."""
        self.distractors[patch.window] |= patch.alpha >= _MASK_COVERAGE


@functools.lru_cache(maxsize=12)
def _noise_bank(grain_px: float, stretch: float, side_px: int) -> FloatImage:
    """Make a tileable field of Gaussian noise with unit deviation.

    Args:
        grain_px: Deviation of the blur across, pixels; 0 for white noise.
        stretch: How many times longer the grain is along x than along y.
        side_px: Side of the square field.
    """
    words = (int(grain_px * 1000), int(stretch * 1000), side_px)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
    white = rng.standard_normal((side_px, side_px), dtype=np.float32)
    if grain_px <= 0:
        white.flags.writeable = False
        return white
    fy = np.fft.fftfreq(side_px)[:, None]
    fx = np.fft.rfftfreq(side_px)[None, :]
    window = np.exp(-2.0 * (np.pi * grain_px) ** 2 * (fy**2 + (stretch * fx) ** 2))
    smooth = np.fft.irfft2(np.fft.rfft2(white) * window, s=(side_px, side_px)).astype(np.float32)
    smooth -= smooth.mean()
    smooth /= smooth.std()
    smooth.flags.writeable = False
    return smooth


def noise(rng: np.random.Generator, height_px: int, width_px: int, grain_px: float, stretch: float = 1.0) -> FloatImage:
    """Cut a random piece out of a field of smooth noise with unit deviation.

    Args:
        rng: Chooses the place and the flips.
        height_px: Rows wanted.
        width_px: Columns wanted.
        grain_px: Size of the grain, pixels (deviation of the blur); rounded to a power of two, 0 for white noise.
        stretch: How many times longer the grain is along x than along y.

    Returns:
        A view or copy, float32, shape ``(height_px, width_px)``; do not write into it.
    """
    # Whole powers of two: few banks are ever made, and each is made once a process.
    step = 0.0 if grain_px <= 0 else float(2.0 ** np.round(np.log2(np.clip(grain_px, 0.5, 64.0))))
    bank = _noise_bank(step, stretch, _BANK_SIDE_PX)
    spare_y, spare_x = _BANK_SIDE_PX - height_px, _BANK_SIDE_PX - width_px
    top = int(rng.integers(0, max(spare_y, 0) + 1))
    left = int(rng.integers(0, max(spare_x, 0) + 1))
    flip_y, flip_x = (1 if rng.random() < 0.5 else -1 for _ in range(2))
    if spare_y < 0 or spare_x < 0:  # larger than the bank: it tiles without a seam
        repeats = (-(-height_px // _BANK_SIDE_PX), -(-width_px // _BANK_SIDE_PX))
        bank = np.tile(bank, repeats)
    return bank[top : top + height_px, left : left + width_px][::flip_y, ::flip_x]


def _window(points: Points, margin_px: float, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Bound points by a window inside the image: top, bottom, left, right (empty when outside)."""
    low = np.floor(points.min(axis=0) - margin_px).astype(int)
    high = np.ceil(points.max(axis=0) + margin_px).astype(int) + 1
    left, right = int(np.clip(low[0], 0, shape[1])), int(np.clip(high[0], 0, shape[1]))
    top, bottom = int(np.clip(low[1], 0, shape[0])), int(np.clip(high[1], 0, shape[0]))
    return top, bottom, left, right


def _finish(raster: NDArray[np.uint8], place: tuple[int, int, int, int], soften_px: float) -> Patch:
    top, bottom, left, right = place
    alpha: FloatImage = raster.astype(np.float32) / np.float32(255.0)
    if soften_px > 0.3 and alpha.size:
        alpha = blurred(alpha, soften_px)
    return Patch(slice(top, bottom), slice(left, right), alpha)


def blurred(image: FloatImage, deviation_px: float) -> FloatImage:
    """Blur by a Gaussian."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation_px), dtype=np.float32).reshape(image.shape)


def distance(u: FloatImage, v: FloatImage) -> FloatImage:
    """Give each pixel's distance from the origin of its coordinates."""
    return np.asarray(cv2.magnitude(u, v), dtype=np.float32)


def polygon(shape: tuple[int, int], points_px: Points, soften_px: float = 0.0) -> Patch:
    """Fill a closed path, given in pixels, with edges softened by ``soften_px``."""
    place = _window(points_px, 3.0 * soften_px + 2.0, shape)
    top, bottom, left, right = place
    raster = np.zeros((bottom - top, right - left), dtype=np.uint8)
    if raster.size:
        local = np.round((points_px - (left, top)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(raster, [local], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return _finish(raster, place, soften_px)


def stroke(
    shape: tuple[int, int], points_px: Points, width_px: float | NDArray[np.float64], soften_px: float = 0.0
) -> Patch:
    """Draw an open path as a line of one width, or of one width a point; widths below a pixel fade instead."""
    widths = np.broadcast_to(np.asarray(width_px, dtype=np.float64), (len(points_px),))
    steps = np.gradient(points_px, axis=0)
    steps /= np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-9)
    sideways = np.stack([-steps[:, 1], steps[:, 0]], axis=1) * np.maximum(widths, 0.9)[:, None] / 2.0
    outline = np.concatenate([points_px + sideways, (points_px - sideways)[::-1]])
    patch = polygon(shape, outline, soften_px)
    thin = float(widths.mean())
    return patch if thin >= 0.9 else patch.scaled(thin / 0.9)


def blob(rng: np.random.Generator, roughness: float, corners: int = 28) -> Points:
    """An irregular closed outline around the origin with mean radius 1.

    Args:
        rng: Draws the outline.
        roughness: How far the radius strays, 0 (circle) to about 0.5.
        corners: Points of the outline.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)
    radius = np.ones(corners)
    for order in range(2, 7):
        amount = roughness * rng.normal() / order
        radius += amount * np.cos(order * angle + rng.uniform(0.0, 2.0 * np.pi))
    radius = np.maximum(radius, 0.25)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def wander(
    rng: np.random.Generator, start: Points, heading: float, length: float, waviness: float, jag: float = 0.0
) -> Points:
    """A path that starts at ``start`` and strays from ``heading`` (radians) as it goes.

    Args:
        rng: Draws the turns.
        start: Shape ``(2,)``.
        heading: First direction, radians.
        length: Length of the path, in the units of ``start``.
        waviness: Deviation of the lasting turn at each of the 24 steps, radians.
        jag: Deviation of each step's own direction, radians.
    """
    steps = 24
    turns = heading + np.cumsum(rng.normal(0.0, waviness, steps)) + rng.normal(0.0, jag, steps)
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / steps)
    return np.concatenate([start[None, :], start + np.cumsum(moves, axis=0)])


def disc_points(centre: tuple[float, float], radius: float, corners: int = 40) -> Points:
    """A circle's outline, in the units of its arguments."""
    angle = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def relief(patch: Patch, light: float, reach_px: float) -> FloatImage:
    """Shade a raised shape lit from direction ``light`` (radians): positive on the lit flank, in ``[-1, 1]``."""
    if not patch.alpha.size:
        return patch.alpha
    dx, dy = reach_px * np.cos(light), reach_px * np.sin(light)
    rows, cols = patch.alpha.shape
    away = cv2.warpAffine(patch.alpha, np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64), (cols, rows))
    toward = cv2.warpAffine(patch.alpha, np.array([[1, 0, -dx], [0, 1, -dy]], dtype=np.float64), (cols, rows))
    return np.asarray(toward - away, dtype=np.float32).reshape(patch.alpha.shape)


@dataclass(frozen=True, slots=True)
class Exposure:
    """How the camera and the lamp differ from picture to picture."""

    gain: float
    slope: tuple[float, float]
    """Relative change of light over the width and the height."""
    falloff: float
    """Share of light lost in the corners."""
    rgb: tuple[float, float, float]
    grain: float
    """Deviation of the sensor's noise, in full scale."""

    @classmethod
    def of(cls, rng: np.random.Generator, base_rgb: tuple[float, float, float] | None = (1.0, 1.0, 1.0)) -> Exposure:
        """Draw an exposure of a product of colour ``base_rgb``; None for a camera without colour."""
        warmth, green = rng.normal(0.0, 0.035), rng.normal(0.0, 0.012)
        red, mid, blue = base_rgb or (1.0, 1.0, 1.0)
        rgb = (red * (1.0 + warmth), mid * (1.0 + green), blue * (1.0 - warmth)) if base_rgb else (1.0, 1.0, 1.0)
        angle, steep = rng.uniform(0.0, 2.0 * np.pi), abs(rng.normal(0.0, 0.22))
        return cls(
            gain=float(np.exp(rng.normal(0.0, 0.16))),
            slope=(float(steep * np.cos(angle)), float(steep * np.sin(angle))),
            falloff=float(rng.uniform(0.0, 0.28)),
            rgb=rgb,
            grain=float(rng.uniform(0.008, 0.022)),
        )


@functools.lru_cache(maxsize=16)
def _field_of_view(height_px: int, width_px: int) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Each pixel's x and y from -0.5 to 0.5 and its squared distance from the middle, 1 in the corners."""
    x = np.linspace(-0.5, 0.5, width_px, dtype=np.float32)[None, :]
    y = np.linspace(-0.5, 0.5, height_px, dtype=np.float32)[:, None]
    distance = 2.0 * (x**2 + y**2)
    return x, y, distance.astype(np.float32)


def develop(canvas: Canvas, exposure: Exposure, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn painted luminance into the camera's picture.

    Args:
        canvas: What was painted.
        exposure: Lamp and camera.
        rng: Draws the sensor's noise.

    Returns:
        RGB, uint8, shape ``(H, W, 3)``.
    """
    height, width = canvas.shape
    x, y, distance = _field_of_view(height, width)
    light = (1.0 + exposure.slope[0] * x) + exposure.slope[1] * y - exposure.falloff * distance
    lit = canvas.lum * (light * np.float32(exposure.gain))
    grain_y, grain_x = (int(rng.integers(0, _BANK_SIDE_PX)) for _ in range(2))
    lit += np.float32(exposure.grain) * _grain(height, width, grain_y, grain_x)
    # A soft shoulder, as cameras have: highlights roll off instead of clipping flat.
    np.maximum(lit, 0.0, out=lit)
    over = lit - np.float32(0.8)
    np.maximum(over, 0.0, out=over)
    lit -= over * over / (over + np.float32(0.35)) * np.float32(0.9)
    picture = np.empty((height, width, 3), dtype=np.uint8)
    for channel, factor in enumerate(exposure.rgb):
        plane = lit * np.float32(255.0 * factor)
        for patch, rgb in canvas.tints:
            plane[patch.window] *= 1.0 + patch.alpha * np.float32(rgb[channel] - 1.0)
        picture[..., channel] = cv2.convertScaleAbs(plane)
    return picture


def _grain(height_px: int, width_px: int, top: int, left: int) -> FloatImage:
    """Sensor noise: white, cut from a tiled bank at the given place."""
    bank = _noise_bank(0.0, 1.0, _BANK_SIDE_PX)
    rows = np.arange(top, top + height_px) % _BANK_SIDE_PX
    start = left % _BANK_SIDE_PX
    cols = np.arange(start, start + width_px) % _BANK_SIDE_PX
    if top + height_px <= _BANK_SIDE_PX and start + width_px <= _BANK_SIDE_PX:
        return bank[top : top + height_px, start : start + width_px]
    return bank[rows][:, cols]
