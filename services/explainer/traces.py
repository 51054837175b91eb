"""Spans of what is asked of Triton for a case; the case's own is the pipeline's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry.trace import SpanKind

from services.explainer.job import CaseJob
from services.runtime import tracing


@contextlib.contextmanager
def method(job: CaseJob, model: str, name: str) -> Iterator[None]:
    """Ask for one map within the case's span; nothing where its trace is not written down.

    Args:
        job: The case.
        model: The model that is explained.
        name: Of the method.
    """
    if not tracing.sampled(job.headers):
        yield
        return
    with tracing.tracer(__name__).start_as_current_span(
        f"explain by {name}", kind=SpanKind.CLIENT, attributes={"sightline.model": model, "sightline.method": name}
    ):
        yield
