"""What an export is asked for and what it gives, as its two ends pass it on, and the values of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sightline.v1 import export_service_pb2

from services.adapters.ports import CaseFilter
from services.core.export_layout import Labels, Layout

#: Most cases that are named one by one.
MAX_CASE_IDS: Final = 10_000

_EVERYTHING: Final = CaseFilter()

LAYOUT_TO_WIRE: Final = {
    Layout.COCO: export_service_pb2.EXPORT_LAYOUT_COCO,
    Layout.LABELS: export_service_pb2.EXPORT_LAYOUT_LABELS,
    Layout.MVTEC: export_service_pb2.EXPORT_LAYOUT_MVTEC,
    Layout.TWO_FOLDERS: export_service_pb2.EXPORT_LAYOUT_TWO_FOLDERS,
}
LAYOUT_FROM_WIRE: Final = {int(wire): layout for layout, wire in LAYOUT_TO_WIRE.items()}
LABELS_TO_WIRE: Final = {
    Labels.SETTLED: export_service_pb2.EXPORT_LABELS_SETTLED,
    Labels.SETTLED_ELSE_MODEL: export_service_pb2.EXPORT_LABELS_SETTLED_ELSE_MODEL,
}
LABELS_FROM_WIRE: Final = {
    int(export_service_pb2.EXPORT_LABELS_UNSPECIFIED): Labels.SETTLED,
    **{int(wire): labels for labels, wire in LABELS_TO_WIRE.items()},
}


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """Which cases an export has, and how it is laid out."""

    layout: Layout
    where: CaseFilter = _EVERYTHING
    case_ids: tuple[str, ...] = ()
    """These instead of a filter."""
    labels: Labels = Labels.SETTLED
    reviewers: bool = False
    """Whether those who answered are named."""


@dataclass(frozen=True, slots=True)
class ExportPiece:
    """The next bytes of an archive."""

    data: bytes
    cases_done: int
    """Those left out included."""
    cases_expected: int
    """As many as there were when it began."""
