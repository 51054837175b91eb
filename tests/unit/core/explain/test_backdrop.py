"""What hidden parts show: the good part that is most like the image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.attribution import Budget
from services.core.explain.backdrop import GoodParts, hidden_pixels
from services.core.explain.defaults import mask_sampling

SHAPE = (16, 16, 3)


def plain(level: int) -> NDArray[np.uint8]:
    return np.full(SHAPE, level, np.uint8)


def three() -> GoodParts:
    embeddings = np.array([[1, 0], [10, 10], [0, 1]], np.float16)
    return GoodParts(embeddings, lambda row: plain(10 * row))


@pytest.mark.parametrize(("embedding", "row"), [([3, 0.1], 0), ([0.5, 0.5], 1), ([0.1, 9], 2)])
def test_the_good_part_with_the_closest_direction_is_shown_whatever_its_length(
    embedding: list[float], row: int
) -> None:
    found = three().backdrop(plain(99), np.array(embedding, np.float32))
    assert found is not None
    np.testing.assert_array_equal(found, plain(10 * row))


def test_a_good_part_is_not_hidden_under_itself_but_under_the_next() -> None:
    found = three().backdrop(plain(0), np.array([1, 0.2], np.float32))
    np.testing.assert_array_equal(found, plain(10))


def test_where_there_is_no_other_good_part_there_is_no_backdrop() -> None:
    alone = GoodParts(np.ones((1, 2), np.float16), lambda _: plain(5))
    assert alone.backdrop(plain(5), np.ones(2, np.float32)) is None


def test_a_good_part_of_another_size_is_passed_over() -> None:
    other = GoodParts(np.ones((1, 2), np.float16), lambda _: np.zeros((8, 16, 3), np.uint8))
    assert other.backdrop(plain(5), np.ones(2, np.float32)) is None


def test_an_embedding_without_direction_is_no_error() -> None:
    assert three().backdrop(plain(99), np.zeros(2, np.float32)) is not None


def test_an_embedding_of_another_model_is_refused_with_both_sizes() -> None:
    with pytest.raises(InvalidInputError, match=r"must have shape \(2,\), got \(3,\)"):
        three().backdrop(plain(0), np.zeros(3, np.float32))


def test_hidden_pixels_show_a_colour_or_an_image() -> None:
    np.testing.assert_array_equal(hidden_pixels((1, 2, 3), SHAPE)[5, 7], (1, 2, 3))
    np.testing.assert_array_equal(hidden_pixels(plain(4), SHAPE), plain(4))


def test_hidden_pixels_that_are_neither_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"got \(4, 4, 3\)"):
        hidden_pixels(np.zeros((4, 4, 3), np.uint8), SHAPE)


def test_a_model_to_which_every_patch_is_a_fault_still_has_a_map_under_a_backdrop() -> None:
    """The score is 1 wherever a pixel is not what good parts are there, so a colour or a blur teaches nothing."""
    rows = np.arange(64, dtype=np.uint8)
    good = np.broadcast_to(((rows[:, np.newaxis] ^ rows) * 3)[..., np.newaxis], (64, 64, 3)).astype(np.uint8)
    image = good.copy()
    image[40:48, 8:16] = 255

    def strict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        wrong = np.abs(images.astype(int) - good).max(axis=(1, 2, 3))
        bad = np.clip(wrong / 40, 0, 1).astype(np.float32)
        return np.stack([1 - bad, bad], axis=1)

    explainer = mask_sampling("invrise-soft", fill=(0, 0, 0), backdrop=good)
    *_, last = explainer.explain(image, 1, strict, seed=0, budget=Budget(256))
    row, column = np.unravel_index(np.argmax(last.values), last.values.shape)
    assert 40 <= row < 48
    assert 8 <= column < 16
    with pytest.raises(ExplanationError, match="must change with what is hidden"):
        list(mask_sampling("invrise-soft", fill=(0, 0, 0)).explain(image, 1, strict, seed=0, budget=Budget(256)))
