"""Explained cases for tests of whoever shows them: real events with maps of a known shape, nothing is inferred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.core.types import (
    Case,
    CaseKind,
    ExplainedCase,
    Explanation,
    ExplanationStatus,
    Grade,
    ImageRef,
    Inspection,
    Verdict,
)

NO_MAP = np.zeros((0, 0), np.float16)
_ELSEWHERE = ImageRef("sightline", "frames/elsewhere.jpg", 1, "0" * 64)


def hot_spot(x: float, y: float, *, height: int = 72, width: int = 96, spread: float = 0.09) -> NDArray[np.float16]:
    """A map that is hottest at one place, with a little unevenness everywhere.

    Args:
        x: Share of the width.
        y: Share of the height.
        height: Rows.
        width: Columns.
        spread: Of the hot place, as a share of the width.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    away = ((columns + 0.5) / width - x) ** 2 + (((rows + 0.5) / height - y) * height / width) ** 2
    uneven = 0.04 * np.sin(columns / 7.0) * np.cos(rows / 5.0)
    return (np.exp(-away / (2 * spread**2)) + uneven).astype(np.float16)


def explanation(method: str = "invrise-soft", **changes: object) -> Explanation:
    """One explanation; hottest at the upper right."""
    made = Explanation(
        method=method,
        status=ExplanationStatus.DONE,
        map=hot_spot(0.78, 0.24),
        probability=0.93,
        scale_low=0.12,
        scale_high=0.5,
        grade=Grade.B,
        trust=0.62,
        deletion_auc=0.31,
        insertion_auc=0.82,
        random_auc=0.55,
        transplant=0.35,
        stability=0.91,
        coverage=1.0,
        passes=320,
        seconds=1.4,
        seed=7,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def failed(method: str = "gradcam", reason: str = "no_conv_layers", detail: str = "the model has none") -> Explanation:
    """A method that could not explain."""
    return Explanation(method, ExplanationStatus.FAILED, NO_MAP, reason=reason, detail=detail)


def explained_case(
    inspection: Inspection,
    explanations: Sequence[Explanation],
    *,
    agreement: float = math.nan,
    explained_at_ns: int | None = None,
) -> ExplainedCase:
    """A case of a verdict with its explanations."""
    case = Case(
        case_id=inspection.frame_id,
        kind=CaseKind.REVIEW if inspection.verdict is Verdict.REVIEW else CaseKind.FAIL,
        inspection=inspection,
        sampling_probability=1.0,
        embedding=np.zeros(0, np.float16),
        image_ref=inspection.image_ref or _ELSEWHERE,
    )
    at_ns = inspection.decided_at_ns + 900_000_000 if explained_at_ns is None else explained_at_ns
    return ExplainedCase(case, tuple(explanations), at_ns, agreement)
