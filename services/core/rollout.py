"""Whether the line does worse with a new version than with the one before, beyond what chance does.

Before it decides, a candidate scores live frames in the shadow; once it decides, its verdicts are held against those of
the version before. Both look at shares of frames. In the shadow both versions score the same frames, so their shares
are compared as they are. The watch compares different frames: a share counts as risen only when the lower end of an
interval of the difference lies above the bound (Newcombe 1998, Statistics in Medicine 17, 873-890, his method 10 on the
intervals of Clopper and Pearson, which keep their word for few frames). The watch looks again and again, so its
confidence is high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.core.errors import InvalidInputError
from services.core.escape_rate import share_interval
from services.core.training_run import ShadowFigures, WatchFigures


@dataclass(frozen=True, slots=True)
class ShadowBounds:
    """What a candidate may do in the shadow.

    Attributes:
        max_flagged_rise: Largest rise of the share of frames with FAIL or REVIEW, in ``[0, 1]``.
        max_failed_share: Largest share of frames that it gives no answer for, in ``[0, 1]``.
    """

    max_flagged_rise: float = 0.2
    max_failed_share: float = 0.05

    def __post_init__(self) -> None:
        _check_shares(self.max_flagged_rise, self.max_failed_share)


@dataclass(frozen=True, slots=True)
class WatchBounds:
    """What a new version may do once it decides.

    Attributes:
        min_frames: Frames of each of the two versions before anything is said, ``>= 1``.
        max_flagged_rise: Largest rise of the share of frames with FAIL or REVIEW, in ``[0, 1]``.
        max_late_rise: Largest rise of the share of verdicts that are not in time, in ``[0, 1]``.
        confidence: With which a rise must lie above its bound, in ``(0.5, 1)``.
    """

    min_frames: int = 50
    max_flagged_rise: float = 0.1
    max_late_rise: float = 0.1
    confidence: float = 0.999

    def __post_init__(self) -> None:
        _check_shares(self.max_flagged_rise, self.max_late_rise)
        if self.min_frames < 1:
            raise InvalidInputError(f"min_frames must be >= 1, got {self.min_frames}")
        if not 0.5 < self.confidence < 1:
            raise InvalidInputError(f"confidence must lie between 0.5 and 1, got {self.confidence}")


@dataclass(frozen=True, slots=True)
class Objection:
    """What keeps a version from going live or from staying it.

    Attributes:
        reason: A short stable token: ``flagged``, ``failed`` or ``late``.
        detail: The same for people, with the numbers.
    """

    reason: str
    detail: str


def shadow_objection(figures: ShadowFigures, bounds: ShadowBounds) -> Objection | None:
    """Say what a candidate does wrong in the shadow; None where it keeps the bounds.

    Args:
        figures: Of at least one frame.
        bounds: The bounds.
    """
    asked = figures.frames + figures.failed
    if not asked:
        raise InvalidInputError("a shadow must have been asked about a frame, got none")
    failed = figures.failed / asked
    if failed > bounds.max_failed_share:
        return Objection(
            "failed",
            f"no answer to {figures.failed} of {asked} live frames ({failed:.1%}), at most "
            f"{bounds.max_failed_share:.1%} are allowed",
        )
    rise = (figures.candidate_flagged - figures.live_flagged) / figures.frames if figures.frames else 0.0
    if rise > bounds.max_flagged_rise:
        return Objection(
            "flagged",
            f"FAIL or REVIEW for {figures.candidate_flagged} of {figures.frames} live frames, the live version for "
            f"{figures.live_flagged}: a rise of {rise:.1%}, at most {bounds.max_flagged_rise:.1%} is allowed",
        )
    return None


def watch_objection(figures: WatchFigures, bounds: WatchBounds) -> Objection | None:
    """Say what a new version does worse than the one before; None where nothing is, or too little was seen."""
    if min(figures.frames, figures.before_frames) < bounds.min_frames:
        return None
    for reason, what, after, before, bound in (
        ("flagged", "FAIL or REVIEW", figures.flagged, figures.before_flagged, bounds.max_flagged_rise),
        ("late", "not in time", figures.late, figures.before_late, bounds.max_late_rise),
    ):
        low, high = rise_interval(before, figures.before_frames, after, figures.frames, bounds.confidence)
        if low > bound:
            return Objection(
                reason,
                f"{what}: {after} of {figures.frames} frames, before {before} of {figures.before_frames}; a rise of "
                f"{low:.1%} to {high:.1%}, at most {bound:.1%} is allowed",
            )
    return None


def rise_interval(before: int, before_of: int, after: int, after_of: int, confidence: float) -> tuple[float, float]:
    """The interval of the difference of two independent shares, after minus before.

    Args:
        before: Found before, 0 to ``before_of``.
        before_of: Of how many, ``> 0``.
        after: Found after, 0 to ``after_of``.
        after_of: Of how many, ``> 0``.
        confidence: In ``(0, 1)``.

    Returns:
        Lower and upper end, in ``[-1, 1]``.

    Raises:
        InvalidInputError: If a number is out of range.

    Example:
        >>> low, high = rise_interval(10, 100, 40, 100, 0.95)
        >>> round(low, 3), round(high, 3)
        (0.181, 0.411)
    """
    was_low, was_high = share_interval(before, before_of, confidence)
    now_low, now_high = share_interval(after, after_of, confidence)
    was, now = before / before_of, after / after_of
    rise = now - was
    low = rise - math.hypot(now - now_low, was_high - was)
    high = rise + math.hypot(now_high - now, was - was_low)
    return max(-1.0, low), min(1.0, high)


def _check_shares(*shares: float) -> None:
    if not all(0 <= share <= 1 for share in shares):
        raise InvalidInputError(f"a bound on a share must lie in [0, 1], got {shares}")
