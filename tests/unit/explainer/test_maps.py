"""A map over a tile comes back onto the image where it was, small and with its holes."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.preprocessing import Preprocessing, map_back, placements
from services.explainer.maps import onto_source


@pytest.mark.parametrize(
    ("preprocessing", "height", "width"),
    [
        (Preprocessing("letterbox", 64, 64), 60, 90),
        (Preprocessing("letterbox", 64, 64), 300, 120),
        (Preprocessing("squash", 64, 96), 200, 80),
        (Preprocessing("letterbox", 64, 64), 64, 64),
    ],
)
def test_it_lies_where_the_whole_image_s_map_would(preprocessing: Preprocessing, height: int, width: int) -> None:
    rows, columns = np.mgrid[0:64, 0:64].astype(np.float32)
    values = np.sin(rows / 9) + np.cos(columns / 13)
    whole = map_back(values[np.newaxis], preprocessing, height, width)
    small = onto_source(values, preprocessing, height, width, side_px=48)
    assert small.dtype == np.float16
    assert max(small.shape) == 48
    for row in range(0, small.shape[0], 5):
        for column in range(0, small.shape[1], 5):
            y, x = (row + 0.5) * height / small.shape[0], (column + 0.5) * width / small.shape[1]
            here = whole[int(y), int(x)]
            assert float(small[row, column]) == pytest.approx(here, abs=0.15), (row, column)


def test_a_map_is_never_larger_than_its_image() -> None:
    assert onto_source(np.ones((7, 7), np.float32), Preprocessing("letterbox", 64, 64), 20, 30).shape == (20, 30)


def test_only_the_tile_that_was_explained_is_defined() -> None:
    tiles = Preprocessing("tiles", 64, 64, overlap=0.0)
    places = placements(64, 192, tiles)
    assert len(places) == 3
    small = onto_source(np.full((8, 8), 2.0, np.float32), tiles, 64, 192, tile=1, side_px=96)
    assert small.shape == (32, 96)
    defined = np.isfinite(small)
    assert defined[:, 33:63].all()
    assert not defined[:, :31].any()
    assert not defined[:, 65:].any()
    assert (small[defined] == 2).all()


def test_holes_stay_holes_and_spoil_nothing_around_them() -> None:
    values = np.ones((32, 32), np.float32)
    values[8:16, 8:16] = np.nan
    small = onto_source(values, Preprocessing("squash", 32, 32), 32, 32, side_px=32)
    assert np.isnan(small[10:14, 10:14]).all()
    assert np.isfinite(small[:7]).all()
    assert (small[np.isfinite(small)] == 1).all()


def test_what_exceeds_half_floats_is_cut_not_made_infinite() -> None:
    small = onto_source(np.full((4, 4), 1e9, np.float32), Preprocessing("squash", 32, 32), 32, 32)
    assert np.isfinite(small).all()
