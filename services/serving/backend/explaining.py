"""One explanation, from request to maps: how passes are bounded, timed and given up, whatever explains.

Runs inside the explaining model's process, and needs nothing of Triton.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import ExplanationError, SightlineError
from services.core.explain.attribution import KNOWN_METHODS, NETWORK_METHODS, Attribution, Budget, target_values
from services.core.explain.content import Content
from services.core.explain.faithfulness import DEFAULT_STEPS, TRANSPLANT_RADII, Faithfulness, measure, transplant
from services.core.explain.registry import build_explainer
from services.core.explain.temper import temper_for

if TYPE_CHECKING:
    from services.core.models.classifier import Classifier

#: What evidence costs at most.
EVIDENCE_PASSES: Final = 4 * DEFAULT_STEPS - 2 + len(TRANSPLANT_RADII)

_MOST_FOR_EVIDENCE: Final = 0.4
"""Share of a time budget that is kept for evidence at most: without a map there is nothing to give evidence of."""

_UNMEASURED: Final = Faithfulness(float("nan"), float("nan"), float("nan"), 0)


class GivenUpError(SightlineError):
    """Nobody waits for the explanation any more."""

    reason = "cancelled"


class OutOfTimeError(SightlineError):
    """The budget ended in the middle of something that gives no map half done."""

    reason = "out_of_time"


class ExplainedModel(Protocol):
    """What is explained."""

    def backdrop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """What hidden parts of an image show, see :mod:`services.core.explain.backdrop`; None where only a colour."""
        ...

    @property
    def fill(self) -> tuple[int, int, int]:
        """The colour of hidden pixels."""
        ...

    @property
    def is_detector(self) -> bool:
        """Whether it has learned from good parts alone, see :mod:`services.core.explain.faithfulness`."""
        ...

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer ``uint8`` images ``(B, H, W, 3)`` by class probabilities ``(B, C)``."""
        ...

    def own_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The map that the model makes by itself; None where it finds no places."""
        ...

    def network(self) -> Classifier:
        """The network itself, for :data:`NETWORK_METHODS`."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which an explanation is made.

    Attributes:
        batch_size: Images of one pass, at least 1.
        given_up: Asked between batches; True ends the work.
        clock: Monotonic seconds.
    """

    batch_size: int = 16
    given_up: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic


class _Meter:
    """The model's answers, counted and timed; refuses between batches what is not wanted or paid for any more."""

    def __init__(self, model: ExplainedModel, terms: Terms, budget_ms: int) -> None:
        self._model = model
        self._terms = terms
        self._budget_s = budget_ms / 1e3 if budget_ms > 0 else float("inf")
        self._begun_s = terms.clock()
        self._passes = 0
        self._passes_s = 0.0

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return self._terms.clock() - self._begun_s

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer a batch of any size."""
        size = self._terms.batch_size
        return np.concatenate([self._pass(images[start : start + size]) for start in range(0, len(images), size)])

    def _pass(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._terms.given_up():
            raise GivenUpError("somebody must wait for the map, the caller gave up")
        # The first batch is always had, so that the smallest budget buys something.
        if self._passes and self.seconds >= self._budget_s:
            raise OutOfTimeError(f"a map must be ready within {self._budget_s:.3f} s, it was not")
        began_s = self._terms.clock()
        answers = self._model.probabilities(images)
        self._passes += len(images)
        self._passes_s += self._terms.clock() - began_s
        return answers

    def map_must_end(self, *, keep_for_evidence: bool) -> bool:
        """Whether there is only time left for the evidence."""
        # One more batch, which will have begun before this is asked again.
        passes = EVIDENCE_PASSES + self._terms.batch_size if keep_for_evidence else 0
        evidence_s = passes * self._passes_s / max(1, self._passes)
        return self.seconds >= self._budget_s - min(evidence_s, _MOST_FOR_EVIDENCE * self._budget_s)


def explain(
    model: ExplainedModel, image: NDArray[np.uint8], request: ExplanationRequest, terms: Terms
) -> Iterator[ExplanationStep]:
    """Explain one image.

    Args:
        model: What is explained.
        image: Prepared, ``uint8``, shape ``(H, W, 3)``.
        request: How.
        terms: Batch size, and when to give up.

    Yields:
        The maps on the way if they are asked for, and the final one, which alone carries the evidence. Of a budget
        that ends first the map so far is given, marked as partial.

    Raises:
        GivenUpError: Between two batches, once nobody waits.
        OutOfTimeError: If the method had no map at all when the budget ended.
        ExplanationError: If there is no such method, or it cannot explain this.
        InvalidInputError: If the target is none of the model's classes, or a bound is out of range.
    """
    if request.method not in KNOWN_METHODS:
        raise ExplanationError(
            f"method must be one of {', '.join(KNOWN_METHODS)}, got {request.method!r}", "unknown_method"
        )
    if terms.given_up():
        raise GivenUpError("somebody must wait for the map, the caller gave up")
    image = np.ascontiguousarray(image)
    # What is asked first brings the engine up, which must not be charged to the budget of one image.
    content = Content.centred(
        (image.shape[0], image.shape[1]),
        (request.content_height_px or image.shape[0], request.content_width_px or image.shape[1]),
    )
    whole = model.probabilities(image[None])
    probability = float(target_values(whole, request.target)[0])
    temper = temper_for(whole[0], request.target)
    backdrop = model.backdrop(image)
    options: dict[str, Any] = {"classifier": model.network()} if request.method in NETWORK_METHODS else {}
    explainer = build_explainer(
        request.method,
        fill=model.fill,
        backdrop=backdrop,
        temper=temper,
        content=content,
        own_map=model.own_map,
        **options,
    )
    meter = _Meter(model, terms, request.budget_ms)
    budget = Budget(
        max_passes=request.max_passes,
        batch_size=min(terms.batch_size, request.max_passes),
        min_stability=request.min_stability or None,
        out_of_time=lambda: terms.given_up() or meter.map_must_end(keep_for_evidence=request.evidence),
    )
    last: Attribution | None = None
    partial = False
    try:
        for found in explainer.explain(image, request.target, meter, seed=request.seed, budget=budget):
            last = found
            # A final map goes out before its evidence is measured.
            if request.steps and (not found.final or request.evidence):
                yield _step(found, probability, _UNMEASURED, meter.seconds)
    except OutOfTimeError:
        if last is None:
            raise
        partial = True
    if last is None:
        raise ExplanationError("a method must give a map, it gave none", "no_map")
    if terms.given_up():
        raise GivenUpError("somebody must wait for the map, the caller gave up")
    hidden = model.fill if backdrop is None else backdrop
    if request.spot and not request.evidence and backdrop is not None and not model.is_detector:
        told = transplant(
            content.crop(image),
            content.crop_map(last.values),
            request.target,
            content.predict(model.probabilities),
            good=content.crop(backdrop),
            temper=temper,
        )
        yield _step(last, probability, told, meter.seconds, final=True, partial=partial or last.partial)
        return
    evidence = (
        _evidence(model, hidden, image, content, last, request, terms, meter, temper)
        if request.evidence
        else _UNMEASURED
    )
    yield _step(last, probability, evidence, meter.seconds, final=True, partial=partial or last.partial)


def _evidence(
    model: ExplainedModel,
    hidden: tuple[int, int, int] | NDArray[np.uint8],
    image: NDArray[np.uint8],
    content: Content,
    found: Attribution,
    request: ExplanationRequest,
    terms: Terms,
    meter: _Meter,
    temper: float,
) -> Faithfulness:
    try:
        return measure(
            content.crop(image),
            content.crop_map(found.values),
            request.target,
            content.predict(meter),
            hidden=content.crop(hidden) if isinstance(hidden, np.ndarray) else hidden,
            temper=temper,
            transplants=not model.is_detector,
            seed=request.seed,
            batch_size=terms.batch_size,
        )
    except OutOfTimeError:
        return _UNMEASURED


def _step(
    found: Attribution,
    probability: float,
    evidence: Faithfulness,
    seconds: float,
    *,
    final: bool = False,
    partial: bool = False,
) -> ExplanationStep:
    return ExplanationStep(
        map=found.values,
        probability=probability,
        passes=found.passes,
        stability=found.stability,
        deletion_auc=evidence.deletion_auc,
        insertion_auc=evidence.insertion_auc,
        random_auc=evidence.random_auc,
        transplant=evidence.transplant,
        seconds=seconds,
        final=final,
        partial=partial,
    )
