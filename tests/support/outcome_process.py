"""A real outcome service on a real broker, with a PLC, cameras and what it said."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml
from sightline.v1 import ingest_service_pb2, ingest_service_pb2_grpc

from services.adapters.codec import encode_inspection
from services.adapters.codec_outcome import decode_line_event, decode_outcome, encode_arrival
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.modbusclient import ModbusLink
from services.core import topics
from services.core.errors import SightlineError
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Arrival, Outcome
from services.core.plc import PlcInputs
from services.core.types import Inspection, Verdict
from services.local.broker import LocalBroker
from services.local.member import fetch
from services.local.process import LOOPBACK, ChildProcess, free_port
from tests.support.detector_line import wait_until
from tests.support.outcome_line import CAMERAS, LINE, PRODUCT, arrival, inspection


class OutcomeProcess:
    """``python -m services.outcome``, or a module that wraps it.

    Args:
        broker: Where it is led to.
        folder: For its settings, data and log.
        settings: As in its YAML file.
        name: Of its files; one that is started again under its name goes on with its data.
        module: What to run.
    """

    def __init__(
        self,
        broker: LocalBroker,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        name: str = "outcome",
        module: str = "services.outcome",
    ) -> None:
        self.ops_port, self.grpc_port = free_port(), free_port()
        values: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": broker.bootstrap_servers,
                "fetch_wait_ms": LocalBroker.FETCH_WAIT_MS,
                "session_timeout_ms": LocalBroker.SESSION_TIMEOUT_MS,
                "request_timeout_ms": 5_000,
                "delivery_timeout_ms": 6_000,
                "group": f"{folder.name}-outcome",
            },
            "ops": {"port": self.ops_port},
            "grpc": {"port": self.grpc_port},
            "data": str(folder / f"{name}-data"),
            "drain_s": 5,
            "shifts": "",
            "parts": [{"product": PRODUCT, "cameras": list(CAMERAS)}],
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values | settings))
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "SIGHTLINE_CONFIG": str(path)}
        self._log_path = folder / f"{name}.log"
        self._name = name
        self._module = module
        self.process = self._made({})

    def _made(self, more: Mapping[str, str]) -> ChildProcess:
        argv = [sys.executable, "-m", self._module]
        return ChildProcess(self._name, argv, log_path=self._log_path, env=self._env | dict(more))

    def start(self, *, ready: bool = True, **more: str) -> OutcomeProcess:
        """Start it, with more variables, and unless told otherwise wait until it is ready."""
        self.process = self._made(more)
        self.process.start()
        if ready:
            wait_until(self.ready, f"ready; log: {self._log_path}", 60)
        return self

    def ready(self) -> bool:
        """What its readiness probe says."""
        return fetch(self.ops_port, "/readyz")[0] == 200

    @property
    def log(self) -> str:
        """All that it logged."""
        return self._log_path.read_text() if self._log_path.exists() else ""

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()

    def stop(self, timeout_s: float = 25.0) -> int | None:
        """SIGTERM; the exit code."""
        self.process.stop(timeout_s)
        return self.process.returncode


class Pictures(ingest_service_pb2_grpc.IngestServiceServicer):
    """Ingest and detector in one: takes pictures of a triggered part, and says soon after what they show.

    Attributes:
        blind: While true, cameras are asked and nothing ever comes.
        delay_s: From the trigger to the verdicts.
        verdict_of: What a part's picture by a camera shows.
    """

    def __init__(self, kafka: KafkaConnection) -> None:
        self.blind = False
        self.delay_s = 0.05
        self.verdict_of: Callable[[str, str], Verdict] = lambda _part, _camera: Verdict.PASS
        self.asked: Counter[str] = Counter()
        self._kafka = kafka
        self._writer = KafkaRecordWriter(kafka, linger_ms=0)
        self._pool = futures.ThreadPoolExecutor(4)
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(self, self._server)
        self.address = f"{LOOPBACK}:{self._server.add_insecure_port(f'{LOOPBACK}:0')}"
        self._server.start()

    def Trigger(  # noqa: N802
        self, request: ingest_service_pb2.TriggerRequest, context: grpc.ServicerContext
    ) -> ingest_service_pb2.TriggerResponse:
        """Take pictures; asked again, the same ones."""
        del context
        self.asked[request.part_id] += 1
        if not self.blind:
            self._pool.submit(self._picture, request.part_id, request.triggered_at_ns)
        return ingest_service_pb2.TriggerResponse(camera_ids=CAMERAS)

    def _picture(self, part_id: str, at_ns: int) -> None:
        self.write(*(arrival(part_id, camera, at_ns=at_ns) for camera in CAMERAS))
        time.sleep(self.delay_s)
        self.write(*(inspection(part_id, camera, self.verdict_of(part_id, camera), at_ns=at_ns) for camera in CAMERAS))

    def write(self, *told: Arrival | Inspection) -> None:
        """Write arrivals and verdicts to their topics."""
        for one in told:
            topic = topics.ARRIVALS if isinstance(one, Arrival) else topics.VERDICTS
            value = encode_arrival(one) if isinstance(one, Arrival) else encode_inspection(one)
            self._writer.send(topic, key=one.part_id.encode(), value=value)

    def close(self) -> None:
        """Let go."""
        self._server.stop(0)
        self._pool.shutdown(wait=True)
        self._writer.close(5)


@dataclass(frozen=True)
class Told:
    """What a PLC was told of a part, and how long after its trigger."""

    verdict: Verdict
    after_s: float


class SimulatedPlc:
    """A PLC that goes through the handshake with one part after the other, and connects again as often as it must.

    Args:
        port: Of the service's Modbus server.
    """

    def __init__(self, port: int) -> None:
        self._link = ModbusLink(LOOPBACK, port)
        self._inputs = PlcInputs()
        self._connected = False
        self.told: dict[str, list[Told]] = defaultdict(list)

    def run(self, part_ids: Sequence[str], *, timeout_s: float = 60.0) -> None:
        """Have parts inspected; each within ``timeout_s``."""
        for part_id in part_ids:
            end_s = time.monotonic() + timeout_s
            self._until(lambda outputs: outputs.trigger_ready, end_s, f"{part_id} may be triggered")
            triggered_s = time.monotonic()
            self._inputs = dataclasses.replace(self._inputs, trigger=True, part=part_id)
            outputs = self._until(lambda outputs: outputs.result_ready, end_s, f"{part_id} is answered")
            assert outputs.part == part_id, "an answer is of the part that was triggered"
            said = [(outputs.ok, Verdict.PASS), (outputs.nok, Verdict.FAIL), (outputs.review, Verdict.REVIEW)]
            (verdict,) = [verdict for up, verdict in said if up]
            self.told[part_id].append(Told(verdict, time.monotonic() - triggered_s))
            self._inputs = dataclasses.replace(self._inputs, result_ack=True)
            self._until(lambda outputs: not outputs.result_ready, end_s, f"the answer of {part_id} is taken down")
            self._inputs = dataclasses.replace(self._inputs, trigger=False, result_ack=False)

    def _until(self, met: Callable[[Any], bool], end_s: float, what: str) -> Any:
        while True:
            assert time.monotonic() < end_s, f"not in time: {what}"
            self._inputs = dataclasses.replace(self._inputs, heartbeat=(self._inputs.heartbeat + 1) % 65_536)
            try:
                if not self._connected:
                    self._link.connect(2.0)
                    self._connected = True
                self._link.write(self._inputs)
                outputs = self._link.read()
            except SightlineError:
                self._connected = False
                time.sleep(0.02)
                continue
            if not outputs.safe and met(outputs):
                return outputs
            time.sleep(0.005)

    def close(self) -> None:
        """Let go."""
        self._link.close()


class Said:
    """Outcomes and events that are in Kafka, read anew on each call of :meth:`read`."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._reader = KafkaTopicReader(kafka, [topics.OUTCOMES, topics.LINE_EVENTS])
        self.outcomes: list[Outcome] = []
        self.events: list[LineEvent] = []

    def read(self) -> Said:
        """Take what came since."""
        while records := self._reader.poll(max_records=1_000, timeout_s=0.2):
            for record in records:
                if record.topic == topics.OUTCOMES:
                    self.outcomes.append(decode_outcome(record.value))
                else:
                    self.events.append(decode_line_event(record.value))
        return self

    def first(self, part_ids: Sequence[str]) -> dict[str, set[tuple[str, Verdict]]]:
        """By part: ids and verdicts of its first answers; there should be one."""
        wanted = set(part_ids)
        found: dict[str, set[tuple[str, Verdict]]] = defaultdict(set)
        for one in self.outcomes:
            if one.part_id in wanted and one.revision == 1:
                found[one.part_id].add((one.outcome_id, one.verdict))
        return found

    def of(self, kind: LineEventKind, part_ids: Sequence[str]) -> dict[str, set[tuple[str, Verdict | None]]]:
        """By part: ids and verdicts of its events of a kind; one that was told again has the same."""
        wanted = set(part_ids)
        found: dict[str, set[tuple[str, Verdict | None]]] = defaultdict(set)
        for event in self.events:
            if event.part_id in wanted and event.kind is kind:
                found[event.part_id].add((event.event_id, event.verdict))
        return found

    def wait_for(self, part_ids: Sequence[str], timeout_s: float = 30.0) -> Said:
        """Wait until each part has an outcome."""
        wait_until(lambda: len(self.read().first(part_ids)) == len(set(part_ids)), "each part's outcome", timeout_s)
        return self

    def close(self) -> None:
        """Let go."""
        self._reader.close()


def line_with(plc_port: int, *connections: Mapping[str, Any], cycle_time_ms: int = 2_000) -> dict[str, Any]:
    """Settings of a line with a PLC at a port, and other connections."""
    plc = {"name": "plc", "kind": "modbus", "port": plc_port, "heartbeat_timeout_ms": 10_000, "answer_before_ms": 100}
    return {"line_id": LINE, "cycle_time_ms": cycle_time_ms, "connections": [plc, *connections], "alarms": []}
