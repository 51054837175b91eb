"""A broker and an outcome service as a process, fed with the records of parts that nobody has made."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from services.adapters.codec import encode_inspection
from services.adapters.codec_outcome import encode_arrival
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.core import topics
from services.core.identity import derive_frame_id
from services.core.outcome import Arrival
from services.core.types import Inspection, OperatingPoint, Reason, Verdict
from services.local.broker import LocalBroker
from services.local.member import Member, metric_total

LINE: Final = "line-1"
PRODUCT: Final = "disc"
CAMERAS: Final = ("left", "right")
#: From a part's arrival to the verdict on each of its views.
VERDICT_AFTER_S: Final = (0.06, 0.09)
OUTCOMES: Final = "sightline_outcome_outcomes_total"
_DEADLINE_S: Final = 300.0
_LOOK_S: Final = 0.02
_FIRST_PARTS: Final = 50
Message = tuple[str, bytes, bytes]


def arrivals(part_id: str, at_ns: int, cycle_time_ms: int) -> list[Message]:
    """The word of both frames of a part."""
    return [
        (
            topics.ARRIVALS,
            part_id.encode(),
            encode_arrival(
                Arrival(
                    part_id=part_id,
                    line_id=LINE,
                    product=PRODUCT,
                    arrived_at_ns=at_ns,
                    cycle_time_ms=cycle_time_ms,
                    camera_id=camera,
                    frame_id=derive_frame_id(camera, part_id, 0, at_ns),
                )
            ),
        )
        for camera in CAMERAS
    ]


def verdict(part_id: str, camera: str, at_ns: int, cycle_time_ms: int) -> Message:
    """What the detector says of one view."""
    return (
        topics.VERDICTS,
        part_id.encode(),
        encode_inspection(
            Inspection(
                part_id=part_id,
                line_id=LINE,
                camera_id=camera,
                sequence=1,
                captured_at_ns=at_ns,
                decided_at_ns=time.time_ns(),
                verdict=Verdict.PASS,
                reason=Reason.SCORE,
                score=0.1,
                operating_point=OperatingPoint(0.5, 0.4, 0.6),
                uncertainty=0.0,
                alias="default",
                model_version=1,
                product=PRODUCT,
                cycle_time_ms=cycle_time_ms,
                frame_id=derive_frame_id(camera, part_id, 0, at_ns),
            )
        ),
    )


@dataclass
class Offered:
    """What was offered over some time, and what that took."""

    rate: float
    """Parts a second that were to be offered."""
    began_ns: dict[str, int] = field(default_factory=dict)
    last_verdict_ns: dict[str, int] = field(default_factory=dict)
    """When a part's last verdict was handed to the broker's client."""
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def reached(self) -> float:
        """Parts a second that were offered in fact."""
        return len(self.began_ns) / self.seconds


class OutcomeLine:
    """A broker of its own, and an outcome service on it; a context manager.

    Args:
        folder: Of its own; settings and logs go there.
        lines: The service's lines, as its settings have them.
        joining: Its settings of joining.
    """

    def __init__(
        self, folder: Path, lines: Sequence[dict[str, Any]] = (), joining: dict[str, Any] | None = None
    ) -> None:
        folder.mkdir(parents=True)
        self._broker = LocalBroker(log_path=folder / "broker.log")
        self._broker.start()
        self.kafka = KafkaConnection(
            self._broker.bootstrap_servers,
            fetch_wait_ms=LocalBroker.FETCH_WAIT_MS,
            session_timeout_ms=LocalBroker.SESSION_TIMEOUT_MS,
        )
        ensure_topics(self.kafka, standard_topics())
        config = folder / "outcome.yaml"
        settings = {
            "parts": [{"product": PRODUCT, "cameras": list(CAMERAS)}],
            "lines": list(lines),
            "joining": joining or {},
            "data": str(folder / "data"),
        }
        config.write_text(yaml.safe_dump(settings))
        self.service = Member(
            "outcome",
            {
                "CONFIG": str(config),
                "KAFKA__BOOTSTRAP_SERVERS": self._broker.bootstrap_servers,
                "KAFKA__FETCH_WAIT_MS": str(LocalBroker.FETCH_WAIT_MS),
                "KAFKA__SESSION_TIMEOUT_MS": str(LocalBroker.SESSION_TIMEOUT_MS),
                "GRPC__PORT": "0",
                "PROBE_PROPAGATION_S": "0",
            },
            logs=folder / "logs",
        )

    def __enter__(self) -> OutcomeLine:
        """The broker runs; the service is started by :meth:`start`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both."""
        self.service.stop()
        self._broker.stop()

    def start(self) -> None:
        """Start the service and wait until it has its partitions: until each has answered a part."""
        self.service.start()
        wait_until(self._ready)
        self.offer("first", 50.0, _FIRST_PARTS, 0)
        self.wait_for(_FIRST_PARTS)

    def _ready(self) -> bool:
        assert self.service.process.alive, f"the service must start, see {self.service.process.log_path}"
        return self.service.ready()

    def wait_for(self, outcomes: float) -> None:
        """Wait until so many outcomes are written."""
        wait_until(lambda: self.outcomes >= outcomes)

    @property
    def outcomes(self) -> float:
        """Outcomes that the service has written so far."""
        return metric_total(self.service.metrics(), OUTCOMES)

    @property
    def rss_mb(self) -> float:
        """The service's memory."""
        return float(psutil.Process(self.service.process.pid).memory_info().rss / 1e6)

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU so far, by process."""
        return {
            "service": _cpu_s(self.service.process.pid),
            "broker": _cpu_s(self._broker.child.pid),
            "generator": time.process_time(),
        }

    def fill(self, parts: int) -> None:
        """Write all records of so many parts at once; they have no deadline."""
        writer = KafkaRecordWriter(self.kafka)
        at_ns = time.time_ns()
        for number in range(parts):
            part_id = f"fill-{number:07d}"
            messages = arrivals(part_id, at_ns, 0) + [verdict(part_id, camera, at_ns, 0) for camera in CAMERAS]
            for topic, key, value in messages:
                writer.send(topic, key=key, value=value)
        writer.flush(_DEADLINE_S)
        writer.close(5)

    def offer(
        self,
        name: str,
        rate: float,
        parts: int,
        cycle_time_ms: int,
        *,
        views: Callable[[int], int] = lambda _number: len(CAMERAS),
        each: Callable[[], None] = lambda: None,
    ) -> Offered:
        """Write the records of parts that come evenly in time: both arrivals, then the verdicts one by one.

        Args:
            name: Parts' names begin so.
            rate: Parts a second.
            parts: So many.
            cycle_time_ms: When their answer is due.
            views: How many verdicts a part gets, by its number.
            each: Called once for each part.
        """
        writer = KafkaRecordWriter(self.kafka, linger_ms=0)
        offered = Offered(rate)
        began_s, cpu_s = time.monotonic(), time.process_time()
        steps = [_steps(began_s, rate, parts, after_s, step) for step, after_s in enumerate((0.0, *VERDICT_AFTER_S))]
        for due_s, number, step in heapq.merge(*steps):
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            part_id = f"{name}-{number:07d}"
            if step == 0:
                offered.began_ns[part_id] = time.time_ns()
                messages = arrivals(part_id, offered.began_ns[part_id], cycle_time_ms)
                each()
            elif step <= views(number):
                messages = [verdict(part_id, CAMERAS[step - 1], offered.began_ns[part_id], cycle_time_ms)]
                offered.last_verdict_ns[part_id] = time.time_ns()
            else:
                continue
            for topic, key, value in messages:
                writer.send(topic, key=key, value=value)
        offered.seconds, offered.cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        writer.flush(_DEADLINE_S)
        writer.close(5)
        return offered


def _steps(began_s: float, rate: float, parts: int, after_s: float, step: int) -> Iterator[tuple[float, int, int]]:
    return ((began_s + number / rate + after_s, number, step) for number in range(parts))


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def wait_until(condition: Callable[[], bool], timeout_s: float = _DEADLINE_S) -> None:
    """Wait until a condition holds; fails after ``timeout_s``."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "the condition must hold in time"
        time.sleep(_LOOK_S)


def load_average() -> float:
    """How many processes wanted a core over the last minute."""
    return os.getloadavg()[0]
