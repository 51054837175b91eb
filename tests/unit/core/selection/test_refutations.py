from __future__ import annotations

import numpy as np
import pytest

from services.core.errors import InvalidInputError
from services.core.selection.refutations import (
    Image,
    Mask,
    Refutation,
    RefutationSettings,
    RefutedImage,
    refute,
)

SIDES = (60, 80)


def part(seed: int = 0) -> Image:
    """A smooth grey surface."""
    return np.random.default_rng(seed).normal(120, 4, (*SIDES, 3)).clip(0, 255).astype(np.uint8)


def flawed(top: int = 20, left: int = 30, side: int = 10) -> tuple[Image, Mask]:
    """A part with a dark square, and where it is."""
    image, region = part(), np.zeros(SIDES, np.bool_)
    region[top : top + side, left : left + side] = True
    image[region] = 10
    return image, region


def only(kind: Refutation, count: int = 8, **changes: object) -> RefutationSettings:
    counts = dict.fromkeys(("zoom_in", "zoom_out", "move", "light", "paste"), 0) | {kind.value: count}
    return RefutationSettings(**(counts | changes))  # type: ignore[arg-type]


def dark(image: Image) -> Mask:
    return image.mean(axis=2) < 65


def agreement(one: RefutedImage) -> float:
    """Share of region and dark pixels together that are both."""
    return float((one.region & dark(one.image)).sum() / (one.region | dark(one.image)).sum())


@pytest.mark.parametrize("kind", [Refutation.ZOOM_IN, Refutation.ZOOM_OUT, Refutation.MOVE, Refutation.PASTE])
def test_the_region_is_where_the_anomaly_is_after_whatever_was_done(kind: Refutation) -> None:
    image, region = flawed()
    made = refute(image, region, "a", only(kind, flips=True), [part(5), part(6)])
    assert len(made) == 8
    for one in made:
        assert agreement(one) > 0.9, (one.lineage, one.region.sum(), dark(one.image).sum())


def test_zooming_in_makes_the_region_larger_and_keeps_all_of_it_in_the_picture() -> None:
    for top, left in ((0, 0), (20, 30), (50, 70)):
        image, region = flawed(top, left)
        for one in refute(image, region, "a", only(Refutation.ZOOM_IN)):
            factor = dict(one.lineage.parameters)["zoom"]
            assert 1.4 <= factor <= 1.8
            assert one.region.sum() == pytest.approx(100 * factor**2, rel=0.15)


def test_a_region_that_fills_the_picture_is_not_cut_by_zooming_in() -> None:
    image, region = flawed(2, 2, 56)
    (one,) = refute(image, region, "a", only(Refutation.ZOOM_IN, 1))
    assert one.region.sum() >= region.sum()


def test_zooming_out_makes_the_region_smaller() -> None:
    image, region = flawed()
    for one in refute(image, region, "a", only(Refutation.ZOOM_OUT)):
        factor = dict(one.lineage.parameters)["zoom"]
        assert 1 / 1.3 <= factor <= 1 / 1.15
        assert np.sqrt(one.region.sum()) == pytest.approx(10 * factor, abs=1)


def test_an_anomaly_that_the_border_mirrors_into_the_picture_is_marked_there_too() -> None:
    image, region = flawed(2, 2)
    for one in refute(image, region, "a", only(Refutation.ZOOM_OUT)):
        assert agreement(one) > 0.8


def test_another_light_moves_nothing_and_changes_the_picture() -> None:
    image, region = flawed()
    for one in refute(image, region, "a", only(Refutation.LIGHT)):
        assert (one.region == region).all()
        assert (one.image != image).any()


def test_a_pasted_region_lies_on_the_other_part() -> None:
    image, region = flawed()
    bright = np.full((*SIDES, 3), 200, np.uint8)
    (one,) = refute(image, region, "a", only(Refutation.PASTE, 1), [bright])
    far = np.ones(SIDES, np.bool_)
    far[10:45, 15:65] = False
    assert (one.image[far] == 200).all()
    assert one.image[one.region].mean() < 120, "the flaw is still darker than what is around it"


def test_a_background_of_another_size_is_fitted() -> None:
    image, region = flawed()
    (one,) = refute(image, region, "a", only(Refutation.PASTE, 1), [np.full((30, 40, 3), 200, np.uint8)])
    assert one.image.shape == image.shape


def test_without_backgrounds_nothing_is_pasted_and_without_a_region_nothing_is_zoomed() -> None:
    image, region = flawed()
    kinds = [one.lineage.kind for one in refute(image, region, "a", RefutationSettings())]
    assert Refutation.PASTE not in kinds
    nothing = [
        one.lineage.kind for one in refute(image, np.zeros(SIDES, np.bool_), "a", RefutationSettings(), [part(3)])
    ]
    assert set(nothing) == {Refutation.MOVE, Refutation.LIGHT}


def test_parts_are_mirrored_only_where_they_may_lie_either_way() -> None:
    image, region = flawed()
    for flips in (False, True):
        made = refute(image, region, "a", only(Refutation.MOVE, flips=flips))
        assert any(dict(one.lineage.parameters)["flip_x"] for one in made) is flips


def test_the_same_answer_gives_the_same_refutations_and_another_answer_others() -> None:
    image, region = flawed()
    grounds = [part(5), part(6)]

    def drawn(parent_id: str, seed: int = 0) -> list[bytes]:
        return [one.image.tobytes() for one in refute(image, region, parent_id, RefutationSettings(seed=seed), grounds)]

    assert drawn("a") == drawn("a")
    assert not set(drawn("a")) & set(drawn("b"))
    assert not set(drawn("a")) & set(drawn("a", seed=1))


def test_one_refutation_more_leaves_the_others_as_they_are() -> None:
    image, region = flawed()
    fewer = refute(image, region, "a", only(Refutation.MOVE, 2))
    more = refute(image, region, "a", only(Refutation.MOVE, 3))
    assert [one.image.tobytes() for one in fewer] == [one.image.tobytes() for one in more[:2]]


def test_each_names_its_answer_what_was_done_and_its_number() -> None:
    image, region = flawed()
    made = refute(image, region, "review-7", RefutationSettings(), [part(5)])
    assert [one.lineage.parent_id for one in made] == ["review-7"] * len(made)
    assert [one.lineage.number for one in made] == list(range(len(made)))
    assert tuple(one.lineage.kind for one in made) == RefutationSettings().plan


def test_a_region_of_one_pixel_is_not_lost() -> None:
    image, region = flawed(side=1)
    for one in refute(image, region, "a", RefutationSettings(), [part(5)]):
        assert one.region.any(), one.lineage


def test_the_parent_is_left_as_it_is() -> None:
    image, region = flawed()
    before = image.copy(), region.copy()
    for one in refute(image, region, "a", RefutationSettings(), [part(5)]):
        one.region[:] = False
    assert (image == before[0]).all()
    assert (region == before[1]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"zoom_in": -1},
        {"zoom": 1.0},
        {"widen": 1.0},
        {"zoom": float("nan")},
        {"turn_degrees": 46.0},
        {"shift": 0.5},
        {"contrast": 1.0},
        {"noise": -1.0},
        {"feather_px": -1},
    ],
)
def test_settings_out_of_their_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        RefutationSettings(**changes)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused_with_what_was_given() -> None:
    image, region = flawed()
    with pytest.raises(InvalidInputError, match="region must be bool"):
        refute(image, region[:-1], "a", RefutationSettings())
    with pytest.raises(InvalidInputError, match="an image must be"):
        refute(image[..., 0], region, "a", RefutationSettings())
    with pytest.raises(InvalidInputError, match="a background must be"):
        refute(image, region, "a", RefutationSettings(), [image.astype(np.float32)])  # type: ignore[list-item]
