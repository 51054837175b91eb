"""The benchmark of explanations, small: that it measures what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import explain

pytestmark = [pytest.mark.integration]


@pytest.mark.timeout(600)
def test_cost_memory_and_standing_are_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "FULL", explain.QUICK)
    out = tmp_path / "explain.json"
    assert explain.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    ways = result["cost"]["ways"]
    assert ways["ready tensors"]["against ready tensors"] == 1.0
    # An explanation holds as many passes as it is compared with.
    assert ways["invrise-soft"]["against ready tensors"] > 0.8
    assert 0.5 < result["memory"]["ratio"] < 3
    methods = result["standing"]["methods"]
    assert set(methods) == {"invrise-soft", "rise"}
    for found in methods.values():
        assert found["parts"] == 2
        assert all(0 <= agreement <= 1 for agreement in found["median_agreement_at"].values())
        assert found["stopped"]["dice"]["mean"] <= found["ceiling"] + 1e-9
