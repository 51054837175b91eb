"""The domain's values: frames, verdicts, cases and the state of a model alias.

All are frozen. Times are integer nanoseconds since the Unix epoch (``_ns``), durations carry their unit in the
name. Images at this level are encoded bytes; decoded ones are ``uint8`` arrays of shape ``(H, W, 3)`` in RGB order.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

RgbImage: TypeAlias = NDArray[np.uint8]
"""A decoded image, ``uint8``, shape ``(H, W, 3)``, RGB."""


class Verdict(enum.Enum):
    """What is said of a part. Decided in ``services.core.decision`` and nowhere else."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    REVIEW = "review"


class Reason(enum.Enum):
    """Why a verdict is what it is."""

    SCORE = "score"
    """The score lies clear of the uncertainty band."""
    UNSURE = "unsure"
    """The score lies within the uncertainty band."""
    UNREADABLE_IMAGE = "unreadable_image"
    """The image could not be used; the frame is in the dead-letter topic."""
    DEADLINE_MISSED = "deadline_missed"
    """No verdict within the cycle time (said by ``outcome``)."""
    DISAGREEMENT = "disagreement"
    """The score lies clear of the uncertainty band, but too many detectors of a panel say otherwise."""


class CaseKind(enum.Enum):
    """Why a frame is worth a person's look."""

    FAIL = "fail"
    REVIEW = "review"
    AUDIT = "audit"
    """A uniform random sample of PASS, so that what is reviewed is not only what the model found suspicious."""
    NEIGHBOUR = "neighbour"
    """It was no case, and resembles one whose verdict was wrong. Counts in no audit: nobody drew it at random."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an encoded image lies in the object store."""

    bucket: str
    key: str
    size_bytes: int
    sha256: str
    """Lower-case hex digest of the encoded bytes."""


@dataclass(frozen=True, slots=True)
class RecordPosition:
    """The place of one record in Kafka."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of one part from one camera on one line.

    Exactly one of ``image`` and ``image_ref`` is set.
    """

    frame_id: str
    """Canonical lower-case UUID, version 7 layout; made once at ingest by ``services.core.identity``."""
    part_id: str
    line_id: str
    camera_id: str
    product: str
    sequence: int
    """Counts up by one per camera; restores the camera's order. Starts at 1."""
    captured_at_ns: int
    cycle_time_ms: int = 0
    """The line's answer is due this long after capture. 0 = no deadline."""
    source_item: str = ""
    """What the source calls it (file name, video position, drawing seed); for people, not for logic."""
    lot: str = ""
    """The lot that the part belongs to, as the line says it."""
    image: bytes | None = None
    image_ref: ImageRef | None = None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where scores are cut. Stored with the model version, set by calibration.

    ``review_low <= threshold <= review_high``; a score in ``[review_low, review_high)`` is REVIEW.
    """

    threshold: float
    review_low: float
    review_high: float


@dataclass(frozen=True, slots=True)
class Decision:
    """A score, met by its operating point."""

    verdict: Verdict
    reason: Reason
    uncertainty: float
    """0 = certain, 1 = on the threshold."""


@dataclass(frozen=True, slots=True)
class StageTimings:
    """Where a frame's time went, in milliseconds."""

    queue_ms: float = 0.0
    """From capture until the detector took the record."""
    fetch_ms: float = 0.0
    """Fetching the image from the object store; 0 when inline."""
    decode_ms: float = 0.0
    """Decoding and preprocessing."""
    infer_ms: float = 0.0
    """From request to answer of Triton, its queue included."""
    total_ms: float = 0.0
    """From capture until the verdict was decided."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """A frame's verdict, with all that is needed to trust, trace and show it; no image."""

    frame_id: str
    part_id: str
    line_id: str
    camera_id: str
    product: str
    sequence: int
    captured_at_ns: int
    decided_at_ns: int
    verdict: Verdict
    reason: Reason
    score: float
    """Anomaly score, higher is worse; NaN where no model saw the image."""
    operating_point: OperatingPoint
    uncertainty: float
    alias: str
    model_version: int
    """0 where no model saw the image."""
    defect_class: str = ""
    """The most probable class other than good; empty for a one-class model."""
    cycle_time_ms: int = 0
    in_time: bool = True
    """Decided within ``cycle_time_ms`` of capture; always true when there is no deadline."""
    timings: StageTimings = field(default_factory=StageTimings)
    image_ref: ImageRef | None = None
    position: RecordPosition | None = None
    """The frame's own record, where the image is read from when ``image_ref`` is not set."""
    detail: str = ""
    """What was wrong, for people, when ``reason`` is not about the score."""
    trace_id: str = ""
    """W3C trace id, 32 hex digits; empty when tracing is off."""
    disagreement: float = 0.0
    """How far the detectors of a panel disagree: 0 = all say the same, or there is only one model; 1 = evenly split."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A frame worth a person's look."""

    case_id: str
    """Derived from frame id and model version, so that a replay writes the same id."""
    kind: CaseKind
    inspection: Inspection
    sampling_probability: float
    """The share at which PASS frames are sampled for AUDIT, 1 for all other kinds. In ``(0, 1]``."""
    embedding: NDArray[np.float16]
    """Input of the model's last layer, shape ``(D,)``; empty where no model saw the image."""
    image: bytes | None = None
    image_ref: ImageRef | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FrameEmbedding:
    """What the model saw in a frame that became no case."""

    inspection: Inspection
    embedding: NDArray[np.float16]
    """Input of the model's last layer, shape ``(D,)``."""


@dataclass(frozen=True, slots=True)
class ShadowInspection:
    """What the version in the shadow says of a frame that the live version has answered; never acted on."""

    shadow: Inspection
    """Its ``model_version`` is the shadow's even where it gave no answer; with frame id and alias it is the record's
    identity."""
    live_verdict: Verdict
    live_score: float
    """On the live version's own scale; NaN where it gave no number."""
    live_version: int
    detail: str = ""
    """Why the shadow gave no answer; empty where it did. Where it is set, the shadow's verdict is REVIEW."""


class ExplanationStatus(enum.Enum):
    """How an explanation ended."""

    DONE = "done"
    PARTIAL = "partial"
    """The time budget ended first; the map is what there was by then."""
    FAILED = "failed"
    """There is no map."""


class Grade(enum.Enum):
    """How far a map may be trusted; given in ``services.core.explain.grade`` and nowhere else."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Where one method sees the reason of a verdict. NaN is not measured."""

    method: str
    status: ExplanationStatus
    map: NDArray[np.float16]
    """Over the whole source image, shape ``(h, w)``; higher speaks more for the target, NaN is undefined; ``(0, 0)``
    where there is no map."""
    reason: str = ""
    """Short stable token of why there is no map."""
    detail: str = ""
    target_class: str = ""
    """Empty stands for the anomaly score."""
    probability: float = math.nan
    scale_low: float = 0.0
    scale_high: float = 0.0
    """Where colour begins and ends, calibrated on good parts; not above ``scale_low`` means not calibrated."""
    grade: Grade | None = None
    trust: float = 0.0
    """Chance that the hottest point of a map with this evidence lies on the defect; 0 = not estimated."""
    deletion_auc: float = math.nan
    insertion_auc: float = math.nan
    random_auc: float = math.nan
    transplant: float = math.nan
    """Rise of the answer to a good part with the surroundings of the hottest point put in; NaN is not measured."""
    stability: float = math.nan
    coverage: float = 0.0
    passes: int = 0
    seconds: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedCase:
    """A case with its explanations, the one that is shown first in front."""

    case: Case
    explanations: tuple[Explanation, ...]
    explained_at_ns: int
    agreement: float = math.nan
    """Dice of the hottest tenths of the first two maps; NaN with fewer than two."""


class AliasAction(enum.Enum):
    """What last changed an alias."""

    ADD = "add"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    SHADOW = "shadow"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class AliasState:
    """The whole state of a model alias; each record in the ``models`` topic stands alone.

    A version number of 0 means none.
    """

    alias: str
    revision: int
    """Counts up by one with every change; the highest revision is the truth."""
    live_version: int
    previous_version: int = 0
    shadow_version: int = 0
    candidate_versions: tuple[int, ...] = ()
    action: AliasAction = AliasAction.ADD
    actor: str = ""
    at_ns: int = 0
    note: str = ""

    @property
    def wanted_versions(self) -> tuple[int, ...]:
        """Versions that a Triton must keep loaded, ascending and without 0."""
        return tuple(sorted({self.live_version, self.previous_version, self.shadow_version} - {0}))


def triton_model_name(alias: str, version: int) -> str:
    """Name the Triton model that serves a version: each version is a model of its own."""
    return f"{alias}-v{version}"


#: What no alias may begin with, so that the two kinds of models have different names.
EXPLAINER_PREFIX: Final = "explain-"


def triton_explainer_name(alias: str, version: int) -> str:
    """Name the Triton model that explains a version, beside the one that serves it."""
    return f"{EXPLAINER_PREFIX}{triton_model_name(alias, version)}"
