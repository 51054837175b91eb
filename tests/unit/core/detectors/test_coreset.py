from __future__ import annotations

import pytest
import torch

from services.core.detectors.coreset import greedy_coreset
from services.core.errors import InvalidInputError


def test_the_next_point_is_always_the_one_farthest_from_those_chosen() -> None:
    points = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
    # Whatever comes first, an end of the line is farthest from it, then the other end or the widest gap.
    expected = {0: [0, 3, 2, 1], 1: [1, 3, 2, 0], 2: [2, 3, 0, 1], 3: [3, 0, 2, 1]}
    seen = set()
    for seed in range(12):
        chosen = greedy_coreset(points, 4, seed).tolist()
        assert chosen == expected[chosen[0]]
        seen.add(chosen[0])
    assert len(seen) > 1


def test_no_point_is_chosen_twice_even_if_all_are_equal() -> None:
    assert sorted(greedy_coreset(torch.ones(6, 3), 6, 0).tolist()) == list(range(6))


def test_an_outlier_is_kept_and_a_crowd_is_thinned() -> None:
    crowd = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * 0.01
    points = torch.cat([crowd, torch.full((1, 8), 5.0), torch.full((1, 8), -5.0)])
    assert {500, 501} <= set(greedy_coreset(points, 3, 0).tolist())


def test_a_projection_keeps_far_points_far() -> None:
    generator = torch.Generator().manual_seed(1)
    centres = 20 * torch.randn(5, 300, generator=generator)
    points = (centres[:, None] + torch.randn(5, 40, 300, generator=generator)).reshape(200, 300)
    assert sorted((greedy_coreset(points, 5, 3) // 40).tolist()) == [0, 1, 2, 3, 4]


def test_the_same_seed_chooses_the_same_points_and_another_seed_others() -> None:
    points = torch.randn(200, 100, generator=torch.Generator().manual_seed(2))
    assert torch.equal(greedy_coreset(points, 20, 7), greedy_coreset(points, 20, 7))
    assert not torch.equal(greedy_coreset(points, 20, 7), greedy_coreset(points, 20, 8))


@pytest.mark.parametrize("count", [0, 4])
def test_more_points_than_there_are_cannot_be_chosen(count: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"must have 1..3 points, got {count}"):
        greedy_coreset(torch.zeros(3, 2), count, 0)
