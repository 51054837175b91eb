"""The wiring table of Modbus-TCP, as a PLC's own client uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymodbus.client import ModbusTcpClient

from services.adapters.modbus import ModbusImage
from services.core.line_event import Light
from services.core.plc import PlcInputs, PlcOutputs
from tests.support.processimages import DEADLINE_S, LOOPBACK

pytestmark = pytest.mark.integration

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, NO_UNIT = 1, 2, 11


@pytest.fixture
def image() -> Iterator[ModbusImage]:
    it = ModbusImage(LOOPBACK, 0, unit_id=3)
    it.start()
    yield it
    it.close()


@pytest.fixture
def plc(image: ModbusImage) -> Iterator[ModbusTcpClient]:
    with ModbusTcpClient(LOOPBACK, port=image.port, timeout=DEADLINE_S, retries=0) as client:
        yield client


def test_a_recipe_may_be_a_number(image: ModbusImage, plc: ModbusTcpClient) -> None:
    plc.write_register(103, 7, device_id=3)
    assert image.read().recipe == "7"
    plc.write_registers(104, [0x4142], device_id=3)
    assert image.read().recipe == "AB"
    plc.write_registers(103, [0, 0], device_id=3)
    assert image.read().recipe == ""


def test_coils_and_the_control_word_are_the_same_bits(image: ModbusImage, plc: ModbusTcpClient) -> None:
    plc.write_coil(0, True, device_id=3)
    assert image.read() == PlcInputs(trigger=True)
    assert plc.read_holding_registers(0, device_id=3).registers == [1]
    plc.write_register(0, 2, device_id=3)
    assert image.read() == PlcInputs(result_ack=True)
    assert plc.read_coils(0, count=2, device_id=3).bits[:2] == [False, True]
    plc.mask_write_register(address=0, and_mask=0xFFFC, or_mask=0x0001, device_id=3)
    assert image.read() == PlcInputs(trigger=True)


def test_a_plc_with_functions_3_and_16_alone_reads_and_writes_everything(
    image: ModbusImage, plc: ModbusTcpClient
) -> None:
    plc.write_registers(100, [5, 0, 9, 0, *[0x4141] * 16, *[0x4242] * 16, *[0x4343] * 16], device_id=3)
    plc.write_registers(0, [1], device_id=3)
    assert image.read() == PlcInputs(True, False, 5, 9, "A" * 32, "B" * 32, "C" * 32)
    image.write(PlcOutputs(result_ready=True, nok=True, heartbeat=6, part="CC", light=Light.RED))
    told = plc.read_holding_registers(10, count=35, device_id=3).registers
    assert told[:3] == [1 << 2 | 1 << 4 | 1 << 7, 0, 6]
    assert told[19:21] == [0x4343, 0]
    assert plc.read_discrete_inputs(0, count=10, device_id=3).bits[:10] == [each in {2, 4, 7} for each in range(10)]
    assert plc.read_input_registers(134, device_id=3).registers == told[:1]


@pytest.mark.parametrize("address", [10, 11, 44, 99, 152])
def test_what_the_inspection_says_cannot_be_written(image: ModbusImage, plc: ModbusTcpClient, address: int) -> None:
    answer = plc.write_register(address, 1, device_id=3)
    assert answer.isError()
    assert answer.exception_code == ILLEGAL_ADDRESS
    assert not image.wait(0.0)


def test_what_lies_outside_the_map_is_an_illegal_address(plc: ModbusTcpClient) -> None:
    for answer in (
        plc.read_coils(2, device_id=3),
        plc.read_coils(0, count=3, device_id=3),
        plc.read_discrete_inputs(10, device_id=3),
        plc.read_input_registers(99, device_id=3),
        plc.read_input_registers(134, count=2, device_id=3),
        plc.read_holding_registers(1, device_id=3),
        plc.write_coils(1, [True, True], device_id=3),
        plc.write_registers(151, [1, 1], device_id=3),
    ):
        assert answer.exception_code == ILLEGAL_ADDRESS


def test_other_units_do_not_answer_and_the_address_alone_does(image: ModbusImage, plc: ModbusTcpClient) -> None:
    assert plc.read_coils(0, device_id=4).exception_code == NO_UNIT
    assert image.malformed() == [f"{LOOPBACK}: the unit must be 3, got 4"]
    assert not plc.read_coils(0, device_id=255).isError()


def test_diagnostics_are_not_served(image: ModbusImage, plc: ModbusTcpClient) -> None:
    # One of them would silence the whole server for all PLCs.
    assert plc.diag_force_listen_only(device_id=3, no_response_expected=False).exception_code == ILLEGAL_FUNCTION
    assert not plc.read_coils(0, device_id=3).isError()
    assert "got 8" in image.malformed()[0]
