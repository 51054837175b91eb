"""The JSON that the page is given. ``web/src/api/types.ts`` says the same in TypeScript.

Times become milliseconds (nanoseconds do not fit a JavaScript number), a score that is not a number becomes null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from services.core.types import Explanation, Inspection
from services.dashboard.components import Component
from services.dashboard.explanations import KeptExplanations
from services.dashboard.live import CameraView, LineView, PartView, WallView
from services.dashboard.overlays import is_calibrated, summary
from services.dashboard.rolling import POINT_S, WINDOW_S, Figures, Point

Json: TypeAlias = dict[str, Any]

NS_PER_MS = 1_000_000


def encode(value: Json) -> bytes:
    """Write compact JSON; a number that JSON does not know is a bug and raises ``ValueError``."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def inspection_json(inspection: Inspection) -> Json:
    """One verdict, as the wall needs it."""
    point = inspection.operating_point
    return {
        "frame_id": inspection.frame_id,
        "part_id": inspection.part_id,
        "line_id": inspection.line_id,
        "camera_id": inspection.camera_id,
        "product": inspection.product,
        "sequence": inspection.sequence,
        "captured_at_ms": inspection.captured_at_ns // NS_PER_MS,
        "decided_at_ms": inspection.decided_at_ns // NS_PER_MS,
        "verdict": inspection.verdict.value,
        "reason": inspection.reason.value,
        "score": number(inspection.score),
        "threshold": number(point.threshold),
        "review_low": number(point.review_low),
        "review_high": number(point.review_high),
        "alias": inspection.alias,
        "model_version": inspection.model_version,
        "defect_class": inspection.defect_class,
        "cycle_time_ms": inspection.cycle_time_ms,
        "in_time": inspection.in_time,
        "queue_ms": number(inspection.timings.queue_ms),
        "total_ms": number(inspection.timings.total_ms),
        "detail": inspection.detail,
        "disagreement": inspection.disagreement,
    }


def part_json(view: PartView) -> Json:
    """One frame's page."""
    inspection = view.inspection
    timings = inspection.timings
    return {
        "inspection": inspection_json(inspection),
        "uncertainty": number(inspection.uncertainty),
        "timings": {
            "queue_ms": number(timings.queue_ms),
            "fetch_ms": number(timings.fetch_ms),
            "decode_ms": number(timings.decode_ms),
            "infer_ms": number(timings.infer_ms),
            "total_ms": number(timings.total_ms),
        },
        "place": _place_json(inspection),
        "trace_id": inspection.trace_id,
        "earlier": [inspection_json(one) for one in view.earlier],
        "views": [inspection_json(one) for one in view.views],
        "previous_frame_id": view.previous_frame_id,
        "next_frame_id": view.next_frame_id,
        "neighbours": [inspection_json(one) for one in view.neighbours],
    }


def explanations_json(state: str, case: KeptExplanations | None, methods: Sequence[str]) -> Json:
    """What explains one verdict.

    Args:
        state: ``explained``, ``pending`` (its case is not explained yet), ``missing`` (none is kept), ``no_case`` (a
            part that nobody has to look at has no case) or ``unavailable`` (it cannot be looked up now).
        case: The explanations, if the state is ``explained``.
        methods: What a map may be asked for with; empty where none can be made.
    """
    return {
        "explained": {
            "state": state,
            "at_ms": None if case is None else case.explained_at_ns // NS_PER_MS,
            "agreement": None if case is None else number(case.agreement),
            "methods": list(methods),
        },
        "explanations": [] if case is None else [explanation_json(one) for one in case.explanations],
    }


def explanation_json(explanation: Explanation) -> Json:
    """One method's explanation, without its map: that is a picture."""
    found = summary(explanation)
    return {
        "method": explanation.method,
        "status": explanation.status.value,
        "reason": explanation.reason,
        "detail": explanation.detail,
        "has_map": found is not None,
        "target_class": explanation.target_class,
        "probability": number(explanation.probability),
        "grade": None if explanation.grade is None else explanation.grade.value,
        "trust": explanation.trust if explanation.trust > 0 else None,
        "deletion_auc": number(explanation.deletion_auc),
        "insertion_auc": number(explanation.insertion_auc),
        "random_auc": number(explanation.random_auc),
        "transplant": number(explanation.transplant),
        "stability": number(explanation.stability),
        "coverage": number(explanation.coverage),
        "passes": explanation.passes,
        "seconds": number(explanation.seconds),
        "scale": {
            "calibrated": is_calibrated(explanation),
            "low": number(explanation.scale_low),
            "high": number(explanation.scale_high),
        },
        "hottest": None if found is None else {"x": round(found.hottest_x, 4), "y": round(found.hottest_y, 4)},
        "coloured_share": None if found is None else found.coloured_share,
    }


def wall_json(view: WallView, *, at_ns: int, epoch: str, stale_s: float, max_parts: int) -> Json:
    """The whole wall.

    Args:
        view: What is shown.
        at_ns: The present, nanoseconds since the epoch.
        epoch: Names this life of the process; revisions of another one mean nothing here.
        stale_s: A camera without a verdict for this long is stale.
        max_parts: Most parts in all, shared evenly among the cameras; each camera shows at least one.
    """
    cameras = max(1, sum(len(line.cameras) for line in view.lines))
    per_camera = max(1, max_parts // (2 * cameras))
    return {
        "at_ms": at_ns // NS_PER_MS,
        "epoch": epoch,
        "revision": view.revision,
        "window_s": WINDOW_S,
        "point_s": POINT_S,
        "stale_s": stale_s,
        "figures": _figures_json(view.figures),
        "series": _series_json(view.series),
        "lines": [_line_json(line, per_camera) for line in view.lines],
    }


def stats_json(view: WallView, *, at_ns: int) -> Json:
    """The figures alone, with the newest points of each curve."""
    return {
        "at_ms": at_ns // NS_PER_MS,
        "figures": _figures_json(view.figures),
        "series": _series_json(view.series),
        "lines": [
            {
                "line_id": line.line_id,
                "figures": _figures_json(line.figures),
                "series": _series_json(line.series),
                "cameras": [
                    {"camera_id": camera.camera_id, "figures": _figures_json(camera.figures)} for camera in line.cameras
                ],
            }
            for line in view.lines
        ],
    }


def components_json(components: Sequence[Component]) -> list[Json]:
    """How each part of the line is, and since when that is known."""
    return [
        {
            "name": one.name,
            "state": one.state.value,
            "detail": one.detail,
            "since_ms": one.since_ns // NS_PER_MS,
            "checked_at_ms": one.checked_at_ns // NS_PER_MS,
        }
        for one in components
    ]


def error_json(reason: str, message: str) -> Json:
    """What every refused request says: a stable token for the page and a sentence for people."""
    return {"error": {"reason": reason, "message": message}}


def _line_json(line: LineView, per_camera: int) -> Json:
    return {
        "line_id": line.line_id,
        "figures": _figures_json(line.figures),
        "series": _series_json(line.series),
        "cameras": [_camera_json(camera, per_camera) for camera in line.cameras],
    }


def _camera_json(camera: CameraView, per_camera: int) -> Json:
    return {
        "camera_id": camera.camera_id,
        "figures": _figures_json(camera.figures),
        "latest": [inspection_json(one) for one in camera.latest[:per_camera]],
        "flagged": [inspection_json(one) for one in camera.flagged[:per_camera]],
    }


def _figures_json(figures: Figures) -> Json:
    return {
        "seen": figures.seen,
        "passed": figures.passed,
        "failed": figures.failed,
        "reviewed": figures.reviewed,
        "late": figures.late,
        "frames_per_s": round(figures.frames_per_s, 3),
        "p50_ms": _rounded(figures.p50_ms),
        "p95_ms": _rounded(figures.p95_ms),
        "p99_ms": _rounded(figures.p99_ms),
    }


def _series_json(series: Sequence[Point]) -> list[list[int]]:
    return [[point.start_s, point.passed, point.failed, point.reviewed] for point in series]


def _place_json(inspection: Inspection) -> Json:
    if inspection.image_ref is not None:
        ref = inspection.image_ref
        return {
            "kind": "object",
            "bucket": ref.bucket,
            "key": ref.key,
            "size_bytes": ref.size_bytes,
            "sha256": ref.sha256,
        }
    if inspection.position is not None:
        at = inspection.position
        return {"kind": "record", "topic": at.topic, "partition": at.partition, "offset": at.offset}
    return {"kind": "none"}


def number(value: float) -> float | None:
    """A number as JSON knows it; None for one that it does not."""
    return value if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
