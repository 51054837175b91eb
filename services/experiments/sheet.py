"""The contact sheet: picture, mask and every map side by side, as pictures inside one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.explain.attribution import AttributionMap
from services.core.explain.grade import is_proven
from services.core.explain.heatmap import UNCALIBRATED, HeatScale, lay_over
from services.core.explain.resizing import resize_map
from services.core.types import Grade
from services.experiments.explaining import Explained, Record
from services.experiments.parts import Part

TILE_PX: Final = 168
_MASK_COLOUR: Final = (0, 158, 115)


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """One part, reduced to what the sheet shows.

    Attributes:
        model: Name of the network.
        name: Of the part.
        kind: Class of the defect, or ``good``.
        score: The model's anomaly score.
        picture: ``uint8`` RGB, its longer side :data:`TILE_PX`.
        mask: The same with the defect's outline.
        maps: By method, of the picture's size.
        records: By method.
    """

    model: str
    name: str
    kind: str
    score: float
    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    maps: Mapping[str, AttributionMap]
    records: Mapping[str, Record]


def reduce(explained: Explained, model: str) -> SheetRow:
    """Keep of an explained part what the sheet shows, so that memory does not grow with the pictures' size."""
    part = explained.part
    height, width = _size(part)
    picture = cv2.resize(part.image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    maps = {method: resize_map(values, height, width) for method, values in explained.maps.items()}
    records = {record.method: record for record in explained.records}
    return SheetRow(model, part.name, part.kind, explained.score, picture, _outlined(picture, part.mask), maps, records)


def choose(rows: Sequence[SheetRow], count: int) -> list[SheetRow]:
    """Take parts evenly from first to last, not the prettiest."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index] for index in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def paint(row: SheetRow, method: str, scales: Mapping[str, HeatScale]) -> NDArray[np.uint8] | None:
    """Lay a map over its picture; None where the method gave none."""
    values = row.maps.get(method)
    if values is None:
        return None
    letter = row.records[method].grade
    proven = bool(letter) and is_proven(Grade[letter])
    return lay_over(row.picture, values, scales.get(method, UNCALIBRATED), proven=proven)


def whole_sheet(
    rows: Sequence[SheetRow], methods: Sequence[str], scales: Mapping[tuple[str, str], HeatScale]
) -> NDArray[np.uint8]:
    """All tiles as one picture: a row for each part; picture, mask, then a column for each method.

    Args:
        rows: At least one.
        methods: The columns.
        scales: By network and method.
    """
    lines = []
    for row in rows:
        own = {method: scale for (model, method), scale in scales.items() if model == row.model}
        tiles = [row.picture, row.mask, *(paint(row, method, own) for method in methods)]
        lines.append(np.concatenate([_padded(tile) for tile in tiles], axis=1))
    sheet = np.concatenate(lines)
    heads = np.full((22, sheet.shape[1], 3), 255, np.uint8)
    for column, title in enumerate(("part", "defect", *methods)):
        place = (column * (TILE_PX + _GAP) + 4, 16)
        cv2.putText(heads, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.48, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([heads, sheet])


_GAP: Final = 4


def _padded(tile: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    space = np.full((TILE_PX + _GAP, TILE_PX + _GAP, 3), 255, np.uint8)
    if tile is not None:
        height, width = tile.shape[:2]
        space[:height, :width] = tile
    return space


def _size(part: Part) -> tuple[int, int]:
    height, width = part.image.shape[:2]
    scale = TILE_PX / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _outlined(picture: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    drawn = picture.copy()
    if mask is None:
        return drawn
    share = cv2.resize(mask.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_AREA)
    # A thin crack is less than a pixel wide here: whatever the defect touches is inside.
    inside = (share > 0).astype(np.uint8)
    edges, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, edges, -1, _MASK_COLOUR, 1)
    return drawn
