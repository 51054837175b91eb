"""The benchmark of verdicts beside explanations, run small: that it works, and that explanations really ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import verdicts_beside_explanations as bench

pytestmark = [pytest.mark.integration]


def test_verdicts_are_answered_while_explanations_are_made(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert bench.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    for alone, beside in zip(result["alone"], result["beside"], strict=True):
        assert alone["verdicts"] == beside["verdicts"] == 60
        assert alone["passes"] == 0
        assert beside["passes"] > 16
    # A few verdicts of a tiny network on a machine with other work say little; a line that stands still would show.
    assert result["p50_ratio"] < 10
    memory = result["explaining_memory_mb"]
    assert memory["idle"] < memory["invrise-soft"]
