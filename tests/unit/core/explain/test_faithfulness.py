import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.faithfulness import agreement, measure

SIDE = 16
BLACK = (0, 0, 0)


def bright_corner(images):
    """The share of the top left 4 x 4 pixels that is white."""
    share = images[:, :4, :4].mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - share, share], axis=1).astype(np.float32)


def part():
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:4, :4] = 255
    return image


def corner_map(value=1.0):
    values = np.zeros((SIDE, SIDE), np.float32)
    values[:4, :4] = value
    return values


def test_curves_by_hand():
    # 2 steps: the only inner point hides a quarter of the image, which holds the whole corner (a sixteenth).
    found = measure(part(), corner_map(), -1, bright_corner, hidden=BLACK, seed=0, batch_size=4, steps=2)
    # Deletion: 1 at 0, 0 at 1/4, 0 at 1. Insertion: 0 at 0, 1 at 1/4, 1 at 1.
    assert found.deletion_auc == pytest.approx(0.125)
    assert found.insertion_auc == pytest.approx(0.875)
    assert found.passes == 6


def test_a_true_map_beats_its_misplaced_self_and_a_wrong_one_does_not():
    true = measure(part(), corner_map(), 1, bright_corner, hidden=BLACK, seed=0, batch_size=8)
    assert true.deletion_auc < true.random_auc < true.insertion_auc
    wrong = measure(part(), corner_map(-1.0), 1, bright_corner, hidden=BLACK, seed=0, batch_size=8)
    assert wrong.insertion_auc < wrong.random_auc < wrong.deletion_auc


def test_a_flat_map_is_worth_chance():
    found = [
        measure(part(), corner_map(0.0), 1, bright_corner, hidden=BLACK, seed=seed, batch_size=8) for seed in range(20)
    ]
    assert np.mean([one.deletion_auc for one in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([one.insertion_auc for one in found]) == pytest.approx(0.5, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(1, 50), st.integers(0, 2**32))
def test_figures_do_not_depend_on_the_batch_and_passes_are_counted(steps, batch_size, seed):
    calls = []

    def predict(images):
        calls.append(len(images))
        return bright_corner(images)

    values = np.random.default_rng(seed).normal(size=(5, 5)).astype(np.float32)
    found = measure(part(), values, 1, predict, hidden=BLACK, seed=seed, batch_size=batch_size, steps=steps)
    assert max(calls) <= batch_size
    assert found.passes == sum(calls) == 4 * steps - 2
    again = measure(part(), values, 1, bright_corner, hidden=BLACK, seed=seed, batch_size=7, steps=steps)
    assert again == found
    assert min(found.deletion_auc, found.insertion_auc, found.random_auc) >= 0
    assert max(found.deletion_auc, found.insertion_auc, found.random_auc) <= 1 + 1e-9


@given(st.floats(0.25, 4, width=32), st.floats(-3, 3, width=32))
def test_only_the_order_of_a_map_counts(unit, level):
    values = np.arange(64, dtype=np.float32).reshape(8, 8)
    plain = measure(part(), values, 1, bright_corner, hidden=BLACK, seed=3, batch_size=32, steps=4)
    other = measure(
        part(),
        np.float32(unit) * values + np.float32(level),
        1,
        bright_corner,
        hidden=BLACK,
        seed=3,
        batch_size=32,
        steps=4,
    )
    assert other.deletion_auc == pytest.approx(plain.deletion_auc, abs=0.01)


def test_undefined_pixels_are_changed_last():
    values = corner_map()
    values[:4, :4] = np.nan
    found = measure(part(), values, 1, bright_corner, hidden=BLACK, seed=0, batch_size=8)
    assert found.deletion_auc > 0.85


def test_a_map_without_defined_pixels_is_refused():
    with pytest.raises(ExplanationError, match="got none") as caught:
        measure(part(), corner_map(np.nan) * np.nan, 1, bright_corner, hidden=BLACK, seed=0, batch_size=8)
    assert caught.value.reason == "flat_map"


def test_answers_that_are_no_numbers_are_refused():
    def broken(images):
        return np.full((len(images), 2), np.nan, np.float32)

    with pytest.raises(ExplanationError, match="finite probabilities") as caught:
        measure(part(), corner_map(), 1, broken, hidden=BLACK, seed=0, batch_size=8)
    assert caught.value.reason == "nan_scores"


@pytest.mark.parametrize(("steps", "batch_size"), [(1, 8), (8, 0)])
def test_too_few_steps_are_refused(steps, batch_size):
    with pytest.raises(InvalidInputError, match="got"):
        measure(part(), corner_map(), 1, bright_corner, hidden=BLACK, seed=0, batch_size=batch_size, steps=steps)


def test_agreement_by_hand_and_across_resolutions():
    first = np.zeros((10, 10), np.float32)
    first[0] = 1.0
    second = np.zeros((10, 10), np.float32)
    second[0, :5] = second[9, :5] = 1.0
    assert agreement(first, second) == pytest.approx(0.5)
    assert agreement(first, first) == 1.0
    assert agreement(first, np.kron(first, np.ones((4, 4), np.float32))) > 0.9


@given(st.integers(0, 1000))
def test_agreement_is_symmetric(seed):
    random = np.random.default_rng(seed)
    first = random.normal(size=(7, 7)).astype(np.float32)
    second = random.normal(size=(14, 14)).astype(np.float32)
    assert agreement(first, second) == agreement(second, first)


def spotted() -> tuple[np.ndarray, np.ndarray]:
    """A part with a fault at row 40, column 20, and a good one."""
    good = np.full((64, 64, 3), 40, np.uint8)
    bad = good.copy()
    bad[38:43, 18:23] = 250
    return bad, good


def sees_bright(images: np.ndarray) -> np.ndarray:
    bad = np.clip((images.max(axis=(1, 2, 3)).astype(np.float32) - 40) / 210, 0, 1)
    return np.stack([1 - bad, bad], axis=1)


def pointing_at(row: int, column: int) -> np.ndarray:
    values = np.zeros((64, 64), np.float32)
    values[row, column] = 1
    return values


def test_a_spot_that_takes_its_fault_into_a_good_part_raises_the_answer_and_another_does_not():
    bad, good = spotted()
    at = [
        measure(bad, pointing_at(*p), 1, sees_bright, hidden=good, seed=0, batch_size=8) for p in ((40, 20), (10, 50))
    ]
    assert at[0].transplant == pytest.approx(1.0, abs=0.01)
    assert at[1].transplant == pytest.approx(0.0, abs=0.01)
    assert at[0].passes == 4 * 8 - 2 + 4


def test_a_spot_close_by_takes_the_fault_along_with_the_larger_discs_only():
    bad, good = spotted()
    near = measure(bad, pointing_at(40, 26), 1, sees_bright, hidden=good, seed=0, batch_size=8)
    assert 0.2 < near.transplant < 0.9


def test_into_a_colour_nothing_is_put():
    bad, _ = spotted()
    found = measure(bad, pointing_at(40, 20), 1, sees_bright, hidden=(0, 0, 0), seed=0, batch_size=8)
    assert np.isnan(found.transplant)
    assert found.passes == 4 * 8 - 2
