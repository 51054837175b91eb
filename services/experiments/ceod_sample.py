"""Parts with the area where defects count, and parts whose flaws lie beside it: what CEOD is trained and tested on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.areas import AreaSpec, FixedArea
from services.core.errors import InvalidInputError
from services.core.evaluation.splits import split_by_group
from services.core.manifest import GOOD
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import MIN_SIZE_PX, PRODUCTS, defect_classes, draw_part
from services.experiments.parts import FIRST_SEED, SIMULATED, Part, read_parts

SHARES: Final = {"train": 0.7, "validation": 0.2, "test": 0.1}
"""Shares of the parts, by group (paper 2, section 5.1)."""

DISTRACTOR: Final = "distractor"

_SIMULATED_PARTS: Final = 400
_HALF: Final = 127.5


@dataclass(frozen=True, slots=True, eq=False)
class AreaPart:
    """One picture, its label with regard to the area, and the area.

    Attributes:
        part: The picture; ``good`` where its flaws do not count.
        area: Where defects count, shape ``(H, W)``; None where nobody has said.
        distractor: Whether it is a good part with something that looks like a defect.
        on_edge: Whether its defect lies partly outside of the area; it counts.
    """

    part: Part
    area: NDArray[np.bool_] | None
    distractor: bool = False
    on_edge: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AreaSample:
    """Parts as a network sees them.

    Attributes:
        images: ``uint8`` RGB, shape ``(N, H, W, 3)``.
        areas: Where defects count, of the images' size; empty where nobody has said.
        defective: Shape ``(N,)``.
        distractor: Good parts with something that looks like a defect, shape ``(N,)``.
        on_edge: Shape ``(N,)``.
        kinds: Class of the defect that counts, or ``good``.
        groups: What a split keeps together.
        names: Of the parts.
    """

    images: NDArray[np.uint8]
    areas: NDArray[np.bool_]
    defective: NDArray[np.bool_]
    distractor: NDArray[np.bool_]
    on_edge: NDArray[np.bool_]
    kinds: tuple[str, ...]
    groups: tuple[str, ...]
    names: tuple[str, ...]


def parse_relabel(text: str) -> frozenset[str]:
    """Read ``--relabel``: ``CLASS=good``, several separated by commas; gives the classes.

    Raises:
        InvalidInputError: If something else than ``good`` is asked for, or ``good`` itself is relabelled.
    """
    classes = set()
    for pair in filter(None, (one.strip() for one in text.split(","))):
        name, _, label = pair.partition("=")
        if label != GOOD or not name or name == GOOD:
            raise InvalidInputError(f"--relabel must be CLASS=good, several separated by commas, got {pair!r}")
        classes.add(name)
    return frozenset(classes)


def parse_shares(text: str) -> dict[str, float]:
    """Read ``--split``: percents that train, choose the best epoch and test, such as ``70,20,10``.

    Raises:
        InvalidInputError: If these are not three whole numbers above 0 that sum to 100.
    """
    percents = [int(one) for one in text.split(",") if one.strip().isdecimal()]
    if len(percents) != len(SHARES) or len(text.split(",")) != len(SHARES) or min(percents) < 1 or sum(percents) != 100:
        raise InvalidInputError(f"--split must be three percents above 0 that sum to 100, got {text!r}")
    return {name: percent / 100 for name, percent in zip(SHARES, percents, strict=True)}


def parse_size(text: str) -> tuple[int, int]:
    """Read ``--size``: one number for both sides, or rows and columns as ``96x48``.

    Raises:
        InvalidInputError: If it is neither, or a side is below 32 pixels.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) >= 32 for side in sides):
        raise InvalidInputError(f"--size must be pixels, or rows x columns such as 96x48, of at least 32, got {text!r}")
    return int(sides[0]), int(sides[-1])


def read_area_parts(
    source: str,
    count: int,
    area: AreaSpec,
    relabelled: Collection[str] = (),
    *,
    least_px: int = 224,
    progress: Callable[[float], None] = lambda _: None,
) -> list[AreaPart]:
    """Read or draw parts with their areas.

    A good part of the simulated line with clutter on it is a distractor; so is a part of a relabelled class, and, with
    one area for all parts, a defective part whose whole mask lies outside.

    Args:
        source: A folder (see ``services.adapters.datasets``), or ``simulated:`` and a product.
        count: Most parts; 0 takes a whole folder, or 400 simulated ones.
        area: Where defects count.
        relabelled: Classes whose defects do not count.
        least_px: Width that simulated parts are drawn in, where this is less than is drawn at least.
        progress: Told the share that is done.

    Returns:
        In a fixed order.

    Raises:
        NotFoundError: There is no such folder or file.
        InvalidInputError: Source, area and classes do not fit each other.
    """
    if source.startswith(SIMULATED):
        found = _draw(source.removeprefix(SIMULATED), count or _SIMULATED_PARTS, max(MIN_SIZE_PX, least_px), progress)
    elif area.kind == "truth":
        raise InvalidInputError(f"--aoi truth is known of the simulated line only, got {source!r}")
    else:
        found = [AreaPart(part, None) for part in read_parts(source, count, progress)]
    known = {one.part.kind for one in found} - {GOOD}
    if set(relabelled) - known:
        raise InvalidInputError(
            f"--relabel must name classes of the data ({', '.join(sorted(known))}), got "
            f"{', '.join(sorted(set(relabelled) - known))}"
        )
    fixed = FixedArea(area) if area.is_fixed else None
    return [_judged(one, area, fixed, relabelled) for one in found]


def prepare_area_sample(parts: Sequence[AreaPart], size_px: tuple[int, int]) -> AreaSample:
    """Bring parts and areas into a network's shape: letterbox with mirrored fill, the area mirrored with it.

    Args:
        parts: All of them.
        size_px: Rows and columns.

    Raises:
        InvalidInputError: If no part is defective, none is good, or no defective part has an area.
    """
    preprocessing = Preprocessing(height_px=size_px[0], width_px=size_px[1])
    sample = AreaSample(
        images=np.stack([prepare(one.part.image, preprocessing)[0] for one in parts]),
        areas=np.stack([_prepared_area(one.area, preprocessing) for one in parts]),
        defective=np.array([one.part.defective for one in parts], dtype=bool),
        distractor=np.array([one.distractor for one in parts], dtype=bool),
        on_edge=np.array([one.on_edge for one in parts], dtype=bool),
        kinds=tuple(one.part.kind for one in parts),
        groups=tuple(one.part.group for one in parts),
        names=tuple(one.part.name for one in parts),
    )
    if sample.defective.all() or not sample.defective.any():
        raise InvalidInputError(
            f"there must be good and defective parts, got {int(sample.defective.sum())} defective of {len(parts)}"
        )
    if not sample.areas[sample.defective].any():
        raise InvalidInputError("at least one defective part must have an area where defects count, got none")
    return sample


def split_areas(sample: AreaSample, seed: int, shares: Mapping[str, float] = SHARES) -> dict[str, NDArray[np.intp]]:
    """Split by group, evenly over good parts, distractors and kinds of defect as far as each has groups enough.

    Args:
        sample: All parts.
        seed: Of the split.
        shares: Of the sides.

    Returns:
        Rows of ``train``, ``validation`` and ``test``; no group is in two of them.

    Raises:
        InvalidInputError: If there are fewer than three groups of good or of defective parts.
    """
    good = np.where(sample.distractor, DISTRACTOR, GOOD).tolist()
    fine = [kind if bad else label for kind, bad, label in zip(sample.kinds, sample.defective, good, strict=True)]
    coarse = ["defect" if bad else label for bad, label in zip(sample.defective, good, strict=True)]
    for labels in (fine, coarse):
        held: dict[str, set[str]] = {}
        for group, label in zip(sample.groups, labels, strict=True):
            held.setdefault(label, set()).add(group)
        if min(len(groups) for groups in held.values()) >= len(SHARES):
            try:
                return split_by_group(sample.groups, labels, shares, seed)
            except InvalidInputError:
                # A group of mixed parts counts as its commonest class, which may leave another with too few.
                continue
    return split_by_group(sample.groups, [str(bad) for bad in sample.defective], shares, seed)


def _draw(product: str, count: int, width_px: int, progress: Callable[[float], None]) -> list[AreaPart]:
    if product not in PRODUCTS:
        raise InvalidInputError(f"the product must be one of {', '.join(PRODUCTS)}, got {product!r}")
    kinds = defect_classes(product)
    parts = []
    for number in range(count):
        seed = FIRST_SEED + number
        defect = kinds[number // 2 % len(kinds)] if number % 2 else None
        drawn = draw_part(product, seed, defect=defect, size_px=width_px)
        name = f"{product}-{seed}"
        part = Part(name, name, drawn.defect_class or GOOD, drawn.image, drawn.mask if defect else None)
        parts.append(AreaPart(part, drawn.aoi, defect is None and bool(drawn.distractor_mask.any())))
        progress((number + 1) / count)
    return parts


def _judged(one: AreaPart, spec: AreaSpec, fixed: FixedArea | None, relabelled: Collection[str]) -> AreaPart:
    """Say what a part is with regard to the area."""
    part = one.part
    if part.kind in relabelled:
        part, distractor = replace(part, kind=GOOD, mask=None), True
    else:
        distractor = one.distractor
    height, width = part.image.shape[:2]
    if spec.kind == "truth":
        return replace(one, part=part, distractor=distractor)
    if fixed is None:
        return AreaPart(part, part.mask, distractor)
    area = fixed.over(height, width)
    if part.mask is None:
        return AreaPart(part, area, distractor)
    inside = bool((part.mask & area).any())
    if not inside:
        return AreaPart(replace(part, kind=GOOD, mask=None), area, distractor=True)
    return AreaPart(part, area, distractor, on_edge=bool((part.mask & ~area).any()))


def _prepared_area(area: NDArray[np.bool_] | None, preprocessing: Preprocessing) -> NDArray[np.bool_]:
    if area is None or not area.any():
        return np.zeros((preprocessing.height_px, preprocessing.width_px), dtype=bool)
    picture = np.repeat(area[..., np.newaxis].astype(np.uint8) * 255, 3, axis=2)
    share = prepare(picture, preprocessing)[0, ..., 0]
    # A thin crack covers no pixel by half here: then those that it covers most.
    return np.asarray(share >= min(_HALF, max(1.0, float(share.max()))), dtype=bool)
