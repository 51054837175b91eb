"""Whether a candidate may go live: it proves itself on the frozen hold-out, gate by gate, with numbers.

The hold-out is split by part and never trained on, so that live version and candidate answer the same parts and neither
has seen them. Every gate is told, also those that are kept: a refusal names its reason, and a promotion its margin.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.core.decision import validate_operating_point
from services.core.errors import InvalidInputError
from services.core.escape_rate import share_interval
from services.core.evaluation.metrics import bootstrap, mcc
from services.core.manifest import Calibration, Metric
from services.core.types import OperatingPoint


class GateName(enum.Enum):
    """What is looked at."""

    MCC = "mcc"
    """Matthews correlation does not fall by more than a bound."""
    ESCAPES = "escapes"
    """Not more defective parts pass."""
    EXPLANATION = "explanation"
    """Maps lie on the experts' masks no worse than before, by more than a bound."""
    CALIBRATION = "calibration"
    """The rate that the operating point promises is not broken."""
    LATENCY = "latency"
    """An answer comes within the budget."""


class GateState(enum.Enum):
    """What came of it."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_MEASURED = "not_measured"
    """There was nothing to measure it on, such as no mask in the hold-out; keeps nobody from going live."""


@dataclass(frozen=True, slots=True)
class PromotionPolicy:
    """The bounds of the gates.

    Attributes:
        max_mcc_fall: Largest fall of Matthews correlation, ``>= 0``.
        max_more_escapes: Defective hold-out parts that may pass beyond those of the live version, ``>= 0``.
        max_overlap_fall: Largest fall of the mean Dice of maps and masks, ``>= 0``.
        max_latency_ms: Budget of the slowest of a hundred answers, ``> 0``; infinite for none.
        confidence: With which a promised rate must be broken to count as broken, in ``(0.5, 1)``.
    """

    max_mcc_fall: float = 0.02
    max_more_escapes: int = 0
    max_overlap_fall: float = 0.02
    max_latency_ms: float = math.inf
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not (self.max_mcc_fall >= 0 and self.max_more_escapes >= 0 and self.max_overlap_fall >= 0):
            raise InvalidInputError(f"falls and escapes that are allowed must be >= 0, got {self}")
        if not self.max_latency_ms > 0:
            raise InvalidInputError(f"max_latency_ms must be above 0, got {self.max_latency_ms}")
        if not 0.5 < self.confidence < 1:
            raise InvalidInputError(f"confidence must lie between 0.5 and 1, got {self.confidence}")


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutAnswers:
    """What one version says of the hold-out.

    Attributes:
        parts: Of each image, shape ``(N,)``; live version and candidate answer the same in the same order.
        defective: The truth, ``bool``, shape ``(N,)``.
        scores: Anomaly scores, shape ``(N,)``.
        operating_point: Of the version.
        calibration: What its operating point promises.
        overlaps: Dice of map and expert's mask, shape ``(N,)``; NaN where there is no mask.
        latency_ms: Of single answers, shape ``(M,)``; empty where it was not measured.
    """

    parts: Sequence[str]
    defective: NDArray[np.bool_]
    scores: NDArray[np.floating]
    operating_point: OperatingPoint
    calibration: Calibration
    overlaps: NDArray[np.floating]
    latency_ms: NDArray[np.floating] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        validate_operating_point(self.operating_point)
        shapes = {(len(self.parts),), self.defective.shape, self.scores.shape, self.overlaps.shape}
        if len(shapes) != 1 or not len(self.parts):
            raise InvalidInputError(f"a hold-out must have one part, truth, score and overlap a row, got {shapes}")

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """What lies at or above the threshold; a score that is no number is flagged, as it never passes."""
        return ~(self.scores < self.operating_point.threshold)

    @property
    def passed(self) -> NDArray[np.bool_]:
        """What leaves the line unseen: PASS, neither FAIL nor REVIEW."""
        return np.asarray(self.scores < self.operating_point.review_low)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """What the line throws out without a person."""
        return np.asarray(self.scores >= self.operating_point.review_high)


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate, and what was measured at it.

    Attributes:
        name: Which.
        state: What came of it.
        live: Figure of the live version; NaN where there is none.
        candidate: Of the candidate; NaN where it was not measured.
        bound: What the candidate's figure is held against.
        low: Lower end of an interval of the difference, or of the candidate's figure; NaN without one.
        high: Upper end.
        n: Parts that it was measured on.
    """

    name: GateName
    state: GateState
    live: float
    candidate: float
    bound: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0


@dataclass(frozen=True, slots=True)
class PromotionReport:
    """All gates of a candidate."""

    gates: tuple[Gate, ...]

    @property
    def may_go_live(self) -> bool:
        """Whether no gate is broken."""
        return not self.broken

    @property
    def broken(self) -> tuple[Gate, ...]:
        """The gates that refuse it."""
        return tuple(gate for gate in self.gates if gate.state is GateState.BROKEN)


def judge_candidate(
    live: HoldoutAnswers | None, candidate: HoldoutAnswers, policy: PromotionPolicy, seed: int = 0
) -> PromotionReport:
    """Hold a candidate against the live version.

    Args:
        live: What the live version says of the hold-out; None where nothing is live, and then only what needs no
            comparison is looked at.
        candidate: What the candidate says.
        policy: The bounds.
        seed: Of the resampling behind the interval of the difference in MCC.

    Returns:
        Every gate, in the order of ``GateName``.

    Raises:
        InvalidInputError: If the two do not answer the same parts, or the hold-out has one class only: a candidate
            that nothing was asked of has not proven itself.
    """
    if candidate.defective.all() or not candidate.defective.any():
        what = "defective" if candidate.defective.all() else "good"
        raise InvalidInputError(f"a hold-out must have good and defective parts, got {what} ones only")
    if live is not None and (
        list(live.parts) != list(candidate.parts) or (live.defective != candidate.defective).any()
    ):
        raise InvalidInputError(
            f"live version and candidate must answer the same parts, got {len(live.parts)} and {len(candidate.parts)}"
        )
    return PromotionReport(
        (
            _mcc_gate(live, candidate, policy, seed),
            _escape_gate(live, candidate, policy),
            _explanation_gate(live, candidate, policy),
            _calibration_gate(live, candidate, policy),
            _latency_gate(live, candidate, policy),
        )
    )


def _state(kept: bool) -> GateState:
    return GateState.KEPT if kept else GateState.BROKEN


def _mcc_gate(live: HoldoutAnswers | None, candidate: HoldoutAnswers, policy: PromotionPolicy, seed: int) -> Gate:
    now = mcc(candidate.flagged, candidate.defective)
    count = len(set(candidate.parts))
    if live is None:
        return Gate(GateName.MCC, _state(now > 0), math.nan, now, 0.0, n=count)
    before = mcc(live.flagged, live.defective)
    bound = before - policy.max_mcc_fall
    difference = _interval(live, candidate, seed)
    return Gate(GateName.MCC, _state(now >= bound), before, now, bound, difference.low, difference.high, count)


def _interval(live: HoldoutAnswers, candidate: HoldoutAnswers, seed: int) -> Metric:
    def difference(rows: NDArray[np.intp]) -> float:
        truth = candidate.defective[rows]
        return mcc(candidate.flagged[rows], truth) - mcc(live.flagged[rows], truth)

    return bootstrap(difference, candidate.parts, seed)


def _escape_gate(live: HoldoutAnswers | None, candidate: HoldoutAnswers, policy: PromotionPolicy) -> Gate:
    now = int((candidate.passed & candidate.defective).sum())
    count = int(candidate.defective.sum())
    if live is None:
        return Gate(GateName.ESCAPES, GateState.NOT_MEASURED, math.nan, now, math.nan, n=count)
    before = int((live.passed & live.defective).sum())
    bound = before + policy.max_more_escapes
    return Gate(GateName.ESCAPES, _state(now <= bound), before, now, bound, n=count)


def _explanation_gate(live: HoldoutAnswers | None, candidate: HoldoutAnswers, policy: PromotionPolicy) -> Gate:
    both = np.isfinite(candidate.overlaps) & (np.isfinite(live.overlaps) if live is not None else True)
    if not both.any():
        return Gate(GateName.EXPLANATION, GateState.NOT_MEASURED, math.nan, math.nan, math.nan)
    now, count = float(candidate.overlaps[both].mean()), int(both.sum())
    if live is None:
        return Gate(GateName.EXPLANATION, GateState.NOT_MEASURED, math.nan, now, math.nan, n=count)
    before = float(live.overlaps[both].mean())
    bound = before - policy.max_overlap_fall
    return Gate(GateName.EXPLANATION, _state(now >= bound), before, now, bound, n=count)


def _calibration_gate(live: HoldoutAnswers | None, candidate: HoldoutAnswers, policy: PromotionPolicy) -> Gate:
    """The promised rate counts as broken where the hold-out shows it to be, not where chance may have been at work."""
    broken, count, rate, low, high = _promised_rate(candidate, policy)
    before = _promised_rate(live, policy)[2] if live is not None else math.nan
    state = GateState.NOT_MEASURED if not count else _state(not broken)
    return Gate(GateName.CALIBRATION, state, before, rate, candidate.calibration.target, low, high, count)


def _promised_rate(answers: HoldoutAnswers, policy: PromotionPolicy) -> tuple[bool, int, float, float, float]:
    """Whether the promise is broken, on how many parts, the rate, and its interval."""
    escape = answers.calibration.rule == "escape_rate"
    asked = answers.defective if escape else ~answers.defective
    wrong = asked & (answers.passed if escape else answers.failed)
    count = int(asked.sum())
    if not count:
        return False, 0, math.nan, math.nan, math.nan
    # One-sided at the policy's confidence: both sides share what is left of 1.
    low, high = share_interval(int(wrong.sum()), count, 1 - 2 * (1 - policy.confidence))
    return low > answers.calibration.target, count, int(wrong.sum()) / count, low, high


def _latency_gate(live: HoldoutAnswers | None, candidate: HoldoutAnswers, policy: PromotionPolicy) -> Gate:
    before = _slowest(live.latency_ms) if live is not None else math.nan
    now = _slowest(candidate.latency_ms)
    state = GateState.NOT_MEASURED if math.isnan(now) else _state(now <= policy.max_latency_ms)
    return Gate(GateName.LATENCY, state, before, now, policy.max_latency_ms, n=len(candidate.latency_ms))


def _slowest(latency_ms: NDArray[np.floating]) -> float:
    return float(np.quantile(latency_ms, 0.99)) if len(latency_ms) else math.nan
