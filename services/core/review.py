"""What people say of cases: the values, what an answer may say, which answers stand, and which case teaches most.

A review answers two questions apart (paper 1: right for the right reasons, right for the wrong ones, wrong): is the
verdict right, and is the reason right. Reviews are only ever added; an undo is a review that takes another one back.
"""

from __future__ import annotations

import enum
import math
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.core.errors import InvalidInputError
from services.core.identity import validate_frame_id
from services.core.types import Case, CaseKind, Grade, ImageRef, Inspection, Verdict

#: Longest note, in characters.
MAX_NOTE_LENGTH: Final = 2_000
#: Longest name of a person, in characters.
MAX_REVIEWER_LENGTH: Final = 64
#: Longest name of a defect's class, in characters.
MAX_CLASS_LENGTH: Final = 64
#: Most corners of an area.
MAX_AREA_POINTS: Final = 512

_AUDIT_GAIN: Final = 0.5
_NEIGHBOUR_GAIN: Final = 1.0
_GAIN_PER_HOUR: Final = 0.05
_NS_PER_HOUR: Final = 3_600_000_000_000
_METHOD = re.compile(r"(?:[a-z0-9][a-z0-9._-]{0,63})?\Z", re.ASCII)


class Answer(enum.Enum):
    """An answer to one of the two questions."""

    YES = "yes"
    NO = "no"
    NOT_SURE = "not_sure"
    NOT_ASKED = "not_asked"
    """The question made no sense: there was no map, or the verdict was wrong and its reason with it."""


class ReviewAction(enum.Enum):
    """What a review does."""

    ANSWER = "answer"
    SKIP = "skip"
    """The case was put aside; it stays open."""
    UNDO = "undo"
    """It takes the review back that ``supersedes`` names."""


class CaseState(enum.Enum):
    """How far people are with a case."""

    OPEN = "open"
    """Nobody's answer stands."""
    REVIEWED = "reviewed"
    """An answer stands, or several that agree."""
    DISPUTED = "disputed"
    """Two people's answers stand and differ."""


@dataclass(frozen=True, slots=True)
class AreaPoint:
    """A corner of an area, in pixels of the picture from its upper left corner."""

    x_px: float
    y_px: float


@dataclass(frozen=True, slots=True)
class Review:
    """What a person said of a case, as it is on record."""

    review_id: str
    """A lower-case UUID, made by whoever asks; the same id twice is one review."""
    case_id: str
    frame_id: str
    action: ReviewAction
    reviewer: str
    reviewed_at_ns: int
    """By the service's clock."""
    verdict_right: Answer = Answer.NOT_ASKED
    reason_right: Answer = Answer.NOT_ASKED
    corrected_verdict: Verdict | None = None
    """PASS or FAIL, where the verdict is wrong or the model asked for a person."""
    defect_class: str = ""
    mask_ref: ImageRef | None = None
    """A PNG of the picture's size, 255 on the defect and 0 elsewhere."""
    mask_pixels: int = 0
    area: tuple[AreaPoint, ...] = ()
    """Corners of the area of interest; none or at least three."""
    note: str = ""
    said_at_ns: int = 0
    """By the person's own clock; 0 = not known."""
    alias: str = ""
    model_version: int = 0
    shown_method: str = ""
    """Method of the map that was on screen; empty where there was none."""
    supersedes: str = ""
    """The review whose place this one takes; empty for a first answer."""
    disagrees_with: str = ""
    """A standing answer of somebody else that says otherwise."""


@dataclass(frozen=True, slots=True)
class QueuedCase:
    """A case as a queue shows it; the record has the rest."""

    case_id: str
    kind: CaseKind
    inspection: Inspection
    image_ref: ImageRef
    image_width_px: int
    """0 where the picture cannot be decoded."""
    image_height_px: int
    sampling_probability: float
    explained_at_ns: int
    shown_method: str = ""
    shown_grade: Grade | None = None
    state: CaseState = CaseState.OPEN
    settled_verdict: Verdict | None = None
    claimed_by: str = ""
    claimed_until_ns: int = 0

    @property
    def gain(self) -> float:
        """What an answer would teach; see :func:`information_gain`."""
        return information_gain(self.kind, self.inspection.uncertainty, self.inspection.disagreement)


def information_gain(kind: CaseKind, uncertainty: float, disagreement: float) -> float:
    """Say how much an answer to a case would teach.

    Args:
        kind: Why it is a case. A part drawn at random has the same gain whatever the model thinks of it: were the
            doubtful ones reviewed first, what people find among them would say nothing about all that passed. The
            neighbour of a wrong verdict has the highest, however sure the model is of it: it shows where the model's
            boundary is wrong, and whoever comes back to the queue finds it in front.
        uncertainty: Of the verdict, 0 to 1; no number counts as 1.
        disagreement: Of a panel's detectors, 0 to 1; no number counts as 1.

    Returns:
        In 0 to 1: either of the two suffices, and both together are worth more.
    """
    if kind is CaseKind.AUDIT:
        return _AUDIT_GAIN
    if kind is CaseKind.NEIGHBOUR:
        return _NEIGHBOUR_GAIN
    doubt, split = (min(1.0, max(0.0, one)) if math.isfinite(one) else 1.0 for one in (uncertainty, disagreement))
    return 1.0 - (1.0 - doubt) * (1.0 - split)


def queue_rank(gain: float, captured_at_ns: int) -> float:
    """Give the number by which a queue is ordered, the highest first.

    Every hour of waiting is worth .05 of gain, so nothing waits for ever. As all cases age alike, the rank needs no
    present time: it never changes, and a page of the queue stays where it is.

    Args:
        gain: As :func:`information_gain` gives it.
        captured_at_ns: When the frame was captured.
    """
    return gain - _GAIN_PER_HOUR * (captured_at_ns / _NS_PER_HOUR)


# ---- what a review may say


def check_review(review: Review, case: Case | QueuedCase, has_map: bool) -> None:
    """Refuse a review that cannot be meant.

    Args:
        review: As it came, with the case's own ids.
        case: What it is about.
        has_map: Whether the case has any map that could have been on screen.

    Raises:
        InvalidInputError: With the rule that it breaks and what was received.
    """
    validate_review_id(review.review_id)
    validate_reviewer(review.reviewer)
    if review.case_id != case.case_id or review.frame_id != case.inspection.frame_id:
        raise InvalidInputError(f"a review must name its case {case.case_id}, got {review.case_id[:80]!r}")
    _check_text("note", review.note, MAX_NOTE_LENGTH, lines=True)
    _check_text("defect_class", review.defect_class, MAX_CLASS_LENGTH)
    if _METHOD.match(review.shown_method) is None:
        raise InvalidInputError(f"shown_method must be a short lower-case name, got {review.shown_method[:80]!r}")
    if review.shown_method and not has_map:
        raise InvalidInputError(f"shown_method must be empty for a case without maps, got {review.shown_method!r}")
    if review.action is ReviewAction.ANSWER:
        _check_answers(review, case.inspection.verdict)
    elif review.verdict_right is not Answer.NOT_ASKED or review.reason_right is not Answer.NOT_ASKED:
        raise InvalidInputError(f"only an answer may answer, got {review.action.value} with an answer")
    elif review.corrected_verdict or review.defect_class or review.area or review.mask_pixels:
        raise InvalidInputError(f"only an answer may correct, got {review.action.value} with a correction")


def _check_answers(review: Review, given: Verdict) -> None:
    if review.verdict_right is Answer.NOT_ASKED:
        raise InvalidInputError("an answer must say whether the verdict is right, got not_asked")
    if review.corrected_verdict is Verdict.REVIEW:
        raise InvalidInputError("corrected_verdict must be pass or fail, got review")
    if given is Verdict.REVIEW:
        # The model asked; what counts is what the person decides.
        if review.corrected_verdict is None and review.verdict_right is not Answer.NOT_SURE:
            raise InvalidInputError("a part in review must get pass, fail or not_sure, got none of them")
    elif review.verdict_right is Answer.NO:
        opposite = Verdict.PASS if given is Verdict.FAIL else Verdict.FAIL
        if review.corrected_verdict is not opposite:
            got = review.corrected_verdict.value if review.corrected_verdict else "none"
            raise InvalidInputError(
                f"a wrong verdict {given.value} must be corrected to {opposite.value}, got corrected_verdict {got}"
            )
    elif review.corrected_verdict is not None:
        raise InvalidInputError(
            f"only a wrong verdict is corrected, got {review.corrected_verdict.value} "
            f"with verdict_right {review.verdict_right.value}"
        )
    if settled_verdict(review, given) is Verdict.PASS and (review.mask_pixels or review.defect_class):
        raise InvalidInputError("a good part must have no defect: got a mask or a defect_class with the verdict pass")
    if review.area and len(review.area) < 3:
        raise InvalidInputError(f"an area must have at least 3 corners, got {len(review.area)}")
    if len(review.area) > MAX_AREA_POINTS:
        raise InvalidInputError(f"an area must have at most {MAX_AREA_POINTS} corners, got {len(review.area)}")


def check_area(area: Sequence[AreaPoint], width_px: int, height_px: int) -> None:
    """Refuse an area with a corner outside of the picture.

    Raises:
        InvalidInputError: With the corner.
    """
    for point in area:
        if not (0 <= point.x_px <= width_px and 0 <= point.y_px <= height_px):
            raise InvalidInputError(
                f"an area must lie within the picture of {width_px} x {height_px} px, "
                f"got a corner at {point.x_px:g}, {point.y_px:g}"
            )


def validate_review_id(value: str) -> str:
    """Let a review's id through only if it is a canonical lower-case UUID.

    Raises:
        InvalidInputError: If it is anything else.
    """
    try:
        if str(uuid.UUID(value)) == value:
            return value
    except (ValueError, AttributeError, TypeError):
        pass
    raise InvalidInputError(f"review_id must be a lower-case UUID, got {ascii(value)[:80]}")


def validate_case_id(value: str) -> str:
    """Let a case's id through only if it is one.

    Raises:
        InvalidInputError: If it is anything else.
    """
    try:
        return validate_frame_id(value)
    except InvalidInputError:
        raise InvalidInputError(f"case_id must be a lower-case UUID of version 7, got {ascii(value)[:80]}") from None


def validate_reviewer(value: str) -> str:
    """Let a person's name through only if it is short, printable and not blank.

    Raises:
        InvalidInputError: If it is anything else.
    """
    if not isinstance(value, str) or not value.strip() or value != value.strip():
        raise InvalidInputError(f"reviewer must be a name without blanks around it, got {ascii(value)[:80]}")
    _check_text("reviewer", value, MAX_REVIEWER_LENGTH)
    return value


def _check_text(name: str, value: str, most: int, *, lines: bool = False) -> None:
    if len(value) > most:
        raise InvalidInputError(f"{name} must have at most {most} characters, got {len(value)}")
    bad = next((one for one in value if not one.isprintable() and not (lines and one in "\n\t")), None)
    if bad is not None:
        raise InvalidInputError(f"{name} must hold printable characters only, got {bad!a}")


# ---- which answers stand


def standing_reviews(reviews: Iterable[Review]) -> tuple[Review, ...]:
    """Give the answers that count.

    Args:
        reviews: Everything that was said of one case, in any order.

    Returns:
        Answers that no later review takes back or replaces, in the order in which they were taken. What an undone
        answer had replaced stands again.
    """
    known = {review.review_id: review for review in reviews}
    undone = {review.supersedes for review in known.values() if review.action is ReviewAction.UNDO}
    live = [
        review for review in known.values() if review.action is ReviewAction.ANSWER and review.review_id not in undone
    ]
    replaced = {review.supersedes for review in live}
    standing = [review for review in live if review.review_id not in replaced]
    return tuple(sorted(standing, key=lambda review: (review.reviewed_at_ns, review.review_id)))


def settled_verdict(review: Review, given: Verdict) -> Verdict | None:
    """Say what a part is by one answer.

    Args:
        review: An answer.
        given: The verdict that the model gave.

    Returns:
        PASS or FAIL; None where the person was not sure.
    """
    if review.corrected_verdict is not None:
        return review.corrected_verdict
    return given if review.verdict_right is Answer.YES and given is not Verdict.REVIEW else None


def answer_for(settled: Verdict, given: Verdict) -> tuple[Answer, Verdict | None]:
    """Say how a person answers whose word is that a part is good, or defective.

    Args:
        settled: PASS or FAIL.
        given: The verdict that the model gave.

    Returns:
        Whether the verdict is right, and what it is corrected to. A model that asked was right to ask.
    """
    if given is Verdict.REVIEW:
        return Answer.YES, settled
    return (Answer.YES, None) if given is settled else (Answer.NO, settled)


def differ(one: Review, other: Review) -> bool:
    """Whether two answers say different things of the verdict or of the reason; "not sure" differs from nothing."""
    pairs = ((one.verdict_right, other.verdict_right), (one.reason_right, other.reason_right))
    said = {Answer.YES, Answer.NO}
    if any(a is not b and a in said and b in said for a, b in pairs):
        return True
    verdicts = (one.corrected_verdict, other.corrected_verdict)
    return None not in verdicts and verdicts[0] is not verdicts[1]


def case_state(reviews: Iterable[Review], given: Verdict) -> tuple[CaseState, Verdict | None]:
    """Say how far people are with a case.

    Args:
        reviews: Everything that was said of it, in any order.
        given: The verdict that the model gave.

    Returns:
        The state, and the verdict as people left it: None while nobody's answer stands, they differ, or nobody who
        answered was sure.
    """
    standing = standing_reviews(reviews)
    if not standing:
        return CaseState.OPEN, None
    if any(differ(one, other) for index, one in enumerate(standing) for other in standing[index + 1 :]):
        return CaseState.DISPUTED, None
    settled = [verdict for verdict in (settled_verdict(one, given) for one in standing) if verdict is not None]
    return CaseState.REVIEWED, settled[0] if settled else None
