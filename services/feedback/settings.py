"""Settings of the feedback service."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from services.core.errors import InvalidInputError
from services.core.review_mask import MAX_MASK_BYTES
from services.core.shift import ShiftPlan, parse_shift_plan
from services.runtime.settings import (
    GrpcSettings,
    IndexSettings,
    KafkaSettings,
    LimitSettings,
    ObjectStoreSettings,
    ServiceSettings,
    SettingsGroup,
)


class StatisticsSettings(SettingsGroup):
    """How verdicts are counted over time, and by which shifts."""

    shifts: str = Field(
        default="early 06:00-14:00, late 14:00-22:00, night 22:00-06:00",
        description="Shifts by name, from and to a quarter of an hour; empty for none.",
    )
    time_zone: str = Field(default="UTC", description="Of shifts and days, for example `Europe/Berlin`.")
    merge_after_days: int = Field(
        default=7, ge=1, le=366, description="Age at which counts by 5 minutes become counts by quarters of an hour."
    )
    keep_days: int = Field(default=400, ge=1, le=3_660, description="Age at which counts are dropped.")

    @property
    def plan(self) -> ShiftPlan:
        """The shifts."""
        return parse_shift_plan(self.shifts, self.time_zone)

    @model_validator(mode="after")
    def _check_plan(self) -> Self:
        try:
            parse_shift_plan(self.shifts, self.time_zone)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error
        if self.keep_days < self.merge_after_days:
            raise ValueError(
                f"keep_days must be at least merge_after_days, got {self.keep_days} and {self.merge_after_days}"
            )
        return self


class ExportSettings(SettingsGroup):
    """Cases given away as archives."""

    max_at_once: int = Field(default=2, ge=1, le=64, description="Exports at once; one more is refused.")
    readers: int = Field(default=4, ge=1, le=32, description="Pictures of one export read ahead from the object store.")
    spool_bytes: int = Field(
        default=1_000_000,
        ge=10_000,
        le=1_000_000_000,
        description="Of tables that are written last, how much one keeps in memory; the rest lies in a temporary file.",
    )


class DetectorSettings(SettingsGroup):
    """Where parts are inspected again after a new model."""

    address: str = Field(
        default="",
        description="host:port of the detector's gRPC, for what a new model changed; empty compares nothing. With "
        "several replicas, set it for one of them.",
    )
    timeout_s: float = Field(default=30.0, gt=0, le=600, description="Longest wait for one verdict.")

    @field_validator("address")
    @classmethod
    def _address_has_a_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if address and not (host and port.isdigit()):
            raise ValueError(f"detector.address must be host:port or empty, got {address!r}")
        return address


class CompareSettings(SettingsGroup):
    """How much is inspected again after a new model."""

    max_parts: int = Field(default=500, ge=1, le=5_000, description="Corrected parts, those corrected last.")
    max_frames: int = Field(
        default=300, ge=0, le=5_000, description="Recent frames, drawn at random, for the count of verdicts that flip."
    )
    lookback_s: int = Field(
        default=86_400, ge=60, le=2_592_000, description="Recent frames were captured so long before the new model."
    )
    per_s: float = Field(
        default=4.0, gt=0, le=1_000, description="Most inspections a second: the line's own frames come first."
    )


class EmbeddingSettings(SettingsGroup):
    """What the models saw, kept so that neighbours of wrong verdicts can be found."""

    keep_hours: float = Field(
        default=24.0,
        ge=0,
        le=8_760,
        description="How long those of frames that are no cases are kept; of no use beyond the frames' own pictures.",
    )
    max_per_version: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Most of one model version; the oldest go, those of frames before those of cases.",
    )
    exact_up_to: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="So many of a version are compared one by one; with more an approximate index is asked.",
    )
    memory_bytes: int = Field(
        default=600_000_000,
        ge=1_000_000,
        description="What all versions in memory may take; they are read when first asked for.",
    )
    threads: int = Field(
        default=2, ge=1, le=2, description="Threads of one question: each compares one half of the embeddings."
    )
    tidy_interval_s: float = Field(
        default=60.0, gt=0, le=86_400, description="Time between two rounds of forgetting what has expired."
    )


class MeasureSettings(SettingsGroup):
    """Figures of the queue and of the audit sample, for metrics and alerts."""

    interval_s: float = Field(default=15.0, ge=1, le=3_600, description="Time between two looks at what waits.")
    audit_interval_s: float = Field(
        default=300.0, ge=1, le=86_400, description="Time between two looks at what people found in the audit sample."
    )
    audit_days: float = Field(
        default=7.0, gt=0, le=365, description="The audit sample of so many days counts for the escape rate's metrics."
    )


class FeedbackSettings(ServiceSettings):
    """Everything that the feedback service can be told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    grpc: GrpcSettings = GrpcSettings(port=50054)
    limits: LimitSettings = LimitSettings()
    index: IndexSettings = IndexSettings()
    statistics: StatisticsSettings = StatisticsSettings()
    exports: ExportSettings = ExportSettings()
    detector: DetectorSettings = DetectorSettings()
    compare: CompareSettings = CompareSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    measures: MeasureSettings = MeasureSettings()

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
        if self.exports.max_at_once >= self.grpc.max_workers:
            raise ValueError(
                "exports.max_at_once must be less than grpc.max_workers, so that people can answer meanwhile, got "
                f"{self.exports.max_at_once} and {self.grpc.max_workers}"
            )
        if self.drain_s * 1_000 >= self.kafka.max_poll_interval_ms:
            raise ValueError(
                "drain_s must be shorter than kafka.max_poll_interval_ms, got "
                f"{self.drain_s} s and {self.kafka.max_poll_interval_ms} ms"
            )
        return self
