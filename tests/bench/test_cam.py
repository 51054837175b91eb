"""The benchmark of Grad-CAM, run small: one forward pass and hardly more."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import cam


def test_the_closed_form_costs_one_forward_pass(tmp_path: Path) -> None:
    out = tmp_path / "cam.json"
    cam.main(["--quick", "--out", str(out)])
    result = json.loads(out.read_text())
    found = result["networks"]["efficientnet-lite0"]
    assert found[cam.BASELINE]["ratio"] == 1.0
    # Few rounds on a busy machine: the limit itself is the full run's.
    assert 0.8 < found["closed form, gradcam"]["ratio"] < 1.3
    assert found["closed form, gradcam"]["ratio"] < found["grad-cam library"]["ratio"]
