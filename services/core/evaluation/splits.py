"""Splitting data so that nothing of one part is on both sides.

Images of one part (several exposures, several views, refutations made from it) look alike; a split by image lets the
model recognise the part and the figures measure the leak. Everything here keeps groups together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError


def split_by_group(
    groups: Sequence[str], labels: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, NDArray[np.intp]]:
    """Split images into named sets, keeping groups together and the classes' shares as even as groups allow.

    Groups are dealt out one by one, largest first within each class, to the set that lacks most of that class; order
    within equal sizes comes from the seed. The same arguments give the same split.

    Args:
        groups: What must stay together, one per image: part, item, surface.
        labels: Class of each image; a group's class is its most frequent one.
        shares: Share of each named set, above 0, summing to 1.
        seed: Seed of the order.

    Returns:
        For each set, the indices of its images, ascending.

    Raises:
        InvalidInputError: If lengths differ, there is nothing to split, shares do not sum to 1, or a class has fewer
            groups than there are sets.
    """
    if len(groups) != len(labels) or not groups:
        raise InvalidInputError(
            f"groups and labels must be equally long and not empty, got {len(groups)}, {len(labels)}"
        )
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InvalidInputError(f"shares must be above 0 and sum to 1, got {dict(shares)}")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    by_class: dict[str, list[str]] = {}
    for group, indices in members.items():
        kinds = [labels[index] for index in indices]
        by_class.setdefault(max(sorted(set(kinds)), key=kinds.count), []).append(group)
    taken: dict[str, list[int]] = {name: [] for name in shares}
    for kind in sorted(by_class):
        if len(by_class[kind]) < len(shares):
            raise InvalidInputError(
                f"each class must have at least {len(shares)} groups to be split, got {len(by_class[kind])} of {kind!r}"
            )
        _deal(by_class[kind], members, shares, taken, _generator(seed, kind))
    return {name: np.array(sorted(indices), dtype=np.intp) for name, indices in taken.items()}


def _deal(
    groups: list[str],
    members: Mapping[str, list[int]],
    shares: Mapping[str, float],
    taken: dict[str, list[int]],
    rng: np.random.Generator,
) -> None:
    order = [sorted(groups)[index] for index in rng.permutation(len(groups))]
    order.sort(key=lambda group: len(members[group]), reverse=True)
    total = sum(len(members[group]) for group in groups)
    given = dict.fromkeys(shares, 0)
    for position, group in enumerate(order):
        empty = [name for name in shares if given[name] == 0]
        # Every set gets at least one group of every class, even when its share is tiny.
        candidates = empty if len(order) - position <= len(empty) else list(shares)
        target = max(candidates, key=lambda name: shares[name] * total - given[name])
        given[target] += len(members[group])
        taken[target].extend(members[group])


def _generator(seed: int, text: str) -> np.random.Generator:
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")])
