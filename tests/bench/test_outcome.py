"""The benchmark of the outcome service, run small: that it works, and that nothing is lost on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import outcome

pytestmark = [pytest.mark.integration]


def test_every_part_comes_out_everywhere_and_without_verdicts_none_is_ok(tmp_path: Path) -> None:
    out = tmp_path / "outcome.json"
    assert outcome.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["throughput"]["outcomes_per_s"] > 0
    for load in ("half", "full", "beyond"):
        for place in ("topic", "modbus", "opcua", "mqtt"):
            row = result["latency"][load][place]
            assert row["seen"] == row["parts"], f"{place} at {load} load"
    assert all(row["review"] == 1.0 for row in result["without_verdicts"].values())
    assert result["memory"]["rows"][-1]["rss_mb"] < 250
