"""What is done for one case: its image, its maps, their grades, and the record that says it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from services.adapters.codec_explained import encode_explained_case
from services.adapters.ports import ExplanationSteps, ObjectStore
from services.core import topics
from services.core.errors import (
    ExplanationError,
    InvalidInputError,
    MissingImageError,
    ModelFailedError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.explain.faithfulness import agreement
from services.core.explain.grade import Evidence, grade
from services.core.types import ExplainedCase, Explanation
from services.explainer import traces
from services.explainer.asking import Asking, Placed
from services.explainer.job import AwayError, CaseJob, Finding, ModelMissingError, explanation_of, failed, why_no_map
from services.explainer.policy import LASTING_REFUSALS, Level, Policy, seed_of
from services.explainer.scales import HeatScales
from services.explainer.versions import Version, Versions
from services.runtime import metrics
from services.runtime.images import case_image_key, fetch_image, image_suffix
from services.runtime.logging import get_logger
from services.runtime.outbox import Output
from services.runtime.outputs import size_bytes

LOG = get_logger(__name__)

TRITON = "triton"
STORE = "object store"


class CaseExplainer:
    """Explains cases, one call each; called from several threads.

    What was found is kept in the job, so that a case that had to wait for something goes on where it was.

    Args:
        policy: Which case gets which maps.
        versions: What must be known of model versions.
        asking: Asks the explaining models.
        scales: Where colour begins.
        store: Images by reference.
        inline_limit_bytes: Largest record with its image inline.
        max_image_bytes: Largest encoded image that is read.
        attempts: Tries of one method on one case while Triton answers others.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        policy: Policy,
        versions: Versions,
        asking: Asking,
        scales: HeatScales,
        store: ObjectStore,
        *,
        inline_limit_bytes: int,
        max_image_bytes: int,
        attempts: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._policy = policy
        self._versions = versions
        self._asking = asking
        self._scales = scales
        self._store = store
        self._inline_limit_bytes = inline_limit_bytes
        self._max_image_bytes = max_image_bytes
        self._attempts = attempts
        self._clock_ns = clock_ns
        self._refusals: dict[tuple[str, str], tuple[str, str]] = {}

    def explain(self, job: CaseJob, waiting_cases: int) -> Output | None:
        """Do what is left to do for a case.

        Args:
            job: The case; what was found before is in it.
            waiting_cases: Cases that wait, for what they leave time for.

        Returns:
            What to write; None where nobody waits for it any more.

        Raises:
            AwayError: When something outside does not answer.
            ModelMissingError: When the explaining model is not loaded.
        """
        if job.plan is None:
            job.plan = self._policy.plan(job.case, waiting_cases)
            metrics.EXPLAINER_LEVEL.labels(job.plan.level.value).inc()
        refusal = self._no_map_at_all(job)
        if refusal is not None:
            self._fail(job, *refusal)
        elif any(method not in job.findings for method in job.plan.methods):
            self._find(job)
        return None if job.abandoned else self._say(job)

    # ---- why there is none

    def _no_map_at_all(self, job: CaseJob) -> tuple[str, str] | None:
        inspection = job.case.inspection
        if inspection.model_version == 0:
            return "no_model", inspection.detail or "no model saw the image"
        if job.plan is not None and job.plan.level is Level.NONE:
            return "backlog", "too many cases waited for an explanation"
        if job.gone:
            return "model_gone", job.gone
        return None

    def _fail(self, job: CaseJob, reason: str, detail: str) -> None:
        """End every method that has not ended."""
        for method in job.plan.methods if job.plan is not None else ():
            if method not in job.findings:
                seed = seed_of(job.case.inspection.frame_id, method)
                job.findings[method] = Finding(failed(method, reason, detail, seed=seed))

    # ---- finding

    def _find(self, job: CaseJob) -> None:
        inspection = job.case.inspection
        try:
            version = job.version = self._versions.get(inspection.alias, inspection.model_version)
        except NotFoundError as error:
            self._fail(job, "model_gone", str(error))
            return
        except UnavailableError as error:
            raise AwayError(STORE, error) from error
        except InvalidInputError as error:
            self._fail(job, error.reason, str(error))
            return
        if job.plan is not None:
            job.plan = self._policy.suited(job.plan, version)
        placed = self._placed(job, version)
        if placed is None or job.plan is None:
            return
        for method in self._policy.order(job.plan):
            if method not in job.findings and not job.abandoned:
                self._ask(job, version, placed, method)

    def _placed(self, job: CaseJob, version: Version) -> Placed | None:
        if job.placed is not None:
            return job.placed
        try:
            job.placed = self._asking.place(self._image(job), version)
        except NotFoundError as error:
            raise ModelMissingError(version.model_name) from error
        except (InvalidInputError, ExplanationError) as error:
            self._fail(job, error.reason, str(error))
            return None
        except UnavailableError as error:
            if self._gives_up(job, version, "place", error):
                self._fail(job, *_told(error))
                return None
            raise AwayError(TRITON, error, "place") from error
        return job.placed

    def _image(self, job: CaseJob) -> bytes:
        if job.image is not None:
            return job.image
        if job.case.image is not None:
            job.image = job.case.image
            return job.image
        ref = job.case.image_ref
        try:
            job.image = fetch_image(self._store, ref, max_bytes=self._max_image_bytes)
        except NotFoundError as error:
            key = ref.key if ref is not None else ""
            raise MissingImageError(f"the image must lie at its reference, got nothing at {key}") from error
        except UnavailableError as error:
            raise AwayError(STORE, error) from error
        return job.image

    def _ask(self, job: CaseJob, version: Version, placed: Placed, method: str) -> None:
        frame_id, plan = job.case.inspection.frame_id, job.plan
        if plan is None:
            return
        known = self._refusals.get((version.model_name, method))
        if known is not None:
            self._refused(job, version, placed, method, *known)
            return
        request = self._policy.request(frame_id, method, plan, job.spent_s)

        def hold(steps: ExplanationSteps) -> None:
            job.steps = steps

        began_s = time.monotonic()
        try:
            with traces.method(job, version.model_name, method):
                step = self._asking.last(placed, version, request, holding=hold)
        except NotFoundError as error:
            raise ModelMissingError(version.model_name) from error
        except (ExplanationError, InvalidInputError) as error:
            if error.reason in LASTING_REFUSALS:
                self._refusals[version.model_name, method] = (error.reason, str(error))
            self._refused(job, version, placed, method, error.reason, str(error), time.monotonic() - began_s)
            return
        except UnavailableError as error:
            if not self._gives_up(job, version, method, error):
                raise AwayError(TRITON, error, method) from error
            reason, detail = _told(error)
            job.findings[method] = Finding(failed(method, reason, detail, seed=request.seed))
            return
        finally:
            job.steps = None
        if step is None:
            if not job.abandoned:
                raise AwayError(TRITON, UnavailableError("Triton must answer by a final map, it sent none"), method)
            return
        nothing = why_no_map(step.map)
        if nothing is not None:
            job.findings[method] = Finding(failed(method, *nothing, seed=request.seed, seconds=step.seconds))
            return
        values = self._asking.on_source(placed, version, step.map)
        job.findings[method] = Finding(explanation_of(method, step, values, seed=request.seed), step.map)

    def _refused(
        self, job: CaseJob, version: Version, placed: Placed, method: str, reason: str, detail: str, seconds: float = 0
    ) -> None:
        seed = seed_of(job.case.inspection.frame_id, method)
        job.findings[method] = Finding(failed(method, reason, detail, seed=seed, seconds=seconds))
        if job.plan is None or reason not in LASTING_REFUSALS:
            return
        for other in self._policy.instead(job.case, job.plan, method):
            job.plan = replace(job.plan, methods=(*job.plan.methods, other))
            self._ask(job, version, placed, other)

    def _gives_up(self, job: CaseJob, version: Version, what: str, error: UnavailableError) -> bool:
        """Tell whether it is this case on which Triton fails, and not Triton that is away."""
        if not isinstance(error, ModelFailedError) and not self._asking.is_loaded(version):
            return False
        job.attempts[what] = job.attempts.get(what, 0) + 1
        return job.attempts[what] >= self._attempts

    # ---- saying

    def _say(self, job: CaseJob) -> Output | None:
        plan = job.plan
        if plan is None or any(method not in job.findings for method in plan.methods):
            # Closed on the way: whoever reads the case next explains it.
            return None
        explanations, agree = self._graded(job, plan.methods)
        job.said = explanations
        case = job.case
        if job.image_ref is not None:
            case = replace(case, image=None, image_ref=job.image_ref)
        explained = ExplainedCase(case, explanations, self._clock_ns(), agree)
        key = case.inspection.camera_id.encode()
        output = Output(topics.EXPLAINED, key, encode_explained_case(explained), job.headers)
        if case.image is not None and size_bytes((output,)) > self._inline_limit_bytes:
            self._put_image(job, case.image)
            return self._say(job)
        return output

    def _graded(self, job: CaseJob, methods: tuple[str, ...]) -> tuple[tuple[Explanation, ...], float]:
        maps = [job.findings[method].raw for method in methods]
        shown = [values for values in maps if values is not None]
        agree = agreement(shown[0], shown[1]) if len(shown) > 1 else float("nan")
        graded = []
        for method in methods:
            explanation = job.findings[method].explanation
            raw = job.findings[method].raw
            if raw is not None and job.version is not None:
                scale = self._scales.get(job.version, method)
                letter, trust = grade(evidence_of(explanation, agree))
                explanation = replace(
                    explanation, scale_low=scale.low, scale_high=scale.high, grade=letter, trust=trust
                )
            graded.append(explanation)
        return tuple(graded), agree

    def _put_image(self, job: CaseJob, image: bytes) -> None:
        inspection, now_ns = job.case.inspection, self._clock_ns()
        key = case_image_key(inspection.line_id, inspection.camera_id, inspection.frame_id, image_suffix(image), now_ns)
        try:
            job.image_ref = self._store.put(key, image)
        except UnavailableError as error:
            raise AwayError(STORE, error) from error


def evidence_of(explanation: Explanation, agree: float) -> Evidence:
    """What is known of a map, for its grade."""
    return Evidence(
        probability=explanation.probability,
        deletion_auc=explanation.deletion_auc,
        insertion_auc=explanation.insertion_auc,
        random_auc=explanation.random_auc,
        stability=explanation.stability,
        coverage=explanation.coverage,
        agreement=agree,
        method=explanation.method,
        transplant=explanation.transplant,
    )


def _told(error: SightlineError) -> tuple[str, str]:
    return ("no_answer" if error.reason == UnavailableError.reason else error.reason), str(error)
