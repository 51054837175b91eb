"""``ExplainerService``: a map that becomes better before the eyes of a caller who waits for it."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator
from dataclasses import replace

import grpc
from sightline.v1 import explainer_service_pb2, explainer_service_pb2_grpc

from services.adapters.codec_explained import explanation_to_message
from services.adapters.ports import ExplanationRequest
from services.core.errors import BusyError, ExplanationError, InvalidInputError, SightlineError
from services.core.explain.attribution import KNOWN_METHODS, SCORE_TARGET
from services.core.explain.grade import grade
from services.core.identity import validate_frame_id
from services.core.manifest import validate_alias
from services.core.types import Explanation
from services.explainer.asking import Asking, Placed
from services.explainer.explaining import evidence_of
from services.explainer.job import explanation_of, failed, why_no_map
from services.explainer.policy import seed_of
from services.explainer.scales import HeatScales
from services.explainer.settings import ExplainerSettings
from services.explainer.versions import Version, Versions
from services.runtime import metrics

#: Most that a caller may ask for.
MAX_PASSES = 100_000
MAX_BUDGET_MS = 60_000


class ExplainerServicer(explainer_service_pb2_grpc.ExplainerServiceServicer):
    """Answers calls, only so many at once; a call that is cancelled stops the work.

    Args:
        settings: The explainer's settings.
        versions: What must be known of model versions.
        asking: Asks the explaining models.
        scales: Where colour begins.
    """

    def __init__(self, settings: ExplainerSettings, versions: Versions, asking: Asking, scales: HeatScales) -> None:
        self._settings = settings
        self._versions = versions
        self._asking = asking
        self._scales = scales
        self._places = threading.BoundedSemaphore(settings.explain_max_waiting)

    def Explain(  # noqa: N802 - the name of the call
        self, request: explainer_service_pb2.ExplainRequest, context: grpc.ServicerContext
    ) -> Iterator[explainer_service_pb2.ExplainResponse]:
        """Explain one image; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: When the model version does not exist or is not loaded.
            UnavailableError: While Triton or the object store is away.
            BusyError: When too many callers wait.
        """
        if not self._places.acquire(blocking=False):
            metrics.EXPLAINER_CALLS.labels("busy").inc()
            most = self._settings.explain_max_waiting
            raise BusyError(f"at most {most} callers may wait at once, got one more")
        outcome = "cancelled"
        try:
            for explanation, final in self._explain(request, context):
                yield explainer_service_pb2.ExplainResponse(
                    explanation=explanation_to_message(explanation), final=final
                )
                if final:
                    outcome = explanation.status.value
        except SightlineError as error:
            outcome = error.reason
            raise
        finally:
            self._places.release()
            metrics.EXPLAINER_CALLS.labels(outcome).inc()

    def _explain(
        self, request: explainer_service_pb2.ExplainRequest, context: grpc.ServicerContext
    ) -> Iterator[tuple[Explanation, bool]]:
        asked = self._asked(request)
        version = self._versions.get(request.alias, request.model_version)
        asked = replace(asked, target=_target(request.target_class, version))
        try:
            placed = self._asking.place(request.image, version)
            yield from self._maps(placed, version, asked, request.target_class, context)
        except ExplanationError as error:
            yield failed(asked.method, error.reason, str(error), seed=asked.seed), True

    def _maps(
        self,
        placed: Placed,
        version: Version,
        asked: ExplanationRequest,
        target_class: str,
        context: grpc.ServicerContext,
    ) -> Iterator[tuple[Explanation, bool]]:
        steps = self._asking.steps(placed, version, asked)
        # Called from gRPC's own thread at the moment at which the caller is gone.
        if not context.add_callback(steps.close):
            steps.close()
            return
        try:
            for step in steps:
                nothing = why_no_map(step.map)
                if nothing is not None:
                    if step.final:
                        yield failed(asked.method, *nothing, seed=asked.seed, seconds=step.seconds), True
                    continue
                values = self._asking.on_source(placed, version, step.map)
                explanation = explanation_of(asked.method, step, values, seed=asked.seed, target_class=target_class)
                # Colours are calibrated for the score; another class has its own, unknown, noise.
                if not target_class:
                    scale = self._scales.get(version, asked.method)
                    explanation = replace(explanation, scale_low=scale.low, scale_high=scale.high)
                if step.final:
                    letter, trust = grade(evidence_of(explanation, math.nan))
                    explanation = replace(explanation, grade=letter, trust=trust)
                yield explanation, step.final
        finally:
            steps.close()

    def _asked(self, request: explainer_service_pb2.ExplainRequest) -> ExplanationRequest:
        if not request.image:
            raise InvalidInputError("image must not be empty")
        validate_alias(request.alias)
        if request.model_version < 1:
            raise InvalidInputError(f"model_version must be at least 1, got {request.model_version}")
        method = request.method or self._settings.policy.fail[0]
        if method not in KNOWN_METHODS:
            raise InvalidInputError(f"method must be one of {', '.join(KNOWN_METHODS)}, got {method[:80]!r}")
        for name, value, most in (
            ("max_passes", request.max_passes, MAX_PASSES),
            ("budget_ms", request.budget_ms, MAX_BUDGET_MS),
        ):
            if not 0 <= value <= most:
                raise InvalidInputError(f"{name} must lie in 0..{most}, got {value}")
        if request.frame_id:
            frame_id = validate_frame_id(request.frame_id)
        else:
            # Without a frame the image itself is what gives the same map again.
            frame_id = hashlib.sha256(request.image).hexdigest()
        budget = self._settings.budget
        return ExplanationRequest(
            method=method,
            seed=seed_of(frame_id, method),
            max_passes=request.max_passes or budget.max_passes,
            budget_ms=request.budget_ms or round(budget.case_s * 1e3),
            min_stability=budget.min_stability,
            steps=True,
            evidence=budget.evidence,
        )


def _target(target_class: str, version: Version) -> int:
    if not target_class:
        return SCORE_TARGET
    if target_class not in version.classes:
        known = ", ".join(version.classes) or "none"
        raise InvalidInputError(f"target_class must be one of the version's ({known}), got {target_class[:80]!r}")
    return version.classes.index(target_class)
