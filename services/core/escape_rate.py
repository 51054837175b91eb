"""How many of the parts that passed are defective, estimated from the uniform sample that people look at.

The only honest source: what is looked at otherwise is looked at because it seemed suspicious. Each passed inspection is
drawn with a known probability ``p``, whatever the model thought of it, so one that was drawn stands for ``1 / p``
inspections (Horvitz and Thompson 1952, J. Am. Stat. Assoc. 47(260), 663-685). The share is the ratio of two such sums
(Hájek 1971), with which sums of different ``p`` may be put together.

The interval is that of Clopper and Pearson (1934, Biometrika 26(4), 404-413), which keeps its word for few findings
and for none. With unequal weights it is taken at the effective sample size, as Korn and Graubard (1998, Survey
Methodology 24(2), 193-201) propose for shares with few findings: at the smaller one of what the estimate's variance
says and what the weights alone say (Kish 1965, Survey Sampling, 11.7), since few findings say little of a variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.core.errors import InvalidInputError

#: Of the intervals.
CONFIDENCE: Final = 0.95

_STEPS: Final = 200
_FRACTION_TERMS: Final = 10_000
_TINY: Final = 1e-300
_EPSILON: Final = 1e-15


@dataclass(frozen=True, slots=True)
class AuditStratum:
    """What was drawn with one probability, and what people found; strata are told apart by whoever counts."""

    sampling_probability: float
    """In ``(0, 1]``."""
    drawn: int
    """Passed inspections that were drawn."""
    reviewed: int
    """Of those: people settled on a verdict."""
    escapes: int
    """Of the reviewed: defective."""
    undecided: int = 0
    """Of the drawn: answered, but nobody was sure or people differ."""

    def __post_init__(self) -> None:
        if not 0 < self.sampling_probability <= 1:
            raise InvalidInputError(f"sampling_probability must lie in (0, 1], got {self.sampling_probability}")
        if not (0 <= self.escapes <= self.reviewed and 0 <= self.undecided <= self.drawn - self.reviewed):
            raise InvalidInputError(
                "an audit must have 0 <= escapes <= reviewed and reviewed + undecided <= drawn, got "
                f"{self.escapes}, {self.reviewed}, {self.undecided} and {self.drawn}"
            )


@dataclass(frozen=True, slots=True)
class EscapeEstimate:
    """What the audit says of all passed inspections it was drawn from."""

    drawn: int
    reviewed: int
    escapes: int
    undecided: int
    rate: float
    """Estimated share of the passed inspections that are defective; NaN where nothing drawn was reviewed."""
    low: float
    """Lower end of the interval; NaN likewise."""
    high: float
    """Upper end of the interval; NaN likewise."""
    covered: float
    """Share of the drawn, weighted, that lies in strata of which anything was reviewed; NaN where nothing was drawn.
    Of the others nothing is known, and the estimate does not speak of them."""


def estimate_escape_rate(strata: Iterable[AuditStratum], confidence: float = CONFIDENCE) -> EscapeEstimate:
    """Estimate the share of passed inspections that are defective.

    Within a stratum, what was not reviewed yet is taken to be like what was: missing at random. That holds as long as
    who reviews does not choose by how the part looks.

    Args:
        strata: What was drawn and found. Each stratum counts with the inspections that it stands for.
        confidence: Of the interval, in ``(0, 1)``.

    Returns:
        The estimate with its interval.

    Raises:
        InvalidInputError: For another confidence.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence must lie in (0, 1), got {confidence}")
    known = list(strata)
    drawn_weight = sum(one.drawn / one.sampling_probability for one in known)
    # Of a reviewed inspection: how many it stands for, those of its stratum that nobody reviewed included.
    weighted = [
        (one, one.drawn / one.sampling_probability / one.reviewed) for one in known if one.drawn and one.reviewed
    ]
    total = sum(weight * one.reviewed for one, weight in weighted)
    rate = low = high = math.nan
    if weighted:
        rate = sum(weight * one.escapes for one, weight in weighted) / total
        size = _effective_size(weighted, rate)
        low, high = share_interval(rate * size, size, confidence)
    return EscapeEstimate(
        drawn=sum(one.drawn for one in known),
        reviewed=sum(one.reviewed for one in known),
        escapes=sum(one.escapes for one in known),
        undecided=sum(one.undecided for one in known),
        rate=rate,
        low=low,
        high=high,
        covered=total / drawn_weight if drawn_weight else math.nan,
    )


def _effective_size(weighted: Sequence[tuple[AuditStratum, float]], rate: float) -> float:
    """How many inspections of equal weight would say as much; with equal weights the number of the reviewed."""
    total = sum(weight * one.reviewed for one, weight in weighted)
    by_weights = total**2 / sum(weight**2 * one.reviewed for one, weight in weighted)
    spread = sum(weight**2 * one.escapes * (1 - one.escapes / one.reviewed) for one, weight in weighted)
    if not spread:
        # Nothing or everything was found in each stratum: of the variance nothing is known.
        return by_weights
    return min(by_weights, rate * (1 - rate) * total**2 / spread)


def share_interval(found: float, size: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of Clopper and Pearson around ``found / size``; both may be fractions.

    Args:
        found: How many were found, 0 to ``size``.
        size: Of how many; ``> 0``.
        confidence: In ``(0, 1)``.

    Returns:
        Lower and upper end. With none found the lower one is 0, with all found the upper one is 1.

    Raises:
        InvalidInputError: If ``size`` is not positive or ``found`` lies outside of it.

    Example:
        >>> low, high = share_interval(0, 100)
        >>> low, round(high, 4)
        (0.0, 0.0362)
    """
    # Sums of weights may miss a whole number by a rounding.
    if not (size > 0 and -1e-9 <= found <= size * (1 + 1e-9)):
        raise InvalidInputError(f"a share must have 0 <= found <= size and size > 0, got {found} of {size}")
    found = min(max(found, 0.0), size)
    tail = (1 - confidence) / 2
    low = 0.0 if found <= 0 else beta_quantile(tail, found, size - found + 1)
    high = 1.0 if found >= size else beta_quantile(1 - tail, found + 1, size - found)
    return low, high


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The point below which a beta distribution has this probability, by bisection; ``a, b > 0``."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        if beta_share(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22); ``a, b > 0``."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        # The fraction converges fast on the other side only.
        return 1.0 - beta_share(1 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction's value, by Lentz's method."""
    value = upper = 1.0
    lower = 0.0
    for term in range(1, _FRACTION_TERMS):
        half = term // 2
        if term % 2:
            part = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            part = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        lower = 1.0 / _not_zero(1.0 + part * lower)
        upper = _not_zero(1.0 + part / upper)
        factor = upper * lower
        value *= factor
        if abs(factor - 1.0) < _EPSILON:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
