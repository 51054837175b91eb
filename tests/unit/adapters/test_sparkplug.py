from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services.adapters.mqtt_message import MqttMessage, SparkplugSpeech
from services.adapters.sparkplug import (
    REBIRTH,
    DataType,
    Metric,
    Payload,
    asks_for_rebirth,
    decode_payload,
    encode_payload,
    next_number,
)
from services.core.errors import InvalidInputError
from services.core.line_event import Light, LineEventKind
from tests.support.told import BEGAN_AT_NS, a_light, an_event, an_outcome

AT_NS = BEGAN_AT_NS
_FIELD = descriptor_pb2.FieldDescriptorProto


def _tahu_payload() -> Any:
    """The part of Eclipse Tahu's message that we write, as Google's protobuf reads it."""
    file = descriptor_pb2.FileDescriptorProto(name="tahu.proto", package="tahu", syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    for number, name, kind in (
        (1, "name", _FIELD.TYPE_STRING),
        (2, "alias", _FIELD.TYPE_UINT64),
        (3, "timestamp", _FIELD.TYPE_UINT64),
        (4, "datatype", _FIELD.TYPE_UINT32),
        (7, "is_null", _FIELD.TYPE_BOOL),
        (10, "int_value", _FIELD.TYPE_UINT32),
        (11, "long_value", _FIELD.TYPE_UINT64),
        (12, "float_value", _FIELD.TYPE_FLOAT),
        (13, "double_value", _FIELD.TYPE_DOUBLE),
        (14, "boolean_value", _FIELD.TYPE_BOOL),
        (15, "string_value", _FIELD.TYPE_STRING),
    ):
        metric.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    payload.field.add(name="timestamp", number=1, type=_FIELD.TYPE_UINT64, label=_FIELD.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics",
        number=2,
        type=_FIELD.TYPE_MESSAGE,
        label=_FIELD.LABEL_REPEATED,
        type_name=".tahu.Payload.Metric",
    )
    payload.field.add(name="seq", number=3, type=_FIELD.TYPE_UINT64, label=_FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tahu.Payload"))


EVERY_TYPE = Payload(
    1_795_726_800_123,
    (
        Metric("minus", DataType.INT32, -5, 7),
        Metric("long minus", DataType.INT64, -(1 << 62), alias=300),
        Metric("count", DataType.UINT32, (1 << 32) - 1),
        Metric("long count", DataType.UINT64, (1 << 64) - 1),
        Metric("quarter", DataType.FLOAT, 0.25),
        Metric("third", DataType.DOUBLE, 1 / 3),
        Metric("no", DataType.BOOLEAN, False),
        Metric("yes", DataType.BOOLEAN, True),
        Metric("text", DataType.STRING, "Flasche №7"),
        Metric("when", DataType.DATE_TIME, 1_795_726_800_123),
        Metric("nothing", DataType.STRING, None),
    ),
    seq=0,
)


def test_what_is_written_is_read_back() -> None:
    assert decode_payload(encode_payload(EVERY_TYPE)) == EVERY_TYPE


def test_protobuf_reads_what_we_write_as_tahu_means_it() -> None:
    read = _tahu_payload().FromString(encode_payload(EVERY_TYPE))
    assert read.timestamp == EVERY_TYPE.timestamp_ms
    assert read.HasField("seq")
    assert read.seq == 0
    by_name = {metric.name: metric for metric in read.metrics}
    assert by_name["minus"].int_value == (1 << 32) - 5
    assert by_name["minus"].timestamp == 7
    assert by_name["long minus"].long_value == (1 << 64) - (1 << 62)
    assert by_name["long minus"].alias == 300
    assert by_name["count"].int_value == (1 << 32) - 1
    assert by_name["quarter"].float_value == 0.25
    assert by_name["third"].double_value == 1 / 3
    assert by_name["no"].HasField("boolean_value")
    assert not by_name["no"].boolean_value
    assert by_name["text"].string_value == "Flasche №7"
    assert by_name["when"].datatype == 13
    assert by_name["nothing"].is_null
    assert not by_name["nothing"].HasField("string_value")


def test_we_read_what_protobuf_writes() -> None:
    message = _tahu_payload()(timestamp=5, seq=255)
    message.metrics.add(name=REBIRTH, datatype=11, boolean_value=True)
    read = decode_payload(message.SerializeToString())
    assert read == Payload(5, (Metric(REBIRTH, DataType.BOOLEAN, True),), 255)


def test_only_a_true_rebirth_asks_for_one() -> None:
    assert asks_for_rebirth(Payload(1, (Metric(REBIRTH, DataType.BOOLEAN, True),)))
    assert not asks_for_rebirth(Payload(1, (Metric(REBIRTH, DataType.BOOLEAN, False),)))
    assert not asks_for_rebirth(Payload(1, (Metric("Node Control/Reboot", DataType.BOOLEAN, True),)))
    assert not asks_for_rebirth(Payload(1))


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (DataType.INT32, 1 << 31),
        (DataType.UINT32, -1),
        (DataType.INT32, True),
        (DataType.BOOLEAN, 1),
        (DataType.STRING, 5),
        (DataType.DOUBLE, 5),
        (DataType.INT32, math.pi),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_refused(datatype: DataType, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"metric m must be a {datatype.name}"):
        encode_payload(Payload(1, (Metric("m", datatype, value),)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        b"\x08" + b"\xff" * 12,
        b"\x12\x7f",
        b"\x0b",
        b"\x12\x02\x0a\x05",
        b"\x12\x03\x0a\x01\xff",
        b"\x10\x01",
        b"\x0a\x01a",
        b"\x12\x02\x60\x01",
    ],
)
def test_bytes_that_are_no_payload_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="must be a Sparkplug B payload"):
        decode_payload(data)


def test_a_payload_that_is_cut_anywhere_is_read_or_refused_and_nothing_else() -> None:
    whole = encode_payload(EVERY_TYPE)
    for size in range(len(whole)):
        try:
            decode_payload(whole[:size])
        except InvalidInputError:
            continue


def test_fields_that_are_not_known_are_passed_over() -> None:
    unknown = b"\x22\x02id" + b"\x79" + b"\x00" * 8 + b"\x7d" + b"\x00" * 4
    assert decode_payload(unknown + encode_payload(EVERY_TYPE)) == EVERY_TYPE


# ---- a line's session


def _speech() -> SparkplugSpeech:
    return SparkplugSpeech("Plant", "node-1", "line-1")


def _read(message: MqttMessage) -> tuple[Payload, dict[str, object]]:
    payload = decode_payload(message.payload)
    return payload, {metric.name: metric.value for metric in payload.metrics}


def test_births_come_with_the_will_s_number_and_begin_to_count() -> None:
    speech = _speech()
    will = speech.begin(AT_NS)
    node, device = speech.birth(AT_NS)
    assert [message.topic for message in (will, node, device)] == [
        "spBv1.0/Plant/NDEATH/node-1",
        "spBv1.0/Plant/NBIRTH/node-1",
        "spBv1.0/Plant/DBIRTH/node-1/line-1",
    ]
    assert [message.qos for message in (will, node, device)] == [1, 0, 0]
    assert not any(message.retain for message in (will, node, device))
    assert _read(will)[1] == {"bdSeq": 0}
    assert _read(will)[0].seq is None
    assert _read(node)[1] == {"bdSeq": 0, "Node Control/Rebirth": False}
    assert [_read(node)[0].seq, _read(device)[0].seq] == [0, 1]


def test_a_device_s_birth_names_every_metric_before_there_is_a_value() -> None:
    speech = _speech()
    speech.begin(AT_NS)
    values = _read(speech.birth(AT_NS)[1])[1]
    assert set(values) == {"Part", "Product", "Lot", "Verdict", "InTime", "Revision", "Light", "DecidedAt"}
    assert set(values.values()) == {None}


def test_an_outcome_is_the_device_s_data_and_stands_in_the_next_birth() -> None:
    speech = _speech()
    speech.begin(AT_NS)
    speech.birth(AT_NS)
    told = speech.tell(an_outcome(), AT_NS)
    assert told is not None
    assert (told.topic, told.qos) == ("spBv1.0/Plant/DDATA/node-1/line-1", 0)
    payload, values = _read(told)
    assert payload.seq == 2
    assert values == {
        "Part": "part-1",
        "Product": "bottle",
        "Lot": "lot-7",
        "Verdict": "fail",
        "InTime": True,
        "Revision": 1,
        "DecidedAt": an_outcome().decided_at_ns // 1_000_000,
    }
    again, device = speech.birth(AT_NS)
    assert _read(again)[0].seq == 0
    assert _read(device)[1] == {**values, "Light": None}


def test_of_events_only_the_light_is_told() -> None:
    speech = _speech()
    speech.begin(AT_NS)
    speech.birth(AT_NS)
    told = speech.tell(a_light(Light.AMBER), AT_NS)
    assert told is not None
    assert _read(told)[1] == {"Light": "amber"}
    assert speech.tell(an_event(), AT_NS) is None
    # How grave an alarm is is not what the light shows.
    assert speech.tell(an_event(LineEventKind.ALARM_RAISED, light=Light.RED, alarm_id="a"), AT_NS) is None


def test_numbers_go_around_after_255() -> None:
    assert next_number(254) == 255
    assert next_number(255) == 0
    speech = _speech()
    for _ in range(257):
        will = speech.begin(AT_NS)
    assert _read(will)[1] == {"bdSeq": 0}
    speech.birth(AT_NS)
    seqs = []
    for number in range(255):
        told = speech.tell(an_outcome(f"part-{number}"), AT_NS)
        assert told is not None
        seqs.append(_read(told)[0].seq)
    assert seqs == [*range(2, 256), 0]


def test_a_node_that_leaves_says_its_death_itself() -> None:
    speech = _speech()
    will = speech.begin(AT_NS)
    speech.birth(AT_NS)
    assert [_read(message)[1] for message in speech.farewell(AT_NS)] == [_read(will)[1]]
