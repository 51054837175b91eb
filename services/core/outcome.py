"""The answer for one part from all its views: which views it must have, and the rule that makes one verdict of them.

A part is PASS only if every view that its product must have passed. What a rule may say is when a part is FAIL;
whatever is neither is REVIEW, so that no rule can make a silent PASS.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.core.errors import InvalidInputError
from services.core.types import Inspection, Reason, Verdict

#: Most views of one part that are kept; a part with more is told of as it is, with the worst ones.
MAX_VIEWS: Final = 64

_WORST_FIRST: Final = {Verdict.FAIL: 0, Verdict.REVIEW: 1, Verdict.PASS: 2}


class OutcomeReason(enum.Enum):
    """Why an outcome is what it is."""

    VIEWS = "views"
    """Every expected view was in, and the rule decided."""
    DEADLINE_MISSED = "deadline_missed"
    """The deadline came before every expected view; never PASS."""
    UNKNOWN_PRODUCT = "unknown_product"
    """No settings say which views the product must have; never PASS."""
    OVERLOADED = "overloaded"
    """More parts were open than may be, and the oldest were answered early; never PASS."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Word that a part is before the cameras, of a frame or of a trigger."""

    part_id: str
    line_id: str
    product: str
    arrived_at_ns: int
    cycle_time_ms: int = 0
    """The line's answer is due this long after ``arrived_at_ns``. 0 = no deadline."""
    lot: str = ""
    camera_id: str = ""
    """Empty for a trigger."""
    frame_id: str = ""
    """Empty for a trigger."""
    refusal: str = ""
    """Why ingest refused the picture; then no verdict will come."""


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """What one camera saw of a part."""

    camera_id: str
    frame_id: str
    verdict: Verdict
    reason: Reason
    score: float
    """Higher is worse; NaN where no model saw the image."""
    alias: str
    model_version: int
    captured_at_ns: int
    decided_at_ns: int
    defect_class: str = ""
    expected: bool = True
    """Whether the product must have a view of this camera. One that it need not have can make a part worse only."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer for one part."""

    outcome_id: str
    part_id: str
    line_id: str
    product: str
    revision: int
    """1 is the answer that the line gets; a higher one supersedes it on record, because a view came late."""
    verdict: Verdict
    reason: OutcomeReason
    in_time: bool
    began_at_ns: int
    """The part's first capture or trigger."""
    decided_at_ns: int
    deadline_at_ns: int = 0
    """When the line's answer is due; 0 = no deadline."""
    lot: str = ""
    views: tuple[OutcomeView, ...] = ()
    """By camera, then by capture."""
    missing_cameras: tuple[str, ...] = ()
    """Expected cameras without a view."""
    defect_class: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FailClause:
    """One way for a part to be FAIL: so many views that say FAIL, of these cameras, with these defects."""

    at_least: int = 1
    """Views that say FAIL."""
    cameras: frozenset[str] = frozenset()
    """Only views of these count; empty for all."""
    defect_classes: frozenset[str] = frozenset()
    """Only these defects count; empty for all."""

    def __post_init__(self) -> None:
        if self.at_least < 1:
            raise InvalidInputError(f"at_least must be >= 1, got {self.at_least}")

    def met_by(self, views: Iterable[OutcomeView]) -> bool:
        """Tell whether a part with these views is FAIL."""
        return sum(self._counts(view) for view in views) >= self.at_least

    def _counts(self, view: OutcomeView) -> bool:
        return (
            view.verdict is Verdict.FAIL
            and (not self.cameras or view.camera_id in self.cameras)
            and (not self.defect_classes or view.defect_class in self.defect_classes)
        )


#: A part is as bad as its worst view.
WORST_OF_ALL: Final = (FailClause(),)


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Which views the parts of a product must have, when their answer is due, and when they are FAIL."""

    product: str
    cameras: frozenset[str]
    """Each must see the part; never empty."""
    line_id: str = ""
    """Only on this line; empty for all."""
    deadline_ms: int = 0
    """The answer is due this long after the first arrival; 0 takes the frames' own cycle time."""
    fail_when: tuple[FailClause, ...] = WORST_OF_ALL
    """FAIL where any of them is met."""

    def __post_init__(self) -> None:
        if not self.cameras:
            raise InvalidInputError(f"product {self.product} must have at least one camera, got none")
        if not self.fail_when:
            raise InvalidInputError(f"product {self.product} must have at least one clause for FAIL, got none")
        foreign = sorted({camera for clause in self.fail_when for camera in clause.cameras - self.cameras})
        if foreign:
            raise InvalidInputError(f"a clause of {self.product} must name its own cameras, got {', '.join(foreign)}")

    def missing(self, views: Iterable[OutcomeView]) -> tuple[str, ...]:
        """Cameras whose view is not there, in order of their names."""
        return tuple(sorted(self.cameras - {view.camera_id for view in views}))

    def verdict_of(self, views: Sequence[OutcomeView]) -> Verdict:
        """Make one verdict of all views that are there.

        Returns:
            FAIL where a clause is met, PASS where every expected view is there and no view says anything else, REVIEW
            otherwise.
        """
        if any(clause.met_by(views) for clause in self.fail_when):
            return Verdict.FAIL
        if not self.missing(views) and all(view.verdict is Verdict.PASS for view in views):
            return Verdict.PASS
        return Verdict.REVIEW


@dataclass(frozen=True, slots=True)
class PartPlans:
    """The plans of all products."""

    plans: tuple[PartPlan, ...]
    _by_place: dict[tuple[str, str], PartPlan] = field(init=False, repr=False, compare=False)
    """By product and line: asked for several times with every record."""

    def __post_init__(self) -> None:
        times = Counter((plan.product, plan.line_id) for plan in self.plans)
        twice = sorted(f"{product} on {line or 'all lines'}" for (product, line), count in times.items() if count > 1)
        if twice:
            raise InvalidInputError(f"a product must have one plan for each line, got more for {', '.join(twice)}")
        object.__setattr__(self, "_by_place", {(plan.product, plan.line_id): plan for plan in self.plans})

    def of(self, product: str, line_id: str) -> PartPlan | None:
        """The plan of a product on a line, its own there or that of all lines; None where there is none."""
        return self._by_place.get((product, line_id)) or self._by_place.get((product, ""))

    def products_on(self, line_id: str) -> tuple[str, ...]:
        """Products that may be made on a line, in order of their names."""
        return tuple(sorted({plan.product for plan in self.plans if plan.line_id in {line_id, ""}}))


def view_of(inspection: Inspection, plan: PartPlan | None) -> OutcomeView:
    """What an inspection says of its part."""
    return OutcomeView(
        camera_id=inspection.camera_id,
        frame_id=inspection.frame_id,
        verdict=inspection.verdict,
        reason=inspection.reason,
        score=inspection.score,
        alias=inspection.alias,
        model_version=inspection.model_version,
        captured_at_ns=inspection.captured_at_ns,
        decided_at_ns=inspection.decided_at_ns,
        defect_class=inspection.defect_class,
        expected=plan is not None and inspection.camera_id in plan.cameras,
    )


def in_order(views: Iterable[OutcomeView]) -> tuple[OutcomeView, ...]:
    """Views by camera, then by capture, then by frame."""
    return tuple(sorted(views, key=lambda view: (view.camera_id, view.captured_at_ns, view.frame_id)))


def worst_of(views: Iterable[OutcomeView]) -> OutcomeView | None:
    """The view that a part is judged by: FAIL before REVIEW before PASS, the highest score first; None of none."""
    return min(
        views,
        # A score that is no number says less than any.
        key=lambda view: (_WORST_FIRST[view.verdict], -view.score if view.score == view.score else 0.0, view.camera_id),
        default=None,
    )
