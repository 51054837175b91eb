"""One trace per frame, from the camera to the case on record, sent by every service of a whole line to a collector."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.local.process import free_port
from tests.support.otlp_receiver import OtlpReceiver, Span
from tests.support.running_line import RunningLine

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: A frame that is worth a look goes this far; which services say so.
WAY_OF_A_CASE = {
    ("ingest", "ingest.frame"),
    ("detector", "inspect frame"),
    ("outcome", "join view"),
    ("explainer", "explain case"),
    ("feedback", "put case on record"),
    ("feedback", "add case to index"),
}


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    yield receiver
    receiver.stop()


def by_trace(spans: Sequence[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        found[span.trace_id].append(span)
    return found


def whole(spans: Sequence[Span]) -> bool:
    """Whether a case's trace has every hop, a map among them."""
    hops = {(span.service, span.name) for span in spans}
    return hops >= WAY_OF_A_CASE and any(name.startswith("explain by ") for _, name in hops)


def test_every_hop_of_a_frame_is_in_its_one_trace(
    collector: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_TRACING__EXPORTER", "otlp")
    monkeypatch.setenv("SIGHTLINE_TRACING__OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("SIGHTLINE_TRACING__SAMPLE_RATIO", "1")
    line = RunningLine(tmp_path / "data", free_port())
    try:
        line.wait_until_up(300)
        end_s = time.monotonic() + 120
        while not any(whole(spans) for spans in by_trace(collector.spans).values()):
            assert time.monotonic() < end_s, sorted({(one.service, one.name) for one in collector.spans})
            time.sleep(0.5)
    finally:
        assert line.stop(signal.SIGTERM) == 0, line.output.read_text()

    traces = by_trace(collector.spans)
    followed = [spans for spans in traces.values() if any(one.name == "ingest.frame" for one in spans)]
    for spans in followed:
        assert sum(one.name == "ingest.frame" for one in spans) == 1, "a frame begins its own trace"
        frames = {one.attributes["sightline.frame_id"] for one in spans if one.name == "inspect frame"}
        assert len(frames) <= 1, "no other frame is in it"
    frame_ids = [one.attributes["sightline.frame_id"] for one in collector.spans if one.name == "inspect frame"]
    assert len(frame_ids) == len(set(frame_ids)), "no frame is in two traces"

    spans = next(spans for spans in traces.values() if whole(spans))
    named = {one.name: one for one in spans}
    ids = {one.span_id: one for one in spans}

    def parents(span: Span) -> list[str]:
        names = []
        while span.parent_id:
            span = ids[span.parent_id]
            names.append(span.name)
        return names

    assert parents(named["inspect frame"]) == ["ingest.frame"]
    assert parents(named["join view"]) == ["inspect frame", "ingest.frame"]
    assert parents(named["put case on record"]) == ["explain case", "inspect frame", "ingest.frame"]
    a_map = next(one for one in spans if one.name.startswith("explain by "))
    assert parents(a_map) == ["explain case", "inspect frame", "ingest.frame"]
    # Triton is asked for a batch in the trace of its first frame, which every other frame of it is linked to.
    frame_traces = {trace for trace, spans in traces.items() if any(one.name == "inspect frame" for one in spans)}
    asked = [one for one in collector.spans if one.name == "ask Triton" and one.service == "detector"]
    assert frame_traces <= {one.trace_id for one in asked} | {trace for one in asked for trace in one.linked_traces}
