"""Who may speak to an OPC UA image that has a certificate."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from asyncua import Client, ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from services.adapters.opcua import OpcUaImage, OpcUaSecurity
from services.adapters.opcuaclient import OpcUaLink
from services.core.errors import InvalidInputError, UnavailableError
from services.core.plc import PlcInputs, PlcOutputs
from tests.support.processimages import DEADLINE_S, LINE, LOOPBACK, eventually

pytestmark = pytest.mark.integration

NAME, PASSWORD = "plc", "correct horse"
_numbers = itertools.count()


class Identity:
    """A certificate that somebody made, with its key."""

    def __init__(self, folder: Path) -> None:
        number = next(_numbers)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"one {number}")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:sightline:vision:line-1")]), False
            )
            .sign(key, hashes.SHA256())
        )
        self.certificate_path = folder / f"{number}.der"
        self.certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
        self.key_path = folder / f"{number}.pem"
        self.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Identity:
    return Identity(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Identity:
    return Identity(folder)


@pytest.fixture(scope="module")
def strangers(folder: Path) -> Identity:
    return Identity(folder)


@pytest.fixture(scope="module", params=["name", "certificate", "both"])
def secured(request: pytest.FixtureRequest, ours: Identity, theirs: Identity) -> Iterator[tuple[OpcUaImage, str]]:
    """An image that lets in whoever has the name, the certificate, or both."""
    named = request.param != "certificate"
    security = OpcUaSecurity(
        ours.certificate_path,
        ours.key_path,
        username=NAME if named else "",
        password=PASSWORD if named else "",
        trusted_paths=() if request.param == "name" else (theirs.certificate_path,),
    )
    image = OpcUaImage(LOOPBACK, 0, LINE, security)
    image.start()
    yield image, request.param
    image.close()


def link(image: OpcUaImage, own: Identity, server: Identity, name: str = "", password: str = "") -> OpcUaLink:
    security = OpcUaSecurity(own.certificate_path, own.key_path, name, password, (server.certificate_path,))
    return OpcUaLink(LOOPBACK, image.port, LINE, security)


def test_whoever_may_is_let_in(secured: tuple[OpcUaImage, str], ours: Identity, theirs: Identity) -> None:
    image, kind = secured
    plc = link(image, theirs, ours, *(("", "") if kind == "certificate" else (NAME, PASSWORD)))
    plc.connect(DEADLINE_S)
    plc.write(PlcInputs(trigger=True, part="P1"))
    assert image.read() == PlcInputs(trigger=True, part="P1")
    image.write(PlcOutputs(busy=True))
    assert eventually(lambda: plc.read() == PlcOutputs(busy=True))
    plc.write(PlcInputs())
    plc.close()


def test_who_lacks_what_is_asked_for_is_not(
    secured: tuple[OpcUaImage, str], ours: Identity, theirs: Identity, strangers: Identity
) -> None:
    image, kind = secured
    refused = {
        "name": [(theirs, NAME, "wrong"), (theirs, "other", PASSWORD), (theirs, "", "")],
        "certificate": [(strangers, "", ""), (strangers, NAME, PASSWORD)],
        "both": [(strangers, NAME, PASSWORD), (theirs, NAME, "wrong"), (theirs, "", "")],
    }
    for own, name, password in refused[kind]:
        with pytest.raises(UnavailableError):
            link(image, own, ours, name, password).connect(DEADLINE_S)


@pytest.mark.parametrize("name", ["", NAME])
def test_an_unsecured_channel_lets_nobody_in(secured: tuple[OpcUaImage, str], name: str) -> None:
    image, _ = secured

    async def connect() -> None:
        client = Client(f"opc.tcp://{LOOPBACK}:{image.port}/", timeout=DEADLINE_S)
        if name:
            client.set_user(name)
            client.set_password(PASSWORD)
        async with client:
            pass

    with pytest.raises((ua.UaError, ConnectionError)):
        asyncio.run(connect())


def test_an_unsecured_channel_tells_where_the_secured_ones_are(secured: tuple[OpcUaImage, str]) -> None:
    image, _ = secured

    async def ask() -> list[ua.EndpointDescription]:
        return await Client(f"opc.tcp://{LOOPBACK}:{image.port}/").connect_and_get_server_endpoints()

    endpoints = asyncio.run(ask())
    assert endpoints
    assert all(endpoint.SecurityMode != ua.MessageSecurityMode.None_ for endpoint in endpoints)


def test_a_session_that_nobody_vouched_for_does_nothing_here_either(secured: tuple[OpcUaImage, str]) -> None:
    image, _ = secured

    async def write() -> None:
        client = Client(f"opc.tcp://{LOOPBACK}:{image.port}/", timeout=DEADLINE_S)
        await client.connect_socket()
        try:
            await client.send_hello()
            await client.open_secure_channel()
            await client.create_session()
            node = ua.NodeId(f"{LINE}.Inputs.Trigger", 2)
            await client.uaclient.write_attributes([node], [ua.DataValue(ua.Variant(True, ua.VariantType.Boolean))])
        finally:
            client.disconnect_socket()

    with pytest.raises((ua.UaError, ConnectionError)):
        asyncio.run(write())
    assert not image.read().trigger


def test_security_that_lets_everybody_in_is_none(ours: Identity) -> None:
    with pytest.raises(InvalidInputError, match="must name a user or trusted certificates"):
        OpcUaSecurity(ours.certificate_path, ours.key_path)
    with pytest.raises(InvalidInputError, match="a name and a password"):
        OpcUaSecurity(ours.certificate_path, ours.key_path, username=NAME)
    assert PASSWORD not in repr(OpcUaSecurity(ours.certificate_path, ours.key_path, NAME, PASSWORD))


def test_files_that_are_no_certificate_are_refused(ours: Identity, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    for certificate, key, trusted in (
        (tmp_path / "bad.pem", ours.key_path, ours.certificate_path),
        (ours.certificate_path, tmp_path / "absent.pem", ours.certificate_path),
        (ours.certificate_path, ours.key_path, tmp_path / "bad.pem"),
    ):
        with pytest.raises(InvalidInputError, match="must be a certificate"):
            OpcUaImage(LOOPBACK, 0, LINE, OpcUaSecurity(certificate, key, trusted_paths=(trusted,))).start()
