"""A process of its own that sees when outcomes come out: in their topic, on Modbus, on OPC UA and at an MQTT broker."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from services.adapters.codec_outcome import decode_outcome
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaTopicReader
from services.adapters.modbusclient import ModbusLink
from services.adapters.opcuaclient import OpcUaLink
from services.adapters.ports import PlcLink
from services.core import topics
from services.core.errors import UnavailableError
from services.core.plc import PlcInputs
from tests.bench.outcome_line import LINE
from tests.support.mqtt_broker import Listener, MqttBroker

#: A PLC's cycle.
POLL_S: Final = 0.005
_ANSWER_S: Final = 60.0
Seen = dict[str, tuple[int, str]]
"""By part: when it was seen, in nanoseconds since the epoch, and the verdict."""


@dataclass(frozen=True)
class Places:
    """Where outcomes come out."""

    kafka: KafkaConnection
    modbus_port: int
    opcua_port: int


class Observer:
    """The process; started before the service, so that its MQTT broker is there."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_observe, args=(theirs,), daemon=True)
        self._process.start()
        self.mqtt_port: int = self._answer()

    def watch(self, places: Places) -> None:
        """Begin to look; returns once it looks everywhere."""
        self._ours.send(places)
        self._answer()

    def seen(self) -> dict[str, Seen]:
        """What was seen so far, by place."""
        self._ours.send("seen")
        found: dict[str, Seen] = self._answer()
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join(10)

    def _answer(self) -> Any:
        assert self._ours.poll(_ANSWER_S), "the observer must answer"
        return self._ours.recv()


def _observe(ours: Connection) -> None:
    broker = MqttBroker()
    ours.send(broker.port)
    places: Places = ours.recv()
    seen: dict[str, Seen] = {"topic": {}, "modbus": {}, "opcua": {}, "mqtt": {}}
    links: dict[str, Callable[[], PlcLink]] = {
        "modbus": lambda: ModbusLink("127.0.0.1", places.modbus_port),
        "opcua": lambda: OpcUaLink("127.0.0.1", places.opcua_port, LINE),
    }
    ready = [threading.Event() for _ in range(3)]
    work: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(_watch_topic, (places.kafka, seen["topic"], ready[0]))]
    work += [(_watch_plc, (link, seen[name], ready[at])) for at, (name, link) in enumerate(links.items(), 1)]
    for target, arguments in work:
        threading.Thread(target=target, args=arguments, daemon=True).start()
    listener = Listener(broker, f"sightline/{LINE}/outcome")
    heard = _Heard(seen["mqtt"])
    listener._client.on_message = heard.take
    assert all(one.wait(_ANSWER_S) for one in ready)
    ours.send("watching")
    while ours.recv() == "seen":
        ours.send({name: dict(found) for name, found in seen.items()})


class _Heard:
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def take(self, _client: object, _data: object, message: Any) -> None:
        told = json.loads(message.payload)
        self._seen.setdefault(told["part_id"], (time.time_ns(), told["verdict"]))


def _watch_topic(kafka: KafkaConnection, seen: Seen, ready: threading.Event) -> None:
    reader = KafkaTopicReader(kafka, [topics.OUTCOMES])
    reader.seek_to_end()
    ready.set()
    while True:
        for record in reader.poll(max_records=1_000, timeout_s=0.2):
            one = decode_outcome(record.value)
            seen.setdefault(one.part_id, (time.time_ns(), one.verdict.value))


def _watch_plc(open_link: Callable[[], PlcLink], seen: Seen, ready: threading.Event) -> None:
    """A PLC that reads every outcome and acknowledges it; parts come without triggers."""
    link = open_link()
    link.connect(5.0)
    acknowledged = False
    link.write(PlcInputs())
    ready.set()
    while True:
        try:
            outputs = link.read()
        except UnavailableError:
            # The line is over.
            return
        if outputs.result_ready and not acknowledged:
            word = "pass" if outputs.ok else "fail" if outputs.nok else "review"
            seen.setdefault(outputs.part, (time.time_ns(), word))
        if outputs.result_ready != acknowledged:
            acknowledged = outputs.result_ready
            link.write(PlcInputs(result_ack=acknowledged))
        else:
            time.sleep(POLL_S)
