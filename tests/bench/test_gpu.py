"""The benchmark for a GPU: it says where there is none, and what it does with engines is shown on the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.serving.backend.choice import CANDIDATES
from services.serving.repository import Placement
from tests.bench import gpu, pipeline
from tests.bench.detector_line import MeasuredTriton

pytestmark = [pytest.mark.integration]

PLAN = pipeline.Plan(frames=64, repeats=1, images=24, latency_s=0.0, default_frames=0)


@pytest.mark.skipif(bool(gpu.ask_gpu("name")), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 0
    assert capsys.readouterr().out.strip() == "skipped: no GPU"


@pytest.mark.timeout(900)
def test_every_engine_is_measured_in_triton_and_one_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What several versions take is a GPU's figure; here each of them is a network more to load.
    monkeypatch.setattr(gpu, "LOADED_VERSIONS", 1)
    line = MeasuredTriton(tmp_path, Placement(engine="measured", precision="float32", max_batch_size=16))
    try:
        line.start()
        measured = gpu.measure_model(line, "customnet", PLAN)
    finally:
        line.stop()
    engines = [f"{engine} {precision}" for engine, precision in CANDIDATES["cpu"] if precision == "float32"]
    assert list(measured["engines"]) == engines
    for figures in measured["engines"].values():
        assert figures["images_per_s_batch_16"] > 0
        assert figures["verdicts_equal_to_cpu_float32"] == 1.0
        assert 0 < figures["single_ms_p50"] <= figures["single_ms_p99"]
    choice = measured["chosen"]["cpu"]
    assert f"{choice['engine']} {choice['precision']}" in engines
    assert choice["fallback"] == ""
    gpu.show({"customnet": measured})
    assert "measured at load" in capsys.readouterr().out
