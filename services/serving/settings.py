"""Settings of the serving agent."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.runtime.settings import (
    GrpcSettings,
    KafkaSettings,
    ObjectStoreSettings,
    ServiceSettings,
    SettingsGroup,
)
from services.serving.repository import Engine, ExplainingPlacement, Placement


class PlacementSettings(SettingsGroup):
    """How each model version is run by this Triton."""

    device: Literal["cpu", "gpu"] = "cpu"
    gpus: tuple[int, ...] = Field(default=(), description="Numbers of the GPUs; empty takes all that Triton sees.")
    instances: int = Field(default=1, ge=1, le=64, description="Processes of each version per device.")
    engine: Engine = Field(
        default="auto",
        description="What runs the network; measured takes the fastest that gives torch's verdicts, at the first load; "
        "auto takes openvino on a CPU and measures on a GPU.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Of the features; auto takes float32, the one that keeps the verdicts, or what was measured to.",
    )
    threads: int = Field(default=1, ge=1, le=512, description="CPU threads of each process.")
    max_batch_size: int = Field(default=16, ge=1, le=4096, description="Most images in one pass.")
    preferred_batch_sizes: tuple[int, ...] = Field(
        default=(), description="Sizes at which Triton's queue stops waiting for more."
    )
    max_queue_delay_us: int = Field(
        default=0, ge=0, le=10_000_000, description="How long a request waits in Triton for company."
    )

    def placement(self) -> Placement:
        """The same as the repository takes it."""
        return Placement(**self.model_dump())


class ExplainSettings(SettingsGroup):
    """How the versions that are live, or were, are explained beside the ones that give verdicts."""

    enabled: bool = Field(default=True, description="Whether each has an explaining model, in a process of its own.")
    nice: int = Field(default=15, ge=0, le=19, description="How far that process steps back for the others.")
    threads: int = Field(default=1, ge=1, le=512, description="Its CPU threads.")
    batch_size: int = Field(
        default=16, ge=1, le=4096, description="Images of one masked pass; between two an explanation can be given up."
    )
    max_waiting: int = Field(
        default=16, ge=1, le=4096, description="Most explanations that wait in it; more are refused as busy."
    )

    def placement(self) -> ExplainingPlacement | None:
        """The same as the repository takes it; None where nothing is explained."""
        return ExplainingPlacement(**self.model_dump(exclude={"enabled"})) if self.enabled else None


class ServingSettings(ServiceSettings):
    """Everything that the serving agent can be told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    grpc: GrpcSettings = GrpcSettings(port=50054)
    placement: PlacementSettings = PlacementSettings()
    explain: ExplainSettings = ExplainSettings()

    triton_url: str = Field(default="127.0.0.1:8001", description="host:port of the gRPC endpoint of this Triton.")
    triton_tls: bool = Field(
        default=False,
        description="Speak TLS there, trusting tls.ca_file and showing tls.certificate_file where there is one.",
    )
    repository: Path = Field(default=Path("/models"), description="Triton's model repository, shared with it.")
    data: Path = Field(
        default=Path("/var/lib/sightline/serving"),
        description="Local disk for copies of versions and what is derived from them, shared with Triton.",
    )
    load_timeout_s: float = Field(
        default=900.0,
        gt=0,
        le=3600,
        description="Longest time for Triton to load one version, measuring engines and building them included.",
    )
    warm_timeout_s: float = Field(default=60.0, gt=0, le=600, description="Deadline of each warming inference.")
    unload_grace_s: float = Field(
        default=120.0, ge=0, le=86_400, description="How long a version stays loaded after the last wish for it."
    )
    keep_on_disk_s: float = Field(
        default=7 * 86_400.0, ge=60, description="How long the local copy of an unwanted version is kept."
    )
    retry_cap_s: float = Field(default=60.0, gt=0, le=3600, description="Longest wait before a failed load is retried.")
    poll_s: float = Field(default=0.5, gt=0, le=10, description="Pause between looks at Triton and the models topic.")
    parallel_loads: int = Field(
        default=2, ge=1, le=16, description="Versions brought up at a time; one that is stuck does not stop the others."
    )
    startup_wait_s: float = Field(
        default=300.0, gt=0, le=3_600, description="Longest wait for Kafka at the start; then it ends and says why."
    )
