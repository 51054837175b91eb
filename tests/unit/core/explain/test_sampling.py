"""RISE and InvRISE: by hand, by property, and as explainers that keep to their budget."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.adjustment import AdjustedSums
from services.core.explain.attribution import SCORE_TARGET, Attribution, Budget, dice, hottest
from services.core.explain.defaults import mask_sampling
from services.core.explain.masks import Design, MaskBlock, MaskGeometry, draw_blocks
from services.core.explain.sampling import ESTIMATORS, Estimator, MaskedSums, MaskPainter, MaskSampling
from tests.unit.core.explain.toys import brightness_at, two_classes

BLACK = (0, 0, 0)
Reader: TypeAlias = Callable[[MaskGeometry, list[MaskBlock], NDArray[np.float32]], NDArray[np.float32]]


def read(estimator: Estimator) -> Reader:
    def reader(geometry: MaskGeometry, blocks: list[MaskBlock], answers: NDArray[np.float32]) -> NDArray[np.float32]:
        sums = MaskedSums(geometry)
        sums.add(blocks, answers)
        return sums.estimate(estimator)

    return reader


def read_adjusted(geometry: MaskGeometry, blocks: list[MaskBlock], answers: NDArray[np.float32]) -> NDArray[np.float32]:
    sums = AdjustedSums(geometry)
    sums.add(blocks, answers)
    return sums.estimate()


READERS: dict[str, Reader] = {estimator: read(estimator) for estimator in ESTIMATORS} | {"adjusted": read_adjusted}


def drawn(geometry: MaskGeometry, count: int, seed: int = 0) -> list[MaskBlock]:
    return list(islice(draw_blocks(geometry, seed=seed, design="independent"), count))


def grid(*rows: tuple[int, ...]) -> MaskBlock:
    return MaskBlock(np.array([rows], np.float32), (0, 0))


# Of two cells a side and two pixels: the first pixel lies on the first cell, the second halfway to the other.
TWO = MaskGeometry(2, 2, cells=2)
CORNER, NOTHING, REST = grid((1, 0), (0, 0)), grid((0, 0), (0, 0)), grid((0, 1), (1, 1))


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("rise", [[0.8 / 1.5, 0.7 / 1.5], [0.7 / 1.5, 0.65 / 1.5]]),
        ("rise-centred", [[0.8 / 3 / 1.5, 0.5 / 3 / 1.5], [0.5 / 3 / 1.5, 0.35 / 3 / 1.5]]),
        ("invrise", [[0.6, 0.8], [0.8, 0.8]]),
        ("invrise-soft", [[0.6, 0.55], [0.55, 0.525]]),
    ],
)
def test_three_masks_worked_out_by_hand(estimator: Estimator, expected: list[list[float]]) -> None:
    answers = np.array([0.8, 0.2, 0.6], np.float32)
    made = READERS[estimator](TWO, [CORNER, NOTHING, REST], answers)
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_pixel_that_no_mask_hides_wholly_is_undefined_in_equation_two_alone() -> None:
    answers = np.array([0.8, 0.6], np.float32)
    np.testing.assert_allclose(
        read("invrise")(TWO, [CORNER, REST], answers), [[0.4, np.nan], [np.nan, np.nan]], atol=1e-6
    )
    assert np.isfinite(read("invrise-soft")(TWO, [CORNER, REST], answers)).all()


def test_equation_two_divides_by_the_share_of_masks_that_hide_this_pixel() -> None:
    geometry = MaskGeometry(30, 30, cells=3)
    blocks = drawn(geometry, 60)
    answers = np.random.default_rng(1).random(60).astype(np.float32)
    above, hidden_share = np.zeros((30, 30)), np.zeros((30, 30))
    for block, f in zip(blocks, answers, strict=True):
        rows, columns = geometry.window(block.shift)
        wholly_hidden = (rows @ block.grids[0] @ columns.T) == 0
        above += (1.0 - f) * wholly_hidden / 60
        hidden_share += wholly_hidden / 60
    literal = np.divide(above, hidden_share, out=np.full((30, 30), np.nan), where=hidden_share > 0)
    assert np.ptp(hidden_share) > 0.1
    np.testing.assert_allclose(read("invrise")(geometry, blocks, answers), literal, atol=1e-5)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**20), share=st.floats(0, 1))
def test_a_mixture_of_answers_gives_the_mixture_of_maps(name: str, seed: int, share: float) -> None:
    geometry = MaskGeometry(24, 24, cells=3)
    blocks = drawn(geometry, 24, seed)
    one, other = np.random.default_rng(seed).random((2, 24)).astype(np.float32)
    mixed = READERS[name](geometry, blocks, share * one + np.float32(1 - share) * other)
    expected = share * READERS[name](geometry, blocks, one) + (1 - share) * READERS[name](geometry, blocks, other)
    np.testing.assert_allclose(mixed, expected, atol=2e-5)


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**20))
def test_mirrored_masks_give_the_mirrored_map(name: str, seed: int) -> None:
    geometry = MaskGeometry(24, 32, cells=4)
    random = np.random.default_rng(seed)
    grids = random.integers(0, 2, (20, 1, 4, 4)).astype(np.float32)
    shifts = [(int(random.integers(1, 6)), int(random.integers(1, 8))) for _ in grids]
    answers = random.random(20).astype(np.float32)
    plain = [MaskBlock(one, shift) for one, shift in zip(grids, shifts, strict=True)]
    mirrored = [MaskBlock(one[:, ::-1, ::-1], (6 - y, 8 - x)) for one, (y, x) in zip(grids, shifts, strict=True)]
    np.testing.assert_allclose(
        READERS[name](geometry, mirrored, answers), READERS[name](geometry, plain, answers)[::-1, ::-1], atol=1e-5
    )


def test_regression_mirrors_the_map_as_far_as_shifts_can_be_mirrored() -> None:
    # The shift of nothing has no counterpart, so what is expected of all shifts is off by half a pixel of a cell of 32.
    geometry = MaskGeometry(128, 128, cells=4)
    blocks = [block for block in drawn(geometry, 300) if min(block.shift) > 0]
    answers = answers_of_a_line(geometry, blocks, 1.0)
    mirrored = [MaskBlock(one.grids[:, ::-1, ::-1], (32 - one.shift[0], 32 - one.shift[1])) for one in blocks]
    plain, other = read_adjusted(geometry, blocks, answers), read_adjusted(geometry, mirrored, answers)
    assert np.abs(other[::-1, ::-1] - plain).max() < 0.05 * np.ptp(plain)


@pytest.mark.parametrize("kind", [MaskedSums, AdjustedSums])
def test_the_sums_of_two_halves_are_the_sums_of_the_whole(kind: type[MaskedSums] | type[AdjustedSums]) -> None:
    geometry = MaskGeometry(32, 32, cells=4)
    blocks, answers = drawn(geometry, 50), np.random.default_rng(0).random(50).astype(np.float32)
    first, second, whole = kind(geometry), kind(geometry), kind(geometry)
    first.add(blocks[:17], answers[:17])
    second.add(blocks[17:], answers[17:])
    whole.add(blocks, answers)
    both = first.merged(second)  # type: ignore[arg-type]
    assert both.count == whole.count == 50
    for estimator in ESTIMATORS if kind is MaskedSums else ("",):
        made, expected = (
            sums.estimate() if isinstance(sums, AdjustedSums) else sums.estimate(estimator) for sums in (both, whole)
        )
        np.testing.assert_allclose(made, expected, atol=1e-5)


def answers_of_a_line(geometry: MaskGeometry, blocks: list[MaskBlock], bend: float) -> NDArray[np.float32]:
    """A model that looks at two spots, and how straight its answer is."""
    seen = []
    for block in blocks:
        rows, columns = geometry.window(block.shift)
        mask = rows @ block.grids[0] @ columns.T
        seen.append((0.7 * mask[10:14, 10:14].mean() + 0.3 * mask[40:50, 30:40].mean()) ** bend)
    return np.array(seen, np.float32)


@pytest.mark.parametrize(("bend", "gain"), [(1.0, 2.0), (3.0, 1.2)])
def test_regression_moves_the_same_map_closer_to_its_limit(bend: float, gain: float) -> None:
    geometry = MaskGeometry(64, 64)
    many = drawn(geometry, 6_000, seed=1)
    limit = read("invrise-soft")(geometry, many, answers_of_a_line(geometry, many, bend))
    adjusted_limit = read_adjusted(geometry, many, answers_of_a_line(geometry, many, bend))
    few = drawn(geometry, 300, seed=2)
    answers = answers_of_a_line(geometry, few, bend)
    plain, adjusted = read("invrise-soft")(geometry, few, answers), read_adjusted(geometry, few, answers)
    assert np.corrcoef(limit.ravel(), adjusted_limit.ravel())[0, 1] > 0.98
    assert np.abs(adjusted - adjusted_limit).mean() * gain < np.abs(plain - adjusted_limit).mean()


def test_masked_copies_are_the_image_where_visible_and_the_fill_where_hidden() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    painted = MaskPainter(image, TWO, np.array([100, 50, 0], np.uint8)).paint([CORNER, NOTHING])
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted[0, 0, 0], image[0, 0])
    np.testing.assert_array_equal(painted[1], np.broadcast_to([100, 50, 0], (2, 2, 3)))
    halfway = 0.5 * image[0, 1] + 0.5 * np.array([100, 50, 0])
    np.testing.assert_allclose(painted[0, 0, 1], halfway, atol=0.51)


# --- as explainers -----------------------------------------------------------------------------------------------

SIDE = 64
SPOT = np.zeros((SIDE, SIDE))
SPOT[40:48, 8:16] = 1.0
WHITE_SPOT = np.full((SIDE, SIDE, 3), 60, np.uint8)
WHITE_SPOT[40:48, 8:16] = 250
SEES_SPOT = two_classes(brightness_at(SPOT))


def last(steps: list[Attribution]) -> Attribution:
    assert [step.final for step in steps] == [False] * (len(steps) - 1) + [True]
    return steps[-1]


def explained(method: Estimator = "invrise-soft", *, seed: int = 0, budget: Budget | None = None) -> list[Attribution]:
    explainer = mask_sampling(method, fill=BLACK)
    return list(explainer.explain(WHITE_SPOT, SCORE_TARGET, SEES_SPOT, seed=seed, budget=budget or Budget(300)))


@pytest.mark.parametrize("method", ESTIMATORS)
def test_the_hottest_place_is_the_one_the_model_looks_at(method: Estimator) -> None:
    made = last(explained(method, budget=Budget(600)))
    assert made.method == method
    assert made.values.shape == (SIDE, SIDE)
    assert made.values.dtype == np.float32
    y, x = np.unravel_index(np.nanargmax(made.values), made.values.shape)
    assert 34 <= y < 54
    assert 2 <= x < 22


@pytest.mark.parametrize("method", ESTIMATORS)
def test_equal_seeds_give_equal_maps_and_others_do_not(method: Estimator) -> None:
    first, again, other = (last(explained(method, seed=seed)).values for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)


@pytest.mark.parametrize("design", ["independent", "balanced"])
@pytest.mark.parametrize(("passes", "batch"), [(16, 16), (100, 32), (37, 5), (3, 64)])
def test_exactly_the_allowed_passes_are_spent_in_batches_of_the_allowed_size(
    passes: int, batch: int, design: Design
) -> None:
    sizes: list[int] = []

    def counting(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(images))
        return SEES_SPOT(images)

    explainer = MaskSampling(design=design, fill=BLACK)
    budget = Budget(passes, batch_size=batch)
    made = last(list(explainer.explain(WHITE_SPOT, SCORE_TARGET, counting, seed=0, budget=budget)))
    assert made.passes == sum(sizes) == passes
    assert not made.partial
    assert sizes[:-1] == [batch] * (len(sizes) - 1)


def test_one_pass_tells_nothing_and_says_so() -> None:
    with pytest.raises(ExplanationError) as caught:
        explained(budget=Budget(1))
    assert caught.value.reason == "flat_map"


def test_a_map_that_is_stable_enough_ends_the_work_and_says_how_many_passes_it_took() -> None:
    made = last(explained(budget=Budget(2000, min_stability=0.8)))
    assert 0.8 <= made.stability <= 1.0
    assert made.passes < 2000
    assert not made.partial
    without = last(explained(budget=Budget(2000)))
    assert without.passes == 2000
    assert dice(hottest(made.values), hottest(without.values)) > 0.8


def test_a_map_is_there_after_a_tenth_of_the_passes_and_gets_steadier() -> None:
    steps = explained("rise-centred", budget=Budget(1000))
    assert steps[0].passes <= 100
    assert [step.passes for step in steps] == sorted({step.passes for step in steps})
    assert steps[0].stability < steps[-1].stability


def test_time_that_runs_out_leaves_the_map_so_far() -> None:
    asked = iter([False, False, True])
    made = last(explained(budget=Budget(1000, batch_size=16, out_of_time=lambda: next(asked))))
    assert made.passes == 48
    assert made.partial
    assert np.isfinite(made.values).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_no_number_ends_with_its_reason(bad: float) -> None:
    def broken(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = SEES_SPOT(images).copy()
        answers[-1] = bad
        return answers

    with pytest.raises(ExplanationError) as caught:
        list(mask_sampling("invrise-soft", fill=BLACK).explain(WHITE_SPOT, 1, broken, seed=0, budget=Budget(50)))
    assert caught.value.reason == "nan_scores"


@pytest.mark.parametrize("method", ESTIMATORS)
def test_a_model_that_always_says_the_same_has_no_map(method: Estimator) -> None:
    def constant(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(np.array([0.25, 0.75], np.float32), (len(images), 1))

    steps = mask_sampling(method, fill=BLACK).explain(
        WHITE_SPOT, 1, constant, seed=0, budget=Budget(100, min_stability=0.5)
    )
    with pytest.raises(ExplanationError) as caught:
        list(steps)
    assert caught.value.reason == "flat_map"


def test_hidden_parts_of_the_default_method_show_their_blurred_surroundings() -> None:
    seen: list[NDArray[np.uint8]] = []

    def watching(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(images.copy())
        return SEES_SPOT(images)

    list(mask_sampling("invrise-soft", fill=BLACK).explain(WHITE_SPOT, 1, watching, seed=0, budget=Budget(64)))
    images = np.concatenate(seen)
    # Far from the spot the surroundings are what the image is; none of the fill's black is anywhere.
    assert images.min() >= 60
    np.testing.assert_allclose(images[:, :10, -10:], 60, atol=2)
    assert images[:, 44, 12, 0].min() < 120
    assert images[:, 44, 12, 0].max() > 240


def peak_bytes(passes: int, method: Estimator) -> int:
    explainer = replace(mask_sampling(method, fill=BLACK), refine_every=128)
    tracemalloc.start()
    for _ in explainer.explain(WHITE_SPOT, 1, SEES_SPOT, seed=0, budget=Budget(passes)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("method", ["invrise", "invrise-soft"])
def test_memory_does_not_depend_on_the_number_of_passes(method: Estimator) -> None:
    peak_bytes(64, method)
    assert peak_bytes(512, method) < 1.1 * peak_bytes(128, method)


def test_only_soft_invrise_can_be_adjusted() -> None:
    with pytest.raises(InvalidInputError, match="got rise"):
        MaskSampling(method="rise", adjusted=True)
