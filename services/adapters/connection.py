"""How to reach a server, as plain values: adapters take these, the runtime's settings make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach Kafka. Field by field as ``services.runtime.settings.KafkaSettings``."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_ca_file: Path | None = None
    ssl_certificate_file: Path | None = None
    ssl_key_file: Path | None = None
    request_timeout_ms: int = 15_000
    delivery_timeout_ms: int = 30_000
    session_timeout_ms: int = 20_000
    max_poll_interval_ms: int = 300_000
    max_message_bytes: int = 30_000_000
    fetch_wait_ms: int = 500
    instance_id: str = ""
    """Name of this member of its groups, kept over restarts; empty for one that is new each time."""
    compression: str | None = None
    """``gzip`` or nothing. Encoded images do not shrink; verdicts do."""


@dataclass(frozen=True, slots=True)
class StoreConnection:
    """How to reach an S3-compatible object store."""

    endpoint: str
    bucket: str
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    secure: bool = False
    ca_file: Path | None = None
    region: str = "us-east-1"
    timeout_s: float = 10.0
