"""Settings of the detector."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from services.runtime.settings import (
    GrpcSettings,
    KafkaSettings,
    LimitSettings,
    ObjectStoreSettings,
    ServiceSettings,
    SettingsGroup,
    TritonSettings,
)


class BatchSettings(SettingsGroup):
    """How frames are gathered into requests to Triton."""

    max_frames: int = Field(default=16, ge=1, le=256, description="Most rows (frames, or their tiles) of one request.")
    max_wait_ms: float = Field(
        default=4.0, ge=0, le=1_000, description="Longest time a frame waits for others to share its request."
    )
    in_flight: int = Field(default=3, ge=1, le=64, description="Requests to Triton under way at once.")


class ShadowSettings(SettingsGroup):
    """How the version in the shadow scores live frames, where an alias has one."""

    share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of frames with a verdict that the shadow scores too, drawn by frame id; 0 turns it off.",
    )
    max_per_s: float = Field(
        default=10.0,
        gt=0,
        le=10_000,
        description="Most frames a second that the shadow scores, for each detector; what is over is left out.",
    )
    max_waiting_frames: int = Field(
        default=32, ge=1, le=10_000, description="Frames that may wait for the shadow; one more is left out."
    )
    max_waiting_bytes: int = Field(
        default=16_000_000, ge=1_000_000, description="Bytes of their images; one more is left out."
    )
    timeout_s: float = Field(
        default=5.0, gt=0, le=300, description="Longest wait for the shadow's answer to one frame."
    )


class DriftSettings(SettingsGroup):
    """Live frames against the good parts that a version was calibrated on."""

    window_frames: int = Field(
        default=500,
        ge=0,
        le=100_000,
        description="Newest frames of a product, one of each part, that drift is looked for in; 0 = never.",
    )
    min_frames: int = Field(default=200, ge=20, le=100_000, description="With fewer, nothing is said.")
    every_s: float = Field(default=15.0, ge=0.1, le=3_600, description="Time between two looks.")
    expected_defect_share: float = Field(
        default=0.15, ge=0, lt=1, description="So many more high scores than the good parts have are defects, no drift."
    )
    max_products: int = Field(default=50, ge=1, le=1_000, description="Products that are looked at; no more are added.")

    @model_validator(mode="after")
    def _window_holds_the_least(self) -> Self:
        if 0 < self.window_frames < self.min_frames:
            raise ValueError(
                f"drift.window_frames must be at least drift.min_frames, got {self.window_frames} and {self.min_frames}"
            )
        return self


class DetectorSettings(ServiceSettings):
    """Everything that the detector can be told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    triton: TritonSettings = TritonSettings()
    grpc: GrpcSettings = GrpcSettings(port=50052)
    limits: LimitSettings = LimitSettings()
    batch: BatchSettings = BatchSettings()
    shadow: ShadowSettings = ShadowSettings()
    drift: DriftSettings = DriftSettings()

    default_alias: str = Field(default="default", description="Model alias of products without one of their own.")
    alias_by_product: dict[str, str] = Field(default_factory=dict, description="Model alias by product.")
    max_in_flight_frames: int = Field(
        default=96, ge=1, le=100_000, description="Frames taken and not yet settled; at this number polling pauses."
    )
    max_in_flight_bytes: int = Field(
        default=32_000_000, ge=1_000_000, description="Bytes of those frames' records; at this number polling pauses."
    )
    decode_threads: int = Field(default=2, ge=1, le=64, description="Threads that fetch, decode and prepare images.")
    audit_share: float = Field(
        default=0.02, ge=0, le=1, description="Share of PASS frames that become cases, drawn by frame id."
    )
    embedding_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of frames that become no case whose embedding is written, drawn by frame id: neighbours of "
        "wrong verdicts are found among them; 0 writes none.",
    )
    commit_interval_ms: int = Field(default=500, ge=10, le=60_000, description="Time between commits of offsets.")
    recent_ids: int = Field(
        default=4_096, ge=0, le=1_000_000, description="Handled frame ids remembered for each partition."
    )
    image_missing_wait_s: float = Field(
        default=2.0, ge=0, le=60, description="How long to look again for an image that its reference does not find."
    )
    revoke_settle_s: float = Field(
        default=3.0, ge=0, le=60, description="Longest time to finish frames of partitions that leave."
    )
    inspect_max_waiting: int = Field(
        default=16, ge=1, le=1_000, description="Callers of Inspect that may wait at once; more are refused."
    )
    inspect_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Longest wait of a caller that names no deadline of its own."
    )
    startup_wait_s: float = Field(
        default=300.0, gt=0, le=3_600, description="Longest wait for Kafka at the start; then it ends and says why."
    )
    models_poll_s: float = Field(default=0.3, gt=0, le=60, description="Time between looks at the models topic.")
    dead_letter_alarm_count: int = Field(
        default=20, ge=1, description="Dead letters within the window that raise the alarm."
    )
    dead_letter_alarm_window_s: float = Field(default=60.0, gt=0, le=86_400, description="Length of that window.")

    @model_validator(mode="after")
    def _check_drain(self) -> Self:
        if self.drain_s * 1_000 >= self.kafka.max_poll_interval_ms:
            raise ValueError(
                "drain_s must be shorter than kafka.max_poll_interval_ms, got "
                f"{self.drain_s} s and {self.kafka.max_poll_interval_ms} ms"
            )
        return self

    @property
    def aliases(self) -> frozenset[str]:
        """Every alias that may be asked."""
        return frozenset((self.default_alias, *self.alias_by_product.values()))

    def alias_of(self, product: str) -> str:
        """The alias that scores a product."""
        return self.alias_by_product.get(product, self.default_alias)
