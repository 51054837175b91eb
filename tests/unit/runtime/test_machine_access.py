"""Which call is let in with which token: a real server on loopback, and every call of every proto."""

from __future__ import annotations

import datetime
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import sightline.v1
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.adapters import tokenfile
from services.adapters.tokenfile import TokenFile, write_tokens
from services.core.call_scopes import CALL_SCOPES, Scope
from services.core.errors import SettingsError
from services.core.machine_token import MachineToken, hash_of, make_token
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings

TODAY = datetime.datetime.now(datetime.UTC).date()
TOMORROW = TODAY + datetime.timedelta(days=1)
YESTERDAY = TODAY - datetime.timedelta(days=1)
METHODS = sorted(CALL_SCOPES)


def _services() -> Iterator[tuple[str, object]]:
    for module in pkgutil.iter_modules(sightline.v1.__path__, "sightline.v1."):
        if module.name.endswith("_pb2"):
            loaded = importlib.import_module(module.name)
            yield from ((module.name, service) for service in loaded.DESCRIPTOR.services_by_name.values())


def _token(number: int) -> str:
    return make_token(bytes([number]) * 32)


def _known(number: int, name: str, scopes: set[Scope], expires: datetime.date = TOMORROW) -> MachineToken:
    return MachineToken(name, hash_of(_token(number)), frozenset(scopes), expires)


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    each = [_known(10 + place, scope.value.replace(".", "-"), {scope}) for place, scope in enumerate(Scope)]
    write_tokens(file, [_known(1, "all", set(Scope)), _known(2, "expired", set(Scope), YESTERDAY), *each])
    return file


@pytest.fixture(scope="module")
def channel(tokens_file: Path) -> Iterator[grpc.Channel]:
    # The generated servicers: a call that is let in answers UNIMPLEMENTED.
    server = GrpcServer(GrpcSettings(port=0, tokens_file=tokens_file), Health())
    for module, service in _services():
        stubs = importlib.import_module(f"{module}_grpc")
        name = service.name  # type: ignore[attr-defined]
        add = getattr(stubs, f"add_{name}Servicer_to_server")
        server.add(add, getattr(stubs, f"{name}Servicer")(), service.full_name)  # type: ignore[attr-defined]
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    server.stop(0)


def _streams_requests(method: str) -> bool:
    return method.endswith("IngestService/Publish")


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    assert isinstance(error, grpc.Call)
    return error.code()


def _call(channel: grpc.Channel, method: str, header: str | None) -> grpc.StatusCode:
    metadata = (("authorization", header),) if header is not None else ()
    try:
        if _streams_requests(method):
            list(channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=10))
        else:
            list(channel.unary_stream(method)(b"", metadata=metadata, timeout=10))
    except grpc.RpcError as error:
        return _code(error)
    return grpc.StatusCode.OK


def test_every_call_of_every_proto_has_a_scope() -> None:
    declared = {
        f"/{service.full_name}/{method.name}"  # type: ignore[attr-defined]
        for _, service in _services()
        for method in service.methods  # type: ignore[attr-defined]
    }
    assert declared == set(CALL_SCOPES)


def test_the_documentation_lists_every_call_with_its_scope() -> None:
    page = (Path(__file__).parents[3] / "docs" / "securing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+/\w+)` \| `([a-z.]+)` \|$", page, re.MULTILINE)
    assert {f"/sightline.v1.{call}": scope for call, scope in rows} == dict(CALL_SCOPES)


@pytest.mark.parametrize("method", METHODS)
def test_a_call_is_let_in_by_its_own_scope_alone(channel: grpc.Channel, method: str) -> None:
    for place, scope in enumerate(Scope):
        right = scope is CALL_SCOPES[method]
        wanted = grpc.StatusCode.UNIMPLEMENTED if right else grpc.StatusCode.PERMISSION_DENIED
        assert _call(channel, method, f"Bearer {_token(10 + place)}") is wanted, scope


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", f"Bearer {_token(99)}", f"Bearer {_token(2)}", f"Basic {_token(1)}", _token(1)],
    ids=["none", "empty", "no token", "unknown", "expired", "another scheme", "no scheme"],
)
def test_a_call_without_a_good_token_is_not_let_in(channel: grpc.Channel, method: str, header: str | None) -> None:
    assert _call(channel, method, header) is grpc.StatusCode.UNAUTHENTICATED


def test_a_call_that_has_no_scope_is_refused_whatever_the_token(channel: grpc.Channel) -> None:
    refused = _call(channel, "/sightline.v1.FeedbackService/DropEverything", f"Bearer {_token(1)}")
    assert refused in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}


def test_probes_need_no_token(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_reflection_needs_a_token_of_any_scope(channel: grpc.Channel) -> None:
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

    def ask(header: str | None) -> grpc.StatusCode:
        metadata = (("authorization", header),) if header else ()
        try:
            list(channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=10))
        except grpc.RpcError as error:
            return _code(error)
        return grpc.StatusCode.OK

    assert ask(None) is grpc.StatusCode.UNAUTHENTICATED
    assert ask(f"Bearer {_token(10)}") is not grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def own_file(tmp_path: Path) -> tuple[Path, Callable[[], tuple[MachineToken, ...]]]:
    path = tmp_path / "tokens.yaml"
    write_tokens(path, [_known(1, "press-7", {Scope.INGEST_PUSH}), _known(2, "press-8", {Scope.INGEST_PUSH})])
    return path, TokenFile(path, every_s=0).current


def test_a_revoked_token_is_gone_without_a_restart(
    own_file: tuple[Path, Callable[[], tuple[MachineToken, ...]]],
) -> None:
    path, current = own_file
    assert [token.name for token in current()] == ["press-7", "press-8"]
    write_tokens(path, [_known(2, "press-8", {Scope.INGEST_PUSH})])
    assert [token.name for token in current()] == ["press-8"]


def test_a_file_that_became_wrong_keeps_the_tokens_and_says_so(
    own_file: tuple[Path, Callable[[], tuple[MachineToken, ...]]], caplog: pytest.LogCaptureFixture
) -> None:
    path, current = own_file
    path.write_text("tokens: [{name: x}]")
    assert [token.name for token in current()] == ["press-7", "press-8"]
    assert "the tokens read last are kept" in caplog.text


def test_the_file_of_tokens_is_its_owners_alone(
    own_file: tuple[Path, Callable[[], tuple[MachineToken, ...]]],
) -> None:
    assert own_file[0].stat().st_mode & 0o077 == 0
    assert _token(1) not in own_file[0].read_text()


def test_a_file_that_could_not_be_read_once_is_tried_again_though_it_does_not_change(
    own_file: tuple[Path, Callable[[], tuple[MachineToken, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, current = own_file
    read = tokenfile.read_tokens
    hiccups = iter([SettingsError("the tokens file must be readable, got a hiccup")] * 2)

    def sometimes(asked: Path) -> tuple[MachineToken, ...]:
        for error in hiccups:
            raise error
        return read(asked)

    monkeypatch.setattr(tokenfile, "read_tokens", sometimes)
    write_tokens(path, [_known(2, "press-8", {Scope.INGEST_PUSH})])
    assert [[token.name for token in current()] for _ in range(3)] == [
        ["press-7", "press-8"],
        ["press-7", "press-8"],
        ["press-8"],
    ]
