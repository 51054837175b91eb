"""What leaves this machine is encrypted, or the start is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.core.errors import SettingsError
from services.core.plaintext import database_endpoint, leaves_this_machine
from services.feedback.settings import FeedbackSettings
from services.runtime.plaintext import check_transport
from services.runtime.settings import load_settings


def _settings(**values: Any) -> FeedbackSettings:
    return load_settings(FeedbackSettings, **values)


def test_a_line_on_one_machine_may_speak_plain_text() -> None:
    check_transport(_settings())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kafka": {"bootstrap_servers": "kafka-0:9092"}}, "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS"),
        ({"kafka": {"bootstrap_servers": "127.0.0.1:9092,kafka-1:9092"}}, "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS"),
        (
            {"kafka": {"bootstrap_servers": "k:9092", "security_protocol": "SASL_PLAINTEXT"}},
            "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS",
        ),
        ({"object_store": {"endpoint": "minio:9000"}}, "SIGHTLINE_OBJECT_STORE__ENDPOINT"),
        ({"ops": {"host": "0.0.0.0"}}, "SIGHTLINE_OPS__HOST"),
        ({"grpc": {"host": "0.0.0.0"}}, "SIGHTLINE_GRPC__HOST"),
        (
            {"tracing": {"exporter": "otlp", "otlp_endpoint": "http://collector:4317"}},
            "SIGHTLINE_TRACING__OTLP_ENDPOINT",
        ),
    ],
)
def test_plain_text_to_another_machine_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        check_transport(_settings(**values))


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        check_transport(_settings(kafka={"bootstrap_servers": "kafka:9092"}, object_store={"endpoint": "minio:9000"}))
    assert "KAFKA" in str(raised.value)
    assert "OBJECT_STORE" in str(raised.value)


def test_encrypted_endpoints_may_be_anywhere() -> None:
    check_transport(
        _settings(
            kafka={"bootstrap_servers": "kafka:9093", "security_protocol": "SSL"},
            object_store={"endpoint": "minio:9000", "secure": True},
        )
    )


def test_a_mesh_lets_plain_text_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    check_transport(_settings(plaintext="mesh", kafka={"bootstrap_servers": "kafka:9092"}))
    assert "a service mesh is trusted" in caplog.text


def test_grpc_for_others_needs_tokens_even_in_a_mesh(tmp_path: Path) -> None:
    host = "0.0.0.0"
    with pytest.raises(SettingsError, match="SIGHTLINE_GRPC__TOKENS_FILE"):
        check_transport(_settings(plaintext="mesh", grpc={"host": host}))
    check_transport(_settings(plaintext="mesh", grpc={"host": host, "tokens_file": tmp_path / "tokens.yaml"}))


def test_required_client_certificates_need_authorities(tmp_path: Path) -> None:
    pair = {"certificate_file": tmp_path / "a.pem", "key_file": tmp_path / "a.key"}
    with pytest.raises(SettingsError, match="SIGHTLINE_TLS__CA_FILE"):
        check_transport(_settings(tls=pair))
    check_transport(_settings(tls=pair, grpc={"client_certificates": "none"}))


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("postgresql+psycopg://u:p@db/cases", True),
        ("postgresql+psycopg://u:p@db/cases?sslmode=prefer", True),
        ("postgresql+psycopg://u:p@db/cases?sslmode=verify-full&sslrootcert=/ca.pem", False),
        ("postgresql+psycopg://u:p@127.0.0.1/cases", False),
    ],
)
def test_a_database_elsewhere_needs_an_ssl_mode_that_encrypts(url: str, plain: bool) -> None:
    endpoint = database_endpoint("SIGHTLINE_INDEX__URL", url)
    assert endpoint is not None
    assert (not endpoint.encrypted and leaves_this_machine(endpoint.address)) is plain
    assert "p@" not in endpoint.address


def test_a_database_that_is_a_file_or_a_socket_goes_nowhere() -> None:
    assert database_endpoint("X", "sqlite:///folder/cases.db") is None
    assert database_endpoint("X", "postgresql+psycopg:///cases?host=/run/postgresql") is None
