"""A line and its PLC: Triton, the broker, the PLC and the outcome service die in turn, and every part is answered."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from services.adapters.codec_outcome import decode_line_event, decode_outcome
from services.adapters.kafka import KafkaTopicReader
from services.adapters.modbusclient import ModbusLink
from services.adapters.outcomeclient import OutcomeClient
from services.core import topics
from services.core.errors import SightlineError
from services.core.line_event import Light, LineEvent, LineEventKind
from services.core.line_state import LineState
from services.core.outcome import Outcome
from services.core.plc import ErrorCode
from services.core.plc_run import PartEnd, PlcPart, PlcProgramSettings
from services.core.reference_check import ReferencePhase
from services.core.types import Verdict
from services.local.line import Line, LinePlan
from services.local.plc_sim import SimulatedPlc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CYCLE_MS = 2_000
LONG_S = 90.0


def cameras(path: Path) -> Path:
    """Two cameras that see each disc once its PLC says that it is there."""
    camera = {"line_id": "line-1", "product": "disc", "cycle_time_ms": CYCLE_MS, "triggered": True}
    source = {"kind": "simulated", "seed": 1_000_000, "defect_rate": 0.1}
    listed = [
        {"camera_id": name, **camera, "source": {**source, "view": view}} for view, name in enumerate(("left", "right"))
    ]
    path.write_text(yaml.safe_dump({"limits": {"inline_limit_bytes": 4_000}, "cameras": listed}))
    return path


class Plc:
    """A simulated PLC on a thread, with an account of its parts."""

    def __init__(self, port: int, prefix: str, *, references: int = 0) -> None:
        self.parts: list[PlcPart] = []
        settings = PlcProgramSettings(
            prefix=prefix, interval_ms=300.0, reference_good=references, reference_bad=references
        )
        self._plc = SimulatedPlc(settings, ModbusLink("127.0.0.1", port), on_part=self.parts.append)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=prefix, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set() and self._plc.turn():
            pass

    def since(self, count: int) -> list[PlcPart]:
        """Parts that were over after so many."""
        return self.parts[count:]

    def die(self) -> None:
        """Say nothing more, in the middle of whatever it does."""
        self._stopping.set()
        self._thread.join(30)
        self._plc._ended.set()

    def stop(self) -> None:
        """End with the part under way."""
        self._stopping.set()
        self._thread.join(30)
        end_s = time.monotonic() + LONG_S
        while self._plc.turn(stop=True):
            assert time.monotonic() < end_s, "the last part must be over"
        self._plc.close()


class Supervised:
    """A line that is looked after, unless it is left alone for a while."""

    def __init__(self, folder: Path) -> None:
        plan = LinePlan(folder / "data", cameras(folder / "cameras.yaml"), engine="durable", answers=True)
        self.line = Line(plan)
        self._alone = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Supervised:
        try:
            self.line.start()
            # This test plays the PLC itself.
            self.line.plcs.clear()
            self.line.start_ingest()
        except BaseException:
            self.line.stop()
            raise
        self._thread.start()
        self.client = OutcomeClient(self.line.command_settings()["OUTCOME__ADDRESS"], timeout_s=5.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        self.client.close()
        self.line.stop()

    def _run(self) -> None:
        while not self._stopping.wait(0.5):
            if not self._alone.is_set():
                self.line.watch()

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Nothing that dies comes back meanwhile."""
        self._alone.set()
        try:
            yield
        finally:
            self._alone.clear()

    @property
    def modbus_port(self) -> int:
        """Where the PLC connects to."""
        settings = yaml.safe_load((self.line._plan.data / "outcome.yaml").read_text())
        return int(settings["lines"][0]["connections"][0]["port"])

    def state(self) -> LineState | None:
        """How the line says that it is; None while it does not answer."""
        try:
            return self.client.lines()[0]
        except SightlineError:
            return None


def until(what: str, holds: Callable[[], bool], timeout_s: float = LONG_S) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, f"{what} must come within {timeout_s:.0f} s"
        time.sleep(0.1)


def seen(part: PlcPart) -> bool:
    """Whether cameras and model decided about it."""
    return part.end is PartEnd.ANSWERED and part.error_code is ErrorCode.NONE


def test_triton_the_broker_the_plc_and_the_service_die_in_turn_and_every_part_has_one_answer(tmp_path: Path) -> None:
    with Supervised(tmp_path) as line:
        plc = Plc(line.modbus_port, "before", references=1)
        until("parts that were seen", lambda: sum(seen(part) for part in plc.parts) >= 6)
        until(
            "the check with reference parts",
            lambda: (state := line.state()) is not None and state.reference.phase is ReferencePhase.PASSED,
        )
        for kill in (line.line.servers.triton.kill, line.line.servers.broker.child.kill):
            with line.left_alone():
                count = len(plc.parts) + 1
                kill()
                until("parts without anybody to see them", lambda n=count: len(plc.since(n)) >= 5)  # type: ignore[misc]
                # The one that was under way may have been seen just before.
                blind = plc.since(count)
                assert {part.verdict for part in blind} == {Verdict.REVIEW}
                assert {part.error_code for part in blind} == {ErrorCode.DEADLINE}
                late = [part for part in blind if part.answered_ms is None or part.answered_ms > CYCLE_MS]
                assert not late, "each within its cycle"
                until("a red light", lambda: (state := line.state()) is not None and state.light is Light.RED)
            count = len(plc.parts)
            until("parts that are seen again", lambda n=count: any(seen(part) for part in plc.since(n)))  # type: ignore[misc]

        plc.die()
        until("the safe level", lambda: (state := line.state()) is not None and not state.connections[0].up)
        second = Plc(line.modbus_port, "after")
        until("parts of the next PLC", lambda: sum(seen(part) for part in second.parts) >= 3)

        service = line.line.members["outcome"].process
        pid, count = service.pid, len(second.parts)
        service.kill()
        until("the service", lambda: service.alive and service.pid != pid)
        until("parts after it was killed", lambda: sum(seen(part) for part in second.since(count + 1)) >= 3)
        second.stop()
        parts = [*plc.parts, *second.parts]
        account(line, parts)


def account(line: Supervised, parts: list[PlcPart]) -> None:
    """Hold what the PLCs were told against the record."""
    told: dict[str, set[Verdict | None]] = {}
    triggered: set[str] = set()

    def on_record() -> bool:
        told.clear()
        for event in events(line):
            if event.kind is LineEventKind.TRIGGERED:
                triggered.add(event.part_id)
            elif event.kind is LineEventKind.ANSWERED:
                told.setdefault(event.part_id, set()).add(event.verdict)
        return triggered <= set(told)

    until("every answer on record", on_record)
    assert all(len(verdicts) == 1 for verdicts in told.values()), "nobody was told two things"
    answered = [part for part in parts if part.end is PartEnd.ANSWERED]
    assert all(told[part.part_id] == {part.verdict} for part in answered), "what is on record is what was told"
    # Without an answer is only whoever was under way when the service died, and the PLC knows it.
    assert len(parts) - len(answered) <= 1

    first: dict[str, set[str]] = defaultdict(set)

    def joined() -> bool:
        first.clear()
        for outcome in outcomes(line):
            if outcome.revision == 1:
                first[outcome.part_id].add(outcome.outcome_id)
        return triggered <= set(first)

    until("an outcome of every part", joined)
    assert all(len(ids) == 1 for ids in first.values()), "no part has two first answers"


def events(line: Supervised) -> list[LineEvent]:
    return [decode_line_event(value) for value in values(line, topics.LINE_EVENTS)]


def outcomes(line: Supervised) -> list[Outcome]:
    return [decode_outcome(value) for value in values(line, topics.OUTCOMES)]


def values(line: Supervised, topic: str) -> list[bytes]:
    """Every record of a topic, until it is quiet: the durable stand-in counts its ends in batches."""
    reader = KafkaTopicReader(line.line.servers.kafka, [topic])
    found: list[bytes] = []
    try:
        while records := reader.poll(max_records=500, timeout_s=2.0):
            found += [record.value for record in records]
    finally:
        reader.close()
    return found
