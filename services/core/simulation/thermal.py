"""A thermal camera's grey picture of a fuel tank's cap: soft, low in contrast, its polarity that of the weather."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.simulation.canvas import (
    BoolImage,
    Canvas,
    Exposure,
    FloatImage,
    Pose,
    Streams,
    blob,
    blurred,
    develop,
    distance,
    noise,
    polygon,
    stroke,
    wander,
)
from services.core.simulation.scene import Scene

DEFECTS = ("abnormal_shape", "foreign_object", "noise", "shift")
DEFAULT_SIZE_PX = 320
ASPECT = 0.8
"""Height over width of the picture: 256 by 320."""

_TURNS = 720
_AMBIENT = 0.42  # the body's brightness


def draw(streams: Streams, defect: str, size_px: int | None) -> Scene:
    """Draw one thermal picture.

    Args:
        streams: The part's random streams.
        defect: One of ``DEFECTS``, or empty for a good part.
        size_px: Width of the picture, pixels; None for 320. The height is 0.8 of it.
    """
    width = size_px or DEFAULT_SIZE_PX
    height = round(width * ASPECT)
    part, view, harm = streams.part, streams.view, streams.defect
    jitter = view.normal(0.0, 0.012, 2)
    home = np.array([0.5 + jitter[0], 0.5 * ASPECT + jitter[1]])
    moved = home.copy()
    if defect == "shift":
        turn, far = harm.uniform(0.0, 2.0 * np.pi), harm.uniform(0.085, 0.16)
        moved += far * np.array([np.cos(turn), np.sin(turn)])
    unit_px = width * view.uniform(0.265, 0.285)
    angle = view.normal(0.0, 0.06)
    pose = Pose.of((width * moved[0], width * moved[1]), unit_px, angle)
    outline = _misshapen(harm) if defect == "abnormal_shape" else np.ones(_TURNS)
    # Heat: the cap is warmer or colder than the body by a margin that differs from car to car.
    margin = float(part.choice([-1.0, 1.0]) * part.uniform(0.13, 0.30))
    body = _body(streams, height, width)
    cap, cover = _cap(pose, outline, margin, height, width)
    canvas = Canvas((body + cover * (cap - np.float32(_AMBIENT))).astype(np.float32))
    reach = distance(*pose.units(height, width))
    _reflections(canvas, pose, streams.clutter, margin)
    canvas.distractors &= reach > 1.15

    if defect in {"shift", "abnormal_shape"}:
        should = Pose.of((width * home[0], width * home[1]), unit_px, angle)
        usual, whole = _cap(should, np.ones(_TURNS), margin, height, width)
        changed = np.abs(whole * (usual - np.float32(_AMBIENT)) - cover * (cap - np.float32(_AMBIENT)))
        canvas.mask |= (np.abs(whole - cover) > 0.35) | (changed > 0.15 * abs(margin))
    elif defect == "foreign_object":
        _foreign_object(canvas, pose, harm, margin)
    canvas.lum = blurred(canvas.lum, width / 320.0 * float(view.uniform(1.1, 1.6)))
    _columns(canvas, view)
    if defect == "noise":
        canvas.mask |= _burst(canvas, harm)
    exposure = Exposure.of(view, None)
    image = develop(canvas, exposure, view)
    aoi = np.ones(canvas.shape, dtype=np.bool_)
    return Scene(image, canvas.mask, aoi, canvas.distractors & ~canvas.mask)


def _body(streams: Streams, height: int, width: int) -> FloatImage:
    part = streams.part
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    slope = part.normal(0.0, 0.08, 2)
    body = np.float32(_AMBIENT) + np.float32(slope[0]) * x + np.float32(slope[1]) * y
    drift: FloatImage = (body + np.float32(0.022) * noise(part, height, width, 32.0)).astype(np.float32)
    # The flap's hinge and the panel gap beside the cap, always at the same place.
    gap = np.exp(-(((x - np.float32(0.43)) / np.float32(0.008)) ** 2)) * np.float32(part.uniform(0.05, 0.12))
    drift -= gap
    return drift


def _misshapen(rng: np.random.Generator) -> NDArray[np.float64]:
    """The outline's radius over the angle, wrong: a bulge, a bite or an oval."""
    turns = np.linspace(0.0, 2.0 * np.pi, _TURNS, endpoint=False)
    start = rng.uniform(0.0, 2.0 * np.pi)
    offset = np.angle(np.exp(1j * (turns - start)))
    kind = rng.random()
    if kind < 0.7:
        amount = rng.choice([-1.0, 1.0]) * rng.uniform(0.16, 0.30)
        radius = 1.0 + amount * np.exp(-0.5 * (offset / rng.uniform(0.16, 0.32)) ** 2)
    else:
        radius = 1.0 + rng.uniform(0.10, 0.16) * np.cos(2.0 * offset)
    return np.asarray(radius, dtype=np.float64)


def _cap(
    pose: Pose,
    outline: NDArray[np.float64],
    margin: float,
    height: int,
    width: int,
) -> tuple[FloatImage, FloatImage]:
    """The cap's heat and its coverage."""
    u, v = pose.units(height, width)
    radius, turn = cv2.cartToPolar(u, v)
    index = np.minimum(turn * np.float32(_TURNS / (2.0 * np.pi)), _TURNS - 1).astype(np.int32)
    radius = radius / np.take(outline.astype(np.float32), index)
    cover = np.clip((1.0 - radius) * np.float32(pose.unit_px) + 0.5, 0.0, 1.0)
    heat = np.float32(_AMBIENT + margin) - np.float32(margin * 0.45) * radius * radius
    for at, wide, share in ((0.82, 0.05, -0.38), (0.55, 0.035, 0.22), (0.95, 0.03, 0.2)):
        heat = heat + np.float32(margin * share) * np.exp(-(((radius - np.float32(at)) / np.float32(wide)) ** 2))
    grip = np.clip((0.11 - np.abs(v)) * 30.0, 0.0, 1.0) * np.clip((0.6 - np.abs(u)) * 20.0, 0.0, 1.0)
    heat = heat + np.float32(margin * 0.42) * grip
    return heat.astype(np.float32), cover.astype(np.float32)


def _reflections(canvas: Canvas, pose: Pose, rng: np.random.Generator, margin: float) -> None:
    """Warm or cold reflections in the paint around the cap: harmless."""
    for _ in range(int(rng.poisson(1.2))):
        turn, far = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(1.3, 1.9)
        place = far * np.array([np.cos(turn), np.sin(turn)])
        size = rng.uniform(0.12, 0.35)
        patch = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.3) * size), 0.5 * size * pose.unit_px)
        canvas.add(patch, float(margin * rng.uniform(-0.35, 0.35)))
        canvas.mark_distractor(patch)


def _foreign_object(canvas: Canvas, pose: Pose, rng: np.random.Generator, margin: float) -> None:
    """A hand, a rag, a tool or a cable in the picture, with a heat of its own."""
    turn, far = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.2, 1.1)
    place = far * np.array([np.cos(turn), np.sin(turn)])
    heat = _AMBIENT + margin * rng.choice([-0.9, 1.7])
    if rng.random() < 0.5:
        patch = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.45) * rng.uniform(0.17, 0.3)), 1.2)
    else:
        path = wander(rng, place, rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.8, 1.5), 0.12)
        patch = stroke(canvas.shape, pose.pixels(path), rng.uniform(0.09, 0.16) * pose.unit_px, 1.0)
    # Nothing is evenly warm: a hand's or a rag's heat drifts across it.
    rows, cols = patch.alpha.shape
    drift = noise(rng, rows, cols, 0.1 * pose.unit_px)
    canvas.blend(patch, np.float32(heat) + np.float32(0.12 * margin) * drift)
    canvas.mark_defect(patch)


def _columns(canvas: Canvas, rng: np.random.Generator) -> None:
    """The faint column pattern that every uncooled sensor has."""
    _, width = canvas.shape
    canvas.lum += rng.normal(0.0, 0.0045, width).astype(np.float32)[None, :]


def _burst(canvas: Canvas, rng: np.random.Generator) -> BoolImage:
    """Disturbed rows or a disturbed block; gives the disturbed pixels."""
    height, width = canvas.shape
    hit = np.zeros(canvas.shape, dtype=np.bool_)
    top = int(rng.uniform(0.05, 0.6) * height)
    deep = int(rng.uniform(0.16, 0.34) * height)
    left, right = 0, width
    if rng.random() < 0.5:
        left = int(rng.uniform(0.0, 0.5) * width)
        right = left + int(rng.uniform(0.3, 0.5) * width)
    block = (slice(top, top + deep), slice(left, right))
    shape = canvas.lum[block].shape
    if rng.random() < 0.5:
        lines = rng.normal(0.0, rng.uniform(0.06, 0.11), (shape[0], 1)).astype(np.float32)
        canvas.lum[block] += lines
    else:
        canvas.lum[block] += np.float32(rng.uniform(0.07, 0.12)) * rng.standard_normal(shape, dtype=np.float32)
    hit[block] = True
    return hit
