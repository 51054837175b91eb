"""Settings of the trainer service."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from services.adapters.areas import fixed_areas
from services.core.errors import SightlineError
from services.core.promotion import PromotionPolicy
from services.core.rollout import ShadowBounds, WatchBounds
from services.core.training_run import Loss, Recipe
from services.runtime.settings import (
    GrpcSettings,
    KafkaSettings,
    ObjectStoreSettings,
    ServiceSettings,
    SettingsGroup,
)

_SECONDS_OF_HOUR = 3_600


class TriggerSettings(SettingsGroup):
    """When a run begins by itself."""

    after_reviews: int = Field(
        default=30, ge=0, le=100_000, description="New answers after which a run begins by itself; 0 for never."
    )
    every_hours: float = Field(
        default=0.0, ge=0, le=8_760, description="Hours after the last run at which one begins by itself; 0 for never."
    )
    min_interval_s: float = Field(
        default=600.0, ge=0, le=2_592_000, description="Least time between the beginnings of two such runs of an alias."
    )

    @property
    def every_s(self) -> float:
        """Seconds after the last run; 0 for never."""
        return self.every_hours * _SECONDS_OF_HOUR


class LearningGroup(SettingsGroup):
    """What learns, and by what."""

    recipe: Literal["head", "finetune"] = Field(
        default="head",
        description="`head` fits the last layer anew on frozen features, in seconds; `finetune` trains the last "
        "convolutions too.",
    )
    loss: Literal["ce", "ceod"] = Field(default="ce", description="Cross-entropy, or CEOD where regions were drawn.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of everything that is drawn.")
    answer_weight: float = Field(
        default=8.0, gt=0, le=1_000, description="An answered picture counts as so many parts of the base set."
    )
    epochs: int = Field(default=30, ge=1, le=1_000, description="Most passes of a `finetune`.")
    batch_size: int = Field(default=32, ge=2, le=1_024, description="Pictures of a step of a `finetune`.")
    device: str = Field(default="cpu", description="`cpu`, `cuda` or `cuda:N`.")
    min_class_parts: int = Field(
        default=5, ge=1, le=10_000, description="Answered pictures that a new name of a defect takes to become a class."
    )
    areas: dict[str, str] = Field(
        default_factory=dict,
        description="Where defects count, by camera or product, as JSON: `box:x0,y0,x1,y1` in shares of the picture or "
        "`file:PATH` of a picture that is white there. For the loss `ceod`, where nobody drew or marked it; a camera's "
        "comes first.",
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads of the process that learns.")
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that train over epochs together, one for each GPU, as `torchrun` starts them.",
    )
    memory_bytes: int = Field(
        default=0, ge=0, description="Most memory of that process; 0 for no bound. A batch is halved once for it."
    )

    @field_validator("areas")
    @classmethod
    def _areas_can_be_read(cls, areas: dict[str, str]) -> dict[str, str]:
        try:
            fixed_areas(areas)
        except SightlineError as error:
            raise ValueError(f"learning.areas: {error}") from error
        return areas


class GateSettings(SettingsGroup):
    """What a candidate must keep on the frozen hold-out."""

    max_mcc_fall: float = Field(default=0.02, ge=0, le=2, description="Largest fall of Matthews correlation.")
    max_more_escapes: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Defective hold-out parts that may pass beyond those of the live one.",
    )
    max_overlap_fall: float = Field(
        default=0.02, ge=0, le=1, description="Largest fall of the mean Dice of maps and masks."
    )
    max_latency_ms: float = Field(
        default=0.0, ge=0, le=3_600_000, description="Budget of the slowest of a hundred answers; 0 for none."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="With which a promised rate must be broken to count as broken."
    )

    @property
    def policy(self) -> PromotionPolicy:
        """The bounds."""
        return PromotionPolicy(
            self.max_mcc_fall,
            self.max_more_escapes,
            self.max_overlap_fall,
            self.max_latency_ms or math.inf,
            self.confidence,
        )


class InShadowSettings(SettingsGroup):
    """The candidate beside the live version, without effect."""

    on: bool = Field(default=True, description="Whether a candidate scores live frames before it may go live.")
    frames: int = Field(default=200, ge=1, le=1_000_000, description="Live frames that both must have scored.")
    max_s: float = Field(default=900.0, gt=0, le=604_800, description="Longest time for them.")
    max_flagged_rise: float = Field(
        default=0.2, ge=0, le=1, description="Largest rise of the share of FAIL and REVIEW over the live version's."
    )
    max_failed_share: float = Field(
        default=0.05, ge=0, le=1, description="Largest share of frames that the candidate gives no answer for."
    )

    @property
    def bounds(self) -> ShadowBounds:
        """The bounds."""
        return ShadowBounds(self.max_flagged_rise, self.max_failed_share)


class WatchSettings(SettingsGroup):
    """The new version once it decides; a broken bound brings the version before it back."""

    s: float = Field(default=900.0, ge=0, le=604_800, description="How long it is watched; 0 for not at all.")
    min_frames: int = Field(
        default=50, ge=1, le=1_000_000, description="Frames of each of the two versions before anything is said."
    )
    max_flagged_rise: float = Field(
        default=0.1, ge=0, le=1, description="Largest rise of the share of FAIL and REVIEW, beyond chance."
    )
    max_late_rise: float = Field(
        default=0.1, ge=0, le=1, description="Largest rise of the share of late verdicts, beyond chance."
    )
    confidence: float = Field(
        default=0.999,
        gt=0.5,
        lt=1,
        description="With which a rise must lie above its bound; high, since it is looked at again and again.",
    )

    @property
    def bounds(self) -> WatchBounds:
        """The bounds."""
        return WatchBounds(self.min_frames, self.max_flagged_rise, self.max_late_rise, self.confidence)


class ServingAddressSettings(SettingsGroup):
    """The agents beside the Tritons, asked whether a candidate came up."""

    addresses: str = Field(
        default="", description="Comma-separated host:port of the serving agents' gRPC; empty asks none."
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="Longest wait for one answer.")

    @field_validator("addresses")
    @classmethod
    def _addresses_have_ports(cls, addresses: str) -> str:
        for address in filter(None, (one.strip() for one in addresses.split(","))):
            host, _, port = address.rpartition(":")
            if not (host and port.isdigit()):
                raise ValueError(f"serving.addresses must be host:port, comma-separated, got {address!r}")
        return addresses

    @property
    def address_list(self) -> list[str]:
        """The addresses, one by one."""
        return [address.strip() for address in self.addresses.split(",") if address.strip()]


class TrainerSettings(ServiceSettings):
    """Everything that the trainer service can be told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    grpc: GrpcSettings = GrpcSettings(port=50056, max_workers=32)
    triggers: TriggerSettings = TriggerSettings()
    learning: LearningGroup = LearningGroup()
    gates: GateSettings = GateSettings()
    # Not `shadow`: the detector has a group of that name, and a line on one machine has one environment.
    in_shadow: InShadowSettings = InShadowSettings()
    watch: WatchSettings = WatchSettings()
    serving: ServingAddressSettings = ServingAddressSettings()

    promote_itself: bool = Field(
        default=False,
        description="Whether a candidate that keeps every gate goes live by itself; else it waits for an engineer.",
    )
    work: Path = Field(
        default=Path(".sightline/training"),
        description="Folder of checkpoints and installed versions; a run that was cut off goes on from there.",
    )
    lease_s: float = Field(
        default=30.0, ge=1, le=600, description="A trainer that is silent for so long has lost its aliases to another."
    )
    commit_interval_ms: int = Field(default=500, ge=10, le=60_000, description="Time between commits of offsets.")
    startup_wait_s: float = Field(
        default=300.0, gt=0, le=3_600, description="Longest wait for Kafka at the start; then it ends and says why."
    )

    @property
    def recipe(self) -> Recipe:
        """What learns."""
        return Recipe(self.learning.recipe)

    @property
    def loss(self) -> Loss:
        """By what."""
        return Loss(self.learning.loss)

    @model_validator(mode="after")
    def _check_drain(self) -> Self:
        if self.drain_s * 1_000 >= self.kafka.max_poll_interval_ms:
            raise ValueError(
                "drain_s must be shorter than kafka.max_poll_interval_ms, got "
                f"{self.drain_s} s and {self.kafka.max_poll_interval_ms} ms"
            )
        return self
