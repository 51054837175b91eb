"""One trace per frame, across Kafka and Triton."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.adapters.ports import Record
from services.core.types import Inspection, OperatingPoint, Reason, Verdict
from services.detector import traces
from services.detector.job import Job
from services.runtime import tracing
from tests.support.detector_line import make_frame

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def job(number: int = 0, *, traced: bool = True) -> Job:
    headers = (("traceparent", PARENT), ("other", b"x")) if traced else ()
    return Job(make_frame(number, b"x"), "default", 0, Record("frames", 0, 0, 0, b"", b"", headers))


def inspection(of: Job) -> Inspection:
    frame = of.frame
    return Inspection(
        frame.frame_id, frame.part_id, frame.line_id, frame.camera_id, frame.product, 1, 1, 2,
        Verdict.FAIL, Reason.SCORE, 0.9, OperatingPoint(0.5, 0.5, 0.5), 0.1, "default", 3,
    )  # fmt: skip


def test_a_frames_span_is_a_child_of_what_came_and_its_context_goes_on(spans: InMemorySpanExporter) -> None:
    traced = job()
    traces.begin(traced)
    traces.end(traced, inspection(traced))

    (span,) = spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == traced.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes is not None
    assert (span.attributes["sightline.verdict"], span.attributes["sightline.model"]) == ("fail", "default-v3")
    handed_on = dict(traced.trace_headers)["traceparent"].decode()
    assert handed_on.split("-")[1:3] == [traced.trace_id, f"{span.context.span_id:016x}"]


def test_a_frame_without_context_begins_a_trace(spans: InMemorySpanExporter) -> None:
    fresh = job(traced=False)
    traces.begin(fresh)
    traces.end(fresh, inspection(fresh))
    assert len(fresh.trace_id) == 32
    assert spans.get_finished_spans()[0].parent is None


def test_triton_is_asked_in_the_first_frames_trace_with_links_to_the_others(spans: InMemorySpanExporter) -> None:
    first, second = job(0), job(1, traced=False)
    for each in (first, second):
        traces.begin(each)
    with traces.batch([first, second]):
        inside = trace.get_current_span().get_span_context()
        carried = dict(tracing.inject())
    assert f"{inside.trace_id:032x}" == first.trace_id
    assert carried["traceparent"].decode().split("-")[1] == first.trace_id
    (asked,) = spans.get_finished_spans()
    assert [f"{link.context.trace_id:032x}" for link in asked.links] == [second.trace_id]


def test_without_tracing_the_context_is_handed_on_as_it_came() -> None:
    untraced = job()
    traces.pass_on(untraced)
    assert untraced.trace_headers == (("traceparent", PARENT),)
    assert untraced.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert untraced.span is None
