"""A machined metal disc seen from above on a conveyor belt, like the casting set: rings, bore, keyway, bolt holes."""

from __future__ import annotations

import functools

import numpy as np

from services.core.simulation import flaws
from services.core.simulation.canvas import (
    Canvas,
    Exposure,
    FloatImage,
    Patch,
    Points,
    Pose,
    Streams,
    blob,
    develop,
    disc_points,
    distance,
    noise,
    polygon,
    relief,
    stroke,
    wander,
)
from services.core.simulation.scene import Scene

DEFECTS = ("blowhole", "scratch", "crack", "stain", "missing_hole")
DEFAULT_SIZE_PX = 320

_HOLES = 6
_HOLE_RING = 0.775
_HOLE_RADIUS = 0.072
_PROFILE_STEPS = 1500
_PROFILE_REACH = 1.5  # the tables reach this many disc radii, past the picture's corners

# Zones from the outside in: inner radius, brightness, how strongly turning grooves glint, roughness of the casting.
_ZONES = (
    (1.00, 0.00, 0.00, 0.00),
    (0.955, 0.60, 0.10, 0.02),
    (0.60, 0.52, 0.20, 0.02),
    (0.34, 0.37, 0.02, 0.062),
    (0.165, 0.56, 0.20, 0.02),
    (0.00, 0.07, 0.00, 0.01),
)
# Steps in height: radius, width and which way the wall leans (+1 faces outward).
_EDGES = ((0.975, 0.030, 1.0), (0.600, 0.018, -1.0), (0.340, 0.016, 1.0), (0.165, 0.014, -1.0))


def draw(streams: Streams, defect: str, size_px: int | None) -> Scene:
    """Draw one disc.

    Args:
        streams: The part's random streams.
        defect: One of ``DEFECTS``, or empty for a good part.
        size_px: Side of the square picture, pixels; None for 320.
    """
    size = size_px or DEFAULT_SIZE_PX
    view = streams.view
    centre = (size * (0.5 + view.uniform(-0.03, 0.03)), size * (0.5 + view.uniform(-0.03, 0.03)))
    angle = view.uniform(0.0, 2.0 * np.pi)
    pose = Pose.of(centre, size * view.uniform(0.43, 0.455), angle, view.uniform(0.965, 1.0))
    lamp = float(view.uniform(0.0, 2.0 * np.pi))
    exposure = Exposure.of(view)

    belt = Canvas(_belt(streams, size, pose, lamp))
    _clutter_on_belt(belt, pose, streams.clutter)
    u, v = pose.units(size, size)
    radius = distance(u, v)
    on_part = radius <= 1.0
    canvas = Canvas(_face(streams, radius, u, v, lamp - angle, size))
    spot = float(streams.defect.uniform(0.0, 2.0 * np.pi))
    missing = int(streams.defect.integers(0, _HOLES)) if defect == "missing_hole" else -1
    _marks_on_face(canvas, pose, streams.clutter, lamp)
    for patch in _damage(canvas, pose, defect, spot, streams.defect, lamp):
        canvas.mark_defect(patch)
    _bolt_holes(canvas, pose, lamp, missing)
    _bore(canvas, pose)
    canvas.clip(np.clip((1.0 - radius) * np.float32(pose.unit_px) + 0.5, 0.0, 1.0), belt.lum)
    mask = canvas.mask & on_part
    harmless = np.where(on_part, canvas.distractors & ~mask, belt.distractors)
    return Scene(develop(canvas, exposure, view), mask, on_part, harmless)


def _belt(streams: Streams, size: int, pose: Pose, lamp: float) -> FloatImage:
    tone = streams.part.uniform(0.14, 0.30)
    belt = tone + 0.016 * noise(streams.view, size, size, 1.0, 4.0) + 0.02 * noise(streams.view, size, size, 16.0)
    reach = 0.05 * pose.unit_px
    shifted = Pose(pose.matrix, pose.offset - reach * np.array([np.cos(lamp), np.sin(lamp)]))
    u, v = shifted.units(size, size)
    depth = np.clip((1.09 - distance(u, v)) / np.float32(0.14), 0.0, 1.0)
    shaded: FloatImage = (belt * (1.0 - np.float32(0.6) * depth)).astype(np.float32)
    return shaded


@functools.lru_cache(maxsize=1)
def _profiles() -> tuple[FloatImage, FloatImage, FloatImage, FloatImage]:
    """Tables over the radius: brightness, glint, roughness and lean of the wall."""
    radius = np.linspace(0.0, _PROFILE_REACH, _PROFILE_STEPS)
    tone, glint, rough = (np.zeros(_PROFILE_STEPS) for _ in range(3))
    for inner, zone_tone, zone_glint, zone_rough in reversed(_ZONES):
        here = radius >= inner
        tone[here], glint[here], rough[here] = zone_tone, zone_glint, zone_rough
    kernel = np.hanning(11) / np.hanning(11).sum()
    tone, glint, rough = (np.convolve(table, kernel, "same") for table in (tone, glint, rough))
    lean = np.zeros(_PROFILE_STEPS)
    for at, width, way in _EDGES:
        lean += way * np.exp(-0.5 * ((radius - at) / (width * 0.5)) ** 2)
        tone -= 0.10 * np.exp(-0.5 * ((radius - at) / (width * 0.35)) ** 2)
    tables = tuple(table.astype(np.float32) for table in (tone, glint, rough, lean))
    return tables[0], tables[1], tables[2], tables[3]


def _face(streams: Streams, radius: FloatImage, u: FloatImage, v: FloatImage, lamp: float, size: int) -> FloatImage:
    part = streams.part
    tone, glint, rough, lean = _profiles()
    grooves = part.normal(0.0, 1.0, _PROFILE_STEPS)
    fine = np.convolve(grooves, np.hanning(5) / 2.0, "same") * 0.018
    coarse = np.convolve(part.normal(0.0, 1.0, _PROFILE_STEPS), np.hanning(60) / 8.0, "same") * 0.016
    cut = (1.0 + (fine + coarse) * (glint > 0.05) / 0.5).astype(np.float32)
    metal = np.float32(part.uniform(0.82, 1.18))
    index = np.minimum(radius * np.float32((_PROFILE_STEPS - 1) / _PROFILE_REACH), _PROFILE_STEPS - 1).astype(np.int32)

    inverse = 1.0 / np.maximum(radius, np.float32(1e-3))
    nu, nv = u * inverse, v * inverse
    toward = nu * np.float32(np.cos(lamp)) + nv * np.float32(np.sin(lamp))
    # Turned metal glints in two opposite fans where its grooves face the lamp.
    fan = toward * toward
    fan *= fan
    fan *= fan
    grain = noise(part, size, size, 1.0)
    lumps = noise(part, size, size, 4.0)
    face: FloatImage = np.take(tone * cut * metal, index)
    face += np.take(glint * cut, index) * (fan * np.float32(1.7) - np.float32(0.28))
    face += np.take(rough, index) * (np.float32(0.6) * grain + np.float32(0.55) * lumps)
    face += np.take(lean, index) * toward * np.float32(0.27)
    return face


def _bolt_holes(canvas: Canvas, pose: Pose, lamp: float, missing: int) -> None:
    for number in range(_HOLES):
        turn = 2.0 * np.pi * number / _HOLES
        middle = (_HOLE_RING * np.cos(turn), _HOLE_RING * np.sin(turn))
        seat = polygon(canvas.shape, pose.pixels(disc_points(middle, _HOLE_RADIUS * 1.32)), 0.5)
        if number == missing:
            canvas.mark_defect(seat)
            continue
        hole = polygon(canvas.shape, pose.pixels(disc_points(middle, _HOLE_RADIUS)), 0.5)
        canvas.lum[seat.window] -= relief(seat, lamp, 1.4) * np.float32(0.22)
        canvas.blend(hole, 0.07)
        canvas.unmark(hole)
        canvas.lum[hole.window] -= np.minimum(relief(hole, lamp, 1.6), 0.0) * np.float32(0.16)


def _bore(canvas: Canvas, pose: Pose) -> None:
    """Cut the bore and its keyway: whatever was painted there is air."""
    slot = np.array([[0.13, -0.035], [0.215, -0.035], [0.215, 0.035], [0.13, 0.035]])
    for outline in (disc_points((0.0, 0.0), 0.160), slot):
        air = polygon(canvas.shape, pose.pixels(outline), 0.5)
        canvas.blend(air, 0.075)
        canvas.unmark(air)


def _polar(radius: float, turn: float) -> Points:
    return np.array([radius * np.cos(turn), radius * np.sin(turn)])


def _clutter_on_belt(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Swarf, dust and oil around the part: harmless."""
    unit = Pose(np.eye(2) * pose.unit_px, pose.offset)
    for _ in range(int(rng.poisson(1.2))):
        place = _polar(rng.uniform(1.08, 1.5), rng.uniform(0.0, 2.0 * np.pi))
        kind = rng.random()
        if kind < 0.45:
            path = wander(rng, place, rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.1, 0.28), 0.25)
            curl = stroke(canvas.shape, unit.pixels(path), 0.016 * pose.unit_px, 0.4)
            canvas.add(curl, float(rng.uniform(0.15, 0.45)))
        elif kind < 0.75:
            outline = unit.pixels(place + blob(rng, 0.5) * rng.uniform(0.012, 0.035))
            curl = polygon(canvas.shape, outline, 0.6)
            canvas.add(curl, float(rng.uniform(-0.12, 0.3)))
        else:
            outline = unit.pixels(place + blob(rng, 0.5) * rng.uniform(0.06, 0.16))
            curl = polygon(canvas.shape, outline, 1.5)
            canvas.multiply(curl, float(rng.uniform(0.5, 0.8)))
        canvas.mark_distractor(curl)


def _marks_on_face(canvas: Canvas, pose: Pose, rng: np.random.Generator, lamp: float) -> None:
    """What machining leaves and light does: tool marks along the grooves, soft reflections. Harmless."""
    for _ in range(int(rng.poisson(1.0))):
        radius = rng.choice([rng.uniform(0.63, 0.94), rng.uniform(0.19, 0.32)])
        start, sweep = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.3, 1.3)
        turns = np.linspace(start, start + sweep, 24)
        path = np.stack([radius * np.cos(turns), radius * np.sin(turns)], axis=1)
        fade = np.sin(np.linspace(0.1, np.pi - 0.1, 24))
        mark = stroke(canvas.shape, pose.pixels(path), 0.014 * pose.unit_px * fade, 0.5)
        canvas.add(mark, float(rng.uniform(-0.09, 0.11)))
        canvas.mark_distractor(mark)
    for _ in range(int(rng.poisson(0.5))):
        place = _polar(rng.uniform(0.2, 0.9), rng.uniform(0.0, 2.0 * np.pi))
        size = rng.uniform(0.08, 0.2)
        gleam = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.2) * size), 0.35 * size * pose.unit_px)
        canvas.add(gleam, float(rng.uniform(0.05, 0.16)))
        canvas.mark_distractor(gleam)
    if rng.random() < 0.35:
        place = _polar(rng.uniform(0.38, 0.56), rng.uniform(0.0, 2.0 * np.pi))
        dent = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.4) * rng.uniform(0.02, 0.035)), 0.8)
        canvas.lum[dent.window] -= relief(dent, lamp, 1.5) * np.float32(0.07)
        canvas.mark_distractor(dent)


def _damage(canvas: Canvas, pose: Pose, defect: str, turn: float, rng: np.random.Generator, lamp: float) -> list[Patch]:
    if defect == "blowhole":
        patches = []
        middle = _polar(_clear_radius(rng), turn)
        for number in range(int(rng.integers(1, 4))):
            # The largest first; further ones beside it, smaller.
            place = middle + (_polar(rng.uniform(0.14, 0.22), rng.uniform(0.0, 2.0 * np.pi)) if number else 0.0)
            radius = rng.uniform(0.06, 0.10) if number == 0 else rng.uniform(0.03, 0.055)
            patches += flaws.pit(canvas, pose, place, radius, rng, lamp)
        return patches
    if defect == "scratch":
        radius = rng.uniform(0.42, 0.85)
        heading = turn + rng.choice([-1.0, 1.0]) * rng.uniform(0.0, 0.95)  # across the grooves, not along them
        length = rng.uniform(0.55, 0.95)
        start = _polar(radius, turn) - _polar(length / 2.0, heading)
        path = wander(rng, start, heading, length, 0.04)
        return flaws.scratch(canvas, pose, path, rng.uniform(0.026, 0.042), rng, lamp)
    if defect == "crack":
        place = _polar(rng.choice([0.98, rng.uniform(0.36, 0.62)]), turn)
        heading = turn + np.pi + rng.normal(0.0, 0.4) if np.hypot(*place) > 0.9 else turn + rng.normal(0.0, 0.5)
        return flaws.crack(canvas, pose, place, heading, rng.uniform(0.42, 0.7), rng.uniform(0.026, 0.042), rng, lamp)
    if defect == "stain":
        rust = (rng.uniform(0.62, 0.8), rng.uniform(0.45, 0.6), rng.uniform(0.30, 0.45))
        oil = (rng.uniform(0.45, 0.6),) * 3
        rgb = rust if rng.random() < 0.6 else (oil[0], oil[1], oil[2])
        return flaws.stain(canvas, pose, _polar(rng.uniform(0.3, 0.85), turn), rng.uniform(0.15, 0.27), rng, rgb)
    return []


def _clear_radius(rng: np.random.Generator) -> float:
    """Somewhere on the face that is not the bore."""
    return float(rng.uniform(0.22, 0.92))
