"""One answer for each part from what its cameras saw: all views in, or the deadline, whichever comes first.

Pure: arrivals, verdicts and the time go in, outcomes come out. What was answered is remembered for a while, so that a
view that comes late supersedes the answer with a new revision, and what is read again after a restart says nothing new.
Everything is bounded: parts that are open, parts that are remembered, views of a part.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.core.identity import outcome_id
from services.core.outcome import (
    MAX_VIEWS,
    Arrival,
    Outcome,
    OutcomeReason,
    OutcomeView,
    PartPlan,
    PartPlans,
    in_order,
    view_of,
    worst_of,
)
from services.core.types import Inspection, Reason, Verdict

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class JoinLimits:
    """How long and how much is waited for."""

    decide_before_ms: int = 100
    """An answer that is due is decided this long before, so that it reaches the line in time; at most a quarter of the
    time that there is."""
    give_up_s: float = 60.0
    """A part without a deadline is answered as it is after this long."""
    remember_s: float = 300.0
    """An answered part is remembered for this long after it was answered, or learnt of."""
    max_open: int = 100_000
    """Parts that may wait for views; one more has the oldest answered early."""
    max_remembered: int = 200_000
    """Answered parts in memory; the oldest go."""


@dataclass(slots=True)
class _Part:
    """What is known of one part."""

    part_id: str
    line_id: str
    product: str
    began_at_ns: int
    due_at_ns: int
    """When it is answered at the latest."""
    deadline_at_ns: int = 0
    lot: str = ""
    views: dict[str, OutcomeView] = field(default_factory=dict)
    """By frame; what was said of a frame first holds."""
    revision: int = 0
    """Of the last answer; 0 while it is open."""
    left_out: int = 0
    """Views that were one too many."""
    decided_at_ns: int = 0
    """Of the last answer."""
    known_at_ns: int = 0
    """When that was given, or learnt of from an earlier life."""


class PartJoiner:
    """Joins the views of parts. Not thread-safe.

    Args:
        plans: What is expected of each product.
        limits: How long and how much is waited for.
    """

    def __init__(self, plans: PartPlans, limits: JoinLimits | None = None) -> None:
        self._plans = plans
        self._limits = limits or JoinLimits()
        self._open: OrderedDict[str, _Part] = OrderedDict()
        self._answered: OrderedDict[str, _Part] = OrderedDict()
        self._due: list[tuple[int, str]] = []
        self._forgotten_ns = 0
        """Answers that were decided later are all remembered."""

    @property
    def open_parts(self) -> int:
        """Parts that wait for views."""
        return len(self._open)

    @property
    def remembered_parts(self) -> int:
        """Answered parts in memory."""
        return len(self._answered)

    def is_open(self, part_id: str) -> bool:
        """Whether a part waits for its answer."""
        return part_id in self._open

    def arrive(self, arrival: Arrival, now_ns: int) -> tuple[Outcome, ...]:
        """Take word of a part.

        Args:
            arrival: Of a frame or a trigger; a repeated one changes nothing.
            now_ns: The present, nanoseconds since the epoch.

        Returns:
            What the part's answer is, where this completes or changes it; in order.
        """
        known = self._answered.get(arrival.part_id)
        if known is not None:
            return self._add_view(known, _refused_view(arrival, self._plan(known), now_ns), now_ns)
        part = self._opened(
            arrival.part_id, arrival.line_id, arrival.product, arrival.arrived_at_ns, arrival.cycle_time_ms, now_ns
        )
        part.lot = part.lot or arrival.lot
        early = self._due_now(part, now_ns)
        return (
            *early,
            *self._add_view(part, _refused_view(arrival, self._plan(part), now_ns), now_ns),
            *self._shed(now_ns),
        )

    def inspect(self, inspection: Inspection, now_ns: int) -> tuple[Outcome, ...]:
        """Take a frame's verdict.

        Args:
            inspection: In any order; a second verdict on the same frame changes nothing.
            now_ns: The present, nanoseconds since the epoch.

        Returns:
            As of :meth:`arrive`.
        """
        known = self._answered.get(inspection.part_id)
        if known is not None:
            return self._add_view(known, view_of(inspection, self._plan(known)), now_ns)
        is_new = inspection.part_id not in self._open
        part = self._opened(
            inspection.part_id,
            inspection.line_id,
            inspection.product,
            inspection.captured_at_ns,
            inspection.cycle_time_ms,
            now_ns,
        )
        if is_new and part.began_at_ns <= self._forgotten_ns:
            # So old that its answer, if it had one, is no longer remembered: never a second first answer.
            part.revision = 1
            self._close(part, now_ns)
        early = self._due_now(part, now_ns)
        return (*early, *self._add_view(part, view_of(inspection, self._plan(part)), now_ns), *self._shed(now_ns))

    def due(self, now_ns: int) -> tuple[Outcome, ...]:
        """Answer every part whose time has come.

        Args:
            now_ns: The present, nanoseconds since the epoch.
        """
        outcomes = []
        while self._due and self._due[0][0] <= now_ns:
            due_at_ns, part_id = heapq.heappop(self._due)
            part = self._open.get(part_id)
            # A part whose deadline moved stands in the heap twice.
            if part is not None and part.due_at_ns <= due_at_ns:
                outcomes.append(self._answer(part, OutcomeReason.DEADLINE_MISSED, now_ns))
        self._forget(now_ns)
        return tuple(outcomes)

    @property
    def next_due_ns(self) -> int | None:
        """When :meth:`due` has something to do; None while no part is open."""
        return self._due[0][0] if self._due else None

    def restore_since(self, since_ns: int) -> None:
        """Begin to restore; every answer that was decided from then on follows, by :meth:`restore`.

        Args:
            since_ns: Nanoseconds since the epoch.
        """
        self._forgotten_ns = since_ns

    def restore(self, outcome: Outcome, now_ns: int) -> None:
        """Note an answer that was given in an earlier life, or by who had this part before.

        Args:
            outcome: In any order; the highest revision holds.
            now_ns: The present, nanoseconds since the epoch. It is remembered from here on, however long ago it was
                given: what led to it is about to be read again.
        """
        known = self._answered.get(outcome.part_id)
        if known is not None and known.revision >= outcome.revision:
            return
        part = _Part(
            part_id=outcome.part_id,
            line_id=outcome.line_id,
            product=outcome.product,
            began_at_ns=outcome.began_at_ns,
            due_at_ns=0,
            deadline_at_ns=outcome.deadline_at_ns,
            lot=outcome.lot,
            views={view.frame_id: view for view in outcome.views},
            revision=outcome.revision,
            decided_at_ns=outcome.decided_at_ns,
        )
        self._close(part, now_ns)

    def drop(self, part_ids: Iterable[str]) -> None:
        """Forget open parts that are another's to answer now."""
        for part_id in part_ids:
            self._open.pop(part_id, None)

    # ---- opening

    def _plan(self, part: _Part) -> PartPlan | None:
        return self._plans.of(part.product, part.line_id)

    def _opened(self, part_id: str, line_id: str, product: str, at_ns: int, cycle_time_ms: int, now_ns: int) -> _Part:
        # A clock that is ahead of ours must not put the answer off.
        began_at_ns = min(at_ns, now_ns)
        part = self._open.get(part_id)
        if part is None:
            part = self._open[part_id] = _Part(part_id, line_id, product, began_at_ns, due_at_ns=0)
        part.began_at_ns = min(part.began_at_ns, began_at_ns)
        plan = self._plan(part)
        within_ms = plan.deadline_ms if plan is not None and plan.deadline_ms else cycle_time_ms
        deadline_at_ns = part.began_at_ns + within_ms * _NS_PER_MS if within_ms else 0
        if deadline_at_ns and (not part.deadline_at_ns or deadline_at_ns < part.deadline_at_ns):
            part.deadline_at_ns = deadline_at_ns
        before_ns = min(self._limits.decide_before_ms * _NS_PER_MS, (part.deadline_at_ns - part.began_at_ns) // 4)
        due_at_ns = (
            part.deadline_at_ns - before_ns
            if part.deadline_at_ns
            else part.began_at_ns + int(self._limits.give_up_s * _NS_PER_S)
        )
        if due_at_ns != part.due_at_ns:
            part.due_at_ns = due_at_ns
            heapq.heappush(self._due, (due_at_ns, part_id))
        return part

    def _due_now(self, part: _Part, now_ns: int) -> tuple[Outcome, ...]:
        """The answer of a part whose time was over before anything was known of it; what comes now supersedes it."""
        if part.revision or part.due_at_ns > now_ns:
            return ()
        return (self._answer(part, OutcomeReason.DEADLINE_MISSED, now_ns),)

    def _shed(self, now_ns: int) -> tuple[Outcome, ...]:
        outcomes = []
        while len(self._open) > self._limits.max_open:
            oldest = next(iter(self._open.values()))
            outcomes.append(self._answer(oldest, OutcomeReason.OVERLOADED, now_ns))
        return tuple(outcomes)

    # ---- answering

    def _add_view(self, part: _Part, view: OutcomeView | None, now_ns: int) -> tuple[Outcome, ...]:
        if view is None or view.frame_id in part.views:
            return ()
        if len(part.views) >= MAX_VIEWS:
            part.left_out += 1
            return ()
        part.views[view.frame_id] = view
        plan = self._plan(part)
        complete = plan is None or not plan.missing(part.views.values())
        if not complete and not part.revision:
            return ()
        reason = OutcomeReason.UNKNOWN_PRODUCT if plan is None else OutcomeReason.VIEWS
        if not complete:
            reason = OutcomeReason.DEADLINE_MISSED
        return (self._answer(part, reason, now_ns),)

    def _answer(self, part: _Part, reason: OutcomeReason, now_ns: int) -> Outcome:
        plan = self._plan(part)
        views = in_order(part.views.values())
        if plan is None:
            reason = OutcomeReason.UNKNOWN_PRODUCT
            worst = worst_of(views)
            verdict = Verdict.FAIL if worst is not None and worst.verdict is Verdict.FAIL else Verdict.REVIEW
        else:
            verdict = plan.verdict_of(views)
        if part.left_out and verdict is Verdict.PASS:
            # What was left out may have said anything.
            verdict = Verdict.REVIEW
        part.revision += 1
        part.decided_at_ns = now_ns
        decisive = worst_of(views)
        outcome = Outcome(
            outcome_id=outcome_id(part.part_id, part.revision, part.began_at_ns),
            part_id=part.part_id,
            line_id=part.line_id,
            product=part.product,
            revision=part.revision,
            verdict=verdict,
            reason=reason,
            in_time=not part.deadline_at_ns or now_ns <= part.deadline_at_ns,
            began_at_ns=part.began_at_ns,
            decided_at_ns=now_ns,
            deadline_at_ns=part.deadline_at_ns,
            lot=part.lot,
            views=views,
            missing_cameras=plan.missing(views) if plan is not None else (),
            defect_class=decisive.defect_class if decisive is not None and verdict is not Verdict.PASS else "",
            detail=f"{part.left_out} more views" if part.left_out else "",
        )
        self._close(part, now_ns)
        return outcome

    def _close(self, part: _Part, now_ns: int) -> None:
        self._open.pop(part.part_id, None)
        part.known_at_ns = now_ns
        self._answered[part.part_id] = part
        self._answered.move_to_end(part.part_id)
        while len(self._answered) > self._limits.max_remembered:
            self._forget_oldest()

    def _forget(self, now_ns: int) -> None:
        while self._answered:
            part = next(iter(self._answered.values()))
            if now_ns - part.known_at_ns <= self._limits.remember_s * _NS_PER_S:
                return
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, part = self._answered.popitem(last=False)
        self._forgotten_ns = max(self._forgotten_ns, part.decided_at_ns)


def _refused_view(arrival: Arrival, plan: PartPlan | None, now_ns: int) -> OutcomeView | None:
    """What a picture says that ingest refused: a person must look. None for an arrival whose picture is on its way."""
    if not arrival.refusal or not arrival.camera_id:
        return None
    return OutcomeView(
        camera_id=arrival.camera_id,
        frame_id=arrival.frame_id,
        verdict=Verdict.REVIEW,
        reason=Reason.UNREADABLE_IMAGE,
        score=float("nan"),
        alias="",
        model_version=0,
        captured_at_ns=arrival.arrived_at_ns,
        decided_at_ns=now_ns,
        expected=plan is not None and arrival.camera_id in plan.cameras,
    )
