"""A real gRPC server and a real HTTPS port with certificates: who is let in, and what a renewal changes."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.adapters.identity import Identity, IdentityFiles, ServerContext
from services.adapters.renewingchannel import RenewingChannel
from services.core.errors import SettingsError
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.ops import OpsServer
from services.runtime.settings import GrpcSettings, OpsSettings, TlsSettings
from tests.support.machine_certificates import Authority

pytestmark = pytest.mark.integration


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "plant")


@pytest.fixture
def server(authority: Authority) -> Iterator[GrpcServer]:
    pair = authority.sign("server")
    tls = TlsSettings(certificate_file=pair.certificate, key_file=pair.key, ca_file=authority.file)
    server = GrpcServer(GrpcSettings(port=0), Health(), tls=tls)
    server.start()
    yield server
    server.stop(0)


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    assert isinstance(error, grpc.Call)
    return error.code()


def _check(server: GrpcServer, files: IdentityFiles) -> grpc.StatusCode:
    channel = RenewingChannel(f"127.0.0.1:{server.port}", Identity(files), [])
    try:
        return _ask(channel)
    finally:
        channel.close()


def _ask(channel: RenewingChannel) -> grpc.StatusCode:
    stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[arg-type]
    try:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    except grpc.RpcError as error:
        return _code(error)
    return grpc.StatusCode.OK


def _until(channel: RenewingChannel, wanted: grpc.StatusCode) -> None:
    deadline_s = time.monotonic() + 20
    while (got := _ask(channel)) is not wanted:
        assert time.monotonic() < deadline_s, got
        time.sleep(0.1)


def test_a_caller_with_a_certificate_of_the_plant_is_let_in(authority: Authority, server: GrpcServer) -> None:
    pair = authority.sign("client")
    assert _check(server, IdentityFiles(pair.certificate, pair.key, authority.file)) is grpc.StatusCode.OK


def test_a_caller_without_a_certificate_is_not_let_in(authority: Authority, server: GrpcServer) -> None:
    assert _check(server, IdentityFiles(ca_file=authority.file)) is grpc.StatusCode.UNAVAILABLE


def test_a_caller_of_another_authority_is_not_let_in(authority: Authority, server: GrpcServer, tmp_path: Path) -> None:
    pair = Authority(tmp_path, "stranger").sign("client")
    assert _check(server, IdentityFiles(pair.certificate, pair.key, authority.file)) is grpc.StatusCode.UNAVAILABLE


def test_a_caller_does_not_speak_to_a_server_of_another_authority(
    authority: Authority, server: GrpcServer, tmp_path: Path
) -> None:
    stranger, pair = Authority(tmp_path, "stranger"), authority.sign("client")
    assert _check(server, IdentityFiles(pair.certificate, pair.key, stranger.file)) is grpc.StatusCode.UNAVAILABLE


def test_a_caller_in_plain_text_is_not_let_in(server: GrpcServer) -> None:
    assert _check(server, IdentityFiles()) is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_shown_without_a_restart(authority: Authority, server: GrpcServer) -> None:
    before = ssl.get_server_certificate(("127.0.0.1", server.port))
    authority.sign("server")
    deadline_s = time.monotonic() + 20
    while ssl.get_server_certificate(("127.0.0.1", server.port)) == before:
        assert time.monotonic() < deadline_s, "the old certificate is still shown"
        time.sleep(0.2)


def test_a_client_whose_certificate_was_of_a_stranger_is_let_in_once_it_is_renewed(
    authority: Authority, server: GrpcServer, tmp_path: Path
) -> None:
    wrong = Authority(tmp_path, "stranger").sign("client")
    files = IdentityFiles(wrong.certificate, wrong.key, authority.file)
    channel = RenewingChannel(f"127.0.0.1:{server.port}", Identity(files), [])
    try:
        assert _ask(channel) is grpc.StatusCode.UNAVAILABLE
        authority.sign("client")
        _until(channel, grpc.StatusCode.OK)
    finally:
        channel.close()


def test_a_stream_in_flight_ends_on_the_connection_it_began_on(authority: Authority, server: GrpcServer) -> None:
    pair = authority.sign("client")
    identity = Identity(IdentityFiles(pair.certificate, pair.key, authority.file), every_s=0)
    channel = RenewingChannel(f"127.0.0.1:{server.port}", identity, [])
    try:
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[arg-type]
        watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        before = channel.current()
        authority.sign("client")
        assert _ask(channel) is grpc.StatusCode.OK
        assert channel.current() is not before
        del before
        server._on_readiness(True)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        channel.close()


def test_a_key_that_is_not_yet_renewed_with_its_certificate_keeps_the_old_pair(authority: Authority) -> None:
    pair = authority.sign("client")
    identity = Identity(IdentityFiles(pair.certificate, pair.key, authority.file), every_s=0)
    first, old_key = identity.current(), pair.key.read_bytes()
    authority.sign("client")
    new_key = pair.key.read_bytes()
    pair.key.write_bytes(old_key)
    assert identity.current() == first
    pair.key.write_bytes(new_key)
    assert identity.current().key == new_key


def test_a_certificate_that_is_being_written_keeps_the_old_pair(authority: Authority) -> None:
    pair = authority.sign("client")
    identity = Identity(IdentityFiles(pair.certificate, pair.key, authority.file), every_s=0)
    first = identity.current()
    pair.certificate.write_bytes(b"")
    assert identity.current() == first
    with pytest.raises(SettingsError, match="must be a PEM certificate and its unencrypted key"):
        Identity(identity.files)


def test_probes_and_metrics_are_served_over_https_with_the_renewed_certificate(authority: Authority) -> None:
    pair = authority.sign("server")
    identity = Identity(IdentityFiles(pair.certificate, pair.key, authority.file), every_s=0)
    ops = OpsServer(OpsSettings(port=0), Health(), identity=identity)
    ops.start()
    try:
        trusted = ssl.create_default_context(cafile=str(authority.file))
        with urllib.request.urlopen(f"https://127.0.0.1:{ops.port}/livez", context=trusted, timeout=10) as answer:
            assert answer.status == 200
        before = ssl.get_server_certificate(("127.0.0.1", ops.port))
        authority.sign("server")
        assert ssl.get_server_certificate(("127.0.0.1", ops.port)) != before
    finally:
        ops.stop()


def _handshake(server_side: ssl.SSLContext, trusted: Path) -> bytes:
    """The certificate that a client is shown, DER; the two sides speak through memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(trusted)).wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def _der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def test_a_renewal_does_not_touch_the_context_of_a_connection_that_has_just_come(authority: Authority) -> None:
    pair = authority.sign("server")
    server = ServerContext(Identity(IdentityFiles(pair.certificate, pair.key, authority.file), every_s=0))
    before, old = server.current(), _der(pair.certificate)
    authority.sign("server")
    assert _handshake(server.current(), authority.file) == _der(pair.certificate)
    assert _handshake(before, authority.file) == old


def test_a_server_with_one_context_for_good_shows_the_renewed_certificate(authority: Authority) -> None:
    pair = authority.sign("server")
    server = ServerContext(Identity(IdentityFiles(pair.certificate, pair.key, authority.file), every_s=0))
    assert _handshake(server.context, authority.file) == _der(pair.certificate)
    authority.sign("server")
    assert _handshake(server.context, authority.file) == _der(pair.certificate)


def test_a_service_that_would_send_plain_text_elsewhere_ends_with_code_2() -> None:
    environment = {**os.environ, "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092", "SIGHTLINE_OPS__PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "services.feedback"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS: must be loopback or encrypted, got 'kafka:9092'" in ended.stderr
