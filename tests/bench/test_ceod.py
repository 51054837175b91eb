"""The benchmark of CEOD's step, run small."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import ceod


def test_a_step_with_ceod_costs_hardly_more_than_one_with_cross_entropy(tmp_path: Path) -> None:
    out = tmp_path / "ceod.json"
    ceod.main(["--quick", "--out", str(out)])
    found = json.loads(out.read_text())["networks"]["customnet"]
    assert found["ce"]["cpu_ratio"] == 1.0
    # Few rounds of small steps on a busy machine: the limit itself is the full run's.
    assert found["ceod"]["cpu_ratio"] < 2
    assert found["ceod"]["cpu_ms"] > 0
