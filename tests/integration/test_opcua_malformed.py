"""What is no OPC UA message harms nobody but its sender, and is told; what may not be written is refused."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import uatcp_to_binary

from services.adapters.opcua import OpcUaImage
from services.adapters.opcuaclient import OpcUaLink
from services.adapters.opcuamap import INPUTS, NAMESPACE, OUTPUTS
from services.core.errors import UnavailableError
from services.core.plc import MAX_TEXT, PlcInputs, PlcOutputs
from tests.support.processimages import DEADLINE_S, LINE, LOOPBACK, Told, ended, eventually, raw

pytestmark = pytest.mark.integration

MOST = 3
HELLO = uatcp_to_binary(
    ua.MessageType.Hello,
    ua.Hello(ReceiveBufferSize=65535, SendBufferSize=65535, EndpointUrl=f"opc.tcp://{LOOPBACK}/"),
)


@pytest.fixture(scope="module")
def served() -> Iterator[OpcUaImage]:
    """One for all tests of this module: it takes seconds to start."""
    it = OpcUaImage(LOOPBACK, 0, LINE, max_connections=MOST, message_timeout_s=0.3, activation_timeout_s=1.0)
    it.start()
    yield it
    it.close()


@pytest.fixture
def image(served: OpcUaImage) -> Iterator[OpcUaImage]:
    # Each test has its own share of notes.
    served._notes._windows.clear()
    served.malformed()
    yield served
    # The next test finds every place free.
    assert eventually(lambda: served._server is not None and not served._server.bserver.clients)  # type: ignore[union-attr]


@pytest.fixture
def plc(image: OpcUaImage) -> Iterator[OpcUaLink]:
    """One that is connected all the while, and must notice nothing."""
    link = OpcUaLink(LOOPBACK, image.port, LINE)
    link.connect(DEADLINE_S)
    yield link
    beat = image.read().heartbeat % 65535 + 1
    image.write(PlcOutputs(trigger_ready=True, heartbeat=beat))
    assert eventually(lambda: link.read() == PlcOutputs(trigger_ready=True, heartbeat=beat))
    link.write(PlcInputs(heartbeat=beat, part="P1"))
    assert image.read() == PlcInputs(heartbeat=beat, part="P1")
    link.close()


def asked(port: int, work: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
    """What comes of a client's question."""

    async def ask() -> Any:
        async with Client(f"opc.tcp://{LOOPBACK}:{port}/", timeout=DEADLINE_S) as client:
            return await work(client)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "a message must be one of HEL, OPN, MSG, CLO and ERR"),
        (b"\x00\x01\x00\x00\x00\x06\x01\x01\x00\x00\x00\x02", "a message must be one of"),
        (b"HELX\x20\x00\x00\x00", "a chunk must be one of F, C and A"),
        (b"HELF" + struct.pack("<I", 2**32 - 1), "65535 bytes, got 4294967295"),
        (b"HELF" + struct.pack("<I", 8), "a chunk must have 9 to 65535 bytes, got 8"),
        (b"HELF" + struct.pack("<I", 0), "a chunk must have 9 to 65535 bytes, got 0"),
        (b"HELF" + struct.pack("<I", 20) + b"\xff" * 12, "a message must have its form"),
        (HELLO + b"OPNF" + struct.pack("<I", 40) + b"\xff" * 32, "a message must have its form"),
        (HELLO + b"MSGF" + struct.pack("<I", 11) + b"\0" * 3, "a chunk must have 13 to 65535 bytes, got 11"),
        (HELLO + b"MSGF" + struct.pack("<I", 32) + b"\0" * 24, "a channel must be opened before messages"),
        (HELLO + b"MSGC" + struct.pack("<I", 70_000) + b"\0" * 100, "65535 bytes, got 70000"),
    ],
)
def test_bytes_of_no_form_end_their_connection(image: OpcUaImage, plc: OpcUaLink, sent: bytes, told: str) -> None:
    with raw(image.port) as bad:
        bad.sendall(sent)
        assert ended(bad)
    assert Told(image).of(told)


def test_half_a_message_that_its_sender_leaves_is_told(image: OpcUaImage, plc: OpcUaLink) -> None:
    with raw(image.port) as bad:
        bad.sendall(HELLO[: len(HELLO) // 2])
    assert Told(image).of("the end of the connection within one")


@pytest.mark.parametrize("length", [1, 6, 20])
def test_a_message_that_comes_too_slowly_ends_its_connection(image: OpcUaImage, plc: OpcUaLink, length: int) -> None:
    with raw(image.port) as slow:
        slow.sendall(HELLO[:length])
        assert ended(slow)
    assert Told(image).of("must be whole within 0.3 s")


def test_a_connection_without_a_session_is_ended_in_time(image: OpcUaImage, plc: OpcUaLink) -> None:
    with raw(image.port) as silent:
        silent.sendall(HELLO)
        assert ended(silent)


def test_random_bytes_do_no_harm(image: OpcUaImage, plc: OpcUaLink) -> None:
    chance = random.Random(7)
    for number in range(60):
        with raw(image.port) as bad:
            body = chance.randbytes(chance.randint(1, 600))
            kind = chance.choice([b"HEL", b"OPN", b"MSG", b"CLO"])
            framed = HELLO + kind + b"F" + struct.pack("<I", len(body) + 8) + body
            bad.sendall(framed if number % 2 else body)
    assert Told(image).of(LOOPBACK)


def test_more_connections_than_may_be_are_refused_until_one_ends(image: OpcUaImage, plc: OpcUaLink) -> None:
    late = OpcUaLink(LOOPBACK, image.port, LINE)
    with ExitStack() as others:
        for _ in range(MOST - 1):
            others.enter_context(raw(image.port)).sendall(HELLO)
        with raw(image.port) as refused:
            assert ended(refused)
        assert Told(image).of(f"at most {MOST} connections may be open")

    def connects() -> bool:
        try:
            late.connect(DEADLINE_S)
        except UnavailableError:
            return False
        return True

    assert eventually(connects)
    late.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Trigger", ua.Variant(1, ua.VariantType.Int32)),
        ("Trigger", ua.Variant("true", ua.VariantType.String)),
        ("Trigger", ua.Variant([True, False], ua.VariantType.Boolean)),
        ("Trigger", ua.Variant(None, ua.VariantType.Null)),
        ("Heartbeat", ua.Variant(7, ua.VariantType.Int64)),
        ("Part", ua.Variant(b"P1", ua.VariantType.ByteString)),
        ("Part", ua.Variant(None, ua.VariantType.String)),
    ],
)
def test_a_value_of_another_type_is_refused(image: OpcUaImage, plc: OpcUaLink, name: str, value: ua.Variant) -> None:
    before = image.read()

    async def write(client: Client) -> ua.StatusCode:
        index = await client.get_namespace_index(NAMESPACE)
        node = next(signal for signal in INPUTS if signal.name == name).node_id(LINE, index)
        return (await client.uaclient.write_attributes([node], [ua.DataValue(value)]))[0]

    assert asked(image.port, write).name == "BadTypeMismatch"
    assert image.read() == before


def test_outputs_and_everything_else_cannot_be_written(image: OpcUaImage, plc: OpcUaLink) -> None:
    async def write(client: Client) -> list[str]:
        index = await client.get_namespace_index(NAMESPACE)
        nodes = [signal.node_id(LINE, index) for signal in OUTPUTS]
        values = await client.read_values([client.get_node(node) for node in nodes])
        said = [signal.data(value) for signal, value in zip(OUTPUTS, values, strict=True)]
        statuses = await client.uaclient.write_attributes(nodes, said)
        name = ua.DataValue(ua.Variant(ua.QualifiedName("x", index)))
        trigger = INPUTS[-2].node_id(LINE, index)
        statuses += await client.uaclient.write_attributes([trigger], [name], ua.AttributeIds.BrowseName)
        return [status.name for status in statuses]

    assert set(asked(image.port, write)) == {"BadUserAccessDenied"}


def test_clients_add_and_delete_nothing(image: OpcUaImage, plc: OpcUaLink) -> None:
    async def add(client: Client) -> None:
        index = await client.get_namespace_index(NAMESPACE)
        await client.nodes.objects.add_variable(ua.NodeId("mine", index), "mine", 1)

    async def delete(client: Client) -> None:
        index = await client.get_namespace_index(NAMESPACE)
        await client.delete_nodes([client.get_node(INPUTS[0].node_id(LINE, index))])

    for work in (add, delete):
        with pytest.raises(ua.UaError):
            asked(image.port, work)


def test_a_text_that_is_too_long_is_no_other_name_and_is_told(image: OpcUaImage, plc: OpcUaLink) -> None:
    plc.write(PlcInputs(part="P" * 5_000))
    assert image.read().part == "P" * (MAX_TEXT - 1) + "\ufffd"
    assert Told(image).of(f"{LOOPBACK}: part must be printable ASCII of at most 32 characters")


def test_signals_lie_where_the_table_says(image: OpcUaImage, plc: OpcUaLink) -> None:
    async def browse(client: Client) -> list[str]:
        index = await client.get_namespace_index(NAMESPACE)
        found = []
        for signal in (*INPUTS, *OUTPUTS):
            path = [f"{index}:{name}" for name in ("VisionSystem", LINE, signal.folder, signal.name)]
            node = await client.nodes.objects.get_child(path)
            assert node.nodeid == signal.node_id(LINE, index)
            assert await node.read_data_type_as_variant_type() == signal.type
            found.append(signal.name)
        return found

    assert len(asked(image.port, browse)) == 19


def test_a_subscription_is_told_of_a_result_after_its_values(image: OpcUaImage, plc: OpcUaLink) -> None:
    class Seen:
        def __init__(self) -> None:
            self.changes: list[tuple[str, Any]] = []

        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            self.changes.append((str(node.nodeid.Identifier).rsplit(".", 1)[-1], value))

    async def until(so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not so():
                await asyncio.sleep(0.005)

    async def subscribe(client: Client) -> list[tuple[str, Any]]:
        seen = Seen()
        index = await client.get_namespace_index(NAMESPACE)
        subscription = await client.create_subscription(10, seen)
        await subscription.subscribe_data_change([client.get_node(each.node_id(LINE, index)) for each in OUTPUTS])
        await until(lambda: len({name for name, _ in seen.changes}) == len({each.name for each in OUTPUTS}))
        seen.changes.clear()
        image.write(PlcOutputs(result_ready=True, ok=True, part="P77"))
        await until(lambda: ("ResultReady", True) in seen.changes)
        return seen.changes

    changes = asked(image.port, subscribe)
    assert changes.index(("ActivePart", "P77")) < changes.index(("ResultReady", True))
    assert changes.index(("Ok", True)) < changes.index(("ResultReady", True))


def test_a_client_that_is_cut_off_again_and_again_finds_a_place(image: OpcUaImage, plc: OpcUaLink) -> None:
    class Ignored:
        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            pass

    async def be_cut_off() -> None:
        client = Client(f"opc.tcp://{LOOPBACK}:{image.port}/", timeout=DEADLINE_S)
        await client.connect()
        index = await client.get_namespace_index(NAMESPACE)
        subscription = await client.create_subscription(500, Ignored())
        await subscription.subscribe_data_change(client.get_node(OUTPUTS[0].node_id(LINE, index)))
        client.disconnect_socket()
        await client.disconnect()

    for _ in range(40):
        asyncio.run(be_cut_off())
    assert len(image._server.iserver._external_sessions) < 16  # type: ignore[union-attr]


def test_a_connection_has_one_session(image: OpcUaImage, plc: OpcUaLink) -> None:
    async def begin_another(client: Client) -> None:
        await client.create_session()

    with pytest.raises(ua.uaerrors.BadTooManySessions):
        asked(image.port, begin_another)


def test_a_session_that_nobody_vouched_for_reads_and_writes_nothing(image: OpcUaImage, plc: OpcUaLink) -> None:
    async def write() -> str:
        client = Client(f"opc.tcp://{LOOPBACK}:{image.port}/", timeout=DEADLINE_S)
        await client.connect_socket()
        try:
            await client.send_hello()
            await client.open_secure_channel()
            await client.create_session()
            node = ua.NodeId(f"{LINE}.Inputs.Trigger", 2)
            await client.uaclient.write_attributes([node], [ua.DataValue(ua.Variant(True, ua.VariantType.Boolean))])
        except ua.UaError as error:
            return type(error).__name__
        finally:
            client.disconnect_socket()
        return "written"

    assert asyncio.run(write()) == "BadUserAccessDenied"
    assert not image.read().trigger
