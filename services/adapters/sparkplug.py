"""Sparkplug B, as far as a line needs it: births, data and deaths of an edge node with one device.

Field numbers and data types are those of Eclipse Tahu's ``sparkplug_b.proto``; topics, sequence numbers and qualities
of service those of the Sparkplug 3.0 specification. The payload is small and fixed, so its protobuf encoding is
written here instead of generating it from another project's file.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from services.core.errors import InvalidInputError

#: By which a host application asks for the births again.
REBIRTH: Final = "Node Control/Rebirth"
#: Session number that pairs a birth with its death.
BD_SEQ: Final = "bdSeq"

_NUMBERS: Final = 256
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BITS: Final = 64
_TIMESTAMP, _METRICS, _SEQ = 1, 2, 3
_NAME, _ALIAS, _METRIC_TIMESTAMP, _DATATYPE, _IS_NULL = 1, 2, 3, 4, 7
_INT, _LONG, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = 10, 11, 12, 13, 14, 15

MetricValue = int | float | bool | str | None


class DataType(enum.IntEnum):
    """What a metric's value is; the numbers are Sparkplug's."""

    INT32 = 3
    INT64 = 4
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13
    """Milliseconds since the epoch."""


_FIELD: Final = {
    DataType.INT32: _INT,
    DataType.UINT32: _INT,
    DataType.INT64: _LONG,
    DataType.UINT64: _LONG,
    DataType.DATE_TIME: _LONG,
    DataType.FLOAT: _FLOAT,
    DataType.DOUBLE: _DOUBLE,
    DataType.BOOLEAN: _BOOLEAN,
    DataType.STRING: _STRING,
}
_BITS: Final = {DataType.INT32: 32, DataType.INT64: 64}


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of a node or a device."""

    name: str
    datatype: DataType | None
    """None in a message from outside that says none, or one that is not known here."""
    value: MetricValue
    """None is null: there is no value yet."""
    timestamp_ms: int = 0
    """Milliseconds since the epoch; 0 where it is not said."""
    alias: int | None = None


@dataclass(frozen=True, slots=True)
class Payload:
    """What a Sparkplug message holds."""

    timestamp_ms: int
    """Milliseconds since the epoch; 0 where it is not said."""
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None
    """0 to 255; None in a death."""


def next_number(number: int) -> int:
    """The number after this one, of ``seq`` and of ``bdSeq``: 0 to 255 and around."""
    return (number + 1) % _NUMBERS


# ---- writing


def encode_payload(payload: Payload) -> bytes:
    """Encode a message.

    Raises:
        InvalidInputError: If a value does not fit its data type.
    """
    encoded = bytearray()
    if payload.timestamp_ms:
        encoded += _varint_field(_TIMESTAMP, payload.timestamp_ms)
    for metric in payload.metrics:
        encoded += _bytes_field(_METRICS, _encode_metric(metric))
    if payload.seq is not None:
        encoded += _varint_field(_SEQ, payload.seq)
    return bytes(encoded)


def _encode_metric(metric: Metric) -> bytes:
    encoded = bytearray(_bytes_field(_NAME, metric.name.encode()))
    if metric.alias is not None:
        encoded += _varint_field(_ALIAS, metric.alias)
    if metric.timestamp_ms:
        encoded += _varint_field(_METRIC_TIMESTAMP, metric.timestamp_ms)
    if metric.datatype is None:
        raise InvalidInputError(f"metric {metric.name} must have a data type, got none")
    encoded += _varint_field(_DATATYPE, int(metric.datatype))
    if metric.value is None:
        return bytes(encoded + _varint_field(_IS_NULL, 1))
    return bytes(encoded + _encode_value(metric.name, metric.datatype, metric.value))


def _encode_value(name: str, datatype: DataType, value: int | float | bool | str) -> bytes:
    number = _FIELD[datatype]
    if datatype is DataType.STRING and isinstance(value, str):
        return _bytes_field(number, value.encode())
    if datatype is DataType.BOOLEAN and isinstance(value, bool):
        return _varint_field(number, int(value))
    if datatype is DataType.FLOAT and isinstance(value, float):
        return _key(number, _FIXED32) + struct.pack("<f", value)
    if datatype is DataType.DOUBLE and isinstance(value, float):
        return _key(number, _FIXED64) + struct.pack("<d", value)
    if number in {_INT, _LONG} and isinstance(value, int) and not isinstance(value, bool):
        bits = 32 if number == _INT else 64
        lowest, above = (-(1 << bits - 1), 1 << bits - 1) if datatype in _BITS else (0, 1 << bits)
        if lowest <= value < above:
            # Sparkplug puts a negative number into the unsigned field as its two's complement.
            return _varint_field(number, value % (1 << bits))
    raise InvalidInputError(f"metric {name} must be a {datatype.name}, got {str(value)[:80]!a}")


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint_field(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


# ---- reading


def decode_payload(data: bytes) -> Payload:
    """Decode a message; fields that are not known here are passed over.

    Raises:
        InvalidInputError: If the bytes are no such message.
    """
    timestamp_ms = 0
    seq: int | None = None
    metrics = []
    for number, value in _fields(data):
        if number == _METRICS:
            metrics.append(_decode_metric(_as_bytes(value)))
        elif number == _TIMESTAMP:
            timestamp_ms = _as_int(value)
        elif number == _SEQ:
            seq = _as_int(value)
    return Payload(timestamp_ms, tuple(metrics), seq)


def _decode_metric(data: bytes) -> Metric:
    found = dict(_fields(data))
    told = _as_int(found.get(_DATATYPE, 0))
    datatype = DataType(told) if told in set(DataType) else None
    alias = found.get(_ALIAS)
    return Metric(
        name=_as_text(found.get(_NAME, b"")),
        datatype=datatype,
        value=_decode_value(found, datatype),
        timestamp_ms=_as_int(found.get(_METRIC_TIMESTAMP, 0)),
        alias=None if alias is None else _as_int(alias),
    )


def _decode_value(found: dict[int, int | bytes], datatype: DataType | None) -> MetricValue:
    if found.get(_IS_NULL):
        return None
    if _STRING in found:
        return _as_text(found[_STRING])
    if _BOOLEAN in found:
        return bool(_as_int(found[_BOOLEAN]))
    for number, form in ((_FLOAT, "<f"), (_DOUBLE, "<d")):
        if number in found:
            raw = _as_bytes(found[number])
            if len(raw) != struct.calcsize(form):
                raise _undecodable("a number of another size")
            return float(struct.unpack(form, raw)[0])
    for number in (_INT, _LONG):
        if number in found:
            value = _as_int(found[number])
            bits = _BITS.get(datatype, 0) if datatype is not None else 0
            return value - (1 << bits) if bits and value >> bits - 1 else value
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        wire_type = key & 7
        if wire_type == _VARINT:
            value, position = _read_varint(data, position)
            yield key >> 3, value
            continue
        if wire_type == _BYTES:
            size, position = _read_varint(data, position)
        elif wire_type in {_FIXED32, _FIXED64}:
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise _undecodable(f"wire type {wire_type}")
        if size > len(data) - position:
            raise _undecodable("a field that ends early")
        yield key >> 3, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _MAX_VARINT_BITS + 6, 7):
        if position >= len(data):
            raise _undecodable("a number that ends early")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << _MAX_VARINT_BITS) - 1, position
    raise _undecodable("a number without an end")


def _as_int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise _undecodable("bytes in place of a number")
    return value


def _as_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _undecodable("a number in place of bytes")
    return value


def _as_text(value: int | bytes) -> str:
    try:
        return _as_bytes(value).decode()
    except UnicodeDecodeError:
        raise _undecodable("text that is not UTF-8") from None


def _undecodable(what: str) -> InvalidInputError:
    return InvalidInputError(f"a message must be a Sparkplug B payload, got {what}")


# ---- commands


def asks_for_rebirth(payload: Payload) -> bool:
    """Tell whether a command to the node asks for its births again."""
    return any(metric.name == REBIRTH and metric.value is True for metric in payload.metrics)


def node_metrics(bd_seq: int, at_ms: int) -> Iterable[Metric]:
    """What a node's birth must hold.

    Args:
        bd_seq: Of its session.
        at_ms: The present, milliseconds since the epoch.
    """
    return (
        Metric(BD_SEQ, DataType.INT64, bd_seq, at_ms),
        Metric(REBIRTH, DataType.BOOLEAN, False, at_ms),
    )
