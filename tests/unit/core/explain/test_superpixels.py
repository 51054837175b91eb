import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.explain.superpixels import superpixels


def test_an_even_image_is_cut_into_a_grid():
    patches = superpixels(np.full((12, 16, 3), 90, np.uint8), across=4)
    expected = np.kron(np.arange(16).reshape(4, 4), np.ones((3, 4), int))
    np.testing.assert_array_equal(patches, expected)


def test_patches_follow_an_edge_that_the_grid_cuts_through():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 23:] = 255
    patches = superpixels(image, across=4)
    assert not set(np.unique(patches[:, :23])) & set(np.unique(patches[:, 23:]))


def test_great_compactness_keeps_the_grid():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = np.kron(np.arange(16).reshape(4, 4), np.ones((4, 4), int))
    np.testing.assert_array_equal(superpixels(image, across=4, compactness=1e5), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(8, 30), st.integers(8, 30))
def test_numbers_have_no_gaps(seed, across, height, width):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    patches = superpixels(image, across)
    assert patches.shape == (height, width)
    assert list(np.unique(patches)) == list(range(patches.max() + 1))
    assert patches.max() < across**2


@pytest.mark.parametrize(("across", "compactness"), [(0, 1.0), (9, 1.0), (2, 0.0)])
def test_what_cannot_be_cut_is_refused(across, compactness):
    with pytest.raises(InvalidInputError, match=r"across in 1\.\.8 and compactness > 0, got"):
        superpixels(np.zeros((8, 9, 3), np.uint8), across, compactness)
