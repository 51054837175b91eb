"""The object store over TLS: a store behind a certificate of the plant, and clients that trust it or somebody else."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters.connection import StoreConnection
from services.adapters.objectstore import S3ObjectStore
from services.core.errors import SettingsError, UnavailableError
from services.runtime.settings import ObjectStoreSettings
from tests.support.machine_certificates import Authority
from tests.support.tls_relay import TlsRelay

pytestmark = pytest.mark.integration


@pytest.fixture
def plant(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "plant")


@pytest.fixture
def relay(plant: Authority, object_store_connection: StoreConnection) -> Iterator[TlsRelay]:
    if object_store_connection.secure:
        pytest.skip("the store of this run speaks TLS by itself")
    with TlsRelay(plant.sign("store"), object_store_connection.endpoint) as relay:
        yield relay


@pytest.fixture
def over_tls(plant: Authority, relay: TlsRelay, object_store_connection: StoreConnection) -> StoreConnection:
    """As a service has it from its settings."""
    behind = object_store_connection
    return ObjectStoreSettings(
        endpoint=relay.address,
        secure=True,
        ca_file=plant.file,
        bucket=behind.bucket,
        access_key=behind.access_key,  # type: ignore[arg-type]  # pydantic makes it a secret
        secret_key=behind.secret_key,  # type: ignore[arg-type]
        timeout_s=5,
    ).connection()


def test_objects_are_written_and_read_by_who_trusts_the_plant(
    over_tls: StoreConnection, relay: TlsRelay, object_store_connection: StoreConnection
) -> None:
    image = os.urandom(1_500_000)
    store = S3ObjectStore(over_tls)
    ref = store.put("tls/image", image)
    assert store.get(ref.key) == image
    assert [found.key for found in store.list("tls/")] == ["tls/image"]
    assert relay.handshakes >= 1
    assert S3ObjectStore(object_store_connection).get("tls/image") == image


def test_a_store_of_an_authority_that_is_not_trusted_is_sent_nothing(
    over_tls: StoreConnection, relay: TlsRelay, tmp_path: Path
) -> None:
    stranger = dataclasses.replace(over_tls, ca_file=Authority(tmp_path, "stranger").file)
    _is_refused(stranger, relay, "CERTIFICATE_VERIFY_FAILED")


def test_a_store_of_one_s_own_authority_is_not_trusted_without_its_file(
    over_tls: StoreConnection, relay: TlsRelay
) -> None:
    _is_refused(dataclasses.replace(over_tls, ca_file=None), relay, "CERTIFICATE_VERIFY_FAILED")


def test_a_store_that_speaks_tls_is_not_spoken_to_in_plain_text(over_tls: StoreConnection, relay: TlsRelay) -> None:
    _is_refused(dataclasses.replace(over_tls, secure=False, ca_file=None), relay, "")


def test_a_renewed_file_of_authorities_is_taken_at_the_next_connection(
    over_tls: StoreConnection, plant: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(Authority(tmp_path, "stranger").file.read_bytes())
    store = S3ObjectStore(dataclasses.replace(over_tls, ca_file=file))
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        store.put("tls/renewed", b"1")
    file.write_bytes(plant.file.read_bytes())
    assert store.put("tls/renewed", b"1").size_bytes == 1


def test_a_file_of_authorities_that_is_not_there_is_said_at_once(over_tls: StoreConnection, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"object_store\.ca_file must hold PEM certificates, got .*not-there\.pem"):
        S3ObjectStore(dataclasses.replace(over_tls, ca_file=tmp_path / "not-there.pem"))


def _is_refused(connection: StoreConnection, relay: TlsRelay, why: str) -> None:
    store = S3ObjectStore(connection)
    for call in (lambda: store.put("a", b"1"), lambda: store.get("a")):
        began_s = time.monotonic()
        with pytest.raises(UnavailableError, match=f"object store must answer in time to (write|read) a, got .*{why}"):
            call()
        assert time.monotonic() - began_s < 8
    assert relay.handshakes == 0
