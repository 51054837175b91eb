"""A plain-woven cloth passing under the camera, its selvedge and the table beside it in view."""

from __future__ import annotations

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
    noise,
    polygon,
    relief,
    stroke,
    wander,
)
from services.core.simulation.scene import Scene

DEFECTS = ("hole", "snag", "tear", "stain", "missing_thread")
DEFAULT_SIZE_PX = 320

_PITCH = 1.0 / 40.0  # one thread, part units (one unit = the picture's width)
_SELVEDGE = 0.055
_YARNS = 512


def draw(streams: Streams, defect: str, size_px: int | None) -> Scene:
    """Draw one piece of cloth.

    Args:
        streams: The part's random streams.
        defect: One of ``DEFECTS``, or empty for a good part.
        size_px: Side of the square picture, pixels; None for 320.
    """
    size = size_px or DEFAULT_SIZE_PX
    part, view = streams.part, streams.view
    edge = part.uniform(0.33, 0.44)  # where the cloth ends, right of its middle
    quarter = int(part.integers(0, 4))
    angle = quarter * np.pi / 2.0 + view.normal(0.0, 0.09)
    centre = (size * (0.5 + view.uniform(-0.03, 0.03)), size * (0.5 + view.uniform(-0.03, 0.03)))
    pose = Pose.of(centre, size * view.uniform(0.94, 1.06), angle)
    lamp = float(view.uniform(0.0, 2.0 * np.pi))
    ecru = part.normal(0.0, 0.02, 3)
    exposure = Exposure.of(view, (1.02 + ecru[0], 0.98 + ecru[1], 0.90 + ecru[2]))

    u, v = pose.units(size, size)
    cloth, over, under = _weave(streams, u, v, edge, lamp - angle, size)
    table = np.float32(part.uniform(0.12, 0.3)) + 0.02 * noise(part, size, size, 2.0, 4.0)
    # The rim of the cloth throws a short shadow on the table.
    past = u - np.float32(edge)
    table = table * np.clip(0.55 + past * np.float32(14.0), 0.55, 1.0)
    cover = np.clip(0.5 - past * np.float32(pose.unit_px), 0.0, 1.0)
    canvas = Canvas((table + cover * (cloth - table)).astype(np.float32))

    usable = past < -_SELVEDGE
    _clutter_off_cloth(canvas, pose, streams.clutter, edge)
    canvas.distractors &= ~usable
    _folds(canvas, pose, streams.clutter)
    _slubs(canvas, pose, streams.clutter, edge)
    reach = edge - _SELVEDGE
    place = np.array([streams.defect.uniform(-0.36, reach - 0.09), streams.defect.uniform(-0.36, 0.36)])
    sound = canvas.lum.copy()
    for patch in _damage(canvas, pose, defect, place, streams.defect, lamp, (over, under), reach):
        canvas.mark_defect(patch)
    np.copyto(canvas.lum, sound, where=~usable)  # the picture of the damage ends where the usable cloth does
    canvas.mask &= usable
    return Scene(develop(canvas, exposure, view), canvas.mask, usable, canvas.distractors & ~canvas.mask)


def _weave(
    streams: Streams, u: FloatImage, v: FloatImage, edge: float, lamp: float, size: int
) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Paint the threads; also give how much of each pixel is warp and weft crown (0 to 1)."""
    part = streams.part
    pitch = np.float32(1.0 / _PITCH)
    bow = noise(part, size, size, 32.0)
    skew = noise(part, size, size, 16.0)
    selvedge = np.clip((u - np.float32(edge - _SELVEDGE)) * 40.0, 0.0, 1.0)
    a = u * pitch + np.float32(0.22) * bow
    b = v * pitch + np.float32(0.20) * skew
    a += selvedge * np.float32(0.35) * np.sin(a)  # warp is crammed in the selvedge
    sin_a, sin_b = np.sin(a * np.float32(np.pi)), np.sin(b * np.float32(np.pi))
    cos_a, cos_b = np.cos(a * np.float32(np.pi)), np.cos(b * np.float32(np.pi))
    warp = np.abs(sin_a)
    weft = np.abs(sin_b)
    warp_up = (sin_a * sin_b) > 0
    yarns = part.normal(0.0, 1.0, (2, _YARNS)).astype(np.float32)
    tone = np.float32(part.uniform(0.56, 0.74))
    warp_tone = tone * (1.0 + np.float32(0.05) * yarns[0])
    weft_tone = tone * np.float32(part.uniform(0.86, 0.97)) * (1.0 + np.float32(0.07) * yarns[1])
    lean_x, lean_y = np.float32(0.10 * np.cos(lamp)), np.float32(0.10 * np.sin(lamp))
    up = np.take(warp_tone, np.floor(a).astype(np.int32), mode="wrap")
    up *= (np.float32(0.50) + np.float32(0.38) * warp) * (np.float32(0.78) + np.float32(0.30) * weft)
    up += lean_x * cos_a * np.sign(sin_a)
    down = np.take(weft_tone, np.floor(b).astype(np.int32), mode="wrap")
    down *= (np.float32(0.50) + np.float32(0.38) * weft) * (np.float32(0.78) + np.float32(0.30) * warp)
    down += lean_y * cos_b * np.sign(sin_b)
    cloth = np.where(warp_up, up, down)
    cloth *= np.float32(1.18) + np.float32(0.035) * noise(part, size, size, 1.0)
    cloth *= 1.0 + np.float32(0.07) * selvedge
    return cloth.astype(np.float32), np.where(warp_up, warp, 0.0), np.where(warp_up, 0.0, weft)


def _clutter_off_cloth(canvas: Canvas, pose: Pose, rng: np.random.Generator, edge: float) -> None:
    """Chalk, lint, pin holes and dirt on the selvedge and the table: harmless."""
    for _ in range(int(rng.poisson(2.4))):
        place = np.array([rng.uniform(edge - 0.7 * _SELVEDGE, 0.6), rng.uniform(-0.48, 0.48)])
        kind = rng.random()
        if kind < 0.4:
            path = wander(rng, place, rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.04, 0.13), 0.28)
            mark = stroke(canvas.shape, pose.pixels(path), 0.006 * pose.unit_px, 0.5)
            canvas.add(mark, float(rng.uniform(0.12, 0.4)))
        elif kind < 0.7:
            mark = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.5) * rng.uniform(0.006, 0.018)), 0.6)
            canvas.multiply(mark, float(rng.choice([0.35, 1.6])))
        else:
            mark = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.5) * rng.uniform(0.02, 0.045)), 1.2)
            canvas.multiply(mark, float(rng.uniform(0.55, 0.8)))
        canvas.mark_distractor(mark)


def _folds(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Soft creases: the cloth is sound, only its slope to the lamp differs."""
    for _ in range(int(rng.poisson(0.9))):
        place = rng.uniform(-0.5, 0.3, 2)
        path = wander(rng, place, rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.4, 0.9), 0.05)
        width = rng.uniform(0.03, 0.07) * pose.unit_px
        crease = stroke(canvas.shape, pose.pixels(path), width, 0.3 * width)
        canvas.lum[crease.window] *= 1.0 + relief(crease, rng.uniform(0.0, 2.0 * np.pi), 0.3 * width) * np.float32(0.22)
        canvas.mark_distractor(crease)


def _slubs(canvas: Canvas, pose: Pose, rng: np.random.Generator, edge: float) -> None:
    """Thick places in a yarn, which this cloth may have."""
    for _ in range(int(rng.poisson(1.6))):
        along = int(rng.integers(0, 2))
        place = np.array([rng.uniform(-0.45, edge), rng.uniform(-0.45, 0.45)])
        place[1 - along] = (np.floor(place[1 - along] / _PITCH) + 0.5) * _PITCH
        line = np.linspace(0.0, rng.uniform(0.05, 0.14), 12)
        path = np.repeat(place[None, :], 12, axis=0)
        path[:, along] += line
        swell = np.sin(np.linspace(0.15, np.pi - 0.15, 12))
        slub = stroke(canvas.shape, pose.pixels(path), _PITCH * 0.8 * pose.unit_px * swell, 0.8)
        canvas.multiply(slub, float(rng.uniform(0.82, 1.2)))
        canvas.mark_distractor(slub)


def _damage(
    canvas: Canvas,
    pose: Pose,
    defect: str,
    place: Points,
    rng: np.random.Generator,
    lamp: float,
    crowns: tuple[FloatImage, FloatImage],
    reach: float,
) -> list[Patch]:
    if defect == "hole":
        return _opening(canvas, pose, place + blob(rng, 0.45) * rng.uniform(0.028, 0.046), rng, lamp)
    if defect == "tear":
        heading = rng.choice([0.0, np.pi / 2.0]) + rng.normal(0.0, 0.25)
        path = wander(rng, place, heading, rng.uniform(0.14, 0.26), 0.12)
        half = np.sin(np.linspace(0.05, np.pi - 0.05, len(path)))[:, None] * rng.uniform(0.008, 0.014)
        normal = np.array([-np.sin(heading), np.cos(heading)])
        return _opening(canvas, pose, np.concatenate([path + half * normal, (path - half * normal)[::-1]]), rng, lamp)
    if defect == "snag":
        return _snag(canvas, pose, place, rng, lamp)
    if defect == "stain":
        rgb = (rng.uniform(0.55, 0.72), rng.uniform(0.45, 0.62), rng.uniform(0.35, 0.55))
        return flaws.stain(canvas, pose, place, rng.uniform(0.045, 0.085), rng, rgb)
    if defect == "missing_thread":
        return _missing_thread(canvas, pose, place, rng, crowns, reach)
    return []


def _opening(canvas: Canvas, pose: Pose, outline: Points, rng: np.random.Generator, lamp: float) -> list[Patch]:
    """A place without cloth, its rim frayed."""
    gap = polygon(canvas.shape, pose.pixels(outline), 0.9)
    canvas.lum[gap.window] -= relief(gap, lamp, 1.8) * np.float32(0.10)
    canvas.blend(gap, float(rng.uniform(0.07, 0.16)))
    middle = outline.mean(axis=0)
    patches = [gap]
    for _ in range(int(rng.integers(2, 6))):
        root = outline[int(rng.integers(0, len(outline)))]
        inward = np.arctan2(*(middle - root)[::-1]) + rng.normal(0.0, 0.7)
        path = wander(rng, root, inward, rng.uniform(0.012, 0.026), 0.2)
        end = stroke(canvas.shape, pose.pixels(path), 0.006 * pose.unit_px, 0.4).scaled(0.8)
        canvas.blend(end, 0.5)
        patches.append(end)
    return patches


def _snag(canvas: Canvas, pose: Pose, place: Points, rng: np.random.Generator, lamp: float) -> list[Patch]:
    """A yarn pulled out in a loop, the cloth puckered beside it."""
    heading = rng.uniform(0.0, 2.0 * np.pi)
    path = wander(rng, place, heading, rng.uniform(0.14, 0.24), 0.32)
    width = rng.uniform(0.010, 0.015) * pose.unit_px
    pucker = stroke(canvas.shape, pose.pixels(path), 3.0 * width, 1.6)
    canvas.multiply(pucker, 0.78)
    loop = stroke(canvas.shape, pose.pixels(path), width, 0.5)
    canvas.blend(loop, float(rng.uniform(0.62, 0.85)))
    canvas.lum[loop.window] -= relief(loop, lamp, 1.5) * np.float32(0.22)
    return [pucker, loop]


def _missing_thread(
    canvas: Canvas,
    pose: Pose,
    place: Points,
    rng: np.random.Generator,
    crowns: tuple[FloatImage, FloatImage],
    reach: float,
) -> list[Patch]:
    """A yarn that is not there: the crossing ones bridge a dark gap."""
    along = int(rng.integers(0, 2))
    start = place.copy()
    start[along] -= rng.uniform(0.0, 0.2)
    path = np.repeat(start[None, :], 16, axis=0)
    path[:, along] += np.linspace(0.0, rng.uniform(0.28, 0.48), 16)
    path[:, 0] = np.minimum(path[:, 0], reach)
    gap = stroke(canvas.shape, pose.pixels(path), rng.uniform(0.8, 1.15) * _PITCH * pose.unit_px, 0.7)
    bridge = crowns[along][gap.window]
    canvas.multiply(gap, 0.42 + 0.40 * bridge)
    return [gap]
