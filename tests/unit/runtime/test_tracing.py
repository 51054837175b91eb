"""A trace goes on through every service that works on a record, where it is written down at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.runtime import tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def header(flags: str) -> tuple[str, bytes]:
    return ("traceparent", f"00-{TRACE}-{PARENT}-{flags}".encode())


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def test_work_on_a_record_is_a_child_of_what_came_and_its_own_context_goes_on(spans: InMemorySpanExporter) -> None:
    with tracing.consumed("explain case", (header("01"), ("other", b"x")), {"sightline.case_id": "c"}) as headers:
        pass
    (span,) = spans.get_finished_spans()
    assert (span.name, f"{span.context.trace_id:032x}") == ("explain case", TRACE)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    assert dict(headers) == {"traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01".encode()}


@pytest.mark.parametrize("came", [(), (header("00"),), (("traceparent", b"00-1"),), (("traceparent", b"\xff"),)])
def test_what_is_not_written_down_makes_no_span_and_is_passed_on_as_it_came(
    spans: InMemorySpanExporter, came: tuple[tuple[str, bytes], ...]
) -> None:
    with tracing.consumed("explain case", (*came, ("other", b"x"))) as headers:
        pass
    assert headers == came
    assert spans.get_finished_spans() == ()


def test_a_service_that_writes_no_traces_itself_hands_on_what_came() -> None:
    with tracing.consumed("explain case", (header("01"),)) as headers:
        pass
    assert headers == (header("01"),)


def test_work_that_fails_ends_its_span_and_the_error_goes_on(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="no"), tracing.consumed("explain case", (header("01"),)):
        raise ValueError("no")
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
