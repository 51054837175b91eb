"""Verdicts for tests, with every field that matters settable."""

from __future__ import annotations

from dataclasses import replace

from services.core.identity import derive_frame_id
from services.core.types import Inspection, OperatingPoint, Reason, StageTimings, Verdict

NOW_NS = 1_800_000_000_000_000_000
SECOND_NS = 1_000_000_000


def inspection(number: int = 0, *, camera: str = "cam-1", age_s: float = 1.0, **changes: object) -> Inspection:
    """One verdict; ``number`` tells frames apart, ``age_s`` is how long ago it was decided."""
    decided_at_ns = NOW_NS - int(age_s * SECOND_NS)
    captured_at_ns = decided_at_ns - 40_000_000
    made = Inspection(
        frame_id=derive_frame_id(camera, f"item-{number}", 0, captured_at_ns),
        part_id=f"part-{number}",
        line_id="line-1",
        camera_id=camera,
        product="disc",
        sequence=number + 1,
        captured_at_ns=captured_at_ns,
        decided_at_ns=decided_at_ns,
        verdict=Verdict.PASS,
        reason=Reason.SCORE,
        score=0.2,
        operating_point=OperatingPoint(0.6, 0.5, 0.7),
        uncertainty=0.1,
        alias="default",
        model_version=1,
        cycle_time_ms=250,
        timings=StageTimings(total_ms=40.0),
    )
    return replace(made, **changes)  # type: ignore[arg-type]
