"""Settings of ingest: which cameras there are, and what happens when the broker is away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from services.adapters.spool import SpoolPolicy
from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.runtime.settings import (
    GrpcSettings,
    KafkaSettings,
    LimitSettings,
    ObjectStoreSettings,
    ServiceSettings,
    SettingsGroup,
)

Rate = Annotated[float, Field(ge=0, le=10_000, description="Frames a second; 0 goes as fast as it can.")]


class EncodingSettings(SettingsGroup):
    """How pixels that come unencoded (video, USB, GenICam, simulation) are encoded."""

    format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: int = Field(default=92, ge=1, le=100)


class FolderReplaySource(SettingsGroup):
    """Sends the files of a folder by name, each once a pass."""

    kind: Literal["replay"]
    path: Path
    pattern: str = Field(default="*", description="Which file names; hidden files are never sent.")
    recursive: bool = False
    rate_fps: Rate = 0.0
    loop: bool = Field(default=False, description="Begin again at the end, as new frames.")
    max_frames: int = Field(default=0, ge=0, description="End after as many frames; 0 = no end before the folder's.")


class FolderWatchSource(SettingsGroup):
    """Sends each file that appears in a folder."""

    kind: Literal["watch"]
    path: Path
    pattern: str = "*"
    poll_ms: int = Field(default=200, ge=10, le=60_000, description="Time between looks at the folder.")
    settle_ms: int = Field(
        default=300, ge=0, le=60_000, description="A file is whole when its size and time stood still for this long."
    )
    after: Literal["keep", "move", "delete"] = Field(
        default="keep", description="What becomes of a file that is safe; move puts it into the folder sent/ beside it."
    )


class VideoFileSource(SettingsGroup):
    """Sends the pictures of a video file."""

    kind: Literal["video"]
    path: Path
    rate_fps: float | None = Field(
        default=None, ge=0, le=10_000, description="Empty takes the video's own rate; 0 goes as fast as it can."
    )
    loop: bool = False
    encoding: EncodingSettings = EncodingSettings()


class RtspSource(SettingsGroup):
    """Sends the pictures of a network camera."""

    kind: Literal["rtsp"]
    url: str = Field(min_length=1, description="rtsp://..., or whatever else OpenCV opens as a stream.")
    open_timeout_s: float = Field(default=10.0, gt=0, le=300)
    read_timeout_s: float = Field(default=5.0, gt=0, le=300)
    max_fps: Rate = 0.0
    encoding: EncodingSettings = EncodingSettings()


class UsbSource(SettingsGroup):
    """Sends the pictures of a camera on this machine."""

    kind: Literal["usb"]
    device: int = Field(default=0, ge=0)
    width_px: int | None = Field(default=None, ge=1)
    height_px: int | None = Field(default=None, ge=1)
    open_timeout_s: float = Field(default=10.0, gt=0, le=300)
    read_timeout_s: float = Field(default=5.0, gt=0, le=300)
    max_fps: Rate = 0.0
    encoding: EncodingSettings = EncodingSettings()


class GenicamSource(SettingsGroup):
    """Sends the pictures of a GenICam camera (GigE Vision, USB3 Vision); needs the extra ``genicam``."""

    kind: Literal["genicam"]
    producer: Path = Field(description="The vendor's GenTL producer, a .cti file.")
    serial_number: str | None = Field(default=None, description="Which camera; empty takes the first.")
    read_timeout_s: float = Field(default=5.0, gt=0, le=300)
    encoding: EncodingSettings = EncodingSettings()


class SimulatedSource(SettingsGroup):
    """Draws parts, as a camera on the simulated line sees them."""

    kind: Literal["simulated"]
    drawing: str = Field(default="", description="Which product is drawn; empty takes the camera's product.")
    rate_fps: Rate = 5.0
    seed: int = Field(default=0, ge=0, description="First part; cameras with the same seed see the same parts.")
    view: int = Field(default=0, ge=0, description="Which camera of the line this is.")
    size_px: int | None = Field(default=320, ge=96, le=4096, description="Width; empty takes the product's own.")
    defect_rate: float = Field(default=0.1, ge=0, le=1)
    max_frames: int = Field(default=0, ge=0, description="End after as many frames; 0 = no end.")
    encoding: EncodingSettings = EncodingSettings()


class PushSource(SettingsGroup):
    """Frames come over gRPC (``IngestService.Publish``)."""

    kind: Literal["push"]


SourceSettings = Annotated[
    FolderReplaySource
    | FolderWatchSource
    | VideoFileSource
    | RtspSource
    | UsbSource
    | GenicamSource
    | SimulatedSource
    | PushSource,
    Field(discriminator="kind"),
]


class PartSettings(SettingsGroup):
    """Where a frame's part id comes from."""

    by: Literal["auto", "file_name", "counter", "trigger"] = Field(
        default="auto", description="auto takes the file name where there is one, the counter elsewhere."
    )
    pattern: str = Field(
        default=r"^(?P<part>.+)$",
        description="Applied to the file's name without suffix; the group `part` (or the first) is the part.",
    )
    trigger_file: Path | None = Field(
        default=None, description="A file that holds the id of the part before the cameras; another program writes it."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import re  # noqa: PLC0415

        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"pattern must be a regular expression, {error}") from None
        if groups < 1:
            raise ValueError("pattern must have a group for the part")
        return value

    @model_validator(mode="after")
    def _trigger_has_a_file(self) -> Self:
        if self.by == "trigger" and self.trigger_file is None:
            raise ValueError("part.trigger_file must be set where the part comes from a trigger")
        return self


#: Kinds of sources that can take a picture when they are asked for one.
_TRIGGERABLE: Final = frozenset({"simulated", "replay", "usb", "rtsp", "genicam"})


class CameraSettings(SettingsGroup):
    """One camera."""

    camera_id: str
    line_id: str
    product: str
    cycle_time_ms: int = Field(default=0, ge=0, le=86_400_000, description="The answer is due this long after capture.")
    part: PartSettings = PartSettings()
    triggered: bool = Field(default=False, description="Take a picture only when the line triggers; else run freely.")
    source: SourceSettings
    when_full: SpoolPolicy | None = Field(
        default=None,
        description="What a full spool does: block (nothing is lost) or drop-oldest; empty takes drop-oldest for live "
        "video (rtsp, usb, genicam) and block for everything else.",
    )

    @field_validator("camera_id", "line_id", "product")
    @classmethod
    def _is_id(cls, value: str, info: ValidationInfo) -> str:
        try:
            return validate_id(value, info.field_name or "id")
        except InvalidInputError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _can_be_triggered(self) -> Self:
        if self.triggered and self.source.kind not in _TRIGGERABLE:
            raise ValueError(
                f"triggered must be set only for a source of kind {', '.join(sorted(_TRIGGERABLE))}, "
                f"got {self.source.kind}"
            )
        return self

    @property
    def spool_policy(self) -> SpoolPolicy:
        """What a full spool does."""
        live = self.source.kind in {"rtsp", "usb", "genicam"}
        return self.when_full or ("drop-oldest" if live else "block")


class SpoolSettings(SettingsGroup):
    """What must survive a restart: frames that wait for the broker, and each source's place."""

    directory: Path = Path(".sightline/spool")
    max_bytes: int = Field(default=1_000_000_000, ge=1_000_000, description="Bound for each camera.")
    fsync: bool = Field(default=False, description="Survive the loss of power too, at the price of speed.")
    outage_after_s: float = Field(
        default=2.0, gt=0, le=60, description="Without an acknowledgement for this long, frames go to disk."
    )


class IngestSettings(ServiceSettings):
    """Everything that ingest can be told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings(timeout_s=5.0)
    grpc: GrpcSettings = GrpcSettings(port=50051)
    limits: LimitSettings = LimitSettings()
    spool: SpoolSettings = SpoolSettings()
    cameras: list[CameraSettings] = Field(min_length=1)
    arrivals: bool = Field(default=True, description="Write an arrival for each frame; the outcome service needs them.")
    in_flight_frames: int = Field(
        default=128, ge=1, le=10_000, description="Frames of one camera that may wait for their acknowledgement."
    )
    in_flight_bytes: int = Field(
        default=16_000_000, ge=1_000_000, description="Bytes of those frames, all cameras together."
    )
    push_unanswered: int = Field(default=32, ge=1, le=1_000, description="Frames of one push stream without an answer.")
    push_remembered_keys: int = Field(
        default=10_000, ge=0, le=1_000_000, description="Idempotency keys remembered for each camera."
    )

    @model_validator(mode="after")
    def _cameras_are_distinct(self) -> Self:
        names = [camera.camera_id for camera in self.cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"camera_id must be unique over all cameras, got twice: {', '.join(twice)}")
        return self
