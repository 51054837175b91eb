"""Parts to experiment on: a labelled folder, or parts of the simulated line, with the exact truth about each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.datasets import LabelledImage, read_labelled_folder
from services.core.errors import InvalidInputError
from services.core.evaluation.splits import split_by_group
from services.core.imaging import ImageLimits, decode
from services.core.manifest import GOOD
from services.core.simulation.line import PRODUCTS, defect_classes, draw_part

SIMULATED: Final = "simulated:"
"""What a source of simulated parts begins with; the product's name follows."""

SHARES: Final = {"train": 0.6, "validation": 0.1, "test": 0.3}
"""Shares of the parts, by group; validation chooses the best epoch and nothing else."""

# Far from the seeds of the demo cameras and of the starter model.
FIRST_SEED: Final = 600_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One picture and what is true of it.

    Attributes:
        name: Its own.
        group: What a split must keep together.
        kind: Class of the defect, or ``good``.
        image: ``uint8`` RGB, shape ``(H, W, 3)``.
        mask: The defect's pixels, shape ``(H, W)``; None where nobody drew them.
    """

    name: str
    group: str
    kind: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None

    @property
    def defective(self) -> bool:
        """Whether the part is bad."""
        return self.kind != GOOD


def read_parts(source: str, count: int, progress: Callable[[float], None] = lambda _: None) -> list[Part]:
    """Read or draw the parts of an experiment.

    Args:
        source: A folder (see ``services.adapters.datasets``), or ``simulated:`` and a product.
        count: Most parts; 0 takes a whole folder, or 600 simulated ones. From a folder an even sample is taken.
        progress: Told the share that is done.

    Returns:
        In a fixed order.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: The source cannot be read, or there is no such product.
    """
    if source.startswith(SIMULATED):
        return _draw(source.removeprefix(SIMULATED), count or 600, progress)
    images = read_labelled_folder(Path(source))
    if 0 < count < len(images):
        images = tuple(images[index] for index in np.linspace(0, len(images) - 1, count).round().astype(int))
    parts = []
    for number, image in enumerate(images, start=1):
        parts.append(_read(image))
        progress(number / len(images))
    return parts


def split(parts: Sequence[Part], seed: int) -> dict[str, NDArray[np.intp]]:
    """Split parts by group, evenly over the kinds of defect where each has groups enough, else over good and bad.

    Args:
        parts: All of them.
        seed: Of the split.

    Returns:
        Rows of ``train``, ``validation`` and ``test``; no group is in two of them.

    Raises:
        InvalidInputError: If there are fewer than three groups of good or of defective parts.
    """
    groups = [part.group for part in parts]
    per_kind: dict[str, set[str]] = {}
    for part in parts:
        per_kind.setdefault(part.kind, set()).add(part.group)
    by_kind = min(len(members) for members in per_kind.values()) >= len(SHARES)
    labels = [part.kind if by_kind else str(part.defective) for part in parts]
    if len(set(labels)) < 2:
        raise InvalidInputError(f"an experiment needs good and defective parts, got only {labels[0]!r}")
    return split_by_group(groups, labels, SHARES, seed)


def _draw(product: str, count: int, progress: Callable[[float], None]) -> list[Part]:
    if product not in PRODUCTS:
        raise InvalidInputError(f"the product must be one of {', '.join(PRODUCTS)}, got {product!r}")
    kinds = defect_classes(product)
    parts = []
    for number in range(count):
        seed = FIRST_SEED + number
        part = draw_part(product, seed, defect=kinds[number // 2 % len(kinds)] if number % 2 else None)
        name = f"{product}-{seed}"
        parts.append(Part(name, name, part.defect_class or GOOD, part.image, part.mask if number % 2 else None))
        progress((number + 1) / count)
    return parts


def _read(labelled: LabelledImage) -> Part:
    image = decode(labelled.path.read_bytes(), ImageLimits())
    mask = None
    if labelled.mask_path is not None and labelled.defect:
        drawn = cv2.imdecode(np.frombuffer(labelled.mask_path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if drawn is None or drawn.shape != image.shape[:2]:
            size = "no picture" if drawn is None else f"{drawn.shape[1]}x{drawn.shape[0]}"
            raise InvalidInputError(
                f"a mask must have its image's size {image.shape[1]}x{image.shape[0]}, got {size} in "
                f"{labelled.mask_path.name}"
            )
        # Masks kept as JPEG have faint ringing around their edges.
        mask = drawn > 127 if drawn.max() > 1 else drawn > 0
        mask = mask if mask.any() else None
    kind = labelled.defect_class if labelled.defect else GOOD
    return Part(labelled.path.stem, labelled.group, kind, image, mask)
