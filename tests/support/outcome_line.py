"""What tests of the outcome service have in common: what cameras say of parts, and what stands around a line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from services.core.identity import derive_frame_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Arrival, PartPlan, PartPlans
from services.core.plc import TriggeredPart
from services.core.types import Inspection, OperatingPoint, Reason, Verdict

LINE = "line-1"
PRODUCT = "disc"
CAMERAS = ("left", "right")
CYCLE_MS = 1_000
S_NS = 1_000_000_000
PLANS = PartPlans((PartPlan(PRODUCT, frozenset(CAMERAS)),))


class Clock:
    """A wall clock that stands until it is moved; it begins with the present."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        return self.now_ns

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(seconds * S_NS)


def arrival(part_id: str, camera_id: str = "left", *, at_ns: int, **changes: Any) -> Arrival:
    """Word that a part is before a camera; of a trigger where no camera is named."""
    values: dict[str, Any] = {"line_id": LINE, "product": PRODUCT, "cycle_time_ms": CYCLE_MS}
    if camera_id:
        values |= {"camera_id": camera_id, "frame_id": derive_frame_id(camera_id, part_id, 0, at_ns)}
    return Arrival(part_id=part_id, arrived_at_ns=at_ns, **values | changes)


def inspection(
    part_id: str, camera_id: str = "left", verdict: Verdict = Verdict.PASS, *, at_ns: int, **changes: Any
) -> Inspection:
    """What a camera's picture of a part says."""
    values: dict[str, Any] = {
        "line_id": LINE,
        "product": PRODUCT,
        "cycle_time_ms": CYCLE_MS,
        "sequence": 1,
        "decided_at_ns": at_ns,
        "reason": Reason.SCORE,
        "score": 0.9 if verdict is Verdict.FAIL else 0.1,
        "operating_point": OperatingPoint(0.5, 0.4, 0.6),
        "uncertainty": 0.0,
        "alias": "default",
        "model_version": 1,
        "defect_class": "dent" if verdict is Verdict.FAIL else "",
    }
    return Inspection(
        frame_id=derive_frame_id(camera_id, part_id, 0, at_ns),
        part_id=part_id,
        camera_id=camera_id,
        captured_at_ns=at_ns,
        verdict=verdict,
        **values | changes,
    )


class Record:
    """What was put on record: events that were told, parts that were announced, pictures that were asked for."""

    def __init__(self) -> None:
        self.events: list[LineEvent] = []
        self.arrivals: list[Arrival] = []
        self.asked: list[TriggeredPart] = []

    def tell(self, events: Sequence[LineEvent]) -> None:
        """Note events."""
        self.events += events

    def announce(self, one: Arrival) -> None:
        """Note a part."""
        self.arrivals.append(one)

    def ask(self, part: TriggeredPart) -> None:
        """Note a part whose pictures are asked for."""
        self.asked.append(part)

    @property
    def kinds(self) -> list[LineEventKind]:
        """What happened, in order."""
        return [event.kind for event in self.events]

    def of(self, kind: LineEventKind) -> list[LineEvent]:
        """What happened of one kind."""
        return [event for event in self.events if event.kind is kind]
