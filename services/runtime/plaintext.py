"""Holds a service's settings against the rule about encryption, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from services.core.errors import SettingsError
from services.core.loopback import is_loopback
from services.core.plaintext import Endpoint, database_endpoint, plain_text_problems
from services.runtime.logging import get_logger
from services.runtime.settings import (
    AccountsSettings,
    GrpcSettings,
    IndexSettings,
    KafkaSettings,
    ObjectStoreSettings,
    OpsSettings,
    ServiceSettings,
    SettingsGroup,
    TritonSettings,
)

LOG = get_logger(__name__)
_CERTIFICATE = "set SIGHTLINE_TLS__CERTIFICATE_FILE and SIGHTLINE_TLS__KEY_FILE"
_AUTHORITIES = "set SIGHTLINE_TLS__CA_FILE"
_MESH = "where a service mesh encrypts between pods, SIGHTLINE_PLAINTEXT=mesh allows it"


def check_transport(settings: ServiceSettings) -> None:
    """Refuse settings by which plain text would leave this machine.

    Args:
        settings: All that the service read.

    Raises:
        SettingsError: Naming every setting that breaks a rule, its value and what to do.
    """
    plain = plain_text_problems(_endpoints(settings))
    problems = [] if settings.plaintext == "mesh" else [f"{line} ({_MESH})" for line in plain]
    grpc = getattr(settings, "grpc", None)
    if isinstance(grpc, GrpcSettings):
        problems += _server_problems(settings, grpc)
    if settings.triton_encrypted and settings.tls.ca_file is None:
        problems.append(
            "SIGHTLINE_TLS__CA_FILE: must name the authorities of Triton's certificate while TLS is spoken there, "
            "got none"
        )
    if problems:
        raise SettingsError("these settings are wrong:\n" + "\n".join(f"  {line}" for line in problems))
    if plain:
        LOG.warning(
            "plain text leaves this machine, and a service mesh is trusted to encrypt it", extra={"endpoints": plain}
        )


def _server_problems(settings: ServiceSettings, grpc: GrpcSettings) -> list[str]:
    problems = []
    if grpc.tokens_file is None and not is_loopback(grpc.host):
        problems.append(
            f"SIGHTLINE_GRPC__TOKENS_FILE: must name the file of machines that may call while grpc.host is not "
            f"loopback, got none with {grpc.host!r}; make one with 'sightline tokens issue'"
        )
    tls = settings.tls
    if tls.certificate_file and grpc.client_certificates == "required" and tls.ca_file is None:
        problems.append(
            "SIGHTLINE_TLS__CA_FILE: must name the authorities of callers' certificates while "
            "grpc.client_certificates is 'required', got none"
        )
    return problems


def _endpoints(settings: ServiceSettings) -> Iterator[Endpoint]:
    served = settings.tls.certificate_file is not None
    called = served or settings.tls.ca_file is not None
    for name in type(settings).model_fields:
        group = getattr(settings, name)
        prefix = f"SIGHTLINE_{name.upper()}"
        if isinstance(group, (GrpcSettings, OpsSettings)) or (name == "web" and isinstance(group, SettingsGroup)):
            yield Endpoint(f"{prefix}__HOST", getattr(group, "host", ""), served, _CERTIFICATE)
        elif isinstance(group, KafkaSettings):
            encrypted = group.security_protocol in ("SSL", "SASL_SSL")
            remedy = "set SIGHTLINE_KAFKA__SECURITY_PROTOCOL=SSL or SASL_SSL"
            yield Endpoint(f"{prefix}__BOOTSTRAP_SERVERS", group.bootstrap_servers, encrypted, remedy)
        elif isinstance(group, ObjectStoreSettings):
            yield Endpoint(f"{prefix}__ENDPOINT", group.endpoint, group.secure, "set SIGHTLINE_OBJECT_STORE__SECURE")
        elif isinstance(group, TritonSettings):
            yield Endpoint(f"{prefix}__URLS", group.urls, group.tls, "set SIGHTLINE_TRITON__TLS")
        elif isinstance(group, (IndexSettings, AccountsSettings)):
            database = database_endpoint(f"{prefix}__URL", group.url.get_secret_value())
            if database is not None:
                yield database
        elif isinstance(group, SettingsGroup):
            for field in ("address", "addresses"):
                if isinstance(address := getattr(group, field, None), str):
                    yield Endpoint(f"{prefix}__{field.upper()}", address, called, _AUTHORITIES)
    if isinstance(triton_url := getattr(settings, "triton_url", None), str):
        # The agent beside Triton speaks to that one alone, in its own pod or container network.
        yield Endpoint("SIGHTLINE_TRITON_URL", triton_url, settings.triton_encrypted, "set SIGHTLINE_TRITON_TLS")
    if settings.tracing.exporter == "otlp":
        collector = urlsplit(settings.tracing.otlp_endpoint)
        encrypted = collector.scheme == "https"
        host = collector.hostname or settings.tracing.otlp_endpoint
        yield Endpoint("SIGHTLINE_TRACING__OTLP_ENDPOINT", host, encrypted, "use https://")
