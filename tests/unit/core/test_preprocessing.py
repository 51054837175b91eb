from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.preprocessing import Preprocessing, combine, map_back, placements, prepare


def surface(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A noisy grey surface, like brushed metal under even light."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(140, 12, (height, width, 1)).clip(0, 255)
    return np.repeat(grain, 3, axis=2).astype(np.uint8)


def cracked(
    height: int, width: int, area_share: float, angle_deg: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The surface with one straight dark crack, three pixels wide, that covers a share of the area."""
    thickness = 3
    length = area_share * height * width / thickness
    turn = math.radians(angle_deg)
    step = np.array([math.cos(turn), math.sin(turn)]) * length / 2
    centre = np.array([width / 2, height / 2])
    drawn = np.zeros((height, width), np.uint8)
    start, end = (centre - step).round().astype(int), (centre + step).round().astype(int)
    cv2.line(drawn, start.tolist(), end.tolist(), 255, thickness)
    image = surface(height, width)
    image[drawn > 0] = 40
    return image, drawn > 0


@pytest.mark.parametrize("mode", ["letterbox", "squash", "tiles"])
@pytest.mark.parametrize("angle_deg", [0, 17, 90])
def test_a_crack_of_half_a_percent_of_a_500_by_1260_frame_survives(mode: str, angle_deg: float) -> None:
    # Upright, the frame is too low for a crack of that area in three pixels of width: the crack is clipped there.
    settings_ = Preprocessing(mode=mode)  # type: ignore[arg-type]
    with_crack, crack = cracked(500, 1260, 0.005, angle_deg)
    prepared = prepare(with_crack, settings_).astype(float)
    clean = prepare(surface(500, 1260), settings_).astype(float)
    assert crack.mean() >= (0.005 if angle_deg < 20 else 0.002)
    # The fainter of what a model can rest on: the crack's darkest pixels against the grain that is left.
    drop = np.sort((clean - prepared)[..., 0].ravel())[::-1]
    visible = drop[: max(20, int(crack.mean() * drop.size))]
    assert visible.mean() > 5 * clean[..., 0].std()


def test_a_hairline_of_a_single_pixel_is_never_skipped_by_shrinking() -> None:
    for column in range(600, 612):
        image = np.full((500, 1260, 3), 200, np.uint8)
        image[:, column] = 0
        lost = 200.0 - prepare(image, Preprocessing()).astype(float)[0, 112, :, 0]
        assert lost.sum() == pytest.approx(200 * 224 / 1260, rel=0.1)


def test_the_letterbox_keeps_the_aspect_ratio() -> None:
    image = np.zeros((500, 1260, 3), np.uint8)
    cv2.circle(image, (630, 250), 200, (255, 255, 255), -1)
    prepared = prepare(image, Preprocessing())
    assert prepared.shape == (1, 224, 224, 3)
    place = placements(500, 1260, Preprocessing())[0]
    content = prepared[0, place.y : place.y + place.height, place.x : place.x + place.width, 0] > 127
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1


def test_squash_fills_the_whole_input() -> None:
    place = placements(500, 1260, Preprocessing(mode="squash"))[0]
    assert (place.x, place.y, place.width, place.height) == (0, 0, 224, 224)


@pytest.mark.parametrize("shape", [(500, 1260), (1260, 500), (224, 224), (60, 60), (16, 800)])
def test_the_fill_looks_like_the_surface_and_not_like_a_border(shape: tuple[int, int]) -> None:
    image = surface(*shape)
    prepared = prepare(image, Preprocessing())[0, ..., 0].astype(float)
    place = placements(*shape, Preprocessing())[0]
    inside = np.zeros(prepared.shape, bool)
    inside[place.y : place.y + place.height, place.x : place.x + place.width] = True
    if inside.all():
        return
    assert abs(prepared[~inside].mean() - prepared[inside].mean()) < 3
    assert prepared[~inside].std() == pytest.approx(prepared[inside].std(), rel=0.25)


def test_tiles_at_full_scale_hide_the_size_of_the_frame() -> None:
    small = prepare(surface(300, 300), Preprocessing(mode="tiles"))
    large = prepare(surface(900, 700), Preprocessing(mode="tiles"))
    assert abs(small.std() - large.std()) < 0.5
    assert small.shape[1:] == large.shape[1:] == (224, 224, 3)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_cover_each_pixel_and_overlap_as_asked(overlap: float) -> None:
    settings_ = Preprocessing(mode="tiles", height_px=100, width_px=120, overlap=overlap)
    where = placements(333, 505, settings_)
    covered = np.zeros((333, 505), int)
    for place in where:
        covered[
            int(place.source_y) : int(place.source_y + place.source_height),
            int(place.source_x) : int(place.source_x + place.source_width),
        ] += 1
    assert covered.min() >= 1
    columns = sorted({place.source_x for place in where})
    assert all(right - left <= 120 * (1 - overlap) + 1 for left, right in itertools.pairwise(columns))
    assert prepare(surface(333, 505), settings_).shape == (len(where), 100, 120, 3)


def test_tiles_hold_the_pixels_that_their_placement_names() -> None:
    image = surface(300, 400)
    settings_ = Preprocessing(mode="tiles", height_px=128, width_px=128)
    for tile, place in zip(prepare(image, settings_), placements(300, 400, settings_), strict=True):
        top, left = int(place.source_y), int(place.source_x)
        assert np.array_equal(tile, image[top : top + 128, left : left + 128])


def test_an_image_that_needs_too_many_tiles_is_shrunk_until_it_does_not() -> None:
    settings_ = Preprocessing(mode="tiles", max_tiles=6)
    assert 1 <= len(placements(2000, 3000, settings_)) <= 6
    assert prepare(surface(2000, 3000), settings_).shape[0] == len(placements(2000, 3000, settings_))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(16, 400),
    width=st.integers(16, 400),
    mode=st.sampled_from(["letterbox", "squash", "tiles"]),
    side=st.integers(16, 160),
)
def test_any_size_gives_the_model_its_shape_and_maps_back_onto_the_image(
    height: int, width: int, mode: str, side: int
) -> None:
    settings_ = Preprocessing(mode=mode, height_px=side, width_px=side + 7)  # type: ignore[arg-type]
    tiles = prepare(np.zeros((height, width, 3), np.uint8), settings_)
    assert tiles.shape == (len(placements(height, width, settings_)), side, side + 7, 3)
    assert tiles.flags.c_contiguous
    back = map_back(np.ones((len(tiles), 7, 9), np.float32), settings_, height, width)
    assert back.shape == (height, width)
    assert np.allclose(back, 1)


@pytest.mark.parametrize("mode", ["letterbox", "squash", "tiles"])
def test_a_hot_spot_of_a_map_lands_where_it_was_seen(mode: str) -> None:
    image = np.zeros((300, 700, 3), np.uint8)
    cv2.circle(image, (520, 90), 12, (255, 255, 255), -1)
    settings_ = Preprocessing(mode=mode)  # type: ignore[arg-type]
    back = map_back(prepare(image, settings_)[..., 0].astype(np.float32), settings_, 300, 700)
    y, x = np.argwhere(back > 200).mean(axis=0)
    assert (x, y) == (pytest.approx(520, abs=1.5), pytest.approx(90, abs=1.5))


def test_a_point_of_the_tile_maps_to_its_point_in_the_image() -> None:
    place = placements(500, 1260, Preprocessing())[0]
    assert place.to_source(place.x, place.y) == (0, 0)
    assert place.to_source(place.x + place.width, place.y + place.height) == (1260, 500)


def test_maps_that_do_not_fit_the_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="T = 1"):
        map_back(np.ones((2, 7, 7), np.float32), Preprocessing(), 100, 100)


def test_the_worst_tile_speaks_for_the_part() -> None:
    assert combine(np.array([0.1, 0.9, 0.9, 0.2])) == (1, 0.9)


def test_a_tile_without_a_score_is_not_outvoted() -> None:
    index, score = combine(np.array([0.1, np.nan, 0.9]))
    assert index == 1
    assert math.isnan(score)


@pytest.mark.parametrize("scores", [np.zeros(0), np.zeros((2, 2))])
def test_no_tiles_give_no_score(scores: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="scores must have shape"):
        combine(scores)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "crop"},
        {"height_px": 4},
        {"width_px": 10_000},
        {"overlap": 0.9},
        {"scale": 0},
        {"max_tiles": 0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Preprocessing(**wrong)  # type: ignore[arg-type]


def test_only_rgb_bytes_are_prepared() -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        prepare(np.zeros((40, 40), np.uint8), Preprocessing())
