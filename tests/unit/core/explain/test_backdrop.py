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


def leaning(down: int, right: int, level: int = 0) -> NDArray[np.uint8]:
    """Brighter downwards and to the right."""
    rows, columns = np.mgrid[:16, :16]
    return np.repeat((rows * down + columns * right + level)[..., np.newaxis], 3, axis=2).astype(np.uint8)


PARTS = (leaning(5, 0), leaning(4, 4), leaning(0, 5))


def three() -> GoodParts:
    return GoodParts.of(PARTS, lambda row: PARTS[row])


@pytest.mark.parametrize(("image", "row"), [(leaning(5, 1), 0), (leaning(3, 4), 1), (leaning(0, 6), 2)])
def test_the_good_part_that_looks_most_alike_is_shown(image: NDArray[np.uint8], row: int) -> None:
    found = three().backdrop(image)
    assert found is not None
    # Under the image's light, which is nearly its own.
    np.testing.assert_allclose(found.astype(int), PARTS[row], atol=20)
    assert np.corrcoef(found.ravel(), PARTS[row].ravel())[0, 1] > 0.999


def test_brighter_light_chooses_no_other_part_and_is_put_on_it() -> None:
    np.testing.assert_array_equal(three().backdrop(leaning(5, 0, level=90)), leaning(5, 0, level=90))


def test_more_contrast_is_matched_by_no_more_than_a_quarter() -> None:
    strong = leaning(10, 0)
    shown = three().backdrop(strong)
    assert shown is not None
    assert np.ptp(shown) == pytest.approx(1.25 * np.ptp(PARTS[0]), abs=1)
    assert np.median(shown) == pytest.approx(np.median(strong), abs=1)


def test_a_large_fault_chooses_no_other_part() -> None:
    image = leaning(5, 0)
    image[:, :5] = 255
    found = three().backdrop(image)
    assert found is not None
    assert np.corrcoef(found.ravel(), PARTS[0].ravel())[0, 1] > 0.99


def test_a_good_part_is_not_hidden_under_itself_but_under_the_next() -> None:
    found = three().backdrop(PARTS[0])
    assert found is not None
    assert np.corrcoef(found.ravel(), PARTS[1].ravel())[0, 1] > 0.99


def test_where_there_is_no_other_good_part_there_is_no_backdrop() -> None:
    alone = GoodParts.of([plain(5)], lambda _: plain(5))
    assert alone.backdrop(plain(5)) is None


def test_a_good_part_of_another_size_is_passed_over() -> None:
    small = np.zeros((8, 16, 3), np.uint8)
    assert GoodParts.of([small], lambda _: small).backdrop(plain(5)) is None


def test_without_any_good_part_there_is_nothing_to_choose_from() -> None:
    with pytest.raises(InvalidInputError, match="at least one good part, got none"):
        GoodParts.of([], lambda _: plain(0))


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
