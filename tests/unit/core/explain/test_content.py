"""Explaining the picture alone where the rest of the input is its mirror image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.explain.attribution import Budget
from services.core.explain.content import Content, OverContent
from services.core.explain.registry import build_explainer
from services.core.explain.sampling import MaskSampling
from services.core.preprocessing import Preprocessing, placements, prepare

SIZES = [(40, 10), (9, 64), (64, 64), (50, 33), (3, 200)]


def content_of(height_px: int, width_px: int, preprocessing: Preprocessing) -> Content:
    place = placements(height_px, width_px, preprocessing)[0]
    return Content.centred((preprocessing.height_px, preprocessing.width_px), (place.height, place.width))


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_a_picture_that_is_taken_out_and_filled_up_again_is_the_prepared_input(height_px: int, width_px: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), np.uint8)
    preprocessing = Preprocessing(height_px=48, width_px=32)
    prepared = prepare(image, preprocessing)
    content = content_of(height_px, width_px, preprocessing)
    np.testing.assert_array_equal(content.fill(content.crop(prepared[0])[np.newaxis]), prepared)


def test_a_map_of_the_picture_is_mirrored_over_the_input_and_comes_back_as_it_was() -> None:
    content = Content.centred((4, 8), (4, 2))
    values = np.array([[1, 2]] * 4, np.float32)
    np.testing.assert_array_equal(content.spread(values)[0], [2, 2, 1, 1, 2, 2, 1, 1])
    np.testing.assert_array_equal(content.crop_map(content.spread(values)), values)


def test_where_the_picture_is_all_of_the_input_nothing_is_copied() -> None:
    content = Content.centred((4, 4), (4, 4))
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert content.is_whole
    assert content.fill(images) is images
    assert isinstance(build_explainer("rise", fill=(0, 0, 0), content=content), MaskSampling)


@pytest.mark.parametrize("size", [(5, 2), (0, 2), (2, 9)])
def test_a_picture_that_does_not_lie_in_the_input_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match="must lie within its input"):
        Content.centred((4, 4), size)


def test_an_input_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="must have 4x4 pixels"):
        Content.centred((4, 4), (4, 2)).crop(np.zeros((8, 8, 3), np.uint8))


def test_a_fault_that_is_mirrored_several_times_is_found_by_hiding_all_of_its_images() -> None:
    """The model says defect as long as one bright pixel is left, so hiding one image of the fault tells nothing."""
    picture = np.full((64, 16, 3), 40, np.uint8)
    picture[30:34, 10:14] = 255
    inputs = prepare(picture, Preprocessing(height_px=64, width_px=64))

    def sees(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        bad = (images.max(axis=(1, 2, 3)) > 150).astype(np.float32)
        return np.stack([1 - bad, bad], axis=1)

    good = np.full((64, 64, 3), 40, np.uint8)
    content = content_of(64, 16, Preprocessing(height_px=64, width_px=64))
    explainer = build_explainer("invrise-soft", fill=(0, 0, 0), backdrop=good, content=content)
    assert isinstance(explainer, OverContent)
    *_, last = explainer.explain(inputs[0], 1, sees, seed=0, budget=Budget(256))
    assert last.values.shape == (64, 64)
    over_picture = content.crop_map(last.values)
    row, column = np.unravel_index(np.argmax(over_picture), over_picture.shape)
    assert 28 <= row < 36
    assert 8 <= column < 16
