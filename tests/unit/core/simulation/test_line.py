from __future__ import annotations

import numpy as np
import pytest

from services.core.errors import InvalidInputError
from services.core.simulation.line import (
    PRODUCTS,
    SimulatedPart,
    defect_classes,
    draw_part,
    draw_preset,
)

SMALL_PX = {"weld": 320, "zipper": 128}
EVERY_DEFECT = [(product, defect) for product in PRODUCTS for defect in defect_classes(product)]

# Mean brightness of the four quarters and the sizes of the three masks, of seed 7 with the product's first defect, seen
# by camera 1 at 256 px. A change here changes every simulated data set: it is a decision, not a detail.
FINGERPRINTS: dict[str, tuple[list[float], int, int, int]] = {
    "disc": ([69.62, 52.68, 57.97, 70.48], 619, 37604, 1792),
    "fabric": ([96.0, 117.06, 105.12, 132.1], 305, 54154, 3921),
    "zipper": ([81.89, 100.31, 81.28, 91.7], 586, 42739, 85),
    "weld": ([68.92, 68.0, 74.81, 65.92], 1569, 9417, 559),
    "thermal": ([88.38, 100.1, 94.88, 106.02], 1825, 52480, 1498),
    "mirror": ([77.37, 83.93, 73.25, 76.92], 1347, 37432, 116),
}


def draw(product: str, seed: int, **options: object) -> SimulatedPart:
    options.setdefault("size_px", SMALL_PX.get(product, 192))
    return draw_part(product, seed, **options)  # type: ignore[arg-type]


def difference(one: SimulatedPart, other: SimulatedPart) -> np.ndarray:
    return np.abs(one.image.astype(np.int16) - other.image.astype(np.int16)).mean(axis=2)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_same_arguments_give_the_same_pixels(product: str) -> None:
    first, second = (draw(product, 11, defect_rate=0.5, view=1) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_array_equal(first.distractor_mask, second.distractor_mask)


def test_pixels_do_not_depend_on_what_was_drawn_before_nor_on_global_state() -> None:
    alone = draw("disc", 3).image
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    for seed in range(5):
        draw("fabric", seed)
    np.testing.assert_array_equal(draw("disc", 3).image, alone)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_seed_keeps_its_look_from_release_to_release(product: str) -> None:
    part = draw_part(product, 7, defect=defect_classes(product)[0], size_px=256, view=1)
    height, width = part.mask.shape
    halves = ((0, height // 2), (height // 2, height)), ((0, width // 2), (width // 2, width))
    quarters = [part.image[top:bottom, left:right].mean() for top, bottom in halves[0] for left, right in halves[1]]
    expected, defect_px, aoi_px, clutter_px = FINGERPRINTS[product]
    # Processors round float32 differently in the last bit: a grey level here and there, never the picture.
    np.testing.assert_allclose(quarters, expected, atol=0.1)
    assert part.mask.sum() == pytest.approx(defect_px, abs=4)
    assert part.aoi.sum() == pytest.approx(aoi_px, abs=4)
    assert part.distractor_mask.sum() == pytest.approx(clutter_px, abs=4)


@pytest.mark.parametrize(
    ("product", "shape"),
    [
        ("disc", (320, 320)),
        ("fabric", (320, 320)),
        ("mirror", (320, 320)),
        ("zipper", (384, 192)),
        ("thermal", (256, 320)),
        ("weld", (1200, 1600)),
    ],
)
def test_each_product_has_its_own_default_size(product: str, shape: tuple[int, int]) -> None:
    part = draw_part(product, 0)
    assert part.image.shape == (*shape, 3)
    assert part.image.dtype == np.uint8
    for truth in (part.mask, part.aoi, part.distractor_mask):
        assert truth.shape == shape
        assert truth.dtype == np.bool_


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("size_px", [96, 131])
def test_a_size_keeps_the_aspect_ratio(product: str, size_px: int) -> None:
    usual, small = draw_part(product, 5), draw_part(product, 5, size_px=size_px)
    height, width = small.mask.shape
    assert width == size_px
    assert height / width == pytest.approx(usual.mask.shape[0] / usual.mask.shape[1], rel=0.01)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_good_part_has_an_empty_mask_and_no_class(product: str) -> None:
    part = draw(product, 2, defect=None)
    assert not part.mask.any()
    assert part.defect_class == ""
    assert not part.is_defective


@pytest.mark.parametrize(("product", "defect"), EVERY_DEFECT)
def test_every_defect_is_seen_where_the_mask_says_and_nowhere_far_from_it(product: str, defect: str) -> None:
    for seed in range(4):
        good, bad = draw(product, seed, defect=None), draw(product, seed, defect=defect)
        changed = difference(good, bad)
        assert bad.is_defective
        assert bad.defect_class == defect
        assert bad.mask.sum() >= 12
        assert changed[bad.mask].mean() > 5.0
        # A missing seam also leaves the plate around it unheated, so only there may the rest differ.
        if defect not in {"no_seam", "interruption"}:
            near = bad.mask.copy()
            for _ in range(4):
                near[1:] |= near[:-1]
                near[:-1] |= near[1:]
                near[:, 1:] |= near[:, :-1]
                near[:, :-1] |= near[:, 1:]
            assert changed[~near].mean() < 1.0  # grey levels


@pytest.mark.parametrize(("product", "defect"), EVERY_DEFECT)
def test_defects_lie_in_the_area_of_interest_and_never_on_clutter(product: str, defect: str) -> None:
    part = draw(product, 8, defect=defect)
    assert not (part.mask & ~part.aoi).any()
    assert not (part.mask & part.distractor_mask).any()


@pytest.mark.parametrize("product", ["disc", "fabric", "zipper", "weld"])
def test_good_parts_carry_clutter_outside_the_area_of_interest(product: str) -> None:
    parts = [draw(product, seed, defect=None) for seed in range(12)]
    assert sum((part.distractor_mask & ~part.aoi).any() for part in parts) >= 4


@pytest.mark.parametrize("product", PRODUCTS)
def test_good_and_defective_parts_of_one_seed_differ_in_nothing_but_the_defect(product: str) -> None:
    defect = defect_classes(product)[0]
    good, bad = draw(product, 6, defect=None), draw(product, 6, defect=defect)
    assert np.median(difference(good, bad)) == 0.0
    np.testing.assert_array_equal(good.aoi, bad.aoi)


@pytest.mark.parametrize("product", PRODUCTS)
def test_another_view_is_the_same_part_in_another_light(product: str) -> None:
    first, second = (draw(product, 4, defect=defect_classes(product)[0], view=view) for view in (0, 1))
    assert first.defect_class == second.defect_class
    assert second.mask.any()
    assert difference(first, second).mean() > 1.0
    assert second.mask.sum() == pytest.approx(first.mask.sum(), rel=0.6)


def test_the_seed_decides_fate_at_the_asked_rate_and_over_all_classes() -> None:
    parts = [draw("disc", seed, defect_rate=0.3, size_px=96) for seed in range(300)]
    assert sum(part.is_defective for part in parts) / 300 == pytest.approx(0.3, abs=0.08)
    assert {part.defect_class for part in parts} == {"", *defect_classes("disc")}


def test_a_part_defective_at_a_low_rate_has_the_same_defect_at_a_higher_one() -> None:
    low = {seed: draw("disc", seed, defect_rate=0.2, size_px=96).defect_class for seed in range(60)}
    high = {seed: draw("disc", seed, defect_rate=0.9, size_px=96).defect_class for seed in range(60)}
    assert any(low.values())
    assert all(high[seed] == fate for seed, fate in low.items() if fate)


def test_naming_the_defect_that_fate_chose_changes_nothing() -> None:
    chosen = next(part for part in (draw("fabric", seed, defect_rate=0.5) for seed in range(50)) if part.is_defective)
    named = draw("fabric", chosen.seed, defect=chosen.defect_class)
    np.testing.assert_array_equal(chosen.image, named.image)


def test_the_thermal_camera_has_no_colour() -> None:
    image = draw("thermal", 1).image
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_a_plate_without_a_seam_is_masked_where_the_seam_should_be() -> None:
    welded, bare = draw("weld", 9, defect=None), draw("weld", 9, defect="no_seam")
    assert bare.mask.mean() > 0.02
    assert difference(welded, bare)[bare.mask].mean() > difference(welded, bare)[~bare.aoi].mean() + 5.0


def test_an_interrupted_weld_is_masked_in_the_gap_alone() -> None:
    for seed in range(6):
        welded, broken = draw("weld", seed, defect=None), draw("weld", seed, defect="interruption")
        columns = np.flatnonzero(broken.mask.any(axis=0))
        assert np.ptp(columns) < 0.2 * broken.mask.shape[1]  # the longest gap is 0.16 of the picture's width
        assert difference(welded, broken)[broken.mask].mean() > 5.0


def test_sets_are_drawn_only_as_they_are_asked_for() -> None:
    parts = draw_preset("thermal-862+15453", size_px=96)
    first = next(parts)
    assert first.product == "thermal"
    assert first.image.shape[1] == 96


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_part("gear", 0), "product must be one of disc, fabric, .*, got 'gear'"),
        (lambda: defect_classes("gear"), "product must be one of"),
        (lambda: draw_part("disc", -1), "seed and view must be >= 0, got -1 and 0"),
        (lambda: draw_part("disc", 0, view=-2), "seed and view must be >= 0, got 0 and -2"),
        (lambda: draw_part("disc", 0, defect_rate=1.5), "defect_rate must be from 0 to 1, got 1.5"),
        (lambda: draw_part("disc", 0, size_px=20), "size_px must be from 96 to 4096, got 20"),
        (lambda: draw_part("disc", 0, defect="rust"), "defect of disc must be one of blowhole, .*, got 'rust'"),
    ],
)
def test_wrong_arguments_are_named_with_the_rule(call: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        call()  # type: ignore[operator]
