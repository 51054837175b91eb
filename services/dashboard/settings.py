"""What the dashboard can be told, from environment and YAML."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from services.runtime.settings import (
    FeedbackAddressSettings,
    KafkaSettings,
    LimitSettings,
    ObjectStoreSettings,
    ServiceSettings,
    SettingsGroup,
)

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stands for this machine alone."""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_and_port(name: str, address: str) -> str:
    host, _, port = address.rpartition(":")
    if address and not (host and port.isdigit()):
        raise ValueError(f"{name} must be host:port or empty, got {address!r}")
    return address


class WebSettings(SettingsGroup):
    """Where the page is served, and to whom."""

    mode: Literal["local", "network"] = Field(
        default="local",
        description="local binds loopback only; network is for a host behind a proxy that signs people in.",
    )
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes a free one.")
    allowed_hosts: str = Field(
        default="",
        description="Comma-separated Host headers to answer; empty = loopback names if local, else any.",
    )
    max_streams: int = Field(default=64, ge=1, le=10_000, description="Most browsers on the live stream at once.")
    send_timeout_s: float = Field(
        default=10.0, gt=0, le=120, description="A browser that takes no data for this long is disconnected."
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
        return [*_LOOPBACK_NAMES, self.host] if self.mode == "local" else ["*"]


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
    components: ComponentSettings = ComponentSettings()
