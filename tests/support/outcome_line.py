"""What tests of the outcome service have in common: what cameras say of parts, and what stands around a line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.adapters.memory import MemorySink
from services.adapters.memory_plc import MemoryImage
from services.core.errors import NotFoundError
from services.core.identity import derive_frame_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Arrival, PartPlan, PartPlans
from services.core.plc import TriggeredPart
from services.core.types import Inspection, OperatingPoint, Reason, Verdict
from services.outcome.assembly import LineBuilder
from services.outcome.gateway import LineGateway
from services.outcome.settings import (
    FileSettings,
    LineSettings,
    ModbusSettings,
    MqttSettings,
    OpcUaSettings,
    OutcomeSettings,
    WebhookSettings,
)
from services.runtime.settings import load_settings

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


class ToldCameras:
    """Cameras that note what they are asked for, and may refuse it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses = False

    def trigger(self, line_id: str, part_id: str, product: str, lot: str, triggered_at_ns: int) -> tuple[str, ...]:
        """Take a picture."""
        del product, lot, triggered_at_ns
        if self.refuses:
            raise NotFoundError(f"a line must have triggered cameras, got none on {line_id}")
        self.asked.append(part_id)
        return CAMERAS


LINES: list[dict[str, Any]] = [
    {
        "line_id": LINE,
        "cycle_time_ms": 60_000,
        "recipes": {"7": "cap"},
        "product": PRODUCT,
        "connections": [
            {"name": "plc", "kind": "modbus", "port": 0, "heartbeat_timeout_ms": 0},
            {"name": "belt", "kind": "opcua", "port": 0, "heartbeat_timeout_ms": 0, "triggered": False},
            {"name": "mes", "kind": "webhook", "url": "https://mes.example", "secret": "0123456789abcdef"},
            {"name": "day", "kind": "file", "folder": "outcomes"},
        ],
        "reference_parts": [
            {"part_id": "ref-good*", "expected": "pass"},
            {"part_id": "ref-bad*", "expected": "fail"},
        ],
    },
    {"line_id": "line-2"},
]


class BuiltLines:
    """Two lines from settings, on memory: the first with PLCs, receivers and reference parts, the other with nothing.

    Args:
        folder: Of what survives.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        parts = [{"product": product, "cameras": list(CAMERAS)} for product in (PRODUCT, "cap")]
        self.settings = load_settings(OutcomeSettings, **{"parts": parts, "lines": LINES, "data": folder} | settings)
        self.record = Record()
        self.blind = ""
        self.cameras = ToldCameras()
        self.images: dict[str, MemoryImage] = {}
        self.sinks: dict[str, MemorySink] = {}
        self._built: list[LineGateway] = []

    def build(self) -> dict[str, LineGateway]:
        """Build them, as each life of the service does; nothing is served yet."""
        builder = LineBuilder(
            self.settings,
            tell=self.record.tell,
            announce=self.record.announce,
            cameras=self.cameras,
            broker_away=lambda: "",
            blind=lambda: self.blind,
            make_image=self._image,
            make_sink=self._sink,
        )
        lines = [builder.build(line) for line in self.settings.lines]
        self._built += lines
        return {line.line_id: line for line in lines}

    def _image(self, options: ModbusSettings | OpcUaSettings, line: LineSettings) -> MemoryImage:
        del line
        self.images[options.name] = MemoryImage()
        return self.images[options.name]

    def _sink(self, options: MqttSettings | WebhookSettings | FileSettings, line: LineSettings) -> MemorySink:
        del line
        self.sinks[options.name] = MemorySink()
        return self.sinks[options.name]

    def stop(self) -> None:
        """Let go of all that was built."""
        for line in self._built:
            line.close()
            for delivery in line.deliveries:
                delivery.close()
