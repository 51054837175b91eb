from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from services.core.errors import InvalidInputError
from services.core.losses.ceod import ceod_loss, find_cut, overlap_distance, soften_area
from services.core.losses.ceod_settings import CeodSettings

PAPER = CeodSettings(variant="paper")
REPAIRED = CeodSettings()


def spot(x: float, y: float, side: int = 14, width: float = 2.0) -> Tensor:
    """Heat around one place, cold elsewhere: shape ``(1, side, side)``, float64, signed."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    away = (columns - x * side) ** 2 + (rows - y * side) ** 2
    return (torch.exp(-away / (2 * width**2)) - 0.2)[None].double()


def left_half(side: int = 56, share: float = 0.5) -> Tensor:
    area = torch.zeros(1, side, side, dtype=torch.float64)
    area[:, :, : int(side * share)] = 1
    return area


def distance(heat: Tensor, area: Tensor, settings: CeodSettings) -> float:
    return float(overlap_distance(heat, area, settings).distance)


def gradient(heat: Tensor, area: Tensor, settings: CeodSettings) -> Tensor:
    heat = heat.clone().requires_grad_(requires_grad=True)
    overlap_distance(heat, area, settings).distance.sum().backward()  # type: ignore[no-untyped-call]
    assert heat.grad is not None
    return heat.grad


def with_overlap(wanted: float, settings: CeodSettings) -> Tensor:
    """Heat of which about the wanted share lies in the left half."""
    best = min(
        (abs(float(overlap_distance(spot(x / 100, 0.5), left_half(), settings).overlap) - wanted), x)
        for x in range(0, 101, 2)
    )
    return spot(best[1] / 100, 0.5)


@pytest.mark.parametrize("variant", [PAPER, REPAIRED])
def test_heat_in_the_area_is_nearer_than_heat_beside_it_and_that_nearer_than_far_away(variant: CeodSettings) -> None:
    inside, across, outside = (distance(spot(x, 0.5), left_half(), variant) for x in (0.25, 0.55, 0.95))
    assert inside < across < outside


def test_all_heat_in_the_area_costs_nearly_nothing() -> None:
    assert distance(spot(0.2, 0.5, width=1.0), left_half(), REPAIRED) < 0.05


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.5, 0.9])
def test_the_repaired_distance_has_a_gradient_at_every_overlap(wanted: float) -> None:
    heat = with_overlap(wanted, REPAIRED)
    slope = gradient(heat, left_half(), REPAIRED)
    assert torch.isfinite(slope).all()
    assert slope.abs().max() > 1e-4
    assert not overlap_distance(heat, left_half(), REPAIRED).clipped.any()


def test_at_no_overlap_a_step_along_the_gradient_brings_heat_into_the_area() -> None:
    heat = spot(0.95, 0.5, width=1.0)
    slope = gradient(heat, left_half(share=0.3), REPAIRED)
    assert slope[0, :, :3].sum() < 0, "the area is to become warmer"
    assert slope[0, 7, 13] > 0, "what is hot beside it is to become colder"


def test_as_written_the_distance_has_no_gradient_from_a_fifth_of_overlap_on_nor_without_any() -> None:
    """The reading of the paper clips, as ``sum(kernel) = 4.5``; this is why there is a repaired one."""
    some = with_overlap(1.3, PAPER)
    found = overlap_distance(some, left_half(), PAPER)
    assert found.overlap > 1
    # Counted plainly, by a mask without the kernel, a third of the heat lies in it.
    assert overlap_distance(some, left_half(), CeodSettings(variant="paper", kernel_value=1 / 9)).overlap < 0.35
    assert found.clipped.all()
    assert not gradient(some, left_half(), PAPER).any()
    far = spot(0.99, 0.5, width=0.8)
    assert overlap_distance(far, left_half(share=0.2), PAPER).clipped.all()
    assert not gradient(far, left_half(share=0.2), PAPER).any()


@pytest.mark.parametrize("variant", [PAPER, REPAIRED])
def test_a_map_without_heat_costs_nothing_and_stays_finite(variant: CeodSettings) -> None:
    for cold in (torch.zeros(1, 14, 14, dtype=torch.float64), -torch.ones(1, 14, 14, dtype=torch.float64)):
        assert distance(cold, left_half(), variant) == 0
        assert not gradient(cold, left_half(), variant).any()


@pytest.mark.parametrize("variant", [PAPER, REPAIRED])
def test_an_area_that_nobody_has_drawn_costs_nothing(variant: CeodSettings) -> None:
    nowhere = torch.zeros(1, 56, 56, dtype=torch.float64)
    assert distance(spot(0.5, 0.5), nowhere, variant) == 0
    assert not gradient(spot(0.5, 0.5), nowhere, variant).any()


@pytest.mark.parametrize("x", [0.2, 0.55, 0.95])
def test_the_gradient_is_that_of_finite_differences(x: float) -> None:
    heat = spot(x, 0.5, side=6, width=1.0).requires_grad_()
    area, cut = left_half(side=12), find_cut(heat, REPAIRED)
    assert torch.autograd.gradcheck(lambda one: overlap_distance(one, area, REPAIRED, cut).distance, (heat,), atol=1e-6)


def test_how_hot_a_map_is_does_not_matter_only_where() -> None:
    heat = spot(0.55, 0.5)
    assert distance(1_000 * heat, left_half(), REPAIRED) == pytest.approx(distance(heat, left_half(), REPAIRED))


def test_the_kernel_sums_to_one_or_as_the_paper_writes_it_to_four_and_a_half() -> None:
    point = torch.zeros(1, 7, 7)
    point[0, 3, 3] = 1
    assert float(soften_area(point, REPAIRED).sum()) == pytest.approx(1)
    assert float(soften_area(point, PAPER).sum()) == pytest.approx(4.5)


def test_the_loss_is_cross_entropy_and_the_weighted_distance_of_defective_parts_over_the_batch() -> None:
    logits = torch.tensor([[1.0, -1.0], [0.2, 0.4], [0.0, 2.0], [0.5, 0.1]])
    labels = torch.tensor([0, 1, 1, 1])
    heat = torch.cat([spot(0.95, 0.5)] * 4).float()
    area = torch.cat([left_half()] * 4).float()
    area[3] = 0
    settings = CeodSettings(omega=0.5)
    loss = ceod_loss(logits, heat, labels, area, settings)
    each = distance(spot(0.95, 0.5), left_half(), settings)
    assert float(loss.cross_entropy) == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert float(loss.distance) == pytest.approx(each, rel=1e-5)
    assert float(loss.total) == pytest.approx(float(loss.cross_entropy) + 0.5 * 2 * each / 4, rel=1e-5)
    assert (loss.counted, loss.clipped) == (2, 0)


def test_without_a_defective_part_it_is_cross_entropy() -> None:
    logits, labels = torch.tensor([[1.0, -1.0]]), torch.tensor([0])
    loss = ceod_loss(logits, spot(0.9, 0.5).float(), labels, left_half().float(), REPAIRED)
    assert float(loss.total) == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert loss.counted == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"omega": -1.0},
        {"omega": math.inf},
        {"epsilon": 0.0},
        {"epsilon": 0.5},
        {"quantile": 1.0},
        {"quantile": math.nan},
        {"softness": 0.0},
        {"kernel_value": 0.0},
        {"variant": "other"},
    ],
)
def test_parameters_out_of_their_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(changes))):
        CeodSettings(**changes)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="heat must be"):
        overlap_distance(spot(0.5, 0.5), torch.zeros(2, 8, 8), REPAIRED)


@pytest.mark.parametrize(("of_map", "of_area"), [((7, 7), (56, 56)), ((6, 3), (48, 40)), ((14, 14), (14, 14))])
def test_the_sums_on_the_map_are_those_over_all_pixels(of_map: tuple[int, int], of_area: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    heat = torch.randn(3, *of_map, dtype=torch.float64, generator=rng)
    area = (torch.rand(3, *of_area, dtype=torch.float64, generator=rng) > 0.6).double()
    cut = find_cut(heat, REPAIRED)
    scaled = heat / cut.hottest[:, None, None]
    warm = (scaled + torch.sqrt(scaled.square() + 0.05**2)) / 2
    hot = warm * torch.sigmoid((warm - cut.level[:, None, None]) / REPAIRED.softness)
    full = torch.nn.functional.interpolate(hot[:, None], of_area, mode="bilinear", align_corners=False)[:, 0]
    target = soften_area(area, REPAIRED)
    smaller = torch.minimum(full.sum(dim=(1, 2)), target.sum(dim=(1, 2)))
    expected = (full * target).sum(dim=(1, 2)) / smaller
    torch.testing.assert_close(overlap_distance(heat, area, REPAIRED).overlap, expected)
