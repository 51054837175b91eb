"""Settings that several services share; each service composes its own from these groups.

Read once, in ``main()``, from the environment (prefix ``SIGHTLINE_``, groups joined by ``__``, for example
``SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS``) and from the YAML file named by ``SIGHTLINE_CONFIG``; the environment wins.
Everything that is wrong is reported together.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.identity import Identity, IdentityFiles
from services.core.errors import SettingsError


class SettingsGroup(BaseModel):
    """A frozen group of settings; a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(SettingsGroup):
    """How to reach Kafka."""

    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="Comma-separated host:port list.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How connections are encrypted and who is asked to sign in."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How to sign in, with SASL_PLAINTEXT or SASL_SSL."
    )
    sasl_username: str | None = Field(default=None, description="User to sign in as.")
    sasl_password: SecretStr | None = Field(default=None, description="That user's password.")
    ssl_ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities that broker certificates are checked against."
    )
    ssl_certificate_file: Path | None = Field(default=None, description="PEM file of our own certificate, for mTLS.")
    ssl_key_file: Path | None = Field(default=None, description="PEM file of that certificate's key.")
    group: str = Field(default="", description="Consumer group; empty takes the service's own name.")
    instance_id: str = Field(
        default="",
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Name that this replica keeps over restarts, for example its pod's (a StatefulSet's). Back within "
        "session_timeout_ms it takes up its partitions and the others keep theirs. Two must never have the same.",
    )
    request_timeout_ms: int = Field(
        default=15_000, ge=1_000, le=300_000, description="Longest wait for the answer to one request."
    )
    delivery_timeout_ms: int = Field(
        default=30_000, ge=1_000, le=600_000, description="Longest time until a record is acknowledged, tries included."
    )
    session_timeout_ms: int = Field(
        default=20_000, ge=6_000, le=300_000, description="A member that is silent for this long leaves its group."
    )
    max_poll_interval_ms: int = Field(
        default=300_000, ge=10_000, le=3_600_000, description="Longest time between two polls before it leaves too."
    )
    max_message_bytes: int = Field(
        default=30_000_000, ge=100_000, le=200_000_000, description="Largest record that is written or fetched."
    )
    fetch_wait_ms: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="Longest time that the broker holds a fetch back while there is nothing to read.",
    )
    compression: Literal["none", "gzip"] = Field(
        default="none", description="Of what is written; encoded images do not shrink, verdicts do."
    )

    def connection(self) -> KafkaConnection:
        """What the Kafka adapters take."""
        values = self.model_dump(exclude={"group", "sasl_password", "compression"})
        return KafkaConnection(
            **values,
            sasl_password=self.sasl_password.get_secret_value() if self.sasl_password else None,
            compression=None if self.compression == "none" else self.compression,
        )


class TopicSettings(SettingsGroup):
    """What the topics are to be like: ``sightline topics apply`` makes them so."""

    partitions: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Of each topic that scales; so many replicas of a service work at once. Aliases and dead letters "
        "have one.",
    )
    retention_hours: float = Field(
        default=24.0, ge=0.1, le=87_600, description="How long events are kept; dead letters seven times as long."
    )
    record_days: float = Field(
        default=400.0, ge=1, le=36_500, description="How long the record of what lines were told is kept."
    )
    max_message_bytes: int = Field(
        default=30_000_000, ge=1_000_000, le=200_000_000, description="Largest record that the broker takes."
    )
    replication_factor: int = Field(
        default=-1, ge=-1, le=100, description="Copies of each record; -1 takes the broker's default."
    )
    min_insync_replicas: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Copies that must be written before a record is acknowledged; 0 takes the broker's default.",
    )
    wait_s: float = Field(default=300.0, ge=0, le=3_600, description="Longest wait for Kafka.")

    @model_validator(mode="after")
    def _can_be_acknowledged(self) -> TopicSettings:
        if 0 < self.replication_factor < self.min_insync_replicas:
            raise ValueError(
                f"topics.min_insync_replicas must be at most topics.replication_factor, got {self.min_insync_replicas} "
                f"of {self.replication_factor}: no record would ever be acknowledged"
            )
        return self


class ObjectStoreSettings(SettingsGroup):
    """How to reach the S3-compatible object store."""

    endpoint: str = Field(default="127.0.0.1:9000", description="host:port, without a scheme.")
    secure: bool = Field(default=False, description="Speak TLS.")
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities that its certificate is checked against, if private."
    )
    region: str = Field(default="us-east-1", description="Region that requests are signed for.")
    bucket: str = Field(
        default="sightline", min_length=3, max_length=63, description="Holds images and model versions."
    )
    access_key: SecretStr = Field(default=SecretStr(""), description="Key to sign requests with.")
    secret_key: SecretStr = Field(default=SecretStr(""), description="That key's secret.")
    timeout_s: float = Field(default=10.0, gt=0, le=300, description="Deadline of one request.")

    def connection(self) -> StoreConnection:
        """What the object store's adapter takes."""
        values = self.model_dump(exclude={"access_key", "secret_key"})
        return StoreConnection(
            **values,
            access_key=self.access_key.get_secret_value(),
            secret_key=self.secret_key.get_secret_value(),
        )


class TritonSettings(SettingsGroup):
    """How to reach Triton over gRPC."""

    urls: str = Field(default="127.0.0.1:8001", description="Comma-separated host:port list of gRPC endpoints.")
    timeout_s: float = Field(default=10.0, gt=0, le=300, description="Deadline of one request.")
    tls: bool = Field(default=False, description="Speak TLS, with the authorities and certificate of the group tls.")
    shared_memory: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Pass tensors through system shared memory; auto uses it where the host is this one.",
    )

    @property
    def url_list(self) -> list[str]:
        """The endpoints, one by one."""
        return [url.strip() for url in self.urls.split(",") if url.strip()]


class IndexSettings(SettingsGroup):
    """Where the case index lies; a copy for asking, which ``sightline index rebuild`` makes anew from the record."""

    url: SecretStr = Field(
        default=SecretStr("sqlite:///.sightline/index/cases.db"),
        description="`sqlite:///FOLDER/FILE` (four slashes: an absolute path), or "
        "`postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.",
    )


class AccountsSettings(SettingsGroup):
    """Where the accounts of the people at the dashboard lie; used where somebody has to sign in."""

    url: SecretStr = Field(
        default=SecretStr("sqlite:///.sightline/accounts/accounts.db"),
        description="`sqlite:///FOLDER/FILE` (four slashes: an absolute path), or "
        "`postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`, which several replicas share.",
    )
    audit_days: int = Field(
        default=400, ge=1, le=36_500, description="Entries of the audit log are removed after this many days."
    )


class FeedbackAddressSettings(SettingsGroup):
    """Where reviews are taken, for those who ask there."""

    address: str = Field(default="", description="host:port of the feedback service's gRPC; empty offers no reviewing.")


class TrainerAddressSettings(SettingsGroup):
    """Where models are trained from people's answers, for those who ask there."""

    address: str = Field(default="", description="host:port of the trainer's gRPC; empty offers no training.")


class OutcomeAddressSettings(SettingsGroup):
    """Where the lines are answered, for those who ask there."""

    address: str = Field(
        default="", description="host:port of the outcome service's gRPC; empty shows nothing of the lines' answers."
    )


class OpsSettings(SettingsGroup):
    """The HTTP port for probes and metrics."""

    host: str = Field(default="127.0.0.1", description="Address that probes and metrics are served on.")
    port: int = Field(default=9100, ge=0, le=65_535, description="0 takes a free one.")


class GrpcSettings(SettingsGroup):
    """The gRPC server."""

    host: str = Field(default="127.0.0.1", description="Address that gRPC is served on.")
    port: int = Field(default=50051, ge=0, le=65_535, description="0 takes a free one.")
    max_message_bytes: int = Field(
        default=32_000_000, ge=100_000, le=200_000_000, description="Largest message either way."
    )
    max_workers: int = Field(
        default=8, ge=1, le=256, description="Calls served at once; as many may wait, more are refused."
    )
    max_streams: int = Field(
        default=100, ge=1, le=10_000, description="Calls in flight that one connection may have; more wait."
    )
    client_certificates: Literal["required", "none"] = Field(
        default="required", description="Whether callers must show a certificate, once tls.certificate_file is set."
    )
    tokens_file: Path | None = Field(
        default=None, description="YAML file of the machines that may call; needed unless grpc.host is loopback."
    )


class TlsSettings(SettingsGroup):
    """The service's own identity, PEM; read anew when the files change."""

    certificate_file: Path | None = Field(
        default=None, description="PEM file of the service's certificate, then its chain."
    )
    key_file: Path | None = Field(default=None, description="PEM file of its key, not encrypted.")
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities that the certificates of others are checked against."
    )

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("tls.certificate_file and tls.key_file must be set together, got one of them")
        return self


class TracingSettings(SettingsGroup):
    """OpenTelemetry."""

    exporter: Literal["none", "otlp"] = Field(default="none", description="Where traces go; otlp needs that extra.")
    otlp_endpoint: str = Field(default="http://127.0.0.1:4317", description="gRPC address of the collector.")
    sample_ratio: float = Field(default=0.01, ge=0, le=1, description="Share of frames that are traced.")


class LimitSettings(SettingsGroup):
    """Bounds on what is accepted, checked before any work is done."""

    inline_limit_bytes: int = Field(
        default=900_000, ge=0, le=100_000_000, description="Largest message with its image inline."
    )
    max_image_bytes: int = Field(
        default=25_000_000, ge=1_000, le=500_000_000, description="Largest encoded image that is read."
    )
    max_image_pixels: int = Field(
        default=50_000_000, ge=1_000, le=1_000_000_000, description="Most pixels; refused before they are decoded."
    )
    max_aspect_ratio: float = Field(default=50.0, ge=1.0, description="Longest side by shortest.")


class ServiceSettings(BaseSettings):
    """What every service has; a service's own settings extend this."""

    model_config = SettingsConfigDict(
        env_prefix="SIGHTLINE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least important kind of line that is written."
    )
    drain_s: float = Field(
        default=20.0, gt=0, le=600, description="Longest time to finish what is in flight on SIGTERM."
    )
    probe_propagation_s: float = Field(
        default=0.0, ge=0, le=60, description="Wait between not-ready and the end of polling."
    )
    plaintext: Literal["loopback", "mesh"] = Field(
        default="loopback",
        description="Where plain text may go: loopback only, or also where a service mesh encrypts between pods.",
    )
    token_file: Path | None = Field(
        default=None, description="File of the token that this service shows to the services it calls."
    )
    ops: OpsSettings = OpsSettings()
    tls: TlsSettings = TlsSettings()
    tracing: TracingSettings = TracingSettings()

    @property
    def triton_encrypted(self) -> bool:
        """Whether TLS is spoken to Triton; an agent has but one, and no group of settings for it."""
        group = getattr(self, "triton", None)
        return group.tls if isinstance(group, TritonSettings) else bool(getattr(self, "triton_tls", False))

    @property
    def triton_identity(self) -> Identity | None:
        """Whom to trust and what to show at Triton, never the token; None where plain text is spoken there."""
        if not self.triton_encrypted:
            return None
        return Identity(IdentityFiles(self.tls.certificate_file, self.tls.key_file, self.tls.ca_file))

    @property
    def identity_files(self) -> IdentityFiles:
        """Where the parts of this service's identity lie."""
        return IdentityFiles(self.tls.certificate_file, self.tls.key_file, self.tls.ca_file, self.token_file)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the YAML file below the environment."""
        del dotenv_settings
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings, file_secret_settings)
        path = os.environ.get("SIGHTLINE_CONFIG")
        if path:
            if not Path(path).is_file():
                raise SettingsError(f"SIGHTLINE_CONFIG must name a readable YAML file, got {path!r}")
            _check_file(Path(path))
            sources += (YamlConfigSettingsSource(settings_cls, yaml_file=path),)
        return sources


def _check_file(path: Path) -> None:
    """Refuse a file that the source would fail on, in words that do not quote it: it may hold secrets."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise SettingsError(f"SIGHTLINE_CONFIG must name a YAML file, got one that is none{where}") from None
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise SettingsError(f"SIGHTLINE_CONFIG must name a YAML file, got {type(error).__name__}") from None
    if found is not None and not (isinstance(found, dict) and all(isinstance(name, str) for name in found)):
        raise SettingsError("SIGHTLINE_CONFIG must name a YAML file of names with values, got something else")


S = TypeVar("S", bound=ServiceSettings)


def load_settings(settings_class: type[S], **overrides: Any) -> S:
    """Read and validate all settings at once.

    Args:
        settings_class: The service's settings.
        overrides: Values that win over environment and file (command-line options).

    Raises:
        SettingsError: Listing every setting that is wrong, the rule it breaks and, unless secret, the value.
    """
    try:
        return settings_class(**overrides)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = "SIGHTLINE_" + "__".join(str(part) for part in item["loc"]).upper()
            secret = any(word in name for word in ("PASSWORD", "SECRET", "KEY", "TOKEN"))
            given = item.get("input")
            if isinstance(given, (dict, BaseModel)):
                # A rule of a whole group says itself what it got; the group may hold secrets.
                lines.append(f"  {name}: {item['msg']}" if item["loc"] else f"  {item['msg']}")
                continue
            value = "(hidden)" if secret else repr(given)
            lines.append(f"  {name}: {item['msg']}, got {value}")
        raise SettingsError("these settings are wrong:\n" + "\n".join(lines)) from None


def masked(settings: ServiceSettings) -> dict[str, Any]:
    """The settings as plain values for the log, secrets as asterisks."""
    return settings.model_dump(mode="json")
