"""The one place where a score meets a threshold."""

from __future__ import annotations

import math
from typing import Final

from services.core.types import Decision, OperatingPoint, Reason, Verdict

#: Disagreement of a panel from which a person decides: at least a third of its detectors are against the others. So one
#: against one, two, or two against three, but not one against three or more; of nine, three. Exactly a third is 2/3,
#: which comes from Triton as float32; no panel of two to nine has a split between this and that.
DISAGREEMENT_LIMIT: Final = 0.66

# Distance at which a score is half as doubtful as one on the threshold, where the band has no width to tell.
_UNIT_DISTANCE = 0.05


def decide(score: float, operating_point: OperatingPoint, disagreement: float = 0.0) -> Decision:
    """Say what a score means for the part.

    Args:
        score: Anomaly score, higher is worse.
        operating_point: Where the model version cuts; see :func:`validate_operating_point`.
        disagreement: How far the detectors of a panel disagree: twice the share of the minority, in 0 to 1; 0 where
            one model decides.

    Returns:
        PASS below ``review_low``, FAIL from ``review_high`` on, REVIEW between them. A score that is not a finite
        number is REVIEW, never PASS: it says that the model failed, not that the part is good. What would be PASS or
        FAIL is REVIEW from :data:`DISAGREEMENT_LIMIT` on, and where the disagreement is no number.

    Raises:
        ValueError: If the operating point is not valid.
    """
    validate_operating_point(operating_point)
    if not math.isfinite(score):
        return Decision(Verdict.REVIEW, Reason.UNSURE, 1.0)
    doubt = _uncertainty(score, operating_point)
    if operating_point.review_low <= score < operating_point.review_high:
        return Decision(Verdict.REVIEW, Reason.UNSURE, doubt)
    # Turned around so that NaN is REVIEW too.
    if not disagreement < DISAGREEMENT_LIMIT:
        return Decision(Verdict.REVIEW, Reason.DISAGREEMENT, doubt)
    return Decision(Verdict.FAIL if score >= operating_point.review_high else Verdict.PASS, Reason.SCORE, doubt)


def for_a_person(decision: Decision) -> Decision:
    """What is said of a part that somebody is to look at whatever its score: REVIEW in place of PASS."""
    if decision.verdict is not Verdict.PASS:
        return decision
    return Decision(Verdict.REVIEW, Reason.UNSURE, decision.uncertainty)


def validate_operating_point(operating_point: OperatingPoint) -> None:
    """Refuse an operating point that cannot be meant.

    Args:
        operating_point: From a model version.

    Raises:
        ValueError: Unless all three numbers are finite and ``review_low <= threshold <= review_high``.
    """
    low, threshold, high = operating_point.review_low, operating_point.threshold, operating_point.review_high
    if not (math.isfinite(low) and math.isfinite(threshold) and math.isfinite(high)):
        raise ValueError(f"an operating point must be finite, got {low}, {threshold}, {high}")
    if not low <= threshold <= high:
        raise ValueError(f"an operating point must have low <= threshold <= high, got {low}, {threshold}, {high}")


def _uncertainty(score: float, point: OperatingPoint) -> float:
    """1 on the threshold, one half at the edge of the band, towards 0 far from it."""
    distance = abs(score - point.threshold)
    half_width = point.review_high - point.threshold if score >= point.threshold else point.threshold - point.review_low
    unit = half_width if half_width > 0 else _UNIT_DISTANCE
    return unit / (unit + distance)
