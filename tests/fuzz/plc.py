"""What comes from a line's controllers and its broker: Modbus registers and messages, OPC UA's first bytes, MQTT."""

from __future__ import annotations

import asyncio
import sys

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.adapters.modbus import _GarbageError, _read_message
    from services.adapters.modbusmap import COILS, INPUT_COUNT, unpack_inputs
    from services.adapters.mqtt_message import parse_trigger
    from services.adapters.opcuaserver import header_problem
    from services.adapters.processimage import MAX_TEXT, UNREADABLE, readable_text
    from services.adapters.sparkplug import decode_payload, encode_payload

NAME = "plc"


def check(data: bytes) -> None:
    way, body = cut(data, 6)
    if way == 0:
        trigger = refused(lambda: parse_trigger(body))
        assert trigger is None or trigger.trigger_id
    elif way == 1:
        _sparkplug(body)
    elif way == 2:
        assert isinstance(header_problem(body[:8]), str)
    elif way == 3:
        _is_readable(readable_text(body.decode("utf-8", "replace")))
    elif way == 4:
        padded = body.ljust(2 * INPUT_COUNT, b"\0")
        registers = [int.from_bytes(padded[place : place + 2], "big") for place in range(0, 2 * INPUT_COUNT, 2)]
        inputs = unpack_inputs([bool(padded[0] >> bit & 1) for bit in range(len(COILS))], registers)
        for text in (inputs.recipe, inputs.lot, inputs.part):
            _is_readable(text)
    else:
        asyncio.run(_modbus(body))


def _is_readable(text: str) -> None:
    assert len(text) <= MAX_TEXT
    assert text.replace(UNREADABLE, "").isascii()
    assert text.replace(UNREADABLE, "").isprintable()


def _sparkplug(body: bytes) -> None:
    payload = refused(lambda: decode_payload(body))
    if payload is None:
        return
    written = refused(lambda: encode_payload(payload))
    if written is not None:
        assert encode_payload(decode_payload(written)) == written


async def _modbus(body: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(body[1:])
    reader.feed_eof()
    try:
        await _read_message(body[:1], reader)
    except _GarbageError:
        return


def seeds() -> dict[str, bytes]:
    from services.adapters.sparkplug import DataType, Metric, Payload

    payload = Payload(
        1_700_000_000_000,
        (
            Metric("Verdict", DataType.STRING, "FAIL", 1),
            Metric("Revision", DataType.INT32, -1),
            Metric("InTime", DataType.BOOLEAN, True),
            Metric("Score", DataType.DOUBLE, 0.5),
        ),
        3,
    )
    return {
        "trigger": b"\x00" + b'{"trigger_id": "t-1", "part_id": "p-1", "recipe": "disc", "lot": "7"}',
        "sparkplug": b"\x01" + encode_payload(payload),
        "opcua": b"\x02" + b"HELF" + (40).to_bytes(4, "little"),
        "text": b"\x03" + "disc-7\0\0é".encode(),
        "registers": b"\x04" + b"\0\1" * 40,
        "modbus": b"\x05" + bytes.fromhex("000100000006010300000002"),
    }


if __name__ == "__main__":
    sys.exit(run(NAME, check))
