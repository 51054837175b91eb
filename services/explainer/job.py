"""One case on its way through the explainer."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import ExplanationStep, ExplanationSteps, Headers, Record
from services.core.errors import SightlineError
from services.core.types import Case, Explanation, ExplanationStatus, ImageRef
from services.explainer.asking import Placed
from services.explainer.policy import Plan
from services.explainer.versions import Version
from services.runtime.outbox import Entry

_DETAIL_CHARACTERS = 500
NO_MAP: NDArray[np.float16] = np.empty((0, 0), np.float16)


class AwayError(Exception):
    """Something outside did not answer, and the case waits for it.

    Args:
        dependency: ``triton`` or ``object store``.
        error: What it said.
        method: What was asked of it, if it was an explanation.
    """

    def __init__(self, dependency: str, error: SightlineError, method: str = "") -> None:
        super().__init__(f"{dependency}: {error}")
        self.dependency = dependency
        self.error = error
        self.method = method


class ModelMissingError(Exception):
    """The explaining model is not loaded; it may come.

    Args:
        model_name: The Triton model.
    """

    def __init__(self, model_name: str) -> None:
        super().__init__(f"{model_name} is not loaded")
        self.model_name = model_name


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What came of one method: the last step, or why there is none."""

    explanation: Explanation
    raw: NDArray[np.float32] | None = None
    """The map over the model's input, for comparison with others."""


@dataclass(slots=True, eq=False)
class CaseJob:
    """A case's state from the moment it is taken until it is handed to the outbox."""

    case: Case
    record: Record
    entry: Entry
    headers: Headers = ()
    plan: Plan | None = None
    findings: dict[str, Finding] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    gone: str = ""
    """Why its model is not waited for any more; empty while it is."""
    image: bytes | None = None
    image_ref: ImageRef | None = None
    """Where its image was put because the record would be too large with it inline."""
    version: Version | None = None
    placed: Placed | None = None
    """The deciding tile, once it is known."""
    said: tuple[Explanation, ...] = ()
    """The explanations as they are written, graded."""
    steps: ExplanationSteps | None = None
    """What is being asked; any thread may close it."""
    taken_s: float = field(default_factory=time.monotonic)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the result any more: the partition is another member's."""
        return self.entry.dropped

    @property
    def spent_s(self) -> float:
        """Time that the finished maps took."""
        return sum(finding.explanation.seconds for finding in self.findings.values())


def failed(method: str, reason: str, detail: str, *, seed: int = 0, seconds: float = 0.0) -> Explanation:
    """An explanation without a map.

    Args:
        method: What was, or would have been, asked.
        reason: Short stable token.
        detail: The same for people; cut where it is long.
        seed: Of the masks.
        seconds: Time that it took to fail.
    """
    return Explanation(
        method=method,
        status=ExplanationStatus.FAILED,
        map=NO_MAP,
        reason=reason,
        detail=detail[:_DETAIL_CHARACTERS],
        seed=seed,
        seconds=seconds,
    )


def explanation_of(
    method: str, step: ExplanationStep, values: NDArray[np.float16], *, seed: int, target_class: str = ""
) -> Explanation:
    """An explanation from what the explaining model answered; without grade and scale.

    Args:
        method: What was asked.
        step: The answer.
        values: Its map over the source image.
        seed: Of the masks.
        target_class: Empty stands for the anomaly score.
    """
    done = step.final and not step.partial
    return Explanation(
        method=method,
        status=ExplanationStatus.DONE if done else ExplanationStatus.PARTIAL,
        map=values,
        target_class=target_class,
        probability=step.probability,
        deletion_auc=step.deletion_auc,
        insertion_auc=step.insertion_auc,
        random_auc=step.random_auc,
        transplant=step.transplant,
        stability=step.stability,
        coverage=float(np.isfinite(step.map).mean()),
        passes=step.passes,
        seconds=step.seconds if math.isfinite(step.seconds) else 0.0,
        seed=seed,
    )


def why_no_map(values: NDArray[np.float32]) -> tuple[str, str] | None:
    """Reason and detail where a map shows no place at all; None where it does."""
    defined = values[np.isfinite(values)]
    if not defined.size:
        return "undefined_map", f"a map must be defined somewhere, got {values.shape} without a number"
    if float(defined.max()) <= float(defined.min()):
        return "flat_map", f"a map must differ between places, got {float(defined[0]):.6g} everywhere"
    return None
