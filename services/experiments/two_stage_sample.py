"""Which parts the two models of a pipeline are fitted to, and which they are tested on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.detectors.scale import MIN_PARTS
from services.core.errors import InvalidInputError
from services.core.evaluation.splits import split_by_group
from services.core.manifest import GOOD

GOOD_SHARES: Final = {"fit": 0.4, "calibrate": 0.15, "pool": 0.25, "test": 0.2}
"""Shares of the groups without a defect."""

SPOILED_SHARES: Final = {"pool": 0.5, "test": 0.5}
"""Shares of the groups with one."""


def split_pool(
    groups: Sequence[str], kinds: Sequence[str], contamination: float, seed: int
) -> dict[str, NDArray[np.intp]]:
    """Split parts so that nothing of a tested part was fitted to, calibrated on or pseudo-labelled.

    Args:
        groups: What must stay together, one for each part.
        kinds: ``good``, or the class of the part's defect.
        contamination: Largest share of defective pictures in the pool, in ``(0, 1]``; groups beyond it are tested.
        seed: Of the split.

    Returns:
        Rows of ``fit`` and ``calibrate`` (good parts alone, for the detector), ``pool`` (good and defective, whose
        labels nobody reads) and ``test``. Groups without a defect are dealt out by :data:`GOOD_SHARES`, those with one
        by :data:`SPOILED_SHARES`, with their good pictures.

    Raises:
        InvalidInputError: If the contamination is out of range, or there are too few good or defective groups.
    """
    if not 0 < contamination <= 1:
        raise InvalidInputError(f"contamination must lie in (0, 1], got {contamination}")
    faults: dict[str, list[str]] = {}
    for group, kind in zip(groups, kinds, strict=True):
        if kind != GOOD:
            faults.setdefault(group, []).append(kind)
    sound = np.array([row for row, group in enumerate(groups) if group not in faults], dtype=np.intp)
    spoiled = np.array([row for row, group in enumerate(groups) if group in faults], dtype=np.intp)
    own = [groups[row] for row in sound]
    least = math.ceil(MIN_PARTS / GOOD_SHARES["calibrate"])
    if len(set(own)) < least:
        raise InvalidInputError(
            f"at least {least} good parts (groups without a defect) are needed, got {len(set(own))}"
        )
    if len(faults) < len(SPOILED_SHARES):
        raise InvalidInputError(f"at least {len(SPOILED_SHARES)} groups with a defect are needed, got {len(faults)}")
    sides = {name: sound[rows] for name, rows in split_by_group(own, [GOOD] * len(own), GOOD_SHARES, seed).items()}
    dealt = split_by_group([groups[row] for row in spoiled], _strata(groups, faults, spoiled), SPOILED_SHARES, seed)
    offered = spoiled[dealt["pool"]]
    taken = _within(groups, kinds, len(sides["pool"]), offered, contamination, seed)
    kept = np.array([groups[row] in taken for row in offered], dtype=bool)
    pool = np.concatenate([sides["pool"], offered[kept]])
    test = np.concatenate([sides["test"], spoiled[dealt["test"]], offered[~kept]])
    return sides | {"pool": np.sort(pool), "test": np.sort(test)}


def _strata(groups: Sequence[str], faults: dict[str, list[str]], rows: NDArray[np.intp]) -> list[str]:
    """The commonest kind of each row's group where every kind has groups enough to be dealt out, else one for all."""
    kind_of = {group: max(sorted(set(kinds)), key=kinds.count) for group, kinds in faults.items()}
    counts = [list(kind_of.values()).count(kind) for kind in set(kind_of.values())]
    by_kind = min(counts) >= len(SPOILED_SHARES)
    return [kind_of[groups[row]] if by_kind else "defective" for row in rows]


def _within(
    groups: Sequence[str],
    kinds: Sequence[str],
    good: int,
    offered: NDArray[np.intp],
    contamination: float,
    seed: int,
) -> set[str]:
    """Groups with a defect that a pool can take, in an order drawn by seed, until the share of defects is reached."""
    members: dict[str, list[int]] = {}
    for row in offered:
        members.setdefault(groups[row], []).append(int(row))
    names = sorted(members)
    taken: set[str] = set()
    bad, total = 0, good
    for at in np.random.default_rng(seed).permutation(len(names)):
        rows = members[names[at]]
        more = sum(kinds[row] != GOOD for row in rows)
        if bad + more <= contamination * (total + len(rows)):
            taken.add(names[at])
            bad, total = bad + more, total + len(rows)
    return taken
