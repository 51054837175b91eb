"""Where defects count: one area for all pictures of a product, a camera or a data set, as people write it down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError, NotFoundError

AreaKind = Literal["masks", "truth", "box", "file"]

_HALF: Final = 127.5


@dataclass(frozen=True, slots=True)
class AreaSpec:
    """Where defects count.

    Attributes:
        kind: ``masks``: the defects' own masks; ``truth``: what the simulated line knows; ``box`` and ``file``: one
            area for all parts.
        box: Left, top, right and bottom as shares of the picture.
        path: A picture of any size, white where defects count.
    """

    kind: AreaKind
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    path: Path | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether all parts have one area, so that a defect may lie outside of it."""
        return self.kind in ("box", "file")


def parse_area(text: str) -> AreaSpec:
    """Read ``masks``, ``truth``, ``box:x0,y0,x1,y1`` or ``file:PATH``.

    Raises:
        InvalidInputError: If it is none of these, or the box is empty or leaves the picture.
    """
    kind, _, value = text.partition(":")
    if kind in ("masks", "truth") and not value:
        return AreaSpec(kind)  # type: ignore[arg-type]
    if kind == "file" and value:
        return AreaSpec("file", path=Path(value))
    if kind == "box":
        try:
            left, top, right, bottom = (float(edge) for edge in value.split(","))
        except ValueError:
            left = math.nan
        else:
            if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
                return AreaSpec("box", (left, top, right, bottom))
    raise InvalidInputError(
        "an area must be masks, truth, file:PATH, or box:x0,y0,x1,y1 in shares of the picture with x0 < x1 and "
        f"y0 < y1, got {text!r}"
    )


class FixedArea:
    """One area, brought to pictures of any size.

    Args:
        spec: A box or a file.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is no picture, is white nowhere, or the area is not a fixed one.
    """

    def __init__(self, spec: AreaSpec) -> None:
        if not spec.is_fixed:
            raise InvalidInputError(f"an area for all pictures must be a box or a file, got {spec.kind}")
        self._box = spec.box
        self._drawn = None if spec.path is None else _read(spec.path)

    def over(self, height_px: int, width_px: int) -> NDArray[np.bool_]:
        """The area over a picture of this size, ``bool``, shape ``(H, W)``."""
        if self._drawn is not None:
            drawn = self._drawn.astype(np.uint8)
            return np.asarray(cv2.resize(drawn, (width_px, height_px), interpolation=cv2.INTER_NEAREST), np.bool_)
        left, top, right, bottom = self._box
        area = np.zeros((height_px, width_px), np.bool_)
        rows = slice(math.floor(top * height_px), math.ceil(bottom * height_px))
        area[rows, math.floor(left * width_px) : math.ceil(right * width_px)] = True
        return area


def fixed_areas(written: Mapping[str, str]) -> dict[str, FixedArea]:
    """Read areas by the name of a camera or a product; raises as :class:`FixedArea` and :func:`parse_area` do."""
    return {name: FixedArea(parse_area(text)) for name, text in written.items()}


def _read(path: Path) -> NDArray[np.bool_]:
    if not path.is_file():
        raise NotFoundError(f"an area's file must be a picture, there is no {path}")
    drawn = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if drawn is None or not drawn.any():
        raise InvalidInputError(f"an area's file must be a picture that is white where defects count, got {path}")
    return np.asarray(drawn > _HALF if drawn.max() > 1 else drawn > 0, dtype=bool)
