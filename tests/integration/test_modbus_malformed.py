"""What is no Modbus message harms nobody but its sender, and is told."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from services.adapters.modbus import ModbusImage
from services.adapters.modbusclient import ModbusLink
from services.core.errors import UnavailableError
from services.core.plc import PlcInputs, PlcOutputs
from tests.support.processimages import DEADLINE_S, LOOPBACK, Told, ended, eventually, raw

pytestmark = pytest.mark.integration

MOST = 3
READ_COILS = bytes.fromhex("000100000006010100000002")


@pytest.fixture
def image() -> Iterator[ModbusImage]:
    it = ModbusImage(LOOPBACK, 0, max_connections=MOST, message_timeout_s=0.3)
    it.start()
    yield it
    it.close()


@pytest.fixture
def plc(image: ModbusImage) -> Iterator[ModbusLink]:
    """One that is connected all the while, and must notice nothing."""
    link = ModbusLink(LOOPBACK, image.port)
    link.connect(DEADLINE_S)
    yield link
    image.write(PlcOutputs(trigger_ready=True, heartbeat=99))
    assert link.read() == PlcOutputs(trigger_ready=True, heartbeat=99)
    link.write(PlcInputs(trigger=True, part="P1"))
    assert image.read() == PlcInputs(trigger=True, part="P1")
    link.close()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (bytes.fromhex("000107d00006010100000002"), "the protocol must be 0, got 2000"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the protocol must be 0"),
        (b"\x00\x01\x00\x00\x00\x00\x01\x01\x00\x00", "the length must be 2 to 254 bytes, got 0"),
        (b"\x00\x01\x00\x00\x00\x01\x01\x01\x00\x00", "the length must be 2 to 254 bytes, got 1"),
        (b"\x00\x01\x00\x00\xff\xff" + b"\x01" * 65535, "the length must be 2 to 254 bytes, got 65535"),
        (b"\x00\x01\x00\x00\x00\xff" + b"\x01" * 300, "the length must be 2 to 254 bytes, got 255"),
    ],
)
def test_a_frame_of_no_form_ends_its_connection(image: ModbusImage, plc: ModbusLink, sent: bytes, told: str) -> None:
    with raw(image.port) as bad:
        bad.sendall(sent)
        assert ended(bad)
    assert Told(image).of(told)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("63", 1),  # a function that does not exist
        ("0800040000", 1),  # listen only
        ("80", 1),  # an answer
        ("ff", 1),
        ("01", 3),  # nothing after the function
        ("010000", 3),
        ("0100000000", 3),  # none
        ("010000ffff", 3),  # more than may be
        ("030000007e", 3),
        ("0f00000002", 3),
        ("0f0000000202ff", 3),  # fewer bytes than it says
        ("0f0000ffff01ff", 3),
        ("1000640001", 3),
        ("10006400020400010002ff", 3),
        ("1000640002040001", 3),
        ("0500001234", 3),  # neither on nor off
        ("17", 3),
        ("160000", 3),
    ],
)
def test_a_message_of_no_form_is_answered_and_the_connection_goes_on(
    image: ModbusImage, plc: ModbusLink, message: str, code: int
) -> None:
    body = b"\x01" + bytes.fromhex(message)
    with raw(image.port) as connection:
        connection.sendall(b"\x00\x07\x00\x00" + struct.pack(">H", len(body)) + body)
        answer = connection.recv(64)
        assert answer[:7] == b"\x00\x07\x00\x00\x00\x03\x01"
        assert answer[7:] == bytes([body[1] | 0x80, code])
        connection.sendall(READ_COILS)
        assert connection.recv(64) == bytes.fromhex("00010000000401010100")
    assert Told(image).of("a function must" if code == 1 else "must have its form")
    assert image.read() == PlcInputs()


def test_half_a_message_that_its_sender_leaves_is_told(image: ModbusImage, plc: ModbusLink) -> None:
    for length in range(1, len(READ_COILS)):
        with raw(image.port) as bad:
            bad.sendall(READ_COILS[:length])
        if length == 1:
            assert Told(image).of("the end of the connection within one")


def test_a_message_that_comes_byte_by_byte_and_too_slowly_ends_its_connection(
    image: ModbusImage, plc: ModbusLink
) -> None:
    with raw(image.port) as slow:
        slow.sendall(READ_COILS[:1])
        began = time.monotonic()
        assert ended(slow)
        assert time.monotonic() - began < DEADLINE_S / 2
    assert Told(image).of("must be whole within 0.3 s")


def test_a_message_in_pieces_is_answered(image: ModbusImage, plc: ModbusLink) -> None:
    with raw(image.port) as connection:
        for byte in READ_COILS:
            connection.sendall(bytes([byte]))
        assert connection.recv(64) == bytes.fromhex("00010000000401010100")


def test_messages_sent_at_once_are_all_answered_in_order(image: ModbusImage, plc: ModbusLink) -> None:
    with raw(image.port) as connection:
        connection.sendall(b"".join(struct.pack(">H", number) + READ_COILS[2:] for number in range(50)))
        answers = b""
        while len(answers) < 500:
            answers += connection.recv(4096)
        assert [struct.unpack_from(">H", answers, place)[0] for place in range(0, 500, 10)] == list(range(50))


def test_random_bytes_do_no_harm(image: ModbusImage, plc: ModbusLink) -> None:
    chance = random.Random(7)
    for _ in range(100):
        with raw(image.port) as bad:
            sent = chance.randbytes(chance.randint(1, 600))
            # Half of them begin as a message does.
            bad.sendall(READ_COILS[:6] + sent if chance.random() < 0.5 else sent)
    assert Told(image).of(LOOPBACK)


def test_whoever_asks_and_never_listens_is_ended(image: ModbusImage, plc: ModbusLink) -> None:
    asked = bytes.fromhex("000100000006010300640034") * 200
    with raw(image.port) as deaf:
        deaf.settimeout(0.1)

        def refused() -> bool:
            try:
                deaf.sendall(asked)
            except TimeoutError:
                return False
            except OSError:
                return True
            return False

        assert eventually(refused)
    assert Told(image).of("an answer must be taken within")


def test_more_connections_than_may_be_are_refused_until_one_ends(image: ModbusImage, plc: ModbusLink) -> None:
    late = ModbusLink(LOOPBACK, image.port)
    with ExitStack() as others:
        for _ in range(MOST - 1):
            others.enter_context(raw(image.port)).sendall(READ_COILS)
        with pytest.raises(UnavailableError):
            late.connect(DEADLINE_S)
        assert Told(image).of(f"at most {MOST} connections may be open")

    def connects() -> bool:
        try:
            late.connect(DEADLINE_S)
        except UnavailableError:
            return False
        return True

    assert eventually(connects)
    late.close()


def test_a_connection_that_says_nothing_is_ended_in_time() -> None:
    image = ModbusImage(LOOPBACK, 0, idle_timeout_s=0.2)
    image.start()
    with raw(image.port) as silent:
        assert ended(silent)
    image.close()
