from __future__ import annotations

import numpy as np
import pytest

from services.core.simulation.canvas import (
    Canvas,
    Exposure,
    Pose,
    Streams,
    blob,
    develop,
    disc_points,
    noise,
    polygon,
    relief,
    stroke,
    wander,
)

SHAPE = (60, 80)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_a_pose_and_its_inverse_meet_in_the_same_pixel() -> None:
    pose = Pose.of((40.0, 30.0), 20.0, 0.7, 0.9)
    u, v = pose.units(*SHAPE)
    x, y = 52, 17
    back = pose.pixels(np.array([[float(u[y, x]), float(v[y, x])]]))
    np.testing.assert_allclose(back[0], (x, y), atol=1e-3)


def test_a_polygon_covers_its_area() -> None:
    patch = polygon(SHAPE, disc_points((40.0, 30.0), 10.0, 200))
    assert patch.alpha.sum() == pytest.approx(np.pi * 10.0**2, rel=0.15)  # its soft edge adds half a pixel all around
    assert patch.alpha.max() == 1.0


def test_a_shape_outside_the_picture_paints_nothing() -> None:
    patch = polygon(SHAPE, disc_points((-100.0, -100.0), 10.0), 2.0)
    canvas = Canvas(np.full(SHAPE, 0.5, dtype=np.float32))
    canvas.multiply(patch, 0.0)
    canvas.mark_defect(patch)
    assert (canvas.lum == 0.5).all()
    assert not canvas.mask.any()
    assert relief(patch, 0.0, 1.0).size == 0


def test_a_line_thinner_than_a_pixel_fades_instead_of_vanishing_or_growing() -> None:
    path = np.stack([np.linspace(10.0, 70.0, 20), np.full(20, 30.5)], axis=1)
    thick, thin = (float(stroke(SHAPE, path, width).alpha.sum()) for width in (0.9, 0.3))
    assert thin == pytest.approx(thick / 3.0, rel=0.05)


def test_noise_has_unit_deviation_and_tiles_beyond_its_bank() -> None:
    field = noise(generator(), 1200, 1600, 2.0)
    assert field.shape == (1200, 1600)
    assert field.std() == pytest.approx(1.0, abs=0.05)
    assert abs(float(field.mean())) < 0.05


def test_noise_cannot_be_written_into_by_mistake() -> None:
    with pytest.raises(ValueError, match="read-only"):
        noise(generator(), 10, 10, 2.0)[0, 0] = 1.0


def test_streams_are_independent_and_views_share_all_but_pose_and_light() -> None:
    one, other = Streams.of(0, 5, 0), Streams.of(0, 5, 1)
    assert one.part.random() == other.part.random()
    assert one.defect.random() == other.defect.random()
    assert one.clutter.random() == other.clutter.random()
    assert one.view.random() != other.view.random()
    assert Streams.of(1, 5, 0).part.random() != Streams.of(0, 5, 0).part.random()


def test_unmarking_clears_defect_and_clutter() -> None:
    canvas = Canvas(np.full(SHAPE, 0.5, dtype=np.float32))
    patch = polygon(SHAPE, disc_points((40.0, 30.0), 10.0))
    canvas.mark_defect(patch)
    canvas.mark_distractor(patch)
    canvas.unmark(patch)
    assert not canvas.mask.any()
    assert not canvas.distractors.any()


def test_clipping_shows_what_lies_behind_and_takes_films_along() -> None:
    canvas = Canvas(np.full(SHAPE, 0.5, dtype=np.float32))
    canvas.tint(polygon(SHAPE, disc_points((40.0, 30.0), 10.0)), (0.5, 0.5, 0.5))
    cover = np.zeros(SHAPE, dtype=np.float32)
    cover[:, :40] = 1.0
    canvas.clip(cover, np.full(SHAPE, 0.1, dtype=np.float32))
    assert canvas.lum[30, 20] == pytest.approx(0.5)
    assert canvas.lum[30, 60] == pytest.approx(0.1)
    film, _ = canvas.tints[0]
    assert film.alpha[:, -5:].max() == 0.0
    assert film.alpha[:, :5].max() > 0.0


def test_a_tint_darkens_one_colour_more_than_another() -> None:
    canvas = Canvas(np.full(SHAPE, 0.5, dtype=np.float32))
    canvas.tint(polygon(SHAPE, disc_points((40.0, 30.0), 10.0)), (0.9, 0.6, 0.3))
    plain = Exposure(gain=1.0, slope=(0.0, 0.0), falloff=0.0, rgb=(1.0, 1.0, 1.0), grain=0.0)
    red, green, blue = (int(value) for value in develop(canvas, plain, generator())[30, 40])
    assert red > green > blue
    assert develop(canvas, plain, generator())[2, 2].tolist() == [128, 128, 128]


def test_relief_is_bright_on_one_flank_and_dark_on_the_other() -> None:
    patch = polygon(SHAPE, disc_points((40.0, 30.0), 10.0), 1.0)
    shade = relief(patch, 0.0, 2.0)
    half = shade.shape[1] // 2
    assert shade[:, :half].mean() * shade[:, half:].mean() < 0


def test_outlines_and_paths_keep_their_size() -> None:
    outline = blob(generator(), 0.4)
    assert np.linalg.norm(outline, axis=1).mean() == pytest.approx(1.0, abs=0.2)
    path = wander(generator(), np.zeros(2), 0.0, 10.0, 0.1)
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(10.0)
