"""The benchmark of the line, run small: that it works, and that the line is not far from what it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import pipeline

pytestmark = [pytest.mark.integration]


def test_the_line_keeps_most_of_tritons_own_speed(tmp_path: Path) -> None:
    out = tmp_path / "pipeline.json"
    assert pipeline.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["efficiency"] == pytest.approx(result["resnet18"]["pairs"][0]["ratio"])
    assert result["efficiency"] > 0
    # One short pair on a machine with other work says little in frames/s; whose work the cores did, it says well.
    assert result["resnet18"]["triton_share_of_cpu"] > 0.6
    parts = result["resnet18"]["cpu_ms_per_frame"]
    assert parts["detector: decode and prepare"] > 0
    assert parts["triton"] > 0
    assert result["resnet18"]["detector_rss_mb"] < 250
