"""A strip of zipper: two rows of teeth on woven tape. Only the teeth count; flaws on the fabric are harmless."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.simulation import flaws
from services.core.simulation.canvas import (
    Canvas,
    Exposure,
    FloatImage,
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

DEFECTS = ("missing_tooth", "broken_teeth", "split_teeth", "squeezed_teeth", "rough_teeth")
DEFAULT_SIZE_PX = 192
ASPECT = 2.0
"""Height over width of the picture."""

_PITCH = 0.088  # from tooth to tooth on one side; one unit = the picture's width
_TEETH = 64
_ROOT = 0.125  # where a tooth leaves the tape, from the middle line
_HEAD = 0.034  # how far it reaches past the middle line
_CHAIN = 0.165  # half width of the area of interest
_TAPE = 0.41


@dataclass(slots=True)
class _Teeth:
    """What is particular to each tooth of one side; arrays of shape ``(_TEETH,)``."""

    present: NDArray[np.float32]
    reach: NDArray[np.float32]
    """Part of its length that is left."""
    along: NDArray[np.float32]
    """Shift along the strip, in pitches."""
    apart: NDArray[np.float32]
    """Shift away from the middle line, units."""
    tone: NDArray[np.float32]
    rough: NDArray[np.float32]

    @classmethod
    def sound(cls, rng: np.random.Generator) -> _Teeth:
        """A row as it leaves a good machine."""
        ones = np.ones(_TEETH, dtype=np.float32)
        return cls(
            present=ones.copy(),
            reach=ones + rng.normal(0.0, 0.012, _TEETH).astype(np.float32),
            along=rng.normal(0.0, 0.016, _TEETH).astype(np.float32),
            apart=rng.normal(0.0, 0.002, _TEETH).astype(np.float32),
            tone=ones + rng.normal(0.0, 0.06, _TEETH).astype(np.float32),
            rough=np.zeros(_TEETH, dtype=np.float32),
        )

    def copy(self) -> _Teeth:
        """A copy to damage."""
        fields = (self.present, self.reach, self.along, self.apart, self.tone, self.rough)
        return _Teeth(*(values.copy() for values in fields))


def draw(streams: Streams, defect: str, size_px: int | None) -> Scene:
    """Draw one strip.

    Args:
        streams: The part's random streams.
        defect: One of ``DEFECTS``, or empty for a good part.
        size_px: Width of the picture, pixels; None for 192. The picture is twice as high.
    """
    width = size_px or DEFAULT_SIZE_PX
    height = round(width * ASPECT)
    part, view = streams.part, streams.view
    centre = (width * (0.5 + view.uniform(-0.06, 0.06)), height * 0.5 + width * view.uniform(-0.1, 0.1))
    angle = view.normal(0.0, 0.035) + np.pi * float(view.integers(0, 2))
    pose = Pose.of(centre, width * view.uniform(0.95, 1.05), angle)
    lamp = float(view.uniform(0.0, 2.0 * np.pi))
    dye = part.normal(0.0, 0.035, 3)
    exposure = Exposure.of(view, (1.0 + dye[0], 1.0 + dye[1], 1.0 + dye[2]))
    u, v = pose.units(height, width)
    canvas = Canvas(_tape(streams, u, v, height, width))
    inside = np.abs(u) < _CHAIN
    _flaws_on_fabric(canvas, pose, streams.clutter, lamp)
    canvas.distractors &= ~inside

    sound = (_Teeth.sound(part), _Teeth.sound(part))
    rows = (sound[0].copy(), sound[1].copy())
    _damage(rows, defect, streams.defect)
    metal = np.float32(part.uniform(0.60, 0.84))
    changed = np.zeros(canvas.shape, dtype=np.float32)
    # Two fields of noise, for edges and surface, are the same for the sound and the damaged chain.
    fields = noise(part, height, width, 1.0), noise(part, height, width, 2.0)
    for side in (0, 1):
        cover, shade = _row(u, v, side, rows[side], pose.unit_px, lamp - angle, fields)
        canvas.lum += cover * (metal * shade - canvas.lum)
        if defect:
            whole, hue = _row(u, v, side, sound[side], pose.unit_px, lamp - angle, fields)
            changed = np.maximum(changed, np.abs(whole - cover))
            changed = np.maximum(changed, np.float32(1.6) * np.abs(whole * hue - cover * shade))
    mask = (changed > 0.35) & inside
    for patch, _ in canvas.tints:  # films lie on the fabric, under the metal
        patch.alpha[np.abs(u[patch.window]) < _ROOT] = 0.0
    return Scene(develop(canvas, exposure, view), mask, inside, canvas.distractors & ~mask)


def _tape(streams: Streams, u: FloatImage, v: FloatImage, height: int, width: int) -> FloatImage:
    part = streams.part
    tone = np.float32(part.uniform(0.18, 0.42))
    twill = np.sin((u * 1.0 + v * 0.8) * np.float32(2.0 * np.pi / 0.024))
    rib = np.sin(v * np.float32(2.0 * np.pi / 0.030))
    tape = tone * (1.0 + np.float32(0.11) * twill + np.float32(0.06) * rib)
    tape += np.float32(0.022) * noise(part, height, width, 1.0)
    away = np.abs(u)
    tape *= 1.0 - np.float32(0.45) * np.exp(-(((away - np.float32(0.150)) / np.float32(0.022)) ** 2))
    dash = np.sin(v * np.float32(2.0 * np.pi / 0.052)) > -0.25
    seam = np.exp(-(((away - np.float32(0.225)) / np.float32(0.0085)) ** 2)) * dash
    tape += seam * np.float32(tone * 0.65)
    beyond = np.clip((away - np.float32(_TAPE)) * 90.0, 0.0, 1.0)
    felt = np.float32(tone * part.uniform(0.6, 1.35)) + np.float32(0.03) * noise(part, height, width, 2.0)
    edge = np.float32(0.5) * np.exp(-(((away - np.float32(_TAPE + 0.006)) / np.float32(0.008)) ** 2))
    mixed: FloatImage = ((tape + beyond * (felt - tape)) * (1.0 - edge)).astype(np.float32)
    return mixed


def _row(
    u: FloatImage,
    v: FloatImage,
    side: int,
    teeth: _Teeth,
    unit_px: float,
    lamp: float,
    fields: tuple[FloatImage, FloatImage],
) -> tuple[FloatImage, FloatImage]:
    """One side's teeth: coverage and brightness."""
    sign = np.float32(1.0 if side else -1.0)
    place = v * np.float32(1.0 / _PITCH) + np.float32(0.5 * side)
    number = np.floor(place)
    index = (number.astype(np.int32) + _TEETH // 2) % _TEETH
    across = place - number - np.float32(0.5) - np.take(teeth.along, index)
    out = u * sign - np.take(teeth.apart, index)  # distance from the middle line toward this side
    head = np.float32(_ROOT) - np.take(teeth.reach, index) * np.float32(_ROOT + _HEAD)
    ragged = np.take(teeth.rough, index)
    fine, coarse = fields
    head = head + ragged * np.float32(0.020) * coarse
    # A tooth is widest at its head and waisted behind it, so that it locks.
    waist = np.float32(0.30) + np.float32(0.10) * np.cos((out - head) * np.float32(2.0 * np.pi / 0.13))
    waist = waist + ragged * np.float32(0.07) * fine
    soft = np.float32(unit_px)
    sides = np.clip((waist - np.abs(across)) * soft * np.float32(_PITCH) + 0.5, 0.0, 1.0)
    length = np.clip((out - head) * soft + 0.5, 0.0, 1.0) * np.clip((np.float32(_ROOT) - out) * soft + 0.5, 0.0, 1.0)
    cover = sides * length * np.take(teeth.present, index)
    lean = across * np.float32(1.6 * np.sin(lamp)) + (out - np.float32(0.05)) * np.float32(2.4 * np.cos(lamp)) * sign
    ridge = np.exp(-((across / np.float32(0.13)) ** 2))
    shade = (np.float32(0.66) + np.float32(0.42) * ridge - np.float32(0.55) * lean) * np.take(teeth.tone, index)
    shade += np.float32(0.05) * fine
    shade *= np.float32(0.55) + np.float32(0.45) * np.clip((waist - np.abs(across)) * 9.0, 0.0, 1.0)
    return cover.astype(np.float32), shade.astype(np.float32)


def _damage(rows: tuple[_Teeth, _Teeth], defect: str, rng: np.random.Generator) -> None:
    side = int(rng.integers(0, 2))
    first = _TEETH // 2 + int(rng.integers(-8, 7))
    if defect == "missing_tooth":
        rows[side].present[first : first + int(rng.integers(1, 3))] = 0.0
    elif defect == "broken_teeth":
        count = int(rng.integers(3, 6))
        rows[side].reach[first : first + count] *= rng.uniform(0.25, 0.5, count).astype(np.float32)
    elif defect == "split_teeth":
        count = int(rng.integers(5, 9))
        bump = np.sin(np.linspace(0.3, np.pi - 0.3, count)) * rng.uniform(0.026, 0.042)
        for row in rows:
            row.apart[first : first + count] += bump.astype(np.float32)
    elif defect == "squeezed_teeth":
        count = int(rng.integers(3, 6))
        push = np.linspace(-1.0, 1.0, count) * rng.choice([-1.0, 1.0]) * rng.uniform(0.22, 0.30)
        rows[side].along[first : first + count] += push.astype(np.float32)
        rows[side].apart[first : first + count] += np.float32(rng.uniform(0.008, 0.02))
    elif defect == "rough_teeth":
        for row in rows:
            row.rough[first : first + int(rng.integers(4, 8))] = np.float32(rng.uniform(1.0, 1.5))


def _flaws_on_fabric(canvas: Canvas, pose: Pose, rng: np.random.Generator, lamp: float) -> None:
    """Stains, cuts, pulled threads and lint beside the chain: this line calls them good."""
    for _ in range(int(rng.poisson(1.3))):
        side = rng.choice([-1.0, 1.0])
        place = np.array([side * rng.uniform(0.2, 0.46), rng.uniform(-0.9, 0.9)])
        kind = rng.random()
        if kind < 0.3:
            rgb = (rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.8), rng.uniform(0.4, 0.8))
            patches = flaws.stain(canvas, pose, place, rng.uniform(0.03, 0.08), rng, rgb)
        elif kind < 0.6:
            heading = rng.uniform(0.0, 2.0 * np.pi)
            patches = flaws.crack(canvas, pose, place, heading, rng.uniform(0.06, 0.16), 0.012, rng, lamp)
        elif kind < 0.85:
            path = wander(rng, place, rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.08, 0.22), 0.3)
            patches = [stroke(canvas.shape, pose.pixels(path), 0.008 * pose.unit_px, 0.5)]
            canvas.add(patches[0], float(rng.uniform(0.12, 0.35)))
        else:
            patches = [polygon(canvas.shape, pose.pixels(place + blob(rng, 0.5) * rng.uniform(0.01, 0.02)), 0.6)]
            canvas.add(patches[0], float(rng.uniform(0.1, 0.3)))
        for patch in patches:
            canvas.mark_distractor(patch)
