"""Which case gets which maps, and what a backlog leaves time for."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, replace

from services.adapters.ports import ExplanationRequest
from services.core.explain.attribution import NETWORK_METHODS, OWN_MAP
from services.core.explain.defaults import DEFAULT_METHOD
from services.core.types import Case, CaseKind
from services.explainer.settings import BudgetSettings, PolicySettings
from services.explainer.versions import Version

#: Refusals that hold for a model and a method, whatever the image.
LASTING_REFUSALS = frozenset({"no_conv_layers", "no_own_map", "needs_the_network", "unknown_method"})
_SHORTEST_BUDGET_S = 0.25


class Level(enum.Enum):
    """What the backlog leaves time for."""

    FULL = "full"
    FAST = "fast"
    """One quick method a case."""
    NONE = "none"
    """No map; the case goes on without."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for one case.

    Attributes:
        level: What the backlog leaves time for.
        methods: In the order in which they are shown.
        max_passes: Most passes of a map.
    """

    level: Level
    methods: tuple[str, ...]
    max_passes: int


class Policy:
    """Turns settings into plans and requests.

    Args:
        policy: Which case gets which maps.
        budget: What they may cost.
    """

    def __init__(self, policy: PolicySettings, budget: BudgetSettings) -> None:
        self._policy = policy
        self._budget = budget

    def level(self, waiting_cases: int) -> Level:
        """What so many waiting cases leave time for."""
        if waiting_cases > self._policy.none_above_cases:
            return Level.NONE
        return Level.FAST if waiting_cases > self._policy.fast_above_cases else Level.FULL

    def plan(self, case: Case, waiting_cases: int) -> Plan:
        """What to ask for a case."""
        wanted = self._wanted(case)
        level = self.level(waiting_cases)
        methods = (self._policy.fast,) if wanted and level is Level.FAST else wanted
        return Plan(level, methods, self._passes(waiting_cases))

    def suited(self, plan: Plan, version: Version) -> Plan:
        """What to ask of a version that is no network: its own map in place of those that look into one."""
        if not version.detector or not plan.methods:
            return plan
        own = (OWN_MAP,) if version.finds_places else ()
        asking = tuple(method for method in plan.methods if method not in (*NETWORK_METHODS, OWN_MAP))
        if plan.level is Level.FAST:
            # The quick method of networks is none here; without an own map, masks with few passes have to do.
            return replace(plan, methods=own or asking[:1] or (DEFAULT_METHOD,))
        return replace(plan, methods=(*own, *asking) or (DEFAULT_METHOD,))

    def instead(self, case: Case, plan: Plan, refused: str) -> tuple[str, ...]:
        """Methods to ask where ``refused`` cannot explain the model at all.

        A case must not be left without any map because the fast method does not work on its model.
        """
        if plan.level is not Level.FAST or refused != self._policy.fast:
            return ()
        return tuple(method for method in self._wanted(case) if method != refused)[:1]

    def order(self, plan: Plan) -> list[str]:
        """In which order to ask: the fast method first, so that the time that is left belongs to the slow ones."""
        return sorted(plan.methods, key=lambda method: method not in (OWN_MAP, self._policy.fast))

    def request(self, frame_id: str, method: str, plan: Plan, spent_s: float) -> ExplanationRequest:
        """What to ask the explaining model for a case.

        Args:
            frame_id: Seeds the masks, with the method.
            method: Name of the method.
            plan: What the backlog leaves time for.
            spent_s: Time that the case's other maps took.
        """
        budget_s = max(_SHORTEST_BUDGET_S, self._budget.case_s - spent_s)
        return ExplanationRequest(
            method=method,
            seed=seed_of(frame_id, method),
            max_passes=plan.max_passes,
            budget_ms=round(budget_s * 1e3),
            min_stability=self._budget.min_stability,
            evidence=plan.level is Level.FULL and self._budget.evidence,
            spot=self._budget.evidence,
        )

    def _passes(self, waiting_cases: int) -> int:
        """Fewer passes with every other case that waits: a burst makes maps coarser before it makes them go."""
        left = max(0.0, 1.0 - max(0, waiting_cases - 1) / self._policy.fast_above_cases)
        least = min(self._policy.fast_passes, self._budget.max_passes)
        return max(least, round(left * self._budget.max_passes))

    def _wanted(self, case: Case) -> tuple[str, ...]:
        if case.kind is CaseKind.AUDIT:
            return self._policy.audit
        own = self._policy.by_alias.get(case.inspection.alias)
        if own is not None:
            return own
        return self._policy.fail if case.kind is CaseKind.FAIL else self._policy.review


def seed_of(frame_id: str, method: str) -> int:
    """Seed of a frame's masks: the same frame and method give the same map.

    Returns:
        In ``0..2**63 - 1``.
    """
    digest = hashlib.blake2b(f"{frame_id}\0{method}".encode(), digest_size=8, person=b"explain").digest()
    return int.from_bytes(digest, "big") >> 1
