"""The simulated PLC and the inspection's connection play with each other, in memory, in Modbus-TCP and in OPC UA."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core.line_event import LineEvent, LineEventKind
from services.core.plc import ErrorCode, HandshakeSettings, PlcOutputs, TriggeredPart
from services.core.plc_run import PartEnd, PlcFaults, PlcPart, PlcProgramSettings
from services.core.types import Verdict
from services.local.plc_sim import SimulatedPlc
from services.outcome.plc_connection import PlcConnection
from services.outcome.state_file import BytesFile
from tests.support.outcomes import outcome
from tests.support.processimages import LINE, Served, served

KINDS = ["memory", *(pytest.param(kind, marks=pytest.mark.integration) for kind in ("modbus", "opcua"))]
DEADLINE_S = 60.0
VERDICTS = (Verdict.PASS, Verdict.FAIL, Verdict.REVIEW)


class Inspection:
    """A line's connection whose cameras have every part's outcome a moment after it was triggered."""

    def __init__(self, image: Served, folder: Path) -> None:
        self.events: list[LineEvent] = []
        self.verdicts: dict[str, Verdict] = {}
        self._ended = threading.Event()
        self._parts: list[TriggeredPart] = []
        handshake = HandshakeSettings(
            LINE, "plc", frozenset({"disc"}), cycle_time_ms=5_000, heartbeat_timeout_ms=1_500, ack_timeout_ms=100
        )
        self.connection = PlcConnection(
            handshake,
            image.image,
            BytesFile(folder / "plc.json"),
            tell=self.events.extend,
            ask=self._parts.append,
            light=lambda: None,
        )
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self.connection.start()
        self._thread.start()

    def told(self, kind: LineEventKind) -> int:
        """How often, from the first part on: until its PLC is connected, a line is at the safe level."""
        kinds = [event.kind for event in self.events]
        return kinds[kinds.index(LineEventKind.TRIGGERED) :].count(kind)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(DEADLINE_S)
        self.connection.close()

    def _answer(self) -> None:
        while not self._ended.wait(0.002):
            while self._parts:
                part = self._parts.pop(0)
                verdict = VERDICTS[len(self.verdicts) % len(VERDICTS)]
                if part.pictured:
                    self.verdicts[part.part_id] = verdict
                    self.connection.take_outcome(outcome(verdict, part_id=part.part_id, line_id=LINE))


@pytest.fixture(params=KINDS)
def line(request: pytest.FixtureRequest) -> Served:
    return served(request.param)


@pytest.fixture
def inspection(line: Served, tmp_path: Path) -> Iterator[Inspection]:
    one = Inspection(line, tmp_path)
    yield one
    one.close()


def play(line: Served, parts: int, until: Callable[[], bool] = lambda: False, **more: Any) -> list[PlcPart]:
    """What came of each part, in order."""
    ended: list[PlcPart] = []
    plc = SimulatedPlc(PlcProgramSettings("run", parts, **more), line.link(), on_part=ended.append, poll_s=0.001)
    end_s = time.monotonic() + DEADLINE_S
    try:
        while plc.turn(stop=until()):
            assert time.monotonic() < end_s, f"the line must come to its end, it has {len(ended)} parts"
    finally:
        plc.close()
    return ended


def test_every_part_has_the_answer_that_the_cameras_gave(line: Served, inspection: Inspection) -> None:
    parts = play(line, 60)
    assert [part.part for part in parts] == [f"run-{number:06d}" for number in range(1, 61)]
    assert [part.verdict for part in parts] == [inspection.verdicts[part.part] for part in parts]
    assert all(part.acknowledged and part.error_code is ErrorCode.NONE for part in parts)


def test_a_line_that_is_out_of_turn_accounts_for_every_part(line: Served, inspection: Inspection) -> None:
    faults = PlcFaults(skip_ack_every=5, unknown_recipe_every=4, stop_heartbeat_every=9, stop_heartbeat_ms=2_000)
    parts = play(line, 18, recipe="disc", faults=faults)
    assert [part.end for part in parts] == [PartEnd.ANSWERED] * 18
    assert [part.part for part in parts if part.error_code is ErrorCode.UNKNOWN_RECIPE] == [
        f"run-{number:06d}" for number in (4, 8, 12, 16)
    ]
    assert inspection.told(LineEventKind.ACK_MISSING) >= 3
    assert inspection.told(LineEventKind.HEARTBEAT_LOST) >= 2


@pytest.mark.usefixtures("inspection")
def test_the_heart_beats_while_the_line_waits_for_its_next_part(line: Served) -> None:
    beats: set[int] = set()

    def look() -> bool:
        beats.add(line.image.read().heartbeat)
        return False

    parts = play(line, 2, look, interval_ms=2_500, heartbeat_ms=50)
    assert len(parts) == 2
    # Of some fifty. Whether the inspection took one for lost is a question of how long this machine stood still.
    assert len(beats) >= 5


@pytest.mark.integration
def test_a_plc_outlives_the_inspection_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    line = served("modbus")
    lives = [Inspection(line, tmp_path)]
    ended: list[PlcPart] = []
    plc = SimulatedPlc(PlcProgramSettings("run", 40), line.link(), on_part=ended.append, poll_s=0.001)
    end_s = time.monotonic() + DEADLINE_S
    restarts = iter((10, 20, 30))
    next_at = next(restarts)
    try:
        while plc.turn():
            assert time.monotonic() < end_s, f"the line must come to its end, it has {len(ended)} parts"
            if len(ended) >= next_at:
                next_at = next(restarts, 1_000)
                port = line.image.port
                lives[-1].close()
                line.image = type(line.image)("127.0.0.1", port)
                lives.append(Inspection(line, tmp_path))
    finally:
        plc.close()
        lives[-1].close()
    assert len(lives) == 4
    verdicts = {part: verdict for life in lives for part, verdict in life.verdicts.items()}
    assert [part.end for part in ended] == [PartEnd.ANSWERED] * 40
    assert [part.verdict for part in ended] == [verdicts[part.part] for part in ended]


def test_with_nobody_at_the_other_end_it_gives_up_and_says_so(line: Served) -> None:
    plc = SimulatedPlc(
        PlcProgramSettings("run", 1), line.link(), on_part=lambda _part: None, give_up_s=0.3, poll_s=0.001
    )
    end_s = time.monotonic() + DEADLINE_S
    while plc.turn():
        assert time.monotonic() < end_s
    assert plc.away
    plc.close()
    plc.close()


def test_a_part_under_way_is_unanswered_when_the_line_is_stopped(line: Served) -> None:
    line.image.start()
    ended: list[PlcPart] = []
    plc = SimulatedPlc(PlcProgramSettings("run", 1), line.link(), on_part=ended.append, poll_s=0.001)
    line.image.write(PlcOutputs(trigger_ready=True))
    end_s = time.monotonic() + DEADLINE_S
    while not line.image.read().trigger:
        assert plc.turn()
        assert time.monotonic() < end_s
    plc.close()
    assert [(part.end, part.reason) for part in ended] == [(PartEnd.UNANSWERED, "the PLC was stopped")]
    line.image.close()
