"""A MIG weld on an aluminium plate from straight above: a bead of fish scales, or a plate that was never welded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.simulation import flaws
from services.core.simulation.canvas import (
    BoolImage,
    Canvas,
    Exposure,
    FloatImage,
    Patch,
    Points,
    Pose,
    Streams,
    blob,
    develop,
    noise,
    polygon,
    stroke,
    wander,
)
from services.core.simulation.scene import Scene

NO_SEAM = "no_seam"
IRREGULAR = ("irregular_scale", "black_area", "binding_error", "crack", "pores", "end_crater", "interruption")
"""Faults of a weld that is there."""
DEFECTS = (*IRREGULAR, NO_SEAM)
DEFAULT_SIZE_PX = 1600
ASPECT = 0.75
"""Height over width of the picture: 1600 by 1200."""

_HALF_WIDTH = 0.040  # of the bead; one unit = the picture's width
_SCALE = 0.0125  # from ripple to ripple
_STEPS = 1024
_SPAN = 0.62  # tables along the seam reach from -_SPAN to _SPAN
_PLATE = 0.325


@dataclass(frozen=True, slots=True)
class _Seam:
    """The course of one bead. Tables run along the plate, shape ``(_STEPS,)``."""

    start: float
    end: float
    half_width: FloatImage
    middle: FloatImage
    jitter: FloatImage
    """Unevenness of the ripples, in ripples."""
    gap: tuple[float, float] | None = None

    def index(self, u: FloatImage) -> NDArray[np.int32]:
        """Where in the tables each pixel looks."""
        place = (u + np.float32(_SPAN)) * np.float32((_STEPS - 1) / (2.0 * _SPAN))
        index: NDArray[np.int32] = np.clip(place, 0, _STEPS - 1).astype(np.int32)
        return index

    def across(self, u: FloatImage, v: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Signed distance from the middle and the distance that also counts the rounded ends, in half widths."""
        index = self.index(u)
        half = np.take(self.half_width, index)
        d = (v - np.take(self.middle, index)) / half
        pieces = [(self.start, self.end)]
        if self.gap:
            pieces = [(self.start, self.gap[0]), (self.gap[1], self.end)]
        reach = np.full(u.shape, np.inf, dtype=np.float32)
        for low, high in pieces:
            past = np.maximum(np.maximum(np.float32(low) - u, u - np.float32(high)), 0.0) / half
            reach = np.minimum(reach, np.sqrt(d * d + past * past))
        return d, reach


def draw(streams: Streams, defect: str, size_px: int | None) -> Scene:
    """Draw one plate.

    Args:
        streams: The part's random streams.
        defect: One of ``DEFECTS``, or empty for a good part.
        size_px: Width of the picture, pixels; None for 1600. The height is 0.75 of it.
    """
    width = size_px or DEFAULT_SIZE_PX
    height = round(width * ASPECT)
    part, view, harm = streams.part, streams.view, streams.defect
    centre = (width * (0.5 + view.uniform(-0.03, 0.03)), height * 0.5 + width * view.uniform(-0.06, 0.06))
    angle = view.normal(0.0, 0.03) + np.pi * float(view.integers(0, 2))
    pose = Pose.of(centre, width * view.uniform(0.97, 1.03), angle)
    lamp = float(view.uniform(0.0, 2.0 * np.pi))
    exposure = Exposure.of(view, (1.0, 1.0, 0.99))
    u, v = pose.units(height, width)
    canvas = Canvas(_plate(streams, v, height, width))
    seam = _course(part)
    window = _band(pose, height, width)
    us, vs = u[window], v[window]
    _, sound = seam.across(us, vs)
    aoi = np.zeros(canvas.shape, dtype=np.bool_)
    aoi[window] = sound < 2.2
    _clutter_on_plate(canvas, pose, streams.clutter, seam)
    if defect == NO_SEAM:
        canvas.mask[window] = sound < 1.0
    else:
        damaged, affected = _damage_course(seam, us, vs, defect, harm)
        _heat(canvas, window, sound, streams)
        _lay_bead(canvas, window, us, vs, damaged, streams, lamp - angle)
        # A ripple that strays shows on the whole bead there; a gap shows where the bead should be.
        _, reach = damaged.across(us, vs)
        canvas.mask[window] |= affected & (np.minimum(sound, reach) < 1.03)
        for patch in _damage(canvas, pose, defect, damaged, harm, lamp):
            canvas.mark_defect(patch)
    return Scene(develop(canvas, exposure, view), canvas.mask, aoi, canvas.distractors & ~canvas.mask)


def _band(pose: Pose, height: int, width: int) -> tuple[slice, slice]:
    """The rows that the bead and its heat can reach."""
    corners = pose.pixels(np.array([[x, y] for x in (-_SPAN, _SPAN) for y in (-0.2, 0.2)]))
    top, bottom = int(max(corners[:, 1].min(), 0)), int(min(corners[:, 1].max(), height))
    return slice(top, bottom), slice(0, width)


def _wave(rng: np.random.Generator, length: int) -> FloatImage:
    """A smooth random table with unit deviation; ``length`` is its grain in steps."""
    kernel = np.hanning(length)
    kernel /= np.sqrt((kernel**2).sum())
    wave = np.convolve(rng.normal(0.0, 1.0, _STEPS + length), kernel, "same")[:_STEPS]
    return wave.astype(np.float32)


def _plate(streams: Streams, v: FloatImage, height: int, width: int) -> FloatImage:
    part = streams.part
    fine = noise(part, height, width, 1.0, 16.0)
    broad = noise(part, height, width, 4.0, 16.0)
    cloud = noise(part, height, width, 64.0)
    plate = np.float32(part.uniform(0.46, 0.62)) + np.float32(0.024) * fine
    plate += np.float32(0.013) * broad
    plate += np.float32(0.018) * cloud
    soft = np.float32(width)
    beyond = np.clip((np.abs(v) - np.float32(_PLATE)) * soft * np.float32(0.5), 0.0, 1.0)
    table = np.float32(part.uniform(0.10, 0.20)) + np.float32(0.02) * cloud
    lip = np.exp(-(((np.abs(v) - np.float32(_PLATE - 0.003)) * np.float32(1.0 / 0.0025)) ** 2))
    plate += np.float32(0.14) * lip
    plate += beyond * (table - plate)
    return plate.astype(np.float32)


def _course(rng: np.random.Generator) -> _Seam:
    half = np.float32(_HALF_WIDTH * rng.uniform(0.88, 1.12)) * (1.0 + np.float32(0.035) * _wave(rng, 60))
    return _Seam(
        start=float(-0.33 + rng.uniform(-0.03, 0.03)),
        end=float(0.33 + rng.uniform(-0.03, 0.03)),
        half_width=half.astype(np.float32),
        middle=(np.float32(0.0025) * _wave(rng, 220)).astype(np.float32),
        jitter=(np.float32(0.05) * _wave(rng, 24)).astype(np.float32),
    )


def _damage_course(
    seam: _Seam, u: FloatImage, v: FloatImage, defect: str, rng: np.random.Generator
) -> tuple[_Seam, BoolImage]:
    """Change the bead's course where the fault asks for it; also give the pixels along it that are affected."""
    low = float(rng.uniform(seam.start + 0.05, seam.end - 0.25))
    if defect == "irregular_scale":
        high = low + float(rng.uniform(0.13, 0.24))
        table = np.linspace(-_SPAN, _SPAN, _STEPS)
        here = (1.0 / (1.0 + np.exp((low - table) / 0.008)) / (1.0 + np.exp((table - high) / 0.008))).astype(np.float32)
        jitter = seam.jitter + here * np.float32(rng.uniform(1.0, 1.6)) * _wave(rng, 40)
        half = seam.half_width * (1.0 + here * np.float32(0.16) * _wave(rng, 44))
        middle = seam.middle + here * np.float32(0.0045) * _wave(rng, 50)
        margin = 0.012  # how far the change fades out
        return _Seam(seam.start, seam.end, half, middle, jitter), (u > low - margin) & (u < high + margin)
    if defect == "interruption":
        # Both ends are rounded, so the bare stretch is shorter than the gap by about one width.
        high = low + float(rng.uniform(0.095, 0.16))
        broken = _Seam(seam.start, seam.end, seam.half_width, seam.middle, seam.jitter, (low, high))
        # Metal that should be there and is not; just outside the sound edge there is none to miss.
        return broken, (broken.across(u, v)[1] >= 1.0) & (seam.across(u, v)[1] < 1.0)
    return seam, np.zeros(u.shape, dtype=np.bool_)


def _heat(canvas: Canvas, window: tuple[slice, slice], reach: FloatImage, streams: Streams) -> None:
    """What the arc does to the plate: it etches a bright border and leaves smut beyond it."""
    part = streams.part
    rows, cols = reach.shape
    cloud = noise(part, rows, cols, 0.03 * cols)  # broad: smut settles in drifts, not in dabs
    field = canvas.lum[window]
    etched = np.exp(-(((reach - np.float32(1.25)) / np.float32(0.42)) ** 2))
    field += etched * (np.float32(0.09) + np.float32(0.03) * cloud)
    smut = np.exp(-(((reach - np.float32(2.3)) / np.float32(0.8)) ** 2))
    field -= smut * np.float32(part.uniform(0.03, 0.10)) * (1.0 + np.float32(0.35) * cloud)


def _lay_bead(
    canvas: Canvas,
    window: tuple[slice, slice],
    u: FloatImage,
    v: FloatImage,
    seam: _Seam,
    streams: Streams,
    lamp: float,
) -> None:
    part = streams.part
    rows, cols = u.shape
    d, reach = seam.across(u, v)
    fine, cloud = noise(part, rows, cols, 1.0), noise(part, rows, cols, 0.014 * cols)
    field = canvas.lum[window]
    index = seam.index(u)
    half_px = np.take(seam.half_width, index) * np.float32(canvas.shape[1])
    cover = np.clip((1.0 - reach) * half_px + 0.5, 0.0, 1.0)
    dome = np.sqrt(np.clip(1.0 - reach * reach, 0.0, 1.0))
    ripples = u * np.float32(1.0 / _SCALE) + np.take(seam.jitter, index) + np.float32(1.15) * d * d
    ripples += np.float32(0.05) * cloud
    turn = ripples * np.float32(2.0 * np.pi)
    # A scale rises slowly and falls off steeply: the slope of that profile meets the lamp.
    slope = np.cos(turn) + np.float32(0.45) * np.cos(2.0 * turn + np.float32(0.7))
    crest = np.clip(np.sin(turn), 0.0, 1.0) ** 2
    tone = np.float32(part.uniform(0.44, 0.64))
    bead = tone * (np.float32(0.62) + np.float32(0.42) * dome)
    bead += slope * dome * np.float32(0.085 * (0.55 + 0.45 * abs(np.cos(lamp))))
    bead += d * np.float32(-0.16 * np.sin(lamp)) * dome
    gleam = np.exp(-(((d + np.float32(0.35 * np.sin(lamp))) / np.float32(0.30)) ** 2))
    bead += gleam * crest * np.float32(0.24)
    bead += np.float32(0.018) * fine
    toe = np.exp(-(((reach - np.float32(0.98)) / np.float32(0.055)) ** 2))
    field += cover * (bead - field)
    field *= 1.0 - np.float32(0.34) * toe
    _filled_crater(canvas, window, u, d, seam)


def _filled_crater(canvas: Canvas, window: tuple[slice, slice], u: FloatImage, d: FloatImage, seam: _Seam) -> None:
    """The end of a good bead: a shallow, filled eye."""
    away = np.sqrt(((u - np.float32(seam.end)) / np.float32(_HALF_WIDTH)) ** 2 + d * d)
    eye = np.exp(-(((away - np.float32(0.45)) / np.float32(0.10)) ** 2))
    canvas.lum[window] *= 1.0 - np.float32(0.16) * eye


def _at(seam: _Seam, u: float, d: float) -> Points:
    """A point on the bead in part units: along ``u``, across ``d`` half widths."""
    index = int(np.clip((u + _SPAN) * (_STEPS - 1) / (2.0 * _SPAN), 0, _STEPS - 1))
    return np.array([u, float(seam.middle[index]) + d * float(seam.half_width[index])])


def _clutter_on_plate(canvas: Canvas, pose: Pose, rng: np.random.Generator, seam: _Seam) -> None:
    """Spatter, scribed lines, marker and clamp marks on the plate: harmless."""
    for _ in range(int(rng.poisson(5.0))):
        place = np.array([rng.uniform(seam.start, seam.end), rng.choice([-1.0, 1.0]) * rng.uniform(0.09, 0.27)])
        ball = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.15) * rng.uniform(0.002, 0.005)), 0.8)
        canvas.multiply(ball, float(rng.choice([0.5, 1.5])))
        canvas.mark_distractor(ball)
    for _ in range(int(rng.poisson(1.2))):
        place = np.array([rng.uniform(-0.45, 0.3), rng.choice([-1.0, 1.0]) * rng.uniform(0.11, 0.29)])
        kind = rng.random()
        if kind < 0.5:
            path = wander(rng, place, rng.normal(0.0, 0.4), rng.uniform(0.06, 0.3), 0.02)
            patch = stroke(canvas.shape, pose.pixels(path), 0.0022 * pose.unit_px, 0.5)
            canvas.add(patch, float(rng.uniform(-0.14, 0.14)))
        elif kind < 0.75:
            path = wander(rng, place, rng.uniform(0.0, 6.28), rng.uniform(0.05, 0.12), 0.5)
            patch = stroke(canvas.shape, pose.pixels(path), 0.004 * pose.unit_px, 0.6)
            canvas.multiply(patch, 0.4)
        else:
            patch = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.4) * rng.uniform(0.02, 0.05)), 3.0)
            canvas.multiply(patch, float(rng.uniform(0.72, 0.9)))
        canvas.mark_distractor(patch)


def _damage(canvas: Canvas, pose: Pose, defect: str, seam: _Seam, rng: np.random.Generator, lamp: float) -> list[Patch]:
    along = float(rng.uniform(seam.start + 0.04, seam.end - 0.06))
    if defect == "black_area":
        return _black_area(canvas, pose, seam, along, rng)
    if defect == "binding_error":
        return _binding_error(canvas, pose, seam, rng)
    if defect == "crack":
        heading = rng.choice([0.0, np.pi]) + rng.normal(0.0, 0.25)
        place = _at(seam, along, rng.uniform(-0.25, 0.25))
        return flaws.crack(canvas, pose, place, heading, rng.uniform(0.07, 0.14), rng.uniform(0.004, 0.006), rng, lamp)
    if defect == "pores":
        patches = []
        for _ in range(int(rng.integers(4, 12))):
            spot = _at(seam, along + rng.normal(0.0, 0.030), float(np.clip(rng.normal(0.0, 0.4), -0.8, 0.8)))
            patches += flaws.pit(canvas, pose, spot, rng.uniform(0.0035, 0.0085), rng, lamp)
        return patches
    if defect == "end_crater":
        place = _at(seam, seam.end - 0.004, 0.0)
        patches = flaws.pit(canvas, pose, place, _HALF_WIDTH * rng.uniform(0.42, 0.60), rng, lamp)
        path = wander(rng, place, np.pi + rng.normal(0.0, 0.8), rng.uniform(0.02, 0.04), 0.25)
        split = stroke(canvas.shape, pose.pixels(path), 0.003 * pose.unit_px, 0.5)
        canvas.multiply(split, 0.3)
        return [*patches, split]
    return []


def _black_area(canvas: Canvas, pose: Pose, seam: _Seam, along: float, rng: np.random.Generator) -> list[Patch]:
    """Soot burnt onto the bead."""
    patches = []
    for number in range(int(rng.integers(1, 4))):
        place = _at(seam, along + (rng.normal(0.0, 0.04) if number else 0.0), rng.uniform(-0.7, 0.7))
        outline = pose.pixels(place + blob(rng, 0.5) * (rng.uniform(0.022, 0.045), rng.uniform(0.014, 0.026)))
        patch = polygon(canvas.shape, outline, 0.004 * pose.unit_px)
        rows, cols = patch.alpha.shape
        if patch.alpha.size:
            patch = patch.scaled(0.85 + 0.2 * noise(rng, rows, cols, 0.006 * pose.unit_px))
        canvas.multiply(patch, float(rng.uniform(0.18, 0.34)))
        patches.append(patch)
    return patches


def _binding_error(canvas: Canvas, pose: Pose, seam: _Seam, rng: np.random.Generator) -> list[Patch]:
    """The bead lies on the plate without having melted into it: a dark notch along its toe."""
    side = float(rng.choice([-1.0, 1.0]))
    low = float(rng.uniform(seam.start + 0.03, seam.end - 0.26))
    places = np.linspace(low, low + rng.uniform(0.14, 0.24), 24)
    path = np.array([_at(seam, float(u), side * (0.96 + 0.05 * rng.normal())) for u in places])
    press = np.sin(np.linspace(0.1, np.pi - 0.1, 24)) ** 0.5
    notch = stroke(
        canvas.shape, pose.pixels(path), rng.uniform(0.010, 0.015) * pose.unit_px * press, 0.0016 * pose.unit_px
    )
    canvas.multiply(notch, float(rng.uniform(0.18, 0.34)))
    return [notch]
