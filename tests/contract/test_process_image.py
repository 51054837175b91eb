"""The signals between a PLC and the inspection, in memory, in Modbus-TCP and in OPC UA."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from services.adapters.memory_plc import MemoryImage
from services.adapters.modbus import ModbusImage
from services.adapters.opcua import OpcUaImage
from services.adapters.ports import ProcessImage
from services.core.errors import UnavailableError
from services.core.line_event import Light
from services.core.plc import MAX_TEXT, ErrorCode, PlcInputs, PlcOutputs
from tests.support.processimages import DEADLINE_S, LINE, LOOPBACK, Served, Told, eventually, served

KINDS = ["memory", *(pytest.param(kind, marks=pytest.mark.integration) for kind in ("modbus", "opcua"))]


@pytest.fixture(params=KINDS)
def line(request: pytest.FixtureRequest) -> Iterator[Served]:
    it = served(request.param)
    it.image.start()
    yield it
    it.image.close()


def test_a_trigger_is_seen_with_all_that_it_is_for(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    said = PlcInputs(trigger=True, heartbeat=65535, encoder=4_294_967_295, recipe="gear", lot="L-7", part="P.0001")
    plc.write(said)
    assert eventually(lambda: line.image.read() == said)
    plc.write(PlcInputs(result_ack=True))
    assert eventually(lambda: line.image.read() == PlcInputs(result_ack=True))
    plc.close()


def test_a_result_is_seen_whole(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    said = PlcOutputs(
        busy=True,
        result_ready=True,
        nok=True,
        review=True,
        safe=True,
        error_code=ErrorCode.DEADLINE,
        heartbeat=65535,
        recipe="gear",
        part="P.0001",
        light=Light.AMBER,
    )
    line.image.write(said)
    assert eventually(lambda: plc.read() == said)
    plc.close()


@pytest.mark.parametrize("light", [None, *Light])
def test_each_light_is_seen(line: Served, light: Light | None) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    line.image.write(PlcOutputs(trigger_ready=True, light=light))
    assert eventually(lambda: plc.read() == PlcOutputs(trigger_ready=True, light=light))
    plc.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_said_before_it_serves_is_said_when_it_does(kind: str) -> None:
    it = served(kind)
    it.image.write(PlcOutputs(safe=True))
    it.image.start()
    plc = it.link()
    plc.connect(DEADLINE_S)
    assert eventually(lambda: plc.read() == PlcOutputs(safe=True))
    plc.close()
    it.image.close()


def test_heartbeats_beat_both_ways(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    for beat in (1, 2, 65535, 0):
        plc.write(PlcInputs(heartbeat=beat))
        assert eventually(lambda beat=beat: line.image.read().heartbeat == beat)
        line.image.write(PlcOutputs(heartbeat=beat))
        assert eventually(lambda beat=beat: plc.read().heartbeat == beat)
    plc.close()


def test_texts_of_the_most_characters_arrive_whole(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    said = PlcInputs(recipe="r" * MAX_TEXT, lot="l" * MAX_TEXT, part="p" * MAX_TEXT)
    plc.write(said)
    assert eventually(lambda: line.image.read() == said)
    line.image.write(PlcOutputs(recipe="R" * MAX_TEXT, part="P" * MAX_TEXT))
    assert eventually(lambda: plc.read() == PlcOutputs(recipe="R" * MAX_TEXT, part="P" * MAX_TEXT))
    plc.close()


def test_no_reader_sees_a_result_ready_with_another_results_values(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    stop = threading.Event()

    def inspect() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            good = number % 2 == 0
            line.image.write(PlcOutputs(result_ready=True, ok=good, nok=not good, part=f"{'ok' if good else 'nok'}"))
            line.image.write(PlcOutputs())

    inspecting = threading.Thread(target=inspect)
    inspecting.start()
    seen, until = 0, time.monotonic() + DEADLINE_S
    try:
        while seen < 100 and time.monotonic() < until:
            read = plc.read()
            if read.result_ready:
                seen += 1
                assert (read.ok, read.nok, read.part) in {(True, False, "ok"), (False, True, "nok")}
    finally:
        stop.set()
        inspecting.join()
    assert seen
    plc.close()


def test_a_write_wakes_whoever_waits_for_it(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    assert not line.image.wait(0.0)
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(line.image.wait(DEADLINE_S)))
    waiting.start()
    plc.write(PlcInputs(trigger=True))
    waiting.join(DEADLINE_S)
    assert woken == [True]
    plc.close()


def test_a_write_before_the_wait_is_not_slept_through(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    plc.write(PlcInputs(trigger=True))
    assert line.image.wait(DEADLINE_S)
    plc.close()


def test_closing_wakes_whoever_waits(line: Served) -> None:
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(line.image.wait(60.0)))
    waiting.start()
    line.image.close()
    waiting.join(DEADLINE_S)
    assert woken == [False]


def test_two_plcs_see_the_same_and_the_last_word_counts(line: Served) -> None:
    one, other = line.link(), line.link()
    one.connect(DEADLINE_S)
    other.connect(DEADLINE_S)
    line.image.write(PlcOutputs(trigger_ready=True))
    for plc in (one, other):
        assert eventually(lambda plc=plc: plc.read() == PlcOutputs(trigger_ready=True))
    one.write(PlcInputs(heartbeat=1))
    other.write(PlcInputs(heartbeat=2))
    assert eventually(lambda: line.image.read().heartbeat == 2)
    one.close()
    assert other.read() == PlcOutputs(trigger_ready=True)
    other.close()


def test_a_plc_that_was_away_finds_everything_as_it_is(line: Served) -> None:
    first = line.link()
    first.connect(DEADLINE_S)
    first.write(PlcInputs(trigger=True, lot="L-1"))
    first.close()
    assert eventually(lambda: line.image.read() == PlcInputs(trigger=True, lot="L-1"))
    line.image.write(PlcOutputs(busy=True))
    second = line.link()
    second.connect(DEADLINE_S)
    assert eventually(lambda: second.read() == PlcOutputs(busy=True))
    second.connect(DEADLINE_S)
    assert second.read() == PlcOutputs(busy=True)
    second.close()


def test_a_name_that_cannot_be_read_is_no_other_name_and_is_noted(line: Served) -> None:
    plc, told = line.link(), Told(line.image)
    plc.connect(DEADLINE_S)
    plc.write(PlcInputs(recipe="gear", lot="a\x07b"))
    assert eventually(lambda: line.image.read() == PlcInputs(recipe="gear", lot="a\ufffdb"))
    assert told.of("lot must be printable ASCII")
    plc.close()


def test_a_plc_is_told_when_nobody_serves_any_more(line: Served) -> None:
    plc = line.link()
    plc.connect(DEADLINE_S)
    line.image.close()
    with pytest.raises(UnavailableError):
        plc.read()
    with pytest.raises(UnavailableError):
        plc.write(PlcInputs())
    with pytest.raises(UnavailableError):
        line.link().connect(1.0)
    plc.close()
    plc.close()


@pytest.mark.integration
@pytest.mark.parametrize(
    "make", [lambda port: ModbusImage(LOOPBACK, port), lambda port: OpcUaImage(LOOPBACK, port, LINE)]
)
def test_an_address_that_is_taken_is_refused_and_served_on_once_it_is_free(make: Callable[[int], ProcessImage]) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        image = make(taken.getsockname()[1])
        with pytest.raises(UnavailableError, match="must be free to serve on"):
            image.start()
    image.start()
    image.close()


def test_memory_that_is_away_is_refused_likewise() -> None:
    memory = MemoryImage()
    memory.unavailable = True
    with pytest.raises(UnavailableError):
        memory.start()
    memory.unavailable = False
    memory.start()


def test_closing_is_quick_and_may_be_said_twice(line: Served) -> None:
    plcs = [line.link() for _ in range(3)]
    for plc in plcs:
        plc.connect(DEADLINE_S)
    began = time.monotonic()
    line.image.close()
    line.image.close()
    assert time.monotonic() - began < 2.0
    for plc in plcs:
        plc.close()
