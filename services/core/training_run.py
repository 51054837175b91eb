"""A run of the trainer: from people's answers to a version that decides, or to the reason why not.

Values only; they mirror ``trainer_service.proto``. What moves a run on lies in ``services.trainer``.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field

from services.core.errors import InvalidInputError
from services.core.identity import validate_frame_id
from services.core.promotion import PromotionReport
from services.core.types import Verdict

#: Who acts where no person does.
TRAINER: str = "trainer"


def new_run_id(at_ns: int, chance: bytes) -> str:
    """Make the id of a run, of the layout of a version 7 UUID: newer runs sort later.

    Args:
        at_ns: When it was asked for, nanoseconds since the epoch.
        chance: At least 10 random bytes.
    """
    if len(chance) < 10:
        raise InvalidInputError(f"a run's id needs at least 10 random bytes, got {len(chance)}")
    value = (at_ns // 1_000_000) << 80 | int.from_bytes(chance[:10], "big")
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def validate_run_id(value: str) -> str:
    """Let a run's id through only if it is one.

    Raises:
        InvalidInputError: If it is anything else.
    """
    try:
        return validate_frame_id(value)
    except InvalidInputError:
        raise InvalidInputError(f"run_id must be a lower-case UUID of version 7, got {ascii(value)[:80]}") from None


class RunTrigger(enum.Enum):
    """What set a run off."""

    REVIEWS = "reviews"
    SCHEDULE = "schedule"
    HAND = "hand"


class RunStage(enum.Enum):
    """How far a run is, in this order; a stage that is not asked for is passed over."""

    WAITING = "waiting"
    SNAPSHOT = "snapshot"
    TRAINING = "training"
    EVALUATION = "evaluation"
    REGISTERING = "registering"
    SHADOW = "shadow"
    DECISION = "decision"
    """It waits for an engineer."""
    WATCH = "watch"
    """Its version is live, and the line's figures are watched."""
    ENDED = "ended"


class RunOutcome(enum.Enum):
    """How a run ended."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class Recipe(enum.Enum):
    """What of a network learns."""

    HEAD = "head"
    """The last layer, fitted anew on frozen features: seconds, and the same layer for the same data."""
    FINETUNE = "finetune"
    """Its last convolutions too, from the backbone's own weights."""


class Loss(enum.Enum):
    """What it learns by."""

    CE = "ce"
    CEOD = "ceod"


@dataclass(frozen=True, slots=True)
class EpochLoss:
    """One pass of a training over its data; NaN where there is no such figure."""

    epoch: int
    train_loss: float
    validation_loss: float
    distance: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """What a version says of the hold-out, by truth and verdict; parts."""

    good_pass: int
    good_review: int
    good_fail: int
    defective_pass: int
    defective_review: int
    defective_fail: int


@dataclass(frozen=True, slots=True)
class FlippedPart:
    """A part whose verdict comes out otherwise.

    Attributes:
        part_id: The part.
        product: What it is one of.
        label: Its true class; empty where it is not known.
        before: Verdict of the live version.
        after: Of the candidate.
        before_score: Score of the live version.
        after_score: Of the candidate.
        frame_id: Of a live frame; empty for a part of the hold-out.
    """

    part_id: str
    product: str
    label: str
    before: Verdict
    after: Verdict
    before_score: float
    after_score: float
    frame_id: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredPart:
    """A part that people answered, and whether the candidate does as they said.

    Attributes:
        image_sha256: Digest of its picture.
        part_id: The part.
        review_ids: The answers.
        label: What they settled on: ``good`` or the defect's class.
        verdict: What the candidate says.
        score: Its score.
        verdict_corrected: A verdict was corrected.
        verdict_right: The candidate's verdict is theirs: PASS for good, FAIL or REVIEW for a defect.
        region_corrected: A region was drawn.
        region_right: The candidate's map has its maximum in that region.
        case_ids: Cases of the picture.
        reviewers: Whose answers.
    """

    image_sha256: str
    part_id: str
    review_ids: tuple[str, ...]
    label: str
    verdict: Verdict
    score: float
    verdict_corrected: bool
    verdict_right: bool
    region_corrected: bool
    region_right: bool
    case_ids: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()

    @property
    def is_honoured(self) -> bool:
        """Whether everything that was corrected comes out as people said."""
        return (self.verdict_right or not self.verdict_corrected) and (self.region_right or not self.region_corrected)


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """What a candidate proved.

    Attributes:
        live_version: What was live when it was measured; 0 for none.
        promotion: All gates.
        live: Confusion of the live version; None without one.
        candidate: Of the candidate.
        flips: Parts of the hold-out that come out otherwise, the worst first.
        answered: Parts that people answered, those that do not come out as they said first.
        train_parts: Pictures that it was trained on.
        lessons: Of these, those that came of answers, refutations included.
        holdout_parts: Parts of the hold-out.
    """

    live_version: int
    promotion: PromotionReport
    live: Confusion | None
    candidate: Confusion
    flips: tuple[FlippedPart, ...]
    answered: tuple[AnsweredPart, ...]
    train_parts: int
    lessons: int
    holdout_parts: int


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """What a run learns from.

    Attributes:
        digest: SHA-256 of the snapshot.
        parts: Pictures to learn from.
        good: Of these, good.
        reviews: Answers that they rest on.
        contradicted: Pictures that people contradict each other about.
        left_out: Answered pictures that nothing is learnt from, by reason.
    """

    digest: str
    parts: int
    good: int
    reviews: int
    contradicted: int
    left_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """How a candidate does beside the live version; frames.

    Attributes:
        frames: Scored by both.
        wanted: Before it may go on.
        failed: Without an answer of the candidate.
        agreed: With the same verdict.
        live_flagged: FAIL or REVIEW by the live version.
        candidate_flagged: By the candidate.
        flips: The newest first, at most 50.
    """

    frames: int
    wanted: int
    failed: int
    agreed: int
    live_flagged: int
    candidate_flagged: int
    flips: tuple[FlippedPart, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchFigures:
    """How the line does with a new version, against the one before; frames.

    Attributes:
        frames: Verdicts of the new version since it is live.
        flagged: Of these FAIL or REVIEW.
        late: Of these not in time.
        before_frames: Of the version before, over a time of the same length at most.
        before_flagged: Of these FAIL or REVIEW.
        before_late: Of these not in time.
        until_ns: When the watch ends.
    """

    frames: int
    flagged: int
    late: int
    before_frames: int
    before_flagged: int
    before_late: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run, as it lies on record; every change makes a new value.

    Attributes:
        run_id: A lower-case UUID; newer runs sort later.
        alias: The alias.
        trigger: What set it off.
        actor: Who asked for it.
        requested_at_ns: When.
        recipe: What learns.
        loss: By what.
        seed: Of everything that is drawn.
        promotes_itself: Whether it goes live by itself when every gate is kept.
        note: Why, in the actor's words.
        stage: How far it is.
        stage_since_ns: Since when.
        ended_at_ns: 0 while it goes on.
        outcome: None while it goes on.
        reason: Why, a short stable token.
        detail: The same for people.
        share: Of the stage, 0 to 1.
        doing: What is being done, for people.
        live_version: What was live when it began.
        candidate_version: 0 until it has a number.
        snapshot: None before.
        epochs: Losses.
        report: None before.
        shadow: None before.
        watch: None before.
        authors: Whose answers it carries, sorted.
        attempts: Trainings begun.
    """

    run_id: str
    alias: str
    trigger: RunTrigger
    actor: str
    requested_at_ns: int
    recipe: Recipe
    loss: Loss
    seed: int
    promotes_itself: bool
    note: str = ""
    stage: RunStage = RunStage.WAITING
    stage_since_ns: int = 0
    ended_at_ns: int = 0
    outcome: RunOutcome | None = None
    reason: str = ""
    detail: str = ""
    share: float = 0.0
    doing: str = ""
    live_version: int = 0
    candidate_version: int = 0
    snapshot: SnapshotSummary | None = None
    epochs: tuple[EpochLoss, ...] = field(default=())
    report: CandidateReport | None = None
    shadow: ShadowFigures | None = None
    watch: WatchFigures | None = None
    authors: tuple[str, ...] = ()
    attempts: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.stage is RunStage.ENDED
