"""The benchmark of the simulated line, small: a network learns what raw pixels do not show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import simulation


@pytest.mark.integration
def test_a_fine_tuned_network_sees_what_raw_pixels_do_not_show(tmp_path: Path) -> None:
    report = tmp_path / "simulation.json"
    simulation.main(["--quick", "--threads", "1", "--out", str(report)])
    figures = json.loads(report.read_text(encoding="utf-8"))
    (cloth,) = figures["separability"]
    assert max(cloth["raw_pixels"]) < simulation.LINEAR_LIMIT
    assert min(cloth["fine_tuned"]) > simulation.QUICK_FINE_TUNED_LIMIT
    assert {entry["product"] for entry in figures["speed"]} == set(simulation.PRODUCTS)
