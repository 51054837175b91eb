"""The benchmark of memory, run small: every process stays within its bound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import memory

pytestmark = [pytest.mark.integration]


def test_ingest_detector_and_dashboard_stay_within_their_bound(tmp_path: Path) -> None:
    out = tmp_path / "memory.json"
    assert memory.main(["--quick", "--out", str(out)]) == 0, out.read_text()
    result = json.loads(out.read_text())
    assert result["frames"] == 800
    assert set(result["loads"]["line"]["processes"]) == {"ingest", "detector", "dashboard"}
    highest_mb = [item["highest_mb"] for load in result["loads"].values() for item in load["processes"].values()]
    assert all(0 < value <= 250 for value in highest_mb)
