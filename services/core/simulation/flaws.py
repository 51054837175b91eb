"""How damage looks, whatever the product: pits, scratches, cracks and stains.

Each function paints on a canvas and returns the patches that the damage covers, so that the caller says whether they
count as a defect or are harmless.
"""

from __future__ import annotations

import numpy as np

from services.core.simulation.canvas import (
    Canvas,
    Patch,
    Points,
    Pose,
    blob,
    noise,
    polygon,
    relief,
    stroke,
    wander,
)


def pit(
    canvas: Canvas, pose: Pose, place: Points, radius: float, rng: np.random.Generator, light: float
) -> list[Patch]:
    """A hole that gas left in the metal: dark inside, its far wall catching the lamp.

    Args:
        canvas: Painted on.
        pose: From part units to pixels.
        place: Centre in part units, shape ``(2,)``.
        radius: In part units.
        rng: Draws the outline and the depth.
        light: Where the lamp stands, radians in the picture.
    """
    outline = pose.pixels(place + blob(rng, 0.4) * radius)
    radius_px = radius * pose.unit_px
    patch = polygon(canvas.shape, outline, max(0.4, 0.10 * radius_px))
    shade = relief(patch, light, max(1.0, 0.3 * radius_px))
    canvas.multiply(patch, float(rng.uniform(0.18, 0.42)))
    canvas.lum[patch.window] -= shade * np.float32(rng.uniform(0.10, 0.24))
    return [patch]


def scratch(
    canvas: Canvas, pose: Pose, path: Points, width: float, rng: np.random.Generator, light: float
) -> list[Patch]:
    """A groove torn by something hard: bright or dark by how the lamp meets it, thicker where it was pressed.

    Args:
        canvas: Painted on.
        pose: From part units to pixels.
        path: In part units, shape ``(N, 2)``.
        width: Largest width in part units.
        rng: Draws pressure and glint.
        light: Where the lamp stands, radians in the picture.
    """
    points = pose.pixels(path)
    along = np.linspace(0.0, 1.0, len(points))
    pressure = np.sin(np.pi * np.clip(along * 0.94 + 0.03, 0.0, 1.0)) ** 0.6
    patch = stroke(canvas.shape, points, width * pose.unit_px * pressure, 0.45)
    run = points[-1] - points[0]
    facing = abs(np.sin(np.arctan2(run[1], run[0]) - light))
    if rng.random() < 0.35 + 0.4 * facing:
        canvas.add(patch, float(rng.uniform(0.24, 0.40)))
    else:
        canvas.multiply(patch, float(rng.uniform(0.35, 0.6)))
    canvas.lum[patch.window] += relief(patch, light, 1.0) * np.float32(0.12)
    return [patch]


def crack(
    canvas: Canvas,
    pose: Pose,
    place: Points,
    heading: float,
    length: float,
    width: float,
    rng: np.random.Generator,
    light: float,
) -> list[Patch]:
    """A jagged dark line that forks.

    Args:
        canvas: Painted on.
        pose: From part units to pixels.
        place: One end, part units, shape ``(2,)``.
        heading: First direction, radians in part units.
        length: In part units.
        width: At the root, part units.
        rng: Draws the path.
        light: Where the lamp stands, radians in the picture.
    """
    main = wander(rng, place, heading, length, 0.11, 0.55)
    taper = np.linspace(1.0, 0.45, len(main)) * width * pose.unit_px
    limbs = [(main, taper)]
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(6, 18))
        side = heading + rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.1)
        twig = wander(rng, main[at], side, length * rng.uniform(0.2, 0.45), 0.1, 0.5)
        limbs.append((twig, np.linspace(0.8, 0.4, len(twig)) * width * pose.unit_px))
    depth = float(rng.uniform(0.16, 0.36))
    patches = []
    for path, widths in limbs:
        patch = stroke(canvas.shape, pose.pixels(path), widths, 0.4)
        canvas.lum[patch.window] -= relief(patch, light, 1.2) * np.float32(0.10)
        canvas.multiply(patch, depth)
        patches.append(patch)
    return patches


def stain(
    canvas: Canvas,
    pose: Pose,
    place: Points,
    radius: float,
    rng: np.random.Generator,
    rgb: tuple[float, float, float],
    strength: float = 1.0,
) -> list[Patch]:
    """A film of dirt, oil or rust: cloudy inside, darker at its drying edge.

    Args:
        canvas: Painted on.
        pose: From part units to pixels.
        place: Centre in part units, shape ``(2,)``.
        radius: In part units.
        rng: Draws the outline and the clouds.
        rgb: Factor on R, G and B at full strength.
        strength: 0 to 1, how much of the film there is.
    """
    stretch = rng.uniform(0.65, 1.0)
    turn = rng.uniform(0.0, np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    shape = blob(rng, 0.55) * (1.0, stretch) @ np.array([[cos, sin], [-sin, cos]])
    radius_px = radius * pose.unit_px
    patch = polygon(canvas.shape, pose.pixels(place + shape * radius), max(0.8, 0.09 * radius_px))
    rows, cols = patch.alpha.shape
    if not patch.alpha.size:
        return []
    clouds = noise(rng, rows, cols, 0.2 * radius_px)
    edge = 4.0 * patch.alpha * (1.0 - patch.alpha)
    film = patch.scaled(((0.75 + 0.22 * clouds + 0.35 * edge) * strength).astype(np.float32))
    canvas.tint(film, rgb)
    return [patch]
