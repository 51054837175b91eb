"""Trace context of a frame: from its record into what is said of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from services.core.types import Inspection
from services.detector.job import Job
from services.runtime import tracing

_CONTEXT = frozenset({"traceparent", "tracestate"})
_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def pass_on(job: Job) -> None:
    """Hand on the context that came, as it came, where no spans are made here."""
    if job.record is None:
        return
    job.trace_headers = tuple(header for header in job.record.headers if header[0] in _CONTEXT)
    for name, value in job.trace_headers:
        found = _PARENT.match(value) if name == "traceparent" else None
        if found:
            job.trace_id = found.group(1).decode()


def begin(job: Job) -> None:
    """Open the frame's span as a child of the context that came with it."""
    if job.record is None:
        return
    parent = tracing.extract(job.record.headers)
    span = tracing.tracer(__name__).start_span(
        "inspect frame",
        context=parent,
        kind=SpanKind.CONSUMER,
        attributes={"sightline.frame_id": job.frame.frame_id, "sightline.camera": job.frame.camera_id},
    )
    context = trace.set_span_in_context(span, parent)
    job.span = span
    job.trace_headers = tuple(tracing.inject(context))
    job.trace_id = tracing.trace_id(context)


@contextlib.contextmanager
def batch(jobs: Sequence[Job]) -> Iterator[None]:
    """Ask Triton in the trace of the batch's first frame, with links to the others'."""
    spans = [job.span for job in jobs if job.span is not None]
    if not spans:
        yield
        return
    links = [trace.Link(span.get_span_context()) for span in spans[1:]]
    with tracing.tracer(__name__).start_as_current_span(
        "ask Triton",
        context=trace.set_span_in_context(spans[0]),
        kind=SpanKind.CLIENT,
        links=links,
        attributes={"sightline.frames": len(jobs)},
    ):
        yield


def end(job: Job, inspection: Inspection) -> None:
    """Close the frame's span with what was said of it."""
    if job.span is None:
        return
    job.span.set_attributes(
        {
            "sightline.verdict": inspection.verdict.value,
            "sightline.model": f"{inspection.alias}-v{inspection.model_version}",
            "sightline.fetch_ms": inspection.timings.fetch_ms,
            "sightline.decode_ms": inspection.timings.decode_ms,
            "sightline.infer_ms": inspection.timings.infer_ms,
        }
    )
    job.span.end()
