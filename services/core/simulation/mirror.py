"""A round, mirror-like part under striped light: dents bend the stripes, and scatter looks like damage but is none."""

from __future__ import annotations

import numpy as np

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
    distance,
    noise,
    polygon,
    stroke,
    wander,
)
from services.core.simulation.scene import Scene

DEFECTS = ("dent", "scratch", "pit", "haze")
DEFAULT_SIZE_PX = 320

_STRIPE = 0.155  # from stripe to stripe, in part radii


def draw(streams: Streams, defect: str, size_px: int | None) -> Scene:
    """Draw one mirror-like part.

    Args:
        streams: The part's random streams.
        defect: One of ``DEFECTS``, or empty for a good part.
        size_px: Side of the square picture, pixels; None for 320.
    """
    size = size_px or DEFAULT_SIZE_PX
    part, view, harm = streams.part, streams.view, streams.defect
    centre = (size * (0.5 + view.uniform(-0.03, 0.03)), size * (0.5 + view.uniform(-0.03, 0.03)))
    pose = Pose.of(centre, size * view.uniform(0.41, 0.445), view.uniform(0.0, 2.0 * np.pi), view.uniform(0.97, 1.0))
    lamp = float(view.choice([0.0, np.pi / 2.0]) + view.normal(0.0, 0.12))
    u, v = pose.units(size, size)
    radius = distance(u, v)
    turn, far = harm.uniform(0.0, 2.0 * np.pi), np.sqrt(harm.uniform(0.0, 0.72**2))
    place = far * np.array([np.cos(turn), np.sin(turn)])

    bend = np.float32(0.045) * noise(part, size, size, 32.0) + np.float32(0.010) * noise(part, size, size, 8.0)
    mask = np.zeros((size, size), dtype=np.bool_)
    if defect == "dent":
        push, mask = _dent(u, v, place, harm)
        bend = bend + push
    canvas = Canvas(_stripes(streams, pose, radius, bend, lamp, size))
    _scatter(canvas, pose, streams.clutter, lamp)
    for patch in _damage(canvas, pose, defect, place, harm, lamp):
        canvas.mark_defect(patch)
    on_part = radius <= 1.0
    holder = np.float32(part.uniform(0.05, 0.12)) + np.float32(0.012) * noise(part, size, size, 2.0)
    canvas.clip(np.clip((1.0 - radius) * np.float32(pose.unit_px) + 0.5, 0.0, 1.0), holder.astype(np.float32))
    mask = (mask | canvas.mask) & on_part
    exposure = Exposure.of(view)
    return Scene(develop(canvas, exposure, view), mask, on_part, canvas.distractors & on_part & ~mask)


def _dent(u: FloatImage, v: FloatImage, place: Points, rng: np.random.Generator) -> tuple[FloatImage, BoolImage]:
    """How far a dent bends the stripes, in part radii, and its pixels."""
    wide = np.float32(rng.uniform(0.07, 0.115))
    tall = np.float32(wide * rng.uniform(0.7, 1.0))
    du, dv = (u - np.float32(place[0])) / wide, (v - np.float32(place[1])) / tall
    square = du * du + dv * dv
    bump = np.exp(np.float32(-0.5) * square)
    steep = np.float32(rng.choice([-1.0, 1.0]) * rng.uniform(0.17, 0.26))
    turn = rng.uniform(0.0, 2.0 * np.pi)
    # Half a dimple (the stripe is pushed aside), half a slope (it is pinched and spread).
    slope = du * np.float32(np.cos(turn)) + dv * np.float32(np.sin(turn))
    push: FloatImage = (steep * bump * (np.float32(0.6) + np.float32(0.7) * slope)).astype(np.float32)
    return push, square < 2.5**2


def _stripes(streams: Streams, pose: Pose, radius: FloatImage, bend: FloatImage, lamp: float, size: int) -> FloatImage:
    part, view = streams.part, streams.view
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = (
        (xs - np.float32(pose.offset[0])) / np.float32(pose.unit_px),
        (ys - np.float32(pose.offset[1])) / np.float32(pose.unit_px),
    )
    across = x * np.float32(np.cos(lamp)) + y * np.float32(np.sin(lamp))
    # The dome spreads the stripes toward the rim.
    across = across * (1.0 + np.float32(0.34) * radius * radius)
    phase = (across + bend) * np.float32(2.0 * np.pi / _STRIPE) + np.float32(view.uniform(0.0, 2.0 * np.pi))
    sharp = np.float32(view.uniform(1.5, 2.6))
    wave = np.tanh(sharp * np.sin(phase))
    bright, dark = np.float32(view.uniform(0.62, 0.80)), np.float32(view.uniform(0.14, 0.22))
    lum = dark + (bright - dark) * (np.float32(0.5) + np.float32(0.5) * wave)
    rim = np.exp(-(((radius - np.float32(0.965)) / np.float32(0.02)) ** 2))
    lum = lum * (1.0 - np.float32(0.22) * radius * radius) + rim * np.float32(0.16)
    lum += np.float32(0.010) * noise(part, size, size, 1.0)
    stripes: FloatImage = lum.astype(np.float32)
    return stripes


def _scatter(canvas: Canvas, pose: Pose, rng: np.random.Generator, lamp: float) -> None:
    """Glints, streaks of stray light and faint clouds, rarely twice the same: harmless."""
    for _ in range(int(rng.poisson(3.0))):
        far, turn = np.sqrt(rng.uniform(0.0, 0.9)), rng.uniform(0.0, 2.0 * np.pi)
        place = pose.pixels(far * np.array([[np.cos(turn), np.sin(turn)]]))
        kind = rng.random()
        if kind < 0.5:  # a glint: a soft star
            size = rng.uniform(0.012, 0.028) * pose.unit_px
            patch = polygon(canvas.shape, place + blob(rng, 0.1) * size, 0.55 * size)
            canvas.add(patch, float(rng.uniform(0.25, 0.6)))
        elif kind < 0.8:  # a streak, always across the stripes
            run = np.linspace(-0.5, 0.5, 12)[:, None] * rng.uniform(0.12, 0.35) * pose.unit_px
            path = place + run * np.array([[np.cos(lamp), np.sin(lamp)]])
            fade = np.sin(np.linspace(0.05, np.pi - 0.05, 12))
            patch = stroke(canvas.shape, path, 0.018 * pose.unit_px * fade, 1.2)
            canvas.add(patch, float(rng.uniform(0.10, 0.24)))
        else:  # a cloud of stray light
            size = rng.uniform(0.05, 0.13) * pose.unit_px
            patch = polygon(canvas.shape, place + blob(rng, 0.4) * size, 0.5 * size)
            canvas.add(patch, float(rng.uniform(0.04, 0.11)))
        canvas.mark_distractor(patch)


def _damage(
    canvas: Canvas, pose: Pose, defect: str, place: Points, rng: np.random.Generator, lamp: float
) -> list[Patch]:
    if defect == "scratch":
        heading = rng.uniform(0.0, 2.0 * np.pi)
        length = rng.uniform(0.4, 0.8)
        start = place - 0.5 * length * np.array([np.cos(heading), np.sin(heading)])
        path = wander(rng, start, heading, length, 0.06)
        patch = stroke(canvas.shape, pose.pixels(path), rng.uniform(0.018, 0.028) * pose.unit_px, 0.5)
        # A groove sends the light elsewhere: dark on bright stripes, bright on dark ones.
        canvas.blend(patch.scaled(0.85), float(rng.uniform(0.36, 0.52)))
        return [patch]
    if defect == "pit":
        patches = []
        for _ in range(int(rng.integers(1, 4))):
            spot = place + rng.normal(0.0, 0.07, 2)
            patches += flaws.pit(canvas, pose, spot, rng.uniform(0.035, 0.055), rng, lamp)
        return patches
    if defect == "haze":
        size = rng.uniform(0.13, 0.22)
        patch = polygon(canvas.shape, pose.pixels(place + blob(rng, 0.5) * size), 0.12 * size * pose.unit_px)
        canvas.blend(patch.scaled(float(rng.uniform(0.6, 0.8))), float(rng.uniform(0.34, 0.5)))
        return [patch]
    return []
