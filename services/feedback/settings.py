"""Settings of the feedback service."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from services.core.review_mask import MAX_MASK_BYTES
from services.runtime.settings import (
    GrpcSettings,
    IndexSettings,
    KafkaSettings,
    LimitSettings,
    ObjectStoreSettings,
    ServiceSettings,
)


class FeedbackSettings(ServiceSettings):
    """Everything that the feedback service can be told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    grpc: GrpcSettings = GrpcSettings(port=50054)
    limits: LimitSettings = LimitSettings()
    index: IndexSettings = IndexSettings()

    claim_s: int = Field(
        default=120, ge=5, le=86_400, description="How long a case stays reserved for whoever opened it last."
    )
    max_mask_bytes: int = Field(
        default=MAX_MASK_BYTES, ge=1_000, le=MAX_MASK_BYTES, description="Largest drawn mask, as a PNG, that is taken."
    )
    workers: int = Field(default=4, ge=1, le=64, description="Cases written to the object store at once.")
    max_in_flight_cases: int = Field(
        default=256, ge=1, le=10_000, description="Cases taken and not yet settled; at this number polling pauses."
    )
    max_in_flight_bytes: int = Field(
        default=64_000_000, ge=1_000_000, description="Bytes of those cases' records; at this number polling pauses."
    )
    batch_cases: int = Field(default=64, ge=1, le=1_000, description="Most cases of one write to the index.")
    commit_interval_ms: int = Field(default=500, ge=10, le=60_000, description="Time between commits of offsets.")
    revoke_settle_s: float = Field(
        default=5.0, ge=0, le=60, description="Longest time to finish cases of partitions that leave."
    )
    startup_wait_s: float = Field(
        default=300.0,
        gt=0,
        le=3_600,
        description="Longest wait for Kafka and the index at the start; then it ends and says why.",
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.max_mask_bytes >= self.grpc.max_message_bytes:
            raise ValueError(
                "max_mask_bytes must be less than grpc.max_message_bytes, got "
                f"{self.max_mask_bytes} and {self.grpc.max_message_bytes}"
            )
        if self.drain_s * 1_000 >= self.kafka.max_poll_interval_ms:
            raise ValueError(
                "drain_s must be shorter than kafka.max_poll_interval_ms, got "
                f"{self.drain_s} s and {self.kafka.max_poll_interval_ms} ms"
            )
        return self
