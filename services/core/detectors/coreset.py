"""A few points that stand for many, by greedy k-centre.

Sener and Savarese 2018; PatchCore (Roth et al. 2022), algorithm 1.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from services.core.errors import InvalidInputError

PROJECTED: Final = 64


def greedy_coreset(points: Tensor, count: int, seed: int, projected: int = PROJECTED) -> Tensor:
    """Choose points so that none is far from a chosen one: always the one that is farthest from those chosen so far.

    Distances are taken after a random projection, which keeps them nearly (Johnson and Lindenstrauss) and costs less.
    Time is ``points x count``: the caller bounds both.

    Args:
        points: Shape ``(N, D)``, finite.
        count: How many to choose, ``1..N``.
        seed: Of the projection and the first point.
        projected: Dimensions to project to; where ``D`` is no larger, nothing is projected.

    Returns:
        Indices, shape ``(count,)``, in the order of choice; of equally far points the first.

    Raises:
        InvalidInputError: If there are fewer points than wanted.
    """
    if not 1 <= count <= len(points):
        raise InvalidInputError(f"a coreset must have 1..{len(points)} points, got {count}")
    generator = torch.Generator().manual_seed(seed)
    start = int(torch.randint(len(points), (1,), generator=generator))
    if points.shape[1] > projected:
        points = points @ (torch.randn(points.shape[1], projected, generator=generator) / math.sqrt(projected))
    chosen = torch.empty(count, dtype=torch.long)
    # Squared distance to the nearest chosen point, less the point's own square, which is added for the comparison.
    squares = points.square().sum(dim=1)
    nearest = torch.full((len(points),), math.inf)
    for index in range(count):
        chosen[index] = start
        nearest = torch.minimum(nearest, squares[start] - 2 * (points @ points[start]))
        distance = nearest + squares
        # Rounding must not let a chosen point be chosen again.
        distance[chosen[: index + 1]] = -math.inf
        start = int(distance.argmax())
    return chosen
