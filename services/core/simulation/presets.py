"""Sets of the papers' sizes: which parts they hold, in which order, before any is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from services.core.errors import InvalidInputError
from services.core.simulation import disc, thermal, weld, zipper


class PartSpec(NamedTuple):
    """One part of a set, not yet drawn."""

    seed: int
    product: str
    defect: str | None
    """None for a good part."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A shuffled stretch of a set: so many good parts, and so many evenly over some classes."""

    good: int
    defective: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def defects(self) -> list[str | None]:
        """List the defect of each part, good ones first."""
        fates: list[str | None] = [None] * self.good
        for count, classes in self.defective:
            fates += [classes[number % len(classes)] for number in range(count)]
        return fates


@dataclass(frozen=True, slots=True)
class _Preset:
    product: str
    first_seed: int
    blocks: tuple[_Block, ...]


# First seeds lie apart, so that no two sets share a part.
_PRESETS: dict[str, _Preset] = {
    # 139 correct, 110 plates without a seam, 164 irregular.
    "weld-413": _Preset("weld", 10_000_000, (_Block(139, ((110, (weld.NO_SEAM,)), (164, weld.IRREGULAR))),)),
    # The public casting set at 512 px: 519 good, 781 defective.
    "casting-1300": _Preset("disc", 20_000_000, (_Block(519, ((781, disc.DEFECTS),)),)),
    # 216 without and 184 with a defect on the chain; flaws on the fabric alone count as good.
    "zipper-400": _Preset("zipper", 30_000_000, (_Block(216, ((184, zipper.DEFECTS),)),)),
    # 862 good, then 15 453 as they come. Their defect rate is not known; isolation forest flagged 5 of the first
    # 1 000, so 0.5 % (77) are drawn abnormal.
    "thermal-862+15453": _Preset("thermal", 40_000_000, (_Block(862), _Block(15_453 - 77, ((77, thermal.DEFECTS),)))),
}
PRESETS: tuple[str, ...] = tuple(_PRESETS)
"""Names of the sets."""


def preset(name: str) -> tuple[PartSpec, ...]:
    """List the parts of a set, in a fixed shuffled order; nothing is drawn.

    Args:
        name: One of ``PRESETS``.

    Raises:
        InvalidInputError: There is no such set.
    """
    if name not in _PRESETS:
        raise InvalidInputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    plan = _PRESETS[name]
    rng = np.random.Generator(np.random.PCG64(plan.first_seed))
    fates: list[str | None] = []
    for block in plan.blocks:
        members = block.defects()
        fates += [members[place] for place in rng.permutation(len(members))]
    return tuple(PartSpec(plan.first_seed + number, plan.product, fate) for number, fate in enumerate(fates))
