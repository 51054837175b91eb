"""The MQTT sink at a real broker: states, triggers, passwords, Sparkplug B."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters.mqtt import MqttConnection, MqttSink
from services.adapters.mqtt_message import MqttTrigger
from services.adapters.sparkplug import REBIRTH, DataType, Metric, Payload, decode_payload, encode_payload
from services.core.errors import InvalidInputError, UnavailableError
from services.core.line_event import Light
from tests.support.certificates import loopback_certificate
from tests.support.mqtt_broker import PASSWORD, USERNAME, Listener, MqttBroker, until
from tests.support.told import a_light, an_event, an_outcome

pytestmark = pytest.mark.integration

_NODE = "spBv1.0/Plant/{}/sightline-line-1"


@pytest.fixture
def broker() -> Iterator[MqttBroker]:
    made = MqttBroker()
    yield made
    made.kill()


@pytest.fixture
def sinks() -> Iterator[list[MqttSink]]:
    made: list[MqttSink] = []
    yield made
    for sink in made:
        sink.close()


def _connection(broker: MqttBroker, **changes: object) -> MqttConnection:
    wanted = {"timeout_s": 20.0, "reconnect_max_s": 1, "sparkplug_group": "Plant", **changes}
    return MqttConnection("127.0.0.1", broker.port, **wanted)  # type: ignore[arg-type]


@pytest.fixture
def sink(broker: MqttBroker, sinks: list[MqttSink]) -> MqttSink:
    sinks.append(MqttSink(_connection(broker), "line-1"))
    until(lambda: sinks[0].up)
    return sinks[0]


def _refusal(sink: MqttSink) -> str:
    try:
        sink.deliver(an_outcome())
    except UnavailableError as error:
        return str(error)
    return ""


def _states(listener: Listener) -> list[str]:
    return [json.loads(each)["state"] for each in listener.on("sightline/line-1/state")]


# ---- state


def test_the_state_is_retained_and_a_cut_connection_is_told_of(broker: MqttBroker, sink: MqttSink) -> None:
    listener = Listener(broker, "sightline/line-1/state")
    until(lambda: _states(listener) == ["online"])
    broker.cut("sightline-line-1")
    until(lambda: _states(listener) == ["online", "offline", "online"])
    sink.close()
    until(lambda: _states(listener)[3:] == ["offline"])
    assert "left_at" in json.loads(listener.on("sightline/line-1/state")[-1])
    late = Listener(broker, "sightline/line-1/state")
    until(lambda: _states(late) == ["offline"])
    listener.close()
    late.close()


def test_a_sink_that_began_before_its_broker_finds_it(sinks: list[MqttSink]) -> None:
    broker = MqttBroker()
    broker.kill()
    sinks.append(MqttSink(_connection(broker, timeout_s=0.2), "line-1"))
    until(lambda: "got no connection (ConnectionRefusedError" in _refusal(sinks[0]))
    broker.start()
    until(lambda: sinks[0].up)
    sinks[0].close()
    broker.kill()


def test_a_broker_that_never_answers_is_unavailable_in_time(sinks: list[MqttSink]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sinks.append(MqttSink(MqttConnection("127.0.0.1", silent.getsockname()[1], timeout_s=0.3), "line-1"))
        began_s = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer yet"):
            sinks[0].deliver(an_outcome())
        assert time.monotonic() - began_s < 10
        sinks[0].close()


def test_a_wrong_password_is_said_without_showing_it(sinks: list[MqttSink]) -> None:
    broker = MqttBroker(password=True)
    sinks.append(MqttSink(_connection(broker, username=USERNAME, password="not the one", timeout_s=2.0), "line-1"))
    with pytest.raises(UnavailableError, match="user name and password are not the broker's") as caught:
        sinks[0].deliver(an_outcome())
    assert "not the one" not in str(caught.value)
    sinks.append(MqttSink(_connection(broker, username=USERNAME, password=PASSWORD), "line-2"))
    sinks[1].deliver(an_outcome())
    for each in sinks:
        each.close()
    broker.kill()


def test_what_was_not_acknowledged_is_not_sent_on_top_of_what_the_caller_brings_again(
    broker: MqttBroker, sinks: list[MqttSink]
) -> None:
    sinks.append(MqttSink(_connection(broker, timeout_s=1.0), "line-1"))
    until(lambda: sinks[0].up)
    broker.kill()
    for number in range(3):
        with pytest.raises(UnavailableError):
            sinks[0].deliver(an_outcome(f"part-{number}"))
    broker.start()
    listener = Listener(broker, "sightline/line-1/outcome")
    until(lambda: sinks[0].up)
    sinks[0].deliver(an_outcome("part-9"))
    until(lambda: listener.heard)
    parts = [json.loads(each)["part_id"] for each in listener.on("sightline/line-1/outcome")]
    assert parts[-1] == "part-9"
    assert len(parts) <= 2
    listener.close()


def test_tls_is_spoken_with_a_broker_whose_authority_is_known(sinks: list[MqttSink], tmp_path: Path) -> None:
    files = loopback_certificate(tmp_path)
    broker = MqttBroker(certificate=files)
    sinks.append(MqttSink(_connection(broker, tls=True, ca_file=files.certificate), "line-1"))
    sinks[0].deliver(an_outcome())
    assert sinks[0].address == f"mqtts://127.0.0.1:{broker.port}/sightline/line-1"
    sinks.append(MqttSink(_connection(broker, tls=True, timeout_s=0.5), "line-2"))
    until(lambda: "CERTIFICATE_VERIFY_FAILED" in _refusal(sinks[1]))
    for each in sinks:
        each.close()
    broker.kill()


# ---- triggers


def test_triggers_come_in_and_what_is_none_is_told_of(broker: MqttBroker, sink: MqttSink) -> None:
    listener = Listener(broker, "nothing")
    topic = "sightline/line-1/trigger"
    listener.publish(topic, b'{"trigger_id": "t-1", "part_id": "p-1", "recipe": "7"}')
    listener.publish(topic, b'{"trigger_id": "t-1", "part_id": "p-1", "recipe": "7"}')
    listener.publish(topic, b"no JSON")
    listener.publish(topic, b"x" * 5000)
    listener.publish(topic, b'{"trigger_id": "t-2"}')
    taken: list[MqttTrigger] = []
    until(lambda: taken.extend(sink.take_triggers(0.1)) or len(taken) == 2)
    assert taken == [MqttTrigger("t-1", "p-1", "7"), MqttTrigger("t-2")]
    texts = sink.malformed()
    assert len(texts) == 2
    assert "must be JSON" in texts[0]
    assert "at most 4096 bytes, got 5000" in texts[1]
    listener.close()


def test_triggers_come_again_after_the_broker_was_away(broker: MqttBroker, sink: MqttSink) -> None:
    broker.kill()
    until(lambda: not sink.up)
    broker.start()
    until(lambda: sink.up)
    listener = Listener(broker, "nothing")
    listener.publish("sightline/line-1/trigger", b'{"trigger_id": "t"}')
    assert sink.take_triggers(20) == [MqttTrigger("t")]
    listener.close()


def test_a_retained_trigger_is_of_a_part_that_has_passed(broker: MqttBroker, sinks: list[MqttSink]) -> None:
    listener = Listener(broker, "nothing")
    listener.publish("sightline/line-1/trigger", b'{"trigger_id": "t"}', retain=True)
    sinks.append(MqttSink(_connection(broker), "line-1"))
    texts: list[str] = []
    until(lambda: texts.extend(sinks[0].malformed()) or texts)
    assert texts == ["a trigger must not be retained, got t retained"]
    assert sinks[0].take_triggers(0) == []
    listener.close()


# ---- Sparkplug B


@pytest.fixture
def host(broker: MqttBroker) -> Iterator[Listener]:
    made = Listener(broker, "spBv1.0/Plant/#")
    yield made
    made.close()


@pytest.fixture
def sparkplug(broker: MqttBroker, host: Listener, sinks: list[MqttSink]) -> MqttSink:
    sinks.append(MqttSink(_connection(broker, payload="sparkplug"), "line-1"))
    until(lambda: sinks[0].up)
    return sinks[0]


def _said(host: Listener) -> list[tuple[str, Payload]]:
    heard = [(message.topic, decode_payload(bytes(message.payload))) for message in list(host.heard)]
    return [(topic.split("/")[2], payload) for topic, payload in heard if "/NCMD/" not in topic]


def test_a_line_is_born_tells_and_dies_as_sparkplug_wants_it(host: Listener, sparkplug: MqttSink) -> None:
    sparkplug.deliver(an_outcome("part-1"))
    sparkplug.deliver(an_event())
    sparkplug.deliver(a_light(Light.RED))
    sparkplug.close()
    until(lambda: len(_said(host)) == 5)
    said = _said(host)
    assert [(kind, payload.seq) for kind, payload in said] == [
        ("NBIRTH", 0),
        ("DBIRTH", 1),
        ("DDATA", 2),
        ("DDATA", 3),
        ("NDEATH", None),
    ]
    assert {metric.name: metric.value for metric in said[2][1].metrics}["Part"] == "part-1"
    assert [(metric.name, metric.value) for metric in said[3][1].metrics] == [("Light", "red")]
    assert not any(message.retain for message in host.heard)


def test_a_rebirth_that_is_asked_for_comes_with_the_values_as_they_are(host: Listener, sparkplug: MqttSink) -> None:
    sparkplug.deliver(an_outcome("part-1"))
    host.publish(_NODE.format("NCMD"), encode_payload(Payload(1, (Metric(REBIRTH, DataType.BOOLEAN, True),))))
    until(lambda: len(_said(host)) == 5)
    sparkplug.deliver(an_outcome("part-2"))
    until(lambda: len(_said(host)) == 6)
    said = _said(host)[3:]
    assert [(kind, payload.seq) for kind, payload in said] == [("NBIRTH", 0), ("DBIRTH", 1), ("DDATA", 2)]
    assert said[0][1].metrics[0].value == 0
    assert {metric.name: metric.value for metric in said[1][1].metrics}["Part"] == "part-1"


def test_a_command_that_is_none_is_told_of(host: Listener, sparkplug: MqttSink) -> None:
    host.publish(_NODE.format("NCMD"), b"\xff\xff")
    texts: list[str] = []
    until(lambda: texts.extend(sparkplug.malformed()) or texts)
    assert "must be a Sparkplug B payload" in texts[0]


def test_a_cut_session_dies_by_its_will_and_the_next_has_the_next_number(
    broker: MqttBroker, host: Listener, sparkplug: MqttSink
) -> None:
    until(lambda: len(_said(host)) == 2)
    broker.cut("sightline-line-1-sparkplug")
    until(lambda: len(_said(host)) == 5)
    said = _said(host)
    assert [kind for kind, _ in said] == ["NBIRTH", "DBIRTH", "NDEATH", "NBIRTH", "DBIRTH"]
    assert [said[number][1].metrics[0].value for number in (0, 2, 3)] == [0, 0, 1]


def test_a_broker_that_died_under_sparkplug_gets_what_was_waiting(
    broker: MqttBroker, host: Listener, sinks: list[MqttSink]
) -> None:
    sinks.append(MqttSink(_connection(broker, payload="sparkplug", timeout_s=1.0), "line-1"))
    until(lambda: sinks[0].up)
    broker.kill()
    with pytest.raises(UnavailableError):
        sinks[0].deliver(an_outcome("part-1"))
    broker.start()
    again = Listener(broker, "spBv1.0/Plant/DDATA/#")
    until(lambda: sinks[0].up)
    sinks[0].deliver(an_outcome("part-1"))
    until(lambda: again.heard)
    again.close()


def test_tls_files_that_cannot_be_read_are_refused_at_once(broker: MqttBroker, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(InvalidInputError, match="TLS files must be PEM"):
            MqttSink(_connection(broker, tls=True, ca_file=tmp_path / name), "line-1")
