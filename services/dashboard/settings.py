"""What the dashboard can be told, from environment and YAML."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from services.core.access import Role
from services.core.loopback import LOOPBACK_NAMES, is_loopback
from services.runtime.settings import (
    AccountsSettings,
    FeedbackAddressSettings,
    KafkaSettings,
    LimitSettings,
    ObjectStoreSettings,
    OutcomeAddressSettings,
    ServiceSettings,
    SettingsGroup,
)


def _host_and_port(name: str, address: str) -> str:
    host, _, port = address.rpartition(":")
    if address and not (host and port.isdigit()):
        raise ValueError(f"{name} must be host:port or empty, got {address!r}")
    return address


class WebSettings(SettingsGroup):
    """Where the page is served, and to whom."""

    mode: Literal["local", "network"] = Field(
        default="local",
        description="local binds loopback only and is open; network serves others, who must sign in (sign_in.method).",
    )
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes a free one.")
    allowed_hosts: str = Field(
        default="",
        description="Comma-separated Host headers to answer; empty = loopback names if local, else any.",
    )
    max_streams: int = Field(default=64, ge=1, le=10_000, description="Most browsers on the live stream at once.")
    max_streams_per_person: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="Most of them for one person; where nobody signs in, only the other bound.",
    )
    send_timeout_s: float = Field(
        default=10.0, gt=0, le=120, description="A browser that takes no data for this long is disconnected."
    )
    max_connections: int = Field(default=1_024, ge=8, le=100_000, description="Most open connections.")
    max_connections_per_address: int = Field(
        default=256,
        ge=8,
        le=100_000,
        description="Most of them from one address (of IPv6 from one /64); behind a proxy, as many as it opens.",
    )
    header_timeout_s: float = Field(
        default=10.0, gt=0, le=120, description="A connection without a whole request for this long is ended."
    )
    requests_per_s: float = Field(
        default=100.0,
        ge=1,
        le=100_000,
        description="Requests of one person, or of one address of nobody, with ten seconds' worth at once; what costs "
        "more than a look-up counts several times. Not where nobody signs in.",
    )

    @model_validator(mode="after")
    def _local_means_loopback(self) -> WebSettings:
        if self.mode == "local" and not is_loopback(self.host):
            raise ValueError(
                "web.host must be a loopback address while web.mode is 'local', because nobody signs in, "
                f"got {self.host!r}"
            )
        return self

    @property
    def host_list(self) -> list[str]:
        """Host headers that are answered; ``*`` stands for any."""
        named = [name.strip() for name in self.allowed_hosts.split(",") if name.strip()]
        if named:
            return named
        # A foreign name that resolves to this machine must not reach a page that asks nobody to sign in.
        return [*LOOPBACK_NAMES, self.host] if self.mode == "local" else ["*"]


class LiveSettings(SettingsGroup):
    """How much of the line's recent past is kept in memory."""

    lookback_s: float = Field(
        default=300.0, ge=0, le=86_400, description="How far back verdicts are read at the start."
    )
    parts_per_camera: int = Field(default=24, ge=4, le=200, description="Latest parts of a camera on the wall.")
    flagged_per_camera: int = Field(default=12, ge=0, le=200, description="Latest FAIL and REVIEW parts on the wall.")
    max_frames: int = Field(default=20_000, ge=100, le=1_000_000, description="Frames with a page; the oldest go.")
    max_cameras: int = Field(default=512, ge=1, le=10_000, description="Cameras shown; the longest silent go.")
    stale_s: float = Field(default=10.0, gt=0, le=3_600, description="A camera silent for this long is stale.")
    batch_interval_s: float = Field(default=0.2, ge=0.05, le=5, description="Least time between two updates of a page.")
    stats_interval_s: float = Field(default=1.0, ge=0.2, le=60, description="Time between two updates of the figures.")
    max_snapshot_parts: int = Field(
        default=800, ge=50, le=100_000, description="Parts in one update of a page, shared among its cameras."
    )


class PictureSettings(SettingsGroup):
    """Pictures on their way to the browser."""

    cache_bytes: int = Field(default=32_000_000, ge=0, le=4_000_000_000, description="Thumbnails kept in memory.")
    max_side_px: int = Field(default=4096, ge=256, le=16_384, description="Larger pictures are shrunk to this.")
    jpeg_quality: int = Field(default=88, ge=30, le=100, description="Of pictures that had to be converted.")
    workers: int = Field(default=2, ge=1, le=32, description="Pictures fetched and converted at the same time.")
    max_waiting: int = Field(default=256, ge=1, le=10_000, description="Requests that may wait for a worker.")
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="Deadline of one fetch.")


class ExplanationSettings(SettingsGroup):
    """Explanations kept in memory."""

    max_cases: int = Field(default=2_000, ge=10, le=1_000_000, description="Explained parts in memory; the oldest go.")
    max_bytes: int = Field(
        default=24_000_000, ge=100_000, le=4_000_000_000, description="What their maps may take; the oldest go."
    )
    overlay_cache_bytes: int = Field(
        default=8_000_000, ge=0, le=1_000_000_000, description="Coloured maps kept ready for browsers."
    )


class ExplainerSettings(SettingsGroup):
    """Where maps on request are made."""

    address: str = Field(
        default="", description="host:port of the explainer service's gRPC; empty offers no maps on request."
    )
    timeout_s: float = Field(default=60.0, gt=0, le=600, description="Longest wait for one map to be finished.")
    max_at_once: int = Field(default=2, ge=1, le=64, description="Maps made at once for all browsers together.")

    @field_validator("address")
    @classmethod
    def _address_has_a_port(cls, address: str) -> str:
        return _host_and_port("explainer.address", address)


class FeedbackSettings(FeedbackAddressSettings):
    """Where reviews are taken, and how patiently."""

    timeout_s: float = Field(
        default=10.0, gt=0, le=120, description="Longest wait for an answer of it, and for a turn to ask."
    )
    max_at_once: int = Field(
        default=8, ge=1, le=64, description="Questions to it at once for all browsers; eight times as many may wait."
    )

    @field_validator("address")
    @classmethod
    def _address_has_a_port(cls, address: str) -> str:
        return _host_and_port("feedback.address", address)


class TrainerSettings(SettingsGroup):
    """Where models are trained, and how patiently."""

    address: str = Field(default="", description="host:port of the trainer's gRPC; empty offers no training.")
    timeout_s: float = Field(
        default=15.0, gt=0, le=120, description="Longest wait for an answer of it, and for a turn to ask."
    )
    max_at_once: int = Field(
        default=4, ge=1, le=64, description="Questions to it at once for all browsers; eight times as many may wait."
    )
    max_watchers: int = Field(
        default=32, ge=1, le=1_000, description="Most browsers that follow a run at once; others ask now and then."
    )

    @field_validator("address")
    @classmethod
    def _address_has_a_port(cls, address: str) -> str:
        return _host_and_port("trainer.address", address)


class OutcomeSettings(OutcomeAddressSettings):
    """Where the lines are answered, and how often it is asked how they are."""

    interval_s: float = Field(default=0.5, ge=0.1, le=60, description="Time between two questions how the lines are.")
    timeout_s: float = Field(default=3.0, gt=0, le=60, description="Longest wait for an answer of it.")
    lookback_s: float = Field(
        default=900.0, ge=0, le=86_400, description="How far back outcomes and line events are read at the start."
    )

    @field_validator("address")
    @classmethod
    def _address_has_a_port(cls, address: str) -> str:
        return _host_and_port("outcome.address", address)


class ExportSettings(SettingsGroup):
    """Archives of cases on their way to the browser."""

    max_at_once: int = Field(default=2, ge=1, le=64, description="Exports at once for all browsers together.")
    stall_s: float = Field(
        default=60.0, gt=0, le=3_600, description="A browser that takes nothing for this long is disconnected."
    )


class ComponentSettings(SettingsGroup):
    """Where the health of the other parts of the line is asked for."""

    urls: dict[str, str] = Field(
        default_factory=dict,
        description='Name to readiness URL, for example {"detector": "http://127.0.0.1:9102/readyz"}.',
    )
    interval_s: float = Field(default=2.0, ge=0.2, le=300, description="Time between two rounds of questions.")
    timeout_s: float = Field(default=1.5, gt=0, le=30, description="No answer for this long counts as down.")

    @field_validator("urls")
    @classmethod
    def _urls_are_http(cls, urls: dict[str, str]) -> dict[str, str]:
        for name, url in urls.items():
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"components.urls.{name} must be an http(s) URL, got {url!r}")
        return urls


class OidcSettings(SettingsGroup):
    """The OpenID provider that vouches for people, with sign_in.method oidc."""

    issuer: str = Field(default="", description="Its address, exactly as its discovery document names it.")
    client_id: str = Field(default="", max_length=500, description="What the dashboard is called there.")
    client_secret: SecretStr = Field(
        default=SecretStr(""), description="By which it proves that; empty for a public client (PKCE is used anyway)."
    )
    scopes: str = Field(default="openid profile", description="What is asked for, separated by blanks.")
    name_claim: str = Field(default="preferred_username", description="Claim of the ID token that names the person.")
    role_claim: str = Field(
        default="groups", description="Claim with their groups, a text or a list; dots lead into objects."
    )
    roles: dict[str, Role] = Field(
        default_factory=dict,
        description='Group to role, for example {"line-leads": "engineer"}; the highest counts, and whoever has none '
        "is refused.",
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="Longest wait for an answer of it.")

    @field_validator("issuer")
    @classmethod
    def _issuer_is_safe(cls, issuer: str) -> str:
        return issuer and safe_origin("sign_in.oidc.issuer", issuer)


class SignInSettings(SettingsGroup):
    """How people say who they are."""

    method: Literal["none", "local", "oidc"] = Field(
        default="none",
        description="none asks nobody, and is refused with web.mode network; local has users with passwords "
        "(sightline users); oidc asks an OpenID provider.",
    )
    public_url: str = Field(
        default="",
        description="Address that browsers open, for example https://wall.plant.example; oidc needs it. Empty: some "
        "https address.",
    )
    idle_s: float = Field(default=1_800.0, ge=60, le=604_800, description="A session without use is over after this.")
    session_s: float = Field(default=43_200.0, ge=60, le=2_592_000, description="A session is over after this anyway.")
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        le=10,
        description="Proxies in front that add to X-Forwarded-For; 0 takes the address that connects.",
    )
    oidc: OidcSettings = OidcSettings()

    @field_validator("public_url")
    @classmethod
    def _public_url_is_safe(cls, public_url: str) -> str:
        if public_url and urlsplit(safe_origin("sign_in.public_url", public_url)).path not in ("", "/"):
            raise ValueError(f"sign_in.public_url must have no path, got {public_url!r}")
        return public_url.rstrip("/")

    @model_validator(mode="after")
    def _oidc_is_complete(self) -> SignInSettings:
        if self.method == "oidc":
            needed = {
                "public_url": self.public_url,
                "oidc.issuer": self.oidc.issuer,
                "oidc.client_id": self.oidc.client_id,
                "oidc.roles": self.oidc.roles,
            }
            missing = [f"sign_in.{name}" for name, value in needed.items() if not value]
            if missing:
                raise ValueError(f"sign_in.method oidc needs {', '.join(missing)}, got none")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Browsers reach the page by https; only on this machine they need not."""
        return not self.public_url.startswith("http://")


def safe_origin(name: str, url: str) -> str:
    """Let an address through only where nobody on the way can read what is sent there.

    Raises:
        ValueError: If it is no https URL, or no http URL of this machine.
    """
    parts = urlsplit(url)
    encrypted = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not (encrypted and parts.hostname) or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{name} must be an https URL, or an http one of this machine, got {parts.hostname!r}")
    return url


class DashboardSettings(ServiceSettings):
    """Everything the dashboard is told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    limits: LimitSettings = LimitSettings()
    web: WebSettings = WebSettings()
    live: LiveSettings = LiveSettings()
    pictures: PictureSettings = PictureSettings()
    explanations: ExplanationSettings = ExplanationSettings()
    explainer: ExplainerSettings = ExplainerSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    trainer: TrainerSettings = TrainerSettings()
    outcome: OutcomeSettings = OutcomeSettings()
    exports: ExportSettings = ExportSettings()
    components: ComponentSettings = ComponentSettings()
    accounts: AccountsSettings = AccountsSettings()
    sign_in: SignInSettings = SignInSettings()

    @model_validator(mode="after")
    def _others_sign_in(self) -> DashboardSettings:
        if self.web.mode == "network" and self.sign_in.method == "none":
            raise ValueError(
                "sign_in.method must be 'local' or 'oidc' while web.mode is 'network', because whoever reaches the "
                "port would see the line, got 'none'"
            )
        return self
