"""W3C trace context across Kafka headers and gRPC metadata; OpenTelemetry, exporter off by default."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind

from services.adapters.ports import Headers
from services.core.errors import SettingsError
from services.runtime.settings import TracingSettings

_CONTEXT = frozenset({"traceparent", "tracestate"})
#: W3C Trace Context: version, trace, parent, flags.
_PARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})(?:-|$)")


def configure_tracing(service: str, settings: TracingSettings, exporter: SpanExporter | None = None) -> None:
    """Install the tracer provider; without an exporter spans cost next to nothing and go nowhere.

    Args:
        service: Name of the service in every span.
        settings: Which exporter and what share of traces.
        exporter: Takes the spans instead of the configured exporter (tests).

    Raises:
        SettingsError: When OTLP is asked for and its package is not installed.
    """
    if exporter is None and settings.exporter == "otlp":
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError(
                "tracing.exporter 'otlp' needs the extra sightline[otlp], which is not installed"
            ) from error
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint)
    if exporter is None:
        return
    sampler = ParentBased(TraceIdRatioBased(settings.sample_ratio))
    provider = TracerProvider(resource=Resource.create({"service.name": service}), sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def tracer(name: str) -> trace.Tracer:
    """The tracer of a module."""
    return trace.get_tracer(name)


def inject(ctx: context.Context | None = None) -> list[tuple[str, bytes]]:
    """The current trace context as Kafka headers; empty when tracing is off."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=ctx)
    return [(name, value.encode()) for name, value in carrier.items()]


def extract(headers: Sequence[tuple[str, bytes]]) -> context.Context:
    """The trace context that a record's headers carry."""
    return propagate.extract({name: value.decode("ascii", "replace") for name, value in headers})


def trace_id(ctx: context.Context | None = None) -> str:
    """The current trace id, 32 hex digits; empty when tracing is off."""
    span = trace.get_current_span(ctx).get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else ""


def sampled(headers: Headers) -> bool:
    """Whether the trace that came with a record is written down: decided once, at ingest, and kept."""
    return any(name == "traceparent" and _is_sampled(value) for name, value in headers)


def _is_sampled(traceparent: bytes) -> bool:
    found = _PARENT.match(traceparent)
    return found is not None and bool(int(found.group(1), 16) & 1)


@contextlib.contextmanager
def consumed(name: str, headers: Headers, attributes: Mapping[str, str | int] | None = None) -> Iterator[Headers]:
    """Work on a record within the trace that came with it; costs a look at the headers where nothing is written down.

    Args:
        name: What is done, for example ``explain case``.
        headers: Of the record.
        attributes: Of the span.

    Yields:
        The context to pass on with what comes of the record: this work's where it is written down, else what came.
    """
    came = tuple(header for header in headers if header[0] in _CONTEXT)
    if not sampled(came):
        yield came
        return
    with tracer(__name__).start_as_current_span(
        name, context=extract(came), kind=SpanKind.CONSUMER, attributes=dict(attributes or {})
    ):
        yield tuple(inject())
