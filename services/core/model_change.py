"""What a new live model changed: corrected parts held against what people settled on, and verdicts that flipped.

A part that somebody corrected is inspected again by the new model. What people settled on is the measure: it comes out
right, wrong, or the model asks. Beside them recent frames of the version before are inspected again; those that passed
are known only as a random sample, so their flips are weighted by the share at which they were drawn.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.core.review import Answer, CaseState, Review, case_state, settled_verdict, standing_reviews
from services.core.types import AliasAction, OperatingPoint, Verdict

#: Standard normal quantile of a two-sided interval of 95 %.
_Z: Final = 1.959963984540054


class ChangeState(enum.Enum):
    """How far a comparison is."""

    COMPARING = "comparing"
    DONE = "done"
    SUPERSEDED = "superseded"
    """The version was replaced before everything was compared."""


class CorrectionKind(enum.Enum):
    """What somebody said that a new model is held against."""

    VERDICT = "verdict"
    """The verdict was wrong."""
    DECISION = "decision"
    """The model had asked, and the person decided."""
    REASON = "reason"
    """The verdict was right and its reason wrong."""


class PartOutcome(enum.Enum):
    """How a corrected part comes out of the new model."""

    NOW_RIGHT = "now_right"
    STILL_RIGHT = "still_right"
    ASKS = "asks"
    """The new model asks a person."""
    STILL_WRONG = "still_wrong"
    NOW_WRONG = "now_wrong"
    """It was right, or the model had asked."""


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """What one model version says of a part."""

    verdict: Verdict
    score: float
    """Anomaly score on the version's scale; NaN where no model saw the image."""
    operating_point: OperatingPoint
    model_version: int
    defect_class: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """What one person said of a part."""

    review_id: str
    reviewer: str
    kind: CorrectionKind
    settled: Verdict
    """PASS or FAIL: what the part is by this answer."""
    defect_class: str
    reviewed_at_ns: int
    withdrawn: bool = False
    """The answer does not stand any more; never on record."""


@dataclass(frozen=True, slots=True)
class ComparedPart:
    """A part that people corrected, before and after."""

    case_id: str
    part_id: str
    line_id: str
    camera_id: str
    captured_at_ns: int
    settled: Verdict
    corrections: tuple[Correction, ...]
    """In order; at least one."""
    before: PartVerdict
    after: PartVerdict | None = None
    left_out: str = ""
    """Short stable token of why it cannot be compared; empty where it can."""

    @property
    def outcome(self) -> PartOutcome | None:
        """How it comes out; None while it is not compared, or cannot be."""
        if self.after is None:
            return None
        return part_outcome(self.before.verdict, self.after.verdict, self.settled)

    @property
    def waits(self) -> bool:
        """Whether it is still to be compared."""
        return self.after is None and not self.left_out


@dataclass(frozen=True, slots=True)
class ComparedFrame:
    """One of the recent frames that are inspected again."""

    case_id: str
    sampling_probability: float
    """Share at which frames like this became cases, in ``(0, 1]``."""
    before: Verdict
    after: Verdict | None = None
    left_out: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is still to be compared."""
        return self.after is None and not self.left_out


@dataclass(frozen=True, slots=True)
class FrameStratum:
    """Recent frames of one verdict, which those to compare were drawn from."""

    before: Verdict
    cases: int
    frames: float
    """Frames that the cases stand for: the sum of ``1 / sampling_probability``."""


@dataclass(frozen=True, slots=True)
class ModelChange:
    """One change of an alias's live version, with its comparison."""

    alias: str
    revision: int
    """Of the alias's state at which the change was noticed; one more than the last on record where the topic began
    anew."""
    live_version: int
    previous_version: int
    action: AliasAction | None
    """PROMOTE or ROLL_BACK; None where the change was noticed after later ones."""
    actor: str
    at_ns: int
    note: str = ""
    state: ChangeState = ChangeState.COMPARING
    parts: tuple[ComparedPart, ...] = ()
    frames: tuple[ComparedFrame, ...] = ()
    strata: tuple[FrameStratum, ...] = ()
    frames_since_ns: int = 0
    frames_until_ns: int = 0
    began_at_ns: int = 0
    ended_at_ns: int = 0

    @property
    def planned(self) -> int:
        """Parts and frames to compare."""
        return len(self.parts) + len(self.frames)

    @property
    def settled(self) -> int:
        """Of these, compared or left out."""
        return sum(not part.waits for part in self.parts) + sum(not frame.waits for frame in self.frames)


@dataclass(frozen=True, slots=True)
class PartCounts:
    """Corrected parts by how they come out."""

    parts: int
    now_right: int
    still_right: int
    asks: int
    still_wrong: int
    now_wrong: int
    left_out: int
    waiting: int


@dataclass(frozen=True, slots=True)
class FrameEstimate:
    """A number of frames with its interval (95 %)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Flip:
    """Verdicts that come out otherwise, of one kind."""

    before: Verdict
    after: Verdict
    flipped: int
    """Frames of the sample that do."""
    compared: int
    """Frames of the sample with this verdict before."""
    estimate: FrameEstimate
    """How many that makes of all frames of the time looked at."""


@dataclass(frozen=True, slots=True)
class Flips:
    """All verdicts that come out otherwise."""

    kinds: tuple[Flip, ...]
    """Those that occur, the most frequent first."""
    flipped: FrameEstimate | None
    """All together; None where no frame was compared."""
    frames: float
    """Frames of the time looked at."""
    compared: int


@dataclass(frozen=True, slots=True)
class ChangeSummary:
    """A change as a list shows it."""

    change: ModelChange
    """Without its parts, frames and strata."""
    counts: PartCounts
    flips: Flips
    planned: int
    settled: int
    waits_for: str = ""
    """Short stable token of what the comparison waits for; empty while it goes on."""


def summarise(change: ModelChange, reviewer: str, waits_for: str = "") -> ChangeSummary:
    """Give a change as a list shows it.

    Args:
        change: The change.
        reviewer: Whose corrections are counted; empty counts everyone's.
        waits_for: What its comparison waits for.
    """
    return ChangeSummary(
        change=replace(change, parts=(), frames=(), strata=()),
        counts=count_parts(parts_of(change.parts, reviewer)),
        flips=flips(change.frames, change.strata),
        planned=change.planned,
        settled=change.settled,
        waits_for=waits_for,
    )


# ---- parts


def corrections(reviews: Iterable[Review], given: Verdict) -> tuple[Verdict, tuple[Correction, ...]] | None:
    """Find what a new model is to be held against.

    Args:
        reviews: Everything that was said of a case, in any order.
        given: The verdict that the model gave.

    Returns:
        What people settled on and the standing answers that corrected something, in order. None where nobody corrected
        anything, or people do not agree: then there is no measure.
    """
    said = list(reviews)
    state, settled = case_state(said, given)
    if state is not CaseState.REVIEWED or settled is None:
        return None
    found: list[Correction] = []
    for review in standing_reviews(said):
        kind = correction_kind(review)
        by_this = settled_verdict(review, given)
        if kind is None or by_this is None:
            continue
        found.append(
            Correction(review.review_id, review.reviewer, kind, by_this, review.defect_class, review.reviewed_at_ns)
        )
    return (settled, tuple(found)) if found else None


def correction_kind(review: Review) -> CorrectionKind | None:
    """Say what an answer corrects; None where it agrees with the model, or says nothing."""
    if review.corrected_verdict is not None:
        return CorrectionKind.VERDICT if review.verdict_right is Answer.NO else CorrectionKind.DECISION
    return CorrectionKind.REASON if review.reason_right is Answer.NO else None


def part_outcome(before: Verdict, after: Verdict, settled: Verdict) -> PartOutcome:
    """Hold a part's new verdict against what people settled on.

    Args:
        before: Of the version that was corrected.
        after: Of the new version.
        settled: PASS or FAIL.
    """
    if after is Verdict.REVIEW:
        return PartOutcome.ASKS
    if after is settled:
        return PartOutcome.STILL_RIGHT if before is settled else PartOutcome.NOW_RIGHT
    was_wrong = before is not settled and before is not Verdict.REVIEW
    return PartOutcome.STILL_WRONG if was_wrong else PartOutcome.NOW_WRONG


def parts_of(parts: Iterable[ComparedPart], reviewer: str) -> tuple[ComparedPart, ...]:
    """Those that a person corrected; all where nobody is named."""
    if not reviewer:
        return tuple(parts)
    return tuple(part for part in parts if any(one.reviewer == reviewer for one in part.corrections))


def count_parts(parts: Sequence[ComparedPart]) -> PartCounts:
    """Count corrected parts by how they come out."""
    outcomes = [part.outcome for part in parts]
    return PartCounts(
        parts=len(parts),
        now_right=outcomes.count(PartOutcome.NOW_RIGHT),
        still_right=outcomes.count(PartOutcome.STILL_RIGHT),
        asks=outcomes.count(PartOutcome.ASKS),
        still_wrong=outcomes.count(PartOutcome.STILL_WRONG),
        now_wrong=outcomes.count(PartOutcome.NOW_WRONG),
        left_out=sum(bool(part.left_out) for part in parts),
        waiting=sum(part.waits for part in parts),
    )


# ---- frames


def draw(case_ids: Iterable[str], budget: int, seed: str) -> tuple[str, ...]:
    """Draw cases uniformly, the same ones for the same seed whatever their order.

    Args:
        case_ids: To draw from.
        budget: Most cases; fewer are taken whole.
        seed: Tells drawings apart.
    """
    return tuple(sorted(case_ids, key=lambda one: hashlib.sha256(f"{seed} {one}".encode()).digest())[:budget])


def flips(frames: Iterable[ComparedFrame], strata: Iterable[FrameStratum]) -> Flips:
    """Estimate how many verdicts come out otherwise.

    Each verdict of the version before is a stratum of its own. The share of its frames that flip is weighted by how
    many frames each stands for; its interval is Wilson's, with the sample's effective size (Kish). Where every frame of
    a stratum was compared the count is exact. The interval of the sum is put together from those of its terms
    (MOVER; Zou and Donner, Statistics in Medicine 27, 2008).

    Args:
        frames: The sample; those that wait or are left out do not count.
        strata: What it was drawn from.
    """
    compared = [frame for frame in frames if frame.after is not None]
    kinds: list[Flip] = []
    totals: list[FrameEstimate] = []
    whole = list(strata)
    for stratum in whole:
        here = [frame for frame in compared if frame.before is stratum.before]
        if not here:
            continue
        for after in Verdict:
            if after is stratum.before:
                continue
            estimate = _estimate(here, stratum, {after})
            flipped = sum(frame.after is after for frame in here)
            if flipped:
                kinds.append(Flip(stratum.before, after, flipped, len(here), estimate))
        totals.append(_estimate(here, stratum, set(Verdict) - {stratum.before}))
    kinds.sort(key=lambda kind: (-kind.estimate.value, kind.before.value, kind.after.value))
    return Flips(
        kinds=tuple(kinds),
        flipped=_sum(totals) if totals else None,
        frames=sum(stratum.frames for stratum in whole),
        compared=len(compared),
    )


def _estimate(here: Sequence[ComparedFrame], stratum: FrameStratum, after: set[Verdict]) -> FrameEstimate:
    weights = [1.0 / frame.sampling_probability for frame in here]
    flipped = [weight for frame, weight in zip(here, weights, strict=True) if frame.after in after]
    total = sum(weights)
    share = sum(flipped) / total
    if len(here) >= stratum.cases and all(frame.sampling_probability == 1.0 for frame in here):
        return FrameEstimate(sum(flipped), sum(flipped), sum(flipped))
    size = total * total / sum(weight * weight for weight in weights)
    low, high = _wilson(share, size)
    return FrameEstimate(share * stratum.frames, low * stratum.frames, high * stratum.frames)


def _wilson(share: float, size: float) -> tuple[float, float]:
    """Wilson's interval of a share, 95 %."""
    middle = (share + _Z * _Z / (2 * size)) / (1 + _Z * _Z / size)
    half = _Z * math.sqrt(share * (1 - share) / size + _Z * _Z / (4 * size * size)) / (1 + _Z * _Z / size)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _sum(terms: Sequence[FrameEstimate]) -> FrameEstimate:
    value = sum(term.value for term in terms)
    below = math.sqrt(sum((term.value - term.low) ** 2 for term in terms))
    above = math.sqrt(sum((term.high - term.value) ** 2 for term in terms))
    return FrameEstimate(value, value - below, value + above)
